"""ONNX Runtime's inner paths: each leads to the same classes."""

from __future__ import annotations

import sardonyx.capi._pybind_state
import sardonyx.capi.build_and_package_info
import sardonyx.capi.onnxruntime_inference_collection
import sardonyx.capi.onnxruntime_pybind11_state
import sardonyx.capi.onnxruntime_validation


def test_classes_are_the_same_on_every_path() -> None:
    state = sardonyx.capi.onnxruntime_pybind11_state
    assert sardonyx.capi.onnxruntime_inference_collection.InferenceSession is sardonyx.InferenceSession
    assert state.SessionOptions is sardonyx.SessionOptions
    assert sardonyx.capi._pybind_state.SessionOptions is sardonyx.SessionOptions
    assert sardonyx.capi.build_and_package_info.__version__ == sardonyx.__version__
    assert callable(sardonyx.capi.onnxruntime_validation.check_distro_info)
    assert issubclass(state.InvalidArgument, Exception)
