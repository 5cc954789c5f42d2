"""Writes down the public names of the onnxruntime that is installed: `python -m tests.surface.names`."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

NAMES = Path(__file__).with_name("names.json")
CLASSES = [
    *("AdapterFormat", "IOBinding", "InferenceSession", "LoraAdapter", "ModelCompiler", "ModelMetadata", "NodeArg", "OrtArenaCfg"),
    *("OrtDevice", "OrtEpAssignedNode", "OrtEpAssignedSubgraph", "OrtEpDevice", "OrtExternalInitializerInfo", "OrtHardwareDevice"),
    *("OrtMemoryInfo", "OrtSyncStream", "OrtValue", "RunOptions", "SessionIOBinding", "SessionOptions", "SparseTensor"),
]
MODULES = ["capi.onnxruntime_pybind11_state", "capi._pybind_state", "backend", "datasets"]


def public(value: Any) -> list[str]:
    """The names in it, without those of modules that it has imported."""
    return [name for name in dir(value) if not name.startswith("_") and not (hasattr(getattr(value, name), "__spec__"))]


def introspect(package: str) -> dict[str, list[str]]:
    """{place: its public names}"""
    root = importlib.import_module(package)
    found = {"": public(root)}
    found |= {name: public(getattr(root, name)) for name in CLASSES}
    found |= {name: public(importlib.import_module(f"{package}.{name}")) for name in MODULES}
    return found


if __name__ == "__main__":
    NAMES.write_text(json.dumps(introspect("onnxruntime"), indent=1) + "\n", encoding="utf-8")
