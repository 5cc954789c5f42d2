"""The formats of model files: ONNX's, and ONNX Runtime's own."""

from __future__ import annotations

ORT, ONNX = "ORT", "ONNX"  # the formats, as the config key session.load_model_format names them
ENDING, IDENTIFIER = ".ort", b"ORTM"


def is_ort(given: str, path: str, data: bytes = b"") -> bool:
    """Return whether a model is in ONNX Runtime's own format: by the name of the format if it is given, else by the file's name or
    the first bytes.
    """
    return given == ORT if given in (ORT, ONNX) else path.endswith(ENDING) or data[4:8] == IDENTIFIER
