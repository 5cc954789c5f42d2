"""Sardonyx runs ONNX models as machine code that it compiles with LLVM, behind ONNX Runtime's Python API.

This module holds the public names and nothing else; each is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "ExecutionMode": "sardonyx.session.enums",
    "ExecutionOrder": "sardonyx.session.enums",
    "GraphOptimizationLevel": "sardonyx.session.enums",
    "InferenceSession": "sardonyx.session.inference_session",
    "ModelMetadata": "sardonyx.session.metadata",
    "NodeArg": "sardonyx.session.metadata",
    "OrtEpAssignedNode": "sardonyx.session.metadata",
    "OrtEpAssignedSubgraph": "sardonyx.session.metadata",
    "RunOptions": "sardonyx.session.options",
    "SessionOptions": "sardonyx.session.options",
    "get_all_providers": "sardonyx.session.environment",
    "get_available_providers": "sardonyx.session.environment",
    "get_device": "sardonyx.session.environment",
    "get_version_string": "sardonyx.session.environment",
    "set_default_logger_severity": "sardonyx.session.environment",
    "set_seed": "sardonyx.runtime.draws",
}

__all__ = [
    "ExecutionMode",
    "ExecutionOrder",
    "GraphOptimizationLevel",
    "InferenceSession",
    "ModelMetadata",
    "NodeArg",
    "OrtEpAssignedNode",
    "OrtEpAssignedSubgraph",
    "RunOptions",
    "SessionOptions",
    "__version__",
    "get_all_providers",
    "get_available_providers",
    "get_device",
    "get_version_string",
    "set_default_logger_severity",
    "set_seed",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
