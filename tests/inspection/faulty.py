"""A provider that compiles a model wrongly, to see whether that is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import pytest

from sardonyx.base.options import CompileOptions
from sardonyx.providers import registry
from sardonyx.providers.base import Executable
from sardonyx.providers.reference import ReferenceExecutable, ReferenceExecutionProvider

Fault = Callable[[ir.Graph, CompileOptions], None]


class FaultyProvider(ReferenceExecutionProvider):
    """The reference under the compiler's name, after a fault was put into the graph."""

    name = registry.CPU
    fault: Fault

    def compile(self, graph: ir.Graph, options: CompileOptions) -> Executable:
        self.fault(graph, options)
        return ReferenceExecutable(graph)


def install(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """CPUExecutionProvider is a faulty one from now on."""

    def make(options: Any) -> FaultyProvider:
        provider = FaultyProvider(options)
        provider.fault = fault  # type: ignore[method-assign]
        return provider

    monkeypatch.setitem(registry.FACTORIES, registry.CPU, make)


def becomes(name: str, operator: str) -> Fault:
    """The node of this name turns into another operator."""

    def fault(graph: ir.Graph, options: CompileOptions) -> None:
        for node in graph:
            if node.name == name:
                node.op_type = operator

    return fault


def in_bodies(operator: str, other: str) -> Fault:
    """Nodes of the first operator, in the graph and in bodies at any depth, turn into the other."""

    def fault(graph: ir.Graph, options: CompileOptions) -> None:
        for node in graph.all_nodes():
            if node.op_type == operator:
                node.op_type = other

    return fault
