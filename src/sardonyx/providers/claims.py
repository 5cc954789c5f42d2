"""Finds which nodes of a graph can be compiled, by importing them to tensor expressions, which are kept for compiling."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from sardonyx.base import debug
from sardonyx.base.errors import Unsupported
from sardonyx.expr import require
from sardonyx.expr.decide import Undecided
from sardonyx.expr.tensor import Tensor
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.host_operators import is_host_node
from sardonyx.graph.partition import read_values
from sardonyx.graph.records import find_op
from sardonyx.lower.control import CONTROL
from sardonyx.lower.importer import Imported, graph_input, import_node, weight
from sardonyx.providers.host_nodes import give_shape


class Claim(Struct, frozen=True):
    """The nodes of a graph that can be compiled.

    made: the tensors of the graph's values. whole: are `nodes` all nodes of the graph? late: further nodes that can perhaps
    be compiled when a run has determined what their form depends on: rank or dtype of an input, or a size. on_host: nodes of
    strings, sequences, optionals and maps, which run in Python.
    """

    nodes: list[ir.Node]
    late: list[ir.Node]
    on_host: list[ir.Node]
    inputs: dict[str | None, Tensor]
    made: dict[ir.Value, Tensor]
    requirements: list[require.Requirement]
    whole: bool

    def imported(self, graph: ir.Graph) -> Imported | None:
        """Return the graph as tensors, if it consists of all the claimed nodes and every one of them has been imported; else
        None.
        """
        if not self.whole or self.nodes != list(graph):
            return None
        return Imported([self.inputs[v.name] for v in graph.inputs], [self.made[v] for v in graph.outputs])


def claim(graph: ir.Graph, unclaimed: Sequence[ir.Node] | None = None) -> Claim:
    """Claim the nodes that can be compiled, following values whose dtype and rank are known.

    unclaimed: the nodes among which to choose, in the graph's order; by default all of them.
    """
    nodes: list[ir.Node] = []
    late: list[ir.Node] = []
    on_host: list[ir.Node] = []
    with require.collect() as requirements:
        made = leaves(graph)
        for node in graph if unclaimed is None else unclaimed:
            if is_host_node(node, graph.opset_imports):
                give_shape(node)
                on_host.append(node)
                continue
            missing = [v for v in read_values(node) if v.graph is graph and not provide(v, made)]
            try:
                if missing:
                    late += [node] if all(map(is_open, missing)) and has_operator(node, graph) else []
                elif compile_node(node, graph, made):
                    nodes.append(node)
                    complete(node, made)
            except Undecided as question:
                debug.show(debug.RAN, "late", str(question))
                late.append(node)
    inputs = {v.name: made[v] for v in graph.inputs if v in made}
    return Claim(nodes, late, on_host, inputs, made, requirements, len(nodes) == len(graph))


def leaves(graph: ir.Graph) -> dict[ir.Value, Tensor]:
    """Return tensors for the initializers, then the graph inputs, that nodes read, in the order of `import_graph`."""
    read = dict.fromkeys(v for node in graph for v in read_values(node) if v.producer() is None and v.graph is graph)
    out: dict[ir.Value, Tensor] = {}
    for v in [*filter(is_weight, read), *(v for v in graph.inputs if v in read)]:
        provide(v, out)
    return out


def compile_node(node: ir.Node, graph: ir.Graph, made: dict[ir.Value, Tensor]) -> bool:
    """Import a node, if its operator can be compiled. -> whether it was

    Raises Undecided if only a run can tell its form, and Fail, naming the node, if its inputs and attributes don't fit.
    """
    try:
        with require.tentative():
            import_node(node, made, graph.opset_imports)
    except Undecided:
        raise
    except Unsupported as error:
        debug.show(debug.RAN, "refused", str(error))
        return False
    return True


def complete(node: ir.Node, made: dict[ir.Value, Tensor]) -> None:
    """Set the shapes of outputs for which the standard has no inference (ai.onnx.ml), because another part may read them."""
    for v in node.outputs:
        if v in made and v.shape is None:
            v.type = ir.TensorType(ir.DataType(made[v].dtype.code))
            v.shape = ir.Shape([n if isinstance(n, int) else None for n in made[v].shape])


def is_open(v: ir.Value) -> bool:
    """May a run provide numbers for this value, although its dtype or rank is unknown?"""
    return v.type is None or (isinstance(v.type, ir.TensorType) and v.shape is None and v.dtype != ir.DataType.STRING)


def has_operator(node: ir.Node, graph: ir.Graph) -> bool:
    """Can the node's operator be compiled for some inputs?"""
    if node.op_type in CONTROL and node.domain == "":
        return True
    try:
        find_op(node, graph.opset_imports)
    except Unsupported:
        return False
    return True


def provide(v: ir.Value, made: dict[ir.Value, Tensor]) -> bool:
    """Make a tensor for a value that comes from outside, unless it has one. -> False if it can't have one"""
    if v in made:
        return True
    try:
        made[v] = weight(v) if is_weight(v) else graph_input(v)
    except Unsupported:
        return False
    return True


def is_weight(v: ir.Value) -> bool:
    """Is the value a constant that no caller may override?"""
    return v.const_value is not None and v.is_initializer() and not v.is_graph_input()
