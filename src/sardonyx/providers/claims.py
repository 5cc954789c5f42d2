"""Which nodes of a graph have a compiled form: it is found by making it, and kept for when the graph is compiled."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.base import debug
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.expr import require
from sardonyx.expr.tensor import Tensor
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.partition import read_values
from sardonyx.lower.importer import Imported, graph_input, import_node, weight


@dataclass(frozen=True, slots=True)
class Claim:
    """The nodes that can be compiled. made: the tensors of the graph's values. whole: they are all of the graph's."""

    nodes: list[ir.Node]
    inputs: dict[str | None, Tensor]
    made: dict[ir.Value, Tensor]
    requirements: list[require.Requirement]
    whole: bool

    def imported(self, graph: ir.Graph) -> Imported | None:
        """The graph as tensors, if all of the nodes have moved to it, and all had a compiled form."""
        if not self.whole or self.nodes != list(graph):
            return None
        return Imported([self.inputs[v.name] for v in graph.inputs], [self.made[v] for v in graph.outputs])


def claim(graph: ir.Graph) -> Claim:
    """Claims the nodes with a compiled form, as far as they can be reached over values whose type and rank are known."""
    with require.collect() as requirements:
        made = leaves(graph)
        nodes = [node for node in graph if is_compiled(node, graph, made)]
    inputs = {v.name: made[v] for v in graph.inputs if v in made}
    return Claim(nodes, inputs, made, requirements, len(nodes) == len(graph))


def leaves(graph: ir.Graph) -> dict[ir.Value, Tensor]:
    """The tensors of the weights, then of the inputs, that nodes read: in the order in which `import_graph` makes them."""
    read = dict.fromkeys(v for node in graph for v in read_values(node) if v.producer() is None and v.graph is graph)
    out: dict[ir.Value, Tensor] = {}
    for v in [*filter(is_weight, read), *(v for v in graph.inputs if v in read)]:
        provide(v, out)
    return out


def is_compiled(node: ir.Node, graph: ir.Graph, made: dict[ir.Value, Tensor]) -> bool:
    """Can it be compiled? Then its outputs are made."""
    if not all(provide(v, made) for v in read_values(node) if v.graph is graph):
        return False
    try:
        import_node(node, made, graph.opset_imports)
    except (Unsupported, Fail) as error:
        debug.show(debug.RAN, "refused", str(error))
        return False
    return True


def provide(v: ir.Value, made: dict[ir.Value, Tensor]) -> bool:
    """A tensor for a value, as for one from outside if it has none yet; False if it can't have one."""
    if v in made:
        return True
    try:
        made[v] = weight(v) if is_weight(v) else graph_input(v)
    except Unsupported:
        return False
    return True


def is_weight(v: ir.Value) -> bool:
    """A constant that no caller may override."""
    return v.const_value is not None and v.is_initializer() and not v.is_graph_input()
