"""Every public name of ONNX Runtime is here, or stands below with the reason why not."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from tests.surface.names import NAMES, public

MISSING = {
    "ModelPackage*": "packages of several models, a format of ONNX Runtime's alone",
    "OrtEpContextData*": "compiled parts inside of a model: compiled code is kept in a cache beside it",
    "OrtCompiledModelCompatibility": "says whether compiled parts inside of a model can be used",
    "OrtDeviceEpIncompatibilityReason": "tells of native providers, which can't be loaded",
    "get_compatibility_info_from_model*": "reads compiled parts inside of a model",
    "get_model_compatibility_for_ep_devices": "reads compiled parts inside of a model",
    "get_hardware_device*": "tells of hardware for native providers; get_ep_devices names the CPU",
    "DeviceReset": "resets a GPU",
    "SessionObjectInitializer": "inner parts of ONNX Runtime's environment",
    "get_session_initializer": "inner parts of ONNX Runtime's environment",
    "get_all_operator_schema": "ONNX Runtime's schemas in a class of its own; docs/operators.md lists what runs",
    "get_all_opkernel_def": "ONNX Runtime's kernels",
    "get_registered_ep_kernel_defs": "ONNX Runtime's kernels",
    "pack_fp4_weights_for_cuda_moe_gemm": "for a GPU",
    "quantize_*": "inner functions of onnxruntime.quantization; quantisation is to come",
    "import_capi_exception": "whether ONNX Runtime's native library was found",
    "cuda_version": "there is no CUDA; sardonyx.dropin says so to programs",
    "package_name": "sardonyx.dropin tells it to programs",
    "version": "sardonyx.dropin tells it to programs; else __version__",
}


def is_missing(name: str) -> bool:
    return any(name.startswith(entry[:-1]) if entry.endswith("*") else name == entry for entry in MISSING)


TABLE: dict[str, list[str]] = json.loads(NAMES.read_text(encoding="utf-8"))


def place(name: str) -> Any:
    """What has these names: a class of the package, or a module."""
    package = importlib.import_module("sardonyx")
    if not name:
        return package
    return getattr(package, name) if name in package.__all__ else importlib.import_module(f"sardonyx.{name}")


@pytest.mark.parametrize("where", TABLE)
def test_names_are_here(where: str) -> None:
    here = {*dir(place(where)), *getattr(place(where), "__slots__", ())}
    fields = getattr(place(where), "__dataclass_fields__", {})
    instance = {name for name in TABLE[where] if name in fields}
    made = set(vars(example(where))) if where in EXAMPLES else set()
    absent = {name for name in TABLE[where] if name not in here | instance | made and not is_missing(name)}
    assert not absent, f"{where or 'sardonyx'} lacks {sorted(absent)}"


EXAMPLES = {
    "OrtArenaCfg": lambda sx: sx.OrtArenaCfg({}),
    "OrtMemoryInfo": lambda sx: sx.OrtMemoryInfo("Cpu", sx.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, sx.OrtMemType.DEFAULT),
}


def example(where: str) -> Any:
    return EXAMPLES[where](importlib.import_module("sardonyx"))


def test_no_reason_is_stale() -> None:
    package = importlib.import_module("sardonyx")
    names = {name for where in TABLE.values() for name in where}
    for entry in MISSING:
        assert any(name.startswith(entry[:-1]) if entry.endswith("*") else name == entry for name in names), entry
        assert entry.endswith("*") or entry not in public(package), entry
