"""Loop, Scan and If as repeated bodies (`expr.region`): a sub-graph is imported where its operator stands, over the same tensors.

Loop    scan or while_loop over its trip count, known or decided by data
Scan    scan; each step reads its slice of the scanned inputs by index
If      one branch if the condition is known; else each branch as a loop of at most one iteration. Branches that can't be repeated
        bodies (other ranks, sizes that data decide, demands on sizes) are imported alone, once a run has brought the condition
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sardonyx.base import debug
from sardonyx.base.dtypes import boolean, i64
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, value
from sardonyx.expr import require
from sardonyx.expr.known import DataSymbol, decided, elements, known, no_data_sizes
from sardonyx.expr.region import scan, while_loop
from sardonyx.expr.scalar import apply, cast, index
from sardonyx.expr.tensor import Tensor, compute, constant
from sardonyx.graph import onnx_ir
from sardonyx.ops.pointwise import normal_axis, pointwise, view

Scope = dict[onnx_ir.Value, Tensor]
ImportBody = Callable[[onnx_ir.Graph, Scope], list[Tensor]]
MOST_TURNS = (1 << 63) - 1


def import_control(node: onnx_ir.Node, scope: Scope, import_body: ImportBody) -> Sequence[Tensor]:
    """The outputs of a Loop, Scan or If node. Raises Unsupported for a form that has no compiled one, naming it."""
    inputs = [scope[v] if v is not None else None for v in node.inputs]
    try:
        return CONTROL[node.op_type](node, inputs, scope, import_body)
    except Fail as e:
        if "loop's state" in e.detail:
            raise Unsupported(e.detail) from None
        raise


def body_of(node: onnx_ir.Node, name: str) -> onnx_ir.Graph:
    attribute = node.attributes[name]
    assert isinstance(attribute.value, onnx_ir.Graph)
    return attribute.value


def run_body(graph: onnx_ir.Graph, inputs: Sequence[Tensor], scope: Scope, import_body: ImportBody) -> list[Tensor]:
    inner = dict(scope)
    inner.update(zip(graph.inputs, inputs, strict=True))
    with no_data_sizes(f"inside the body {graph.name}"):
        return import_body(graph, inner)


# ---- Loop -----------------------------------------------------------------------------------------------------------------


def loop(node: onnx_ir.Node, inputs: Sequence[Tensor | None], scope: Scope, import_body: ImportBody) -> list[Tensor]:
    """inputs: trip count (i64, optional), condition (bool, optional), state... -> final state..., stacked scan outputs..."""
    body = body_of(node, "body")
    count, condition = (*inputs, None, None)[:2]
    initial = [x for x in inputs[2:] if x is not None]
    trip: Dim = elements(count).ravel()[0] if count is not None else MOST_TURNS
    states = len(initial)

    def step(t: Dim, *state: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        number = compute(i64, (), lambda: index(t))
        results = run_body(body, [number, always(), *state], scope, import_body)
        return results[: 1 + states], results[1 + states :]

    if condition is None or is_true(condition):
        probe = conditional(body)
        if not probe:
            finals, stacks = scan(trip, initial, lambda t, *s: drop_condition(step(t, *s)))
            return [*finals, *stacks]
    start = condition if condition is not None else always()
    if len(body.outputs) > 1 + states and trip == MOST_TURNS:
        raise Unsupported("a Loop without a trip count that has scan outputs")
    finals, stacks, done = while_loop(trip, scalar_bool(start), initial, lambda t, *s: scalar_condition(step(t, *s)))
    rows = value(DataSymbol(done, 0))
    return [*finals, *(view(s, (rows, *s.shape[1:]), lambda *i: i) for s in stacks)]


def drop_condition(result: tuple[list[Tensor], list[Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return result[0][1:], result[1]


def scalar_condition(result: tuple[list[Tensor], list[Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [scalar_bool(result[0][0]), *result[0][1:]], result[1]


def scalar_bool(x: Tensor) -> Tensor:
    """A condition of one element as a scalar."""
    return x if x.rank == 0 else view(x, (), lambda: (0,) * x.rank)


def always() -> Tensor:
    return constant(np.array(True))


def is_true(condition: Tensor) -> bool:
    found = known(condition)
    return found is not None and bool(found.ravel()[0])


def conditional(body: onnx_ir.Graph) -> bool:
    """May the body end the loop? Not if its condition is the one it was given, or a constant true."""
    out = body.outputs[0]
    while (producer := out.producer()) is not None and producer.op_type == "Identity" and producer.inputs[0] is not None:
        out = producer.inputs[0]
    if out is body.inputs[1]:
        return False
    data = out.const_value
    if data is None and producer is not None and producer.op_type == "Constant" and "value" in producer.attributes:
        data = producer.attributes["value"].value
    return data is None or not bool(np.ravel(data.numpy())[0])


# ---- Scan -----------------------------------------------------------------------------------------------------------------


def scan_operator(node: onnx_ir.Node, inputs: Sequence[Tensor | None], scope: Scope, import_body: ImportBody) -> list[Tensor]:
    """inputs: state..., scanned... -> final state..., stacked... (opset 9 on: no batch axis)"""
    body = body_of(node, "body")
    scanned = int(node.attributes["num_scan_inputs"].value)
    given = [x for x in inputs if x is not None]
    if len(given) != len(body.inputs):
        raise Unsupported("Scan with sequence lengths")
    initial, sources = given[: len(given) - scanned], given[len(given) - scanned :]
    backwards = integers(node, "scan_input_directions", scanned)
    axes = [normal_axis(a, x.rank) for a, x in zip(integers(node, "scan_input_axes", scanned), sources, strict=True)]
    trip = sources[0].shape[axes[0]]
    states = len(initial)

    def step(t: Dim, *state: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        slices = [slice_at(x, a, trip - 1 - t if b else t) for x, a, b in zip(sources, axes, backwards, strict=True)]
        results = run_body(body, [*state, *slices], scope, import_body)
        return results[:states], results[states:]

    finals, stacks = scan(trip, initial, step)
    reversed_ = integers(node, "scan_output_directions", len(stacks))
    targets = [normal_axis(a, s.rank) for a, s in zip(integers(node, "scan_output_axes", len(stacks)), stacks, strict=True)]
    return [*finals, *(arrange(s, a, b, trip) for s, a, b in zip(stacks, targets, reversed_, strict=True))]


def integers(node: onnx_ir.Node, name: str, count: int) -> list[int]:
    found = node.attributes.get(name)
    return [int(v) for v in found.value] if found is not None else [0] * count


def slice_at(x: Tensor, axis: int, at: Dim) -> Tensor:
    return view(x, [*x.shape[:axis], *x.shape[axis + 1 :]], lambda *i: (*i[:axis], at, *i[axis:]))


def arrange(stack: Tensor, axis: int, backwards: int, trip: Dim) -> Tensor:
    """The stack with its steps along `axis`, the last first if backwards."""
    rest = stack.shape[1:]
    shape = [*rest[:axis], trip, *rest[axis:]]
    return view(stack, shape, lambda *i: (trip - 1 - i[axis] if backwards else i[axis], *i[:axis], *i[axis + 1 :]))


# ---- If -------------------------------------------------------------------------------------------------------------------


def branch(node: onnx_ir.Node, inputs: Sequence[Tensor | None], scope: Scope, import_body: ImportBody) -> list[Tensor]:
    """The branch that the condition chooses. Raises Undecided where it can be imported only once the condition is known, but isn't."""
    condition = inputs[0]
    assert condition is not None
    found = known(condition)
    if found is None:
        try:
            with require.tentative():
                return both_branches(node, condition, scope, import_body)
        except (Unsupported, Fail) as reason:
            debug.show(debug.RAN, "one branch", f"{node.op_type} node {node.name}: {reason}")
            found = decided(condition)
    name = "then_branch" if bool(found.ravel()[0]) else "else_branch"
    return import_body(body_of(node, name), dict(scope))


