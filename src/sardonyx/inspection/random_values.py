"""Finds the values of a graph that random numbers decide, and that therefore differ from run to run.

1. An operator that draws gives random values: by its schema, unless that is a function whose nodes draw nothing (AffineGrid).
2. A node without bodies that reads a random value gives random values.
3. If: an output is random if a branch's is; all are if the condition is.
4. Loop, Scan, SequenceMap: a body's inputs are as random as what they are given, state also as what the body returns for it; an output
   is random if the body's is. All are if the number of iterations is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct, field

from sardonyx.graph import onnx_ir as ir
from sardonyx.graph import schemas
from sardonyx.graph.verify import subgraphs

Proof = Callable[[ir.Node], bool]
BRANCHES = "If"


class Body(Struct, frozen=True):
    """How a node's inputs and outputs correspond to its body's, as index pairs, and which of them decide the number of iterations.

    entering: (node input, body input); returning: (body output, body input) of state; leaving: (body output, node output).
    """

    entering: Sequence[tuple[int, int]]
    returning: Sequence[tuple[int, int]]
    leaving: Sequence[tuple[int, int]]
    deciding: Sequence[int] = ()  # inputs of the node
    deciding_inside: Sequence[int] = ()  # outputs of the body


def random_values(graph: ir.Graph, drew_nothing: Proof = lambda node: False) -> frozenset[ir.Value]:
    """The random values of the graph, those of bodies included.

    drew_nothing: a node of the graph itself that may draw is known not to have drawn (Dropout that gave out what it was given).
    """
    return frozenset(_Search(graph.opset_imports, drew_nothing).graph(graph, frozenset()))


def draws(node: ir.Node, imports: Mapping[str, int]) -> bool:
    """Is the operator itself random? The bodies of a node are not looked at."""
    schema = schemas.schema_of(node, imports)
    if schema is None or schema.deterministic or any(True for _ in subgraphs(node)):
        return False
    if schema.name == "Dropout" and schema.since >= 7:
        return len(node.inputs) > 2 and node.inputs[2] is not None
    return not schema.raw.has_function or any(_may_draw(n.op_type, schema.since) for n in schema.raw.function_body.node)


def _may_draw(operator: str, version: int) -> bool:
    """May a node in a function of the standard draw? Its If nodes hold arithmetic alone."""
    schema = schemas.find("", operator, version)
    return operator != BRANCHES and schema is not None and not schema.deterministic


class _Search(Struct):
    imports: Mapping[str, int]
    drew_nothing: Proof
    found: set[ir.Value] = field(default_factory=set)

    def graph(self, graph: ir.Graph, given: Collection[ir.Value]) -> set[ir.Value]:
        """Adds the random values of a graph whose inputs `given` are random."""
        self.found.update(given)
        for node in graph:
            self.found.update(node.outputs[k] for k in self.outputs(node))
        return self.found

    def outputs(self, node: ir.Node) -> Sequence[int]:
        """Which of the node's outputs are random."""
        every = range(len(node.outputs))
        bodies = list(subgraphs(node))
        if not bodies:
            drawn = draws(node, self.imports) and not self.drew_nothing(node)
            return every if drawn or any(value in self.found for value in node.inputs if value is not None) else ()
        if node.op_type == BRANCHES:
            return self.branches(node, bodies)
        return self.repeated(node, bodies[0], correspondence(node, bodies[0]))

    def branches(self, node: ir.Node, bodies: Sequence[ir.Graph]) -> Sequence[int]:
        for body in bodies:
            self.graph(body, ())
        if node.inputs[0] in self.found:
            return range(len(node.outputs))
        return [k for k in range(len(node.outputs)) if any(body.outputs[k] in self.found for body in bodies)]

    def repeated(self, node: ir.Node, body: ir.Graph, form: Body) -> Sequence[int]:
        """Goes through the body until no more state turns out to be random."""
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
    """The form of a Loop, a Scan, or a SequenceMap."""
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
    first = len(node.inputs) - len(body.inputs)  # 1 for a Scan of opset 8: the lengths
    scans = node.attributes["num_scan_inputs"].as_int() if node.op_type == "Scan" else len(body.inputs)
    return Body(
        entering=[(first + k, k) for k in range(len(body.inputs))],
        returning=[(k, k) for k in range(len(body.inputs) - scans)],
        leaving=[(k, k) for k in results],
        deciding=range(first),
    )
