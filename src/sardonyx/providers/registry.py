"""The providers there are, by name, in the order in which they are tried when a user names none."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sardonyx.base.errors import Fail
from sardonyx.providers.base import ExecutionProvider

CPU = "CPUExecutionProvider"
REFERENCE = "ReferenceExecutionProvider"

Factory = Callable[[Mapping[str, str]], ExecutionProvider]


def _cpu(options: Mapping[str, str]) -> ExecutionProvider:
    """The compiler. Raises Fail if it can't be imported: nothing stands in for it."""
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
"""Providers of ONNX Runtime that programs name."""

FACTORIES: dict[str, Factory] = {CPU: _cpu, REFERENCE: _reference}


def names() -> list[str]:
    """The names that sessions accept."""
    return list(FACTORIES)


def create(name: str, options: Mapping[str, str]) -> ExecutionProvider:
    """The provider of this name. Raises KeyError if there is none."""
    return FACTORIES[name](options)
