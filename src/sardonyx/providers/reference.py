"""The reference provider: every operator of the standard, node by node in numpy. For tests, and for what no compiler can do yet.

onnx.reference is imported where a node is left for it: most models leave none, and all would wait for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from sardonyx.base.context import QUIET, RunContext
from sardonyx.base.options import CompileOptions
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.verify import subgraphs
from sardonyx.providers.base import Executable, ExecutionProvider


class ReferenceExecutable(Executable):
    """A graph that is interpreted."""

    def __init__(self, graph: ir.Graph) -> None:
        from sardonyx.graph.reference.interpreter import Interpreter

        self._interpreter = Interpreter(graph, graph.opset_imports)
        self._counts = Counter(node.op_type for node in graph)

    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        taken = {id(value) for value in inputs}
        outputs = []
        for value in self._interpreter.run(inputs, context):
            outputs.append(own(value, taken))
            taken.add(id(outputs[-1]))
        return outputs

    def describe(self) -> str:
        counts = ", ".join(f"{name} x {count}" for name, count in self._counts.most_common())
        return f"interpreted in numpy, node by node: {counts}"


def own(value: Any, taken: set[int]) -> Any:
    """The value in memory of its own: not a view, nor a constant, nor anything that somebody has already (by id)."""
    if isinstance(value, list):
        return [own(element, taken) for element in value]
    if not isinstance(value, np.ndarray):
        return value
    flags = value.flags
    if flags.owndata and flags.writeable and flags.c_contiguous and id(value) not in taken:
        return value
    return np.array(value, order="C")


class ReferenceExecutionProvider(ExecutionProvider):
    """Claims whatever it has an implementation for, which is every valid node of the standard's domains."""

    name: ClassVar[str] = "ReferenceExecutionProvider"

    def get_capability(self, graph: ir.Graph, options: CompileOptions) -> list[list[ir.Node]]:
        claimed = [node for node in graph if runs(node, graph.opset_imports)]
        return [claimed] if claimed else []

    def compile(self, graph: ir.Graph, options: CompileOptions) -> Executable:
        return ReferenceExecutable(graph)


def runs(node: ir.Node, imports: dict[str, int]) -> bool:
    """Is there an implementation of the node and of all nodes in its bodies?"""
    from sardonyx.graph.reference.kernels import is_supported

    return is_supported(node, imports) and all(runs(inner, imports) for graph in subgraphs(node) for inner in graph)
