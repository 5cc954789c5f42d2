"""Finds the values of a graph that depend on random numbers and therefore differ between runs.

1. An operator that draws random numbers gives random values: by its schema, unless that is a function whose nodes draw none
(AffineGrid).
2. A node without bodies that reads a random value gives random values.
3. If: an output is random if that of a branch is; all outputs are if the condition is.
4. Loop, Scan, SequenceMap: an input of the body is random if the value given for it is, a state also if the body returns a random
value for it. An output is random if the body's is. All outputs are if the number of iterations is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct, field

from sardonyx.graph import onnx_ir as ir
from sardonyx.graph import schemas
from sardonyx.graph.verify import subgraphs

Proof = Callable[[ir.Node], bool]
"""Function that returns True for a node which is known not to have drawn random numbers."""
BRANCHES = "If"


class Body(Struct, frozen=True):
    """How a node's inputs and outputs correspond to those of its body, as index pairs, and which values decide the number of
    iterations.

    entering: (node input, body input); returning: (body output, body input) of states; leaving: (body output, node output).
    """

    entering: Sequence[tuple[int, int]]
    returning: Sequence[tuple[int, int]]
    leaving: Sequence[tuple[int, int]]
    deciding: Sequence[int] = ()  # inputs of the node that decide the number of iterations
    deciding_inside: Sequence[int] = ()  # outputs of the body that decide it


def random_values(graph: ir.Graph, drew_nothing: Proof = lambda node: False) -> frozenset[ir.Value]:
    """Return the random values of the graph, including those of bodies.

    drew_nothing: whether a node of the graph that may draw is known not to have drawn, as a Dropout whose output equals its input.
    """
    return frozenset(_Search(graph.opset_imports, drew_nothing).graph(graph, frozenset()))


def draws(node: ir.Node, imports: Mapping[str, int]) -> bool:
    """Return whether the operator itself draws random numbers; its bodies are not considered."""
    schema = schemas.schema_of(node, imports)
    if schema is None or schema.deterministic or any(True for _ in subgraphs(node)):
        return False
    if schema.name == "Dropout" and schema.since >= 7:
        return len(node.inputs) > 2 and node.inputs[2] is not None
    return not schema.raw.has_function or any(_may_draw(n.op_type, schema.since) for n in schema.raw.function_body.node)


def _may_draw(operator: str, version: int) -> bool:
    """Return whether a node in a standard function may draw. The branches of If nodes in these functions contain arithmetic only."""
    schema = schemas.find("", operator, version)
    return operator != BRANCHES and schema is not None and not schema.deterministic


class _Search(Struct):
    """A search for random values, which are collected in `found`."""

    imports: Mapping[str, int]
    drew_nothing: Proof
    found: set[ir.Value] = field(default_factory=set)

    def graph(self, graph: ir.Graph, given: Collection[ir.Value]) -> set[ir.Value]:
        """Add the random values of a graph whose inputs `given` are random. Returns all that are found."""
        self.found.update(given)
        for node in graph:
            self.found.update(node.outputs[k] for k in self.outputs(node))
        return self.found

    def outputs(self, node: ir.Node) -> Sequence[int]:
        """Return the indices of the node's outputs that are random."""
        every = range(len(node.outputs))
        bodies = list(subgraphs(node))
        if not bodies:
            drawn = draws(node, self.imports) and not self.drew_nothing(node)
            return every if drawn or any(value in self.found for value in node.inputs if value is not None) else ()
        if node.op_type == BRANCHES:
            return self.branches(node, bodies)
        return self.repeated(node, bodies[0], correspondence(node, bodies[0]))

    def branches(self, node: ir.Node, bodies: Sequence[ir.Graph]) -> Sequence[int]:
        """Return the indices of the random outputs of an If."""
        for body in bodies:
            self.graph(body, ())
        if node.inputs[0] in self.found:
            return range(len(node.outputs))
        return [k for k in range(len(node.outputs)) if any(body.outputs[k] in self.found for body in bodies)]

    def repeated(self, node: ir.Node, body: ir.Graph, form: Body) -> Sequence[int]:
        """Return the indices of the random outputs of a Loop, Scan or SequenceMap. The body is searched until no further state
        becomes random.
        """
        given = {body.inputs[i] for k, i in form.entering if node.inputs[k] in self.found}
        while True:
            self.graph(body, given)
            more = {body.inputs[i] for k, i in form.returning if body.outputs[k] in self.found} - given
            if not more:
                break
            given |= more
        deciding = [node.inputs[k] for k in form.deciding] + [body.outputs[k] for k in form.deciding_inside]
        if any(value in self.found for value in deciding):
            return range(len(node.outputs))
        return [k for i, k in form.leaving if body.outputs[i] in self.found]


def correspondence(node: ir.Node, body: ir.Graph) -> Body:
    """Return how a Loop, Scan or SequenceMap corresponds to its body."""
    results = range(len(node.outputs))
    if node.op_type == "Loop":
        states = range(len(node.inputs) - 2)
        return Body(
            entering=[(k + 2, k + 2) for k in states],
            returning=[(k + 1, k + 2) for k in states],
            leaving=[(k + 1, k) for k in results],
            deciding=range(min(2, len(node.inputs))),
            deciding_inside=(0,),
        )
    first = len(node.inputs) - len(body.inputs)  # 1 for a Scan of opset 8, whose first input is the sequence lengths
    scans = node.attributes["num_scan_inputs"].as_int() if node.op_type == "Scan" else len(body.inputs)
    return Body(
        entering=[(first + k, k) for k in range(len(body.inputs))],
        returning=[(k, k) for k in range(len(body.inputs) - scans)],
        leaving=[(k, k) for k in results],
        deciding=range(first),
    )
