"""Sessions, values and devices, at ONNX Runtime's inner path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sardonyx.session.adapters import AdapterFormat
from sardonyx.session.binding import IOBinding
from sardonyx.session.device_enums import OrtDeviceVendorId
from sardonyx.session.devices import OrtDevice
from sardonyx.session.inference_session import InferenceSession
from sardonyx.session.model_compiler import ModelCompiler
from sardonyx.session.provider_arguments import Options, Providers, normalise
from sardonyx.session.sparse import SparseTensor
from sardonyx.session.values import OrtValue, copy_tensors

Session = InferenceSession

__all__ = [
    "AdapterFormat",
    "IOBinding",
    "InferenceSession",
    "ModelCompiler",
    "OrtDevice",
    "OrtDeviceVendorId",
    "OrtValue",
    "Session",
    "SparseTensor",
    "check_and_normalize_provider_args",
    "copy_tensors",
    "get_ort_device_type",
]


def check_and_normalize_provider_args(
    providers: Providers | None, provider_options: Options | None, available_provider_names: Sequence[str]
) -> tuple[list[str], list[dict[str, str]]]:
    """Return the provider names and the options of each, as strings. Unavailable providers are dropped with a warning. Raises
    ValueError for arguments of another form.
    """
    found = normalise(providers, provider_options, available_provider_names)
    return list(found), list(found.values())


def get_ort_device_type(device_type: str, *_: Any) -> int:
    """Return the number of a device type. Raises Exception for an unknown one."""
    return OrtDevice.make(device_type, 0).device_type()
