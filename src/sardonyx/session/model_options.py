"""Session options that a model holds: JSON under `ort_config` in its metadata, as ONNX Runtime reads it.

    {"session_options": {"intra_op_num_threads": 2, "inter_op_num_threads": 1, "execution_mode": 0, "graph_optimization_level": 99,
                         "enable_profiling": true}}

Other keys are ignored.
"""

from __future__ import annotations

import json
import os
from typing import Any

from sardonyx.base.errors import InvalidArgument
from sardonyx.session.enums import ExecutionMode, GraphOptimizationLevel
from sardonyx.session.options import SessionOptions

KEY = "ort_config"
MOST_BYTES = 1 << 31
_READ = {
    "intra_op_num_threads": int,
    "inter_op_num_threads": int,
    "execution_mode": ExecutionMode,
    "graph_optimization_level": GraphOptimizationLevel,
    "enable_profiling": bool,
}


def options_in(source: str | os.PathLike[str] | bytes) -> SessionOptions:
    """Return the options that the model holds; the defaults if it holds none or can't be read (loading it will raise then).

    Raises InvalidArgument for invalid options.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    options = SessionOptions()
    try:
        if not isinstance(source, bytes):
            with open(source, "rb") as file:
                source = file.read(MOST_BYTES)
        model = onnx.ModelProto.FromString(source)
    except (OSError, DecodeError):
        return options
    held = next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
    if held is not None:
        apply(options, held)
    return options


def apply(options: SessionOptions, text: str) -> None:
    """Set the options that the JSON contains. Raises InvalidArgument."""
    try:
        given = json.loads(text).get("session_options", {})
        for name, value in given.items():
            if name in _READ:
                setattr(options, name, read(name, value))
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise InvalidArgument(f"The model's {KEY} can't be read: {error}") from error


def read(name: str, value: Any) -> Any:
    """Return an option's value. Raises ValueError."""
    if not isinstance(value, int):
        raise ValueError(f"{name} must be a number, not {value!r}")
    return _READ[name](value)
