"""ONNX's backend interface: `prepare(model).run(inputs)`."""

from sardonyx.backend.backend import (
    SardonyxBackend,
    is_compatible,
    prepare,
    run,
    run_model,
    run_node,
    supports_device,
)
from sardonyx.backend.backend_rep import SardonyxBackendRep

OnnxRuntimeBackend = SardonyxBackend
OnnxRuntimeBackendRep = SardonyxBackendRep

__all__ = [
    "OnnxRuntimeBackend",
    "OnnxRuntimeBackendRep",
    "SardonyxBackend",
    "SardonyxBackendRep",
    "is_compatible",
    "prepare",
    "run",
    "run_model",
    "run_node",
    "supports_device",
]
