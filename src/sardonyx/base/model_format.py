"""The formats of model files: ONNX's, ONNX Runtime's own, and files of compiled code."""

from __future__ import annotations

import os

ORT, ONNX = "ORT", "ONNX"  # the formats, as the config key session.load_model_format names them
ENDING, IDENTIFIER = ".ort", b"ORTM"
COMPILED_ENDING, COMPILED_IDENTIFIER = ".sdx", b"\x89SDX\r\n\x1a\n"  # as PNG's: it differs if a transfer changed the ends of lines


def is_ort(given: str, path: str, data: bytes = b"") -> bool:
    """Return whether a model is in ONNX Runtime's own format: by the name of the format if it is given, else by the file's name or
    the first bytes.
    """
    return given == ORT if given in (ORT, ONNX) else path.endswith(ENDING) or data[4:8] == IDENTIFIER


def is_compiled(source: str | os.PathLike[str] | bytes) -> bool:
    """Return whether a model is a file of compiled code: by the file's name, or by the first bytes of data in memory."""
    if isinstance(source, bytes):
        return source.startswith(COMPILED_IDENTIFIER)
    return os.fspath(source).endswith(COMPILED_ENDING)
