"""The reference provider: runs every operator of the standard node by node in numpy, for tests and for nodes that can't be
compiled.

onnx.reference is imported only when a node is assigned to this provider, because the import is slow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import onnx

from sardonyx.base.context import QUIET, RunContext
from sardonyx.base.options import CompileOptions
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.verify import subgraphs
from sardonyx.providers.base import Executable, ExecutionProvider
from sardonyx.providers.host import owned

MOST_BYTES = 1 << 28
"""The most bytes of weights in a graph that is stored; a serialised model must stay under 2 GB."""
IR_VERSION = 10

if TYPE_CHECKING:
    from sardonyx.graph.reference.control import Body


class Bodies(Protocol):
    """Compiles the bodies of interpreted If, Loop and Scan nodes."""

    def knows(self, domain: str, name: str) -> bool:
        """Does some provider have this operator, which the reference may lack?"""

    def make(self, graph: ir.Graph, imports: Mapping[str, int]) -> Body:
        """Return the body, ready to run."""

    def assignment(self) -> Sequence[Any]:
        """Return which provider runs the nodes of the bodies that have been compiled, as `Executable.assignment`."""


class ReferenceExecutable(Executable):
    """An interpreted graph. bodies: compiles the bodies of its nodes; None: they are interpreted too."""

    def __init__(self, graph: ir.Graph, bodies: Bodies | None = None) -> None:
        from sardonyx.graph.reference.interpreter import Interpreter

        self._graph = graph
        self._interpreter = Interpreter(graph, graph.opset_imports, bodies.make if bodies else None)
        self._bodies = bodies
        self._counts = Counter(node.op_type for node in graph)

    @classmethod
    def from_bytes(cls, data: bytes) -> ReferenceExecutable:
        """Return the executable that `to_bytes` wrote."""
        return cls(ir.from_proto(onnx.ModelProto.FromString(data)).graph)

    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        taken = {id(value) for value in inputs}
        outputs = []
        for value in self._interpreter.run(inputs, context):
            outputs.append(owned(value, taken))
        return outputs

    def to_bytes(self) -> bytes | None:
        """Return the graph as a serialised model with its weights; None if they are too large, or if it has bodies that are
        compiled.
        """
        if self._bodies is not None and any(True for node in self._graph for _ in subgraphs(node)):
            return None
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

    def assignment(self) -> Sequence[Any]:
        return self._bodies.assignment() if self._bodies else ()

    def describe(self) -> str:
        counts = ", ".join(f"{name} x {count}" for name, count in self._counts.most_common())
        return f"interpreted in numpy, node by node: {counts}"


class ReferenceExecutionProvider(ExecutionProvider):
    """Claims every node that it has an implementation for, which are all valid nodes of the standard's domains.

    bodies: returns, for each sub-graph, what compiles the bodies of its nodes; None: they are interpreted.
    """

    name: ClassVar[str] = "ReferenceExecutionProvider"
    claims_bodies: ClassVar[bool] = False
    bodies: Callable[[], Bodies] | None = None

    def get_capability(self, graph: ir.Graph, nodes: Sequence[ir.Node], options: CompileOptions) -> list[list[ir.Node]]:
        bodies = self.bodies() if self.bodies else None
        claimed = [node for node in nodes if runs(node, graph.opset_imports, bodies)]
        return [claimed] if claimed else []

    def compile(self, graph: ir.Graph, options: CompileOptions) -> Executable:
        return ReferenceExecutable(graph, self.bodies() if self.bodies else None)


def runs(node: ir.Node, imports: dict[str, int], bodies: Bodies | None = None) -> bool:
    """Is there an implementation of the node and of all nodes in its bodies?"""
    from sardonyx.graph.reference.kernels import is_supported

    inner = [inner for graph in subgraphs(node) for inner in graph]
    return is_supported(node, imports) and all(
        (bodies is not None and bodies.knows(n.domain, n.op_type)) or runs(n, imports, bodies) for n in inner
    )
