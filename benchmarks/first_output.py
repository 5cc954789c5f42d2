"""The shortest program from a model to its first output. `benchmarks.operation` measures it from the start of its process.

It imports only the engine and numpy, as a user's program would. It does not import `benchmarks.engines`, whose imports would be
measured too.
"""

import importlib
import sys
import time
from typing import Any

import numpy as np


def main(engine: str, path: str, *feeds: str) -> None:
    """Run the model once, and print when it was done, as given by `perf_counter`. feeds: alternately a name and a .npy file"""
    given = {name: np.load(file) for name, file in zip(feeds[::2], feeds[1::2], strict=True)}
    package = importlib.import_module(engine)
    if engine == "openvino":
        _openvino(package, path, given)
    else:
        options = package.SessionOptions()
        options.intra_op_num_threads = 1
        package.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, given)
    print(time.perf_counter())


def _openvino(package: Any, path: str, feeds: dict[str, np.ndarray]) -> None:
    """Run OpenVINO with one thread, in f32, tuned for one request at a time."""
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    package.Core().compile_model(path, "CPU", settings).create_infer_request().infer(feeds)


if __name__ == "__main__":
    main(*sys.argv[1:])
