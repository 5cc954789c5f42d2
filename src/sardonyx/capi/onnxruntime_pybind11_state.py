"""The contents of ONNX Runtime's native module: classes, functions, and the exceptions that sessions raise."""

from __future__ import annotations

import importlib
from typing import Any

import sardonyx

_ERRORS = [
    *("EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "ModelLoadCanceled", "ModelLoaded"),
    *("ModelRequiresCompilation", "NoModel", "NoSuchFile", "NotFound", "NotImplemented", "RuntimeException"),
]
_HOMES = {
    **{name: "sardonyx" for name in sardonyx.__all__ if name != "__version__"},
    **dict.fromkeys(_ERRORS, "sardonyx.base.errors"),
    **dict.fromkeys(("SparseBlockSparseView", "SparseCooView", "SparseCsrView"), "sardonyx.session.sparse"),
    "ArenaExtendStrategy": "sardonyx.session.device_enums",
    "OrtValueVector": "sardonyx.session.values",
}

__all__ = [*_HOMES, "get_default_session_options", "kNextPowerOfTwo", "kSameAsRequested"]  # noqa: F822


def get_default_session_options() -> Any:
    """Return default session options."""
    return sardonyx.SessionOptions()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in ("kNextPowerOfTwo", "kSameAsRequested"):
        from sardonyx.session.device_enums import ArenaExtendStrategy

        return ArenaExtendStrategy[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
