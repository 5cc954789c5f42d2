"""Import Loop, Scan and If as repeated bodies (`expr.region`): the subgraph becomes tensors, like any other nodes.

Loop    scan, or while_loop if a condition may end it; the trip count is known or decided by data
Scan    scan; each iteration reads its slice of the scanned inputs by index
If      the branch that is taken, if the condition is known; else two bodies of which one runs. Branches that can't be bodies,
        because their ranks differ or data decide sizes, are imported when a run has supplied the condition
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from sardonyx.base import debug
from sardonyx.base.dtypes import boolean, i64
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, alias, symbols
from sardonyx.expr import require
from sardonyx.expr.dependence import closure
from sardonyx.expr.known import DataSymbol, data_size, decided, inside_body, known, size_or_none
from sardonyx.expr.region import ENDLESS, choose, scan, while_loop
from sardonyx.expr.require import not_below_zero, require_equal
from sardonyx.expr.scalar import apply, index
from sardonyx.expr.tensor import Read, Tensor, compute, constant, next_id
from sardonyx.graph import onnx_ir
from sardonyx.graph.schemas import schema_of
from sardonyx.ops.pointwise import cast, normal_axis, pointwise, view

Scope = dict[onnx_ir.Value, Tensor]
ImportBody = Callable[[onnx_ir.Graph, Scope], list[Tensor]]
Results = tuple[list[Tensor], list[Tensor]]

ONE_BRANCH = "sardonyx.one_branch"
"""Metadata key of an If whose branches could not be imported as bodies, so that this is not tried again at each level of
nested Ifs."""
MOST_ROWS = 4096
"""Largest trip count for which a loop that a condition may end reserves memory for the stacked results of all iterations."""


def import_control(node: onnx_ir.Node, scope: Scope, import_body: ImportBody) -> Sequence[Tensor]:
    """Import a Loop, Scan or If node and return its outputs. Raises Unsupported, naming the form, for forms that can't be
    compiled."""
    inputs = [scope[v] if v is not None else None for v in node.inputs]
    return CONTROL[node.op_type](node, inputs, scope, import_body)


def body_of(node: onnx_ir.Node, name: str) -> onnx_ir.Graph:
    """Return the subgraph in the attribute of this name."""
    attribute = node.attributes[name]
    assert isinstance(attribute.value, onnx_ir.Graph)
    return attribute.value


def run_body(
    graph: onnx_ir.Graph, inputs: Sequence[Tensor], scope: Scope, import_body: ImportBody, first: float, pinned: bool = False
) -> list[Tensor]:
    """Import the subgraph with these inputs and return its outputs. first, pinned: see `inside_body`."""
    inner = dict(scope)
    inner.update(zip(graph.inputs, inputs, strict=True))
    with inside_body(f"inside the body {graph.name}", first, pinned):
        return import_body(graph, inner)


@contextlib.contextmanager
def may_fail(body: onnx_ir.Graph) -> Iterator[None]:
    """Turn Fail into Unsupported while a body is imported that may never run: its faults matter only if it runs."""
    try:
        yield
    except Fail as reason:
        raise Unsupported(f"the body {body.name}, which may never run, fails: {reason.detail}") from reason


def shaped(x: Tensor, argument: onnx_ir.Value) -> Tensor:
    """Reshape a scalar to one axis if the body declares its argument so, as some exporters do."""
    return view(x, (1,), lambda *_: ()) if argument.shape is not None and len(argument.shape) == 1 else x


def scalar(x: Tensor) -> Tensor:
    """Reshape a tensor of one element to a scalar; requires that it has one element."""
    for n in x.shape:
        require_equal(n, 1, "a condition or trip count must be one value, not a tensor of shape {}", x.shape)
    return x if x.rank == 0 else view(x, (), lambda: (0,) * x.rank)


def always() -> Tensor:
    """Return the constant True."""
    return constant(np.array(True))


def both(x: Tensor, y: Tensor) -> Tensor:
    """Return x and y."""
    return pointwise(lambda a, b: apply("and", a, b), x, y, dtype=boolean)


# ---- Loop -----------------------------------------------------------------------------------------------------------------


def loop(node: onnx_ir.Node, inputs: Sequence[Tensor | None], scope: Scope, import_body: ImportBody) -> list[Tensor]:
    """Import a Loop. inputs: trip count (i64, optional), condition (bool, optional), state... -> final state..., stacked scan
    outputs..."""
    body = body_of(node, "body")
    count, condition = (*inputs, None, None)[:2]
    initial = [x for x in inputs[2:] if x is not None]
    states = len(initial)
    start = scalar(condition) if condition is not None else always()
    trip = trip_count(count)
    first, runs = next_id(), is_true(start) and isinstance(trip, int) and trip > 0

    def step(t: Dim, *state: Tensor) -> Results:
        number = shaped(compute(i64, (), lambda: index(t)), body.inputs[0])
        with contextlib.nullcontext() if runs else may_fail(body):
            results = run_body(body, [number, shaped(always(), body.inputs[1]), *state], scope, import_body, first)
        return results[: 1 + states], results[1 + states :]

    if trip is not None and is_true(start) and not conditional(body):
        finals, stacks = scan(trip, initial, lambda t, *s: without_condition(step(t, *s)))
        return [*finals, *stacks]
    if trip is None:
        assert count is not None
        begins, goes_on = counted(scalar(count), start, step)
        finals, stacks, done = while_loop(ENDLESS, begins, initial, goes_on)
    elif len(body.outputs) == 1 + states or has_room(trip):
        finals, stacks, done = while_loop(trip, start, initial, lambda t, *s: with_scalar_condition(step(t, *s)))
    else:
        return twice(node, trip, start, initial, step)
    if not stacks:
        return finals
    rows = data_size(done, 0)
    return [*finals, *(view(s, (rows, *s.shape[1:]), lambda *i: i) for s in stacks)]


def trip_count(count: Tensor | None) -> Dim | None:
    """Return the largest number of iterations, or None where only data of an enclosing body decide it."""
    trip = ENDLESS if count is None else size_or_none(count)
    return (
        trip
        if trip is None or trip == ENDLESS
        else not_below_zero(trip)
        if not isinstance(trip, int)
        else min(max(trip, 0), ENDLESS)
    )


def has_room(trip: Dim) -> bool:
    """Tell whether memory for `trip` rows can be reserved: the trip count is a small number, or decided by sizes of the
    inputs."""
    if isinstance(trip, int):
        return trip <= MOST_ROWS
    return not any(isinstance(s, DataSymbol) for s in closure(symbols(trip)))


def counted(count: Tensor, start: Tensor, step: Callable[..., Results]) -> tuple[Tensor, Callable[..., Results]]:
    """Add the limit of `count` iterations to a loop's condition. -> (first condition, step)"""
    first = both(start, compute(boolean, (), lambda: apply("lt", index(0), Read(count, ()))))

    def goes_on(t: Dim, *state: Tensor) -> Results:
        (condition, *updates), values = with_scalar_condition(step(t, *state))
        return [both(condition, compute(boolean, (), lambda: apply("lt", index(t + 1), Read(count, ())))), *updates], values

    return first, goes_on


