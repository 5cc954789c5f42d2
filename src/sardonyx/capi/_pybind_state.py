"""The names of `onnxruntime_pybind11_state`, under another path that ONNX Runtime has for them."""

from __future__ import annotations

from typing import Any

from sardonyx.capi import onnxruntime_pybind11_state as _state

__all__ = list(_state.__all__)


def __getattr__(name: str) -> Any:
    return getattr(_state, name)


def __dir__() -> list[str]:
    return __all__