def both_branches(node: onnx_ir.Node, condition: Tensor, scope: Scope, import_body: ImportBody) -> list[Tensor]:
    """Each branch under its condition; both must give the same shapes, and demand nothing of sizes, since only one of them runs."""
    then, otherwise = body_of(node, "then_branch"), body_of(node, "else_branch")
    before = require.stated()
    chosen = scalar_bool(condition)
    shapes = [(t.dtype, t.shape) for t in run_body(then, [], scope, import_body)]
    blank = [compute(d, s, lambda *_, d=d: cast(index(0), d)) for d, s in shapes]
    finals = once(chosen, blank, lambda: run_body(then, [], scope, import_body))
    negated = pointwise(lambda c: apply("not", c), chosen, dtype=boolean)
    finals = once(negated, finals, lambda: run_body(otherwise, [], scope, import_body))
    if require.stated() > before:
        raise Unsupported("a branch that demands something of sizes")
    return finals


def once(condition: Tensor, initial: Sequence[Tensor], body: Callable[[], Sequence[Tensor]]) -> list[Tensor]:
    """body's tensors if the condition holds, else the initial ones."""
    finals, _, _ = while_loop(1, condition, initial, lambda t, *_: ([always(), *body()], []), pinned=True)
    return finals


CONTROL: Mapping[str, Callable[..., list[Tensor]]] = {"Loop": loop, "Scan": scan_operator, "If": branch}