def twice(node: onnx_ir.Node, trip: Dim, start: Tensor, initial: Sequence[Tensor], step: Callable[..., Results]) -> list[Tensor]:
    """Import a loop of very many possible iterations that stacks results as two loops: one counts the iterations, one runs so
    many of them."""
    body = body_of(node, "body")
    for inner in onnx_ir.traversal.RecursiveGraphIterator(body):
        schema = schema_of(inner, body.opset_imports)
        if schema is not None and not schema.deterministic:
            raise Unsupported(f"a loop that stacks results and whose end depends on random numbers: {inner.op_type}")
    _, _, done = while_loop(trip, start, initial, lambda t, *s: (with_scalar_condition(step(t, *s))[0], []))
    finals, stacks = scan(data_size(done, 0), initial, lambda t, *s: without_condition(step(t, *s)))
    return [*finals, *stacks]


def without_condition(result: Results) -> Results:
    """Drop the condition from the results of an iteration."""
    return result[0][1:], result[1]


def with_scalar_condition(result: Results) -> Results:
    """Make the condition in the results of an iteration a scalar."""
    return [scalar(result[0][0]), *result[0][1:]], result[1]


def is_true(condition: Tensor) -> bool:
    """Tell whether the condition is known to be true."""
    found = known(condition)
    return found is not None and bool(found.ravel()[0])


