"""The providers by name, in order of preference."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sardonyx.base.errors import Fail
from sardonyx.providers.base import ExecutionProvider

CPU = "CPUExecutionProvider"
REFERENCE = "ReferenceExecutionProvider"

Factory = Callable[[Mapping[str, str]], ExecutionProvider]


def _cpu(options: Mapping[str, str]) -> ExecutionProvider:
    """Return the compiler. Raises Fail if it can't be imported; no other provider takes its place."""
    try:
        from sardonyx.providers.cpu import CPUExecutionProvider
    except ImportError as error:
        raise Fail(f"{CPU} cannot be imported: {error}") from error
    return CPUExecutionProvider(options)


def _reference(options: Mapping[str, str]) -> ExecutionProvider:
    from sardonyx.providers.reference import ReferenceExecutionProvider

    return ReferenceExecutionProvider(options)


ELSEWHERE = (
    *("TensorrtExecutionProvider", "CUDAExecutionProvider", "MIGraphXExecutionProvider", "OpenVINOExecutionProvider"),
    *(
        "DnnlExecutionProvider",
        "VitisAIExecutionProvider",
        "QNNExecutionProvider",
        "NnapiExecutionProvider",
        "VSINPUExecutionProvider",
    ),
    *("JsExecutionProvider", "CoreMLExecutionProvider", "DmlExecutionProvider", "RknpuExecutionProvider", "WebNNExecutionProvider"),
    *("WebGpuExecutionProvider", "XnnpackExecutionProvider", "CANNExecutionProvider", "AzureExecutionProvider"),
)
"""Providers of ONNX Runtime that programs may name but that don't exist here."""

FACTORIES: dict[str, Factory] = {CPU: _cpu, REFERENCE: _reference}


def names() -> list[str]:
    """Return the names of the providers that sessions accept."""
    return list(FACTORIES)


def create(name: str, options: Mapping[str, str]) -> ExecutionProvider:
    """Return a provider of this name. Raises KeyError if there is none."""
    return FACTORIES[name](options)
