"""The shortest program from a model to its first output; `benchmarks.operation` times it from the start of its process.

Imports nothing but the engine and numpy, as a user's program would: not `benchmarks.engines`, whose imports would be counted too.
"""

import importlib
import sys
import time
from typing import Any

import numpy as np


def main(engine: str, path: str, *feeds: str) -> None:
    """Runs the model once on the feeds, in turns a name and a .npy file; prints when it was done, as `perf_counter` tells it."""
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
    """One thread, in f32, tuned for one request at a time."""
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    package.Core().compile_model(path, "CPU", settings).create_infer_request().infer(feeds)


if __name__ == "__main__":
    main(*sys.argv[1:])
