"""Enumerations of the public interface, named and numbered as in ONNX Runtime."""

from __future__ import annotations

from enum import IntEnum


class Named(IntEnum):
    """An int enumeration whose members print as `<class>.<member>`, as ONNX Runtime's do."""

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __format__(self, format_spec: str) -> str:
        return format(str(self), format_spec)


class ExecutionMode(Named):
    """Whether independent nodes run in parallel."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(Named):
    """The order in which nodes run."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


class GraphOptimizationLevel(Named):
    """How far graph optimisations may go."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99
