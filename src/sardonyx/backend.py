"""ONNX's own backend interface: `prepare(model).run(inputs)`, as `onnx.backend.base.Backend` has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict

from sardonyx.base.errors import SardonyxError
from sardonyx.session.inference_session import InferenceSession
from sardonyx.session.options import SessionOptions


class SardonyxBackendRep(BackendRep):
    """A model that is ready to run."""

    def __init__(self, session: InferenceSession) -> None:
        self.session = session

    def run(self, inputs: Any, **kwargs: Any) -> Any:
        """The outputs, by position and by name.

        inputs: a list in the order of the model's inputs, {name: value}, or the value of the only input.
        """
        return self.session_outputs(self.feed(inputs))

    def feed(self, inputs: Any) -> dict[str, Any]:
        names = [i.name for i in (*self.session.get_inputs(), *self.session.get_overridable_initializers())]
        if isinstance(inputs, Mapping):
            return dict(inputs)
        if isinstance(inputs, np.ndarray):
            return {names[0]: inputs}
        return dict(zip(names, inputs, strict=False))

    def session_outputs(self, feed: dict[str, Any]) -> Any:
        names = [output.name for output in self.session.get_outputs()]
        return namedtupledict("Outputs", names)(*self.session.run(names, feed))


class SardonyxBackend(Backend):
    """Runs models on the CPU."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Can the model be prepared?"""
        try:
            cls.prepare(model, device, **kwargs)
        except SardonyxError:
            return False
        return True

    @classmethod
    def prepare(
        cls,
        model: onnx.ModelProto | str | bytes,
        device: str = "CPU",
        providers: Sequence[str] | None = None,
        options: SessionOptions | None = None,
        **kwargs: Any,
    ) -> SardonyxBackendRep:
        """Loads and compiles a model. Raises ValueError for a device that isn't there, SardonyxError for a model that can't be run."""
        if not cls.supports_device(device):
            raise ValueError(f"no device {device!r}; models run on the CPU")
        source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
        return SardonyxBackendRep(InferenceSession(source, options, providers))

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> Any:
        """Prepares and runs a model once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any) -> Any:
        """Runs one node on arrays. kwargs: `opset_version`, by default the newest."""
        arrays = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
        names = [name for name in node.input if name]
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [
                onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
                for name, array in zip(names, arrays, strict=True)
            ],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        )
        version = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(node.domain, version)])
        return cls.run_model(model, dict(zip(names, arrays, strict=True)), device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only the CPU."""
        return bool(Device(device).type == DeviceType.CPU)


is_compatible = SardonyxBackend.is_compatible
prepare = SardonyxBackend.prepare
run = SardonyxBackend.run_model
run_model = SardonyxBackend.run_model
run_node = SardonyxBackend.run_node
supports_device = SardonyxBackend.supports_device
