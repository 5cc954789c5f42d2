"""The reference provider: every operator of the standard, node by node in numpy. For tests, and for what no compiler can do yet.

onnx.reference is imported where a node is left for it: most models leave none, and all would wait for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import onnx

from sardonyx.base.context import QUIET, RunContext
from sardonyx.base.options import CompileOptions
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.verify import subgraphs
from sardonyx.providers.base import Executable, ExecutionProvider
from sardonyx.providers.host import owned

MOST_BYTES = 1 << 28
"""Of weights in a graph that is kept: a model as bytes may have less than 2 GB."""
IR_VERSION = 10


class ReferenceExecutable(Executable):
    """A graph that is interpreted."""

    def __init__(self, graph: ir.Graph) -> None:
        from sardonyx.graph.reference.interpreter import Interpreter

        self._graph = graph
        self._interpreter = Interpreter(graph, graph.opset_imports)
        self._counts = Counter(node.op_type for node in graph)

    @classmethod
    def from_bytes(cls, data: bytes) -> ReferenceExecutable:
        """The executable that `to_bytes` wrote."""
        return cls(ir.from_proto(onnx.ModelProto.FromString(data)).graph)

    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        taken = {id(value) for value in inputs}
        outputs = []
        for value in self._interpreter.run(inputs, context):
            outputs.append(owned(value, taken))
        return outputs

    def to_bytes(self) -> bytes | None:
        """The graph as a model, its weights inside; None if they take too much for one."""
        tensors = [v.const_value for v in self._graph.initializers.values() if v.const_value is not None]
        if sum(tensor.nbytes for tensor in tensors) > MOST_BYTES:
            return None
        graph = self._graph.clone()
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and tensor.dtype != ir.DataType.STRING:
                value.const_value = ir.Tensor(tensor.numpy(), tensor.dtype, name=value.name)
        model: onnx.ModelProto = ir.to_proto(ir.Model(graph, ir_version=IR_VERSION))
        return bytes(model.SerializeToString())

    def describe(self) -> str:
        counts = ", ".join(f"{name} x {count}" for name, count in self._counts.most_common())
        return f"interpreted in numpy, node by node: {counts}"


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