def conditional(body: onnx_ir.Graph) -> bool:
    """Tell whether the body may end the loop: its condition is neither passed through from the input nor a constant true."""
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
    """Import a Scan without a batch axis (opset 9 on). inputs: state..., scanned... -> final state..., stacked..."""
    body = body_of(node, "body")
    scanned = int(node.attributes["num_scan_inputs"].value)
    given = [x for x in inputs if x is not None]
    if len(given) != len(body.inputs):
        raise Unsupported("Scan with sequence lengths")
    initial, sources = given[: len(given) - scanned], given[len(given) - scanned :]
    backwards = integers(node, "scan_input_directions", scanned)
    axes = [normal_axis(a, x.rank) for a, x in zip(integers(node, "scan_input_axes", scanned), sources, strict=True)]
    trip = sources[0].shape[axes[0]]
    for x, axis in zip(sources[1:], axes[1:], strict=True):
        require_equal(x.shape[axis], trip, "scan inputs have different lengths: {} and {}", trip, x.shape[axis])
    states = len(initial)
    first, runs = next_id(), isinstance(trip, int) and trip > 0

    def step(t: Dim, *state: Tensor) -> Results:
        slices = [slice_at(x, a, trip - 1 - t if b else t) for x, a, b in zip(sources, axes, backwards, strict=True)]
        with contextlib.nullcontext() if runs else may_fail(body):
            results = run_body(body, [*state, *slices], scope, import_body, first)
        return results[:states], results[states:]

    finals, stacks = scan(trip, initial, step)
    reversed_ = integers(node, "scan_output_directions", len(stacks))
    targets = [normal_axis(a, s.rank) for a, s in zip(integers(node, "scan_output_axes", len(stacks)), stacks, strict=True)]
    return [*finals, *(arrange(s, a, b, trip) for s, a, b in zip(stacks, targets, reversed_, strict=True))]


def integers(node: onnx_ir.Node, name: str, count: int) -> list[int]:
    """Return the integers of an attribute; `count` zeros if it is absent."""
    found = node.attributes.get(name)
    return [int(v) for v in found.value] if found is not None else [0] * count


def slice_at(x: Tensor, axis: int, at: Dim) -> Tensor:
    """Return the view of x at this index of the axis."""
    return view(x, [*x.shape[:axis], *x.shape[axis + 1 :]], lambda *i: (*i[:axis], at, *i[axis:]))


def arrange(stack: Tensor, axis: int, backwards: int, trip: Dim) -> Tensor:
    """Move the stack's iterations to `axis`, in reverse order if `backwards`."""
    rest = stack.shape[1:]
    shape = [*rest[:axis], trip, *rest[axis:]]
    return view(stack, shape, lambda *i: (trip - 1 - i[axis] if backwards else i[axis], *i[:axis], *i[axis + 1 :]))


# ---- If -------------------------------------------------------------------------------------------------------------------


def branch(node: onnx_ir.Node, inputs: Sequence[Tensor | None], scope: Scope, import_body: ImportBody) -> list[Tensor]:
    """Import an If. Raises Undecided if the branches can't be bodies and the condition is not known yet."""
    condition = inputs[0]
    assert condition is not None
    found = known(scalar(condition))
    if found is None and ONE_BRANCH not in node.meta:
        try:
            with require.tentative():
                return both_branches(node, condition, scope, import_body)
        except (Unsupported, Fail) as reason:
            debug.show(debug.RAN, "one branch", f"{node.op_type} node {node.name}: {reason}")
            node.meta[ONE_BRANCH] = True
    if found is None:
        found = decided(scalar(condition))
    name = "then_branch" if bool(found.ravel()[0]) else "else_branch"
    return import_body(body_of(node, name), dict(scope))


def both_branches(node: onnx_ir.Node, condition: Tensor, scope: Scope, import_body: ImportBody) -> list[Tensor]:
    """Import both branches as bodies of which the one that is taken runs. Their results must have the same dtypes and ranks."""
    then, otherwise = body_of(node, "then_branch"), body_of(node, "else_branch")
    chosen = scalar(condition)
    number = cast(chosen, i64)
    first = next_id()

    def merge(x: Tensor, y: Tensor) -> list[Dim]:
        if x.dtype is not y.dtype:
            raise Fail(f"the branches of an If give {x} and {y}")
        if x.rank != y.rank:
            raise Unsupported(f"branches of an If that give tensors of different ranks: {x} and {y}")
        return [n if n == m else alias(m + data_size(number, 0) * (n - m)) for n, m in zip(x.shape, y.shape, strict=True)]

    return choose(
        chosen,
        lambda: run_body(then, [], scope, import_body, first, pinned=True),
        lambda: run_body(otherwise, [], scope, import_body, first, pinned=True),
        merge,
    )


CONTROL: Mapping[str, Callable[..., list[Tensor]]] = {"Loop": loop, "Scan": scan_operator, "If": branch}
