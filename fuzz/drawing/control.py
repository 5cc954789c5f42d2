"""If, Loop and Scan: bodies that capture outer values, states of changing size, numbers of iterations that depend on data, nesting.

A body is drawn with the values that its inputs have in one iteration; then the whole node is evaluated as it will run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from fuzz.drawing import movement, pointwise, sizes, sums
from fuzz.drawing.builder import FEEDS, Builder, Rejected, Value
from fuzz.drawing.sizes import as_scalar, as_vector, size
from fuzz.three_arithmetics import exact

DEEPEST = 3
MOST_TRIPS = 6
FAMILIES = (
    (5, pointwise.FAMILY),
    (3, sizes.FAMILY),
    (4, movement.FAMILY),
    (3, sums.FAMILY),
)


def add_something(g: Builder) -> None:
    """Add what a random member of a random family draws; in bodies that are not too deep also If, Loop and Scan. Raises Rejected."""
    families = [*FAMILIES, (2 if g.depth else 3, FAMILY)] if g.depth < DEEPEST else FAMILIES
    _, family = g.random.choices(families, [weight for weight, _ in families])[0]
    _, member = g.random.choices(family, [weight for weight, _ in family])[0]
    member(g)


def fill(g: Builder, count: int) -> None:
    """Add nodes until there are this many more, or no more fit."""
    wanted = len(g.nodes) + count
    for _ in range(8 * count):
        if len(g.nodes) >= wanted:
            return
        try:
            add_something(g)
        except Rejected:
            continue


# ---- bodies ------------------------------------------------------------------------------------------------------------------


class Body(Builder):
    """A graph inside a node."""

    def __init__(self, outer: Builder) -> None:
        super().__init__(outer.model, outer)
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def argument(self, prefix: str, like: Value, plain: bool = False) -> Value:
        """Add an input of the body that has the value of `like` in this iteration. plain: its size may change between iterations"""
        name = self.name(prefix)
        self.inputs.append(helper.make_tensor_value_info(name, like.dtype.code, None if plain else shape_of(self, like)))
        return self.add(name, like.known)

    def returns(self, value: Value) -> None:
        """Add an output."""
        if (
            value.depth != self.depth
            or any(value.name == output.name for output in self.outputs)
            or all(value.name not in node.output for node in self.nodes)
        ):
            value = self.out("Identity", value)
        self.outputs.append(helper.make_tensor_value_info(value.name, value.dtype.code, None))

    def graph(self) -> onnx.GraphProto:
        graph = helper.make_graph(self.nodes, self.name("body"), self.inputs, self.outputs, self.initializers)
        if self.chance(0.3):
            named = [v for v in self.values if all(v.name != i.name for i in (*self.inputs, *self.outputs))]
            graph.value_info.extend(helper.make_tensor_value_info(v.name, v.dtype.code, None) for v in named)
        return graph


def shape_of(g: Builder, value: Value) -> list[None] | None:
    """Return what a body declares of an input's shape: nothing, or its rank."""
    return None if g.chance(0.5) else [None] * value.rank


def finish(g: Builder, operator: str, inputs: Sequence[Value | None], outputs: int, **attributes: object) -> list[Value]:
    names = [value.name if value is not None else "" for value in inputs]
    return g.evaluated(helper.make_node(operator, names, [g.name("v") for _ in range(outputs)], g.name("node"), **attributes))


# ---- If ----------------------------------------------------------------------------------------------------------------------


def branch(g: Builder) -> None:
    condition = truth(g)
    then, other = Body(g), Body(g)
    fill(then, g.either(0, 1, 2, 3))
    fill(other, g.either(0, 1, 2, 3))
    count = g.either(1, 1, 2)
    for _ in range(count):
        x = then.pick(lambda v: True)
        then.returns(x)
        like = [v for v in other.visible() if v.dtype is x.dtype and v.rank == x.rank]
        other.returns(other.among(like[-4:]))
    finish(g, "If", [condition], count, then_branch=then.graph(), else_branch=other.graph())


def truth(g: Builder) -> Value:
    """Return bool[]: a comparison of sizes or data."""
    found = [v for v in g.visible() if v.dtype.name == "bool" and all(x.size == 1 and x.ndim < 2 for x in v.arrays)]
    if found and g.chance(0.5):
        return g.among(found)
    return g.out(g.either("Greater", "Less", "Equal"), as_scalar(g, size(g)), g.constant(np.array(g.below(8)), "i64"))


# ---- Loop --------------------------------------------------------------------------------------------------------------------


def loop(g: Builder) -> None:
    """Add `for i < trips, while condition`, where trips is a constant, a size, data, or absent."""
    trips = None if g.chance(0.2) else as_scalar(g, bounded_trips(g))
    condition = g.constant(np.array(True)) if trips is None or g.chance(0.6) else None if g.chance(0.7) else truth(g)
    state = [
        g.pick(lambda v: v.is_number or v.dtype.name == "bool")
        for _ in range(g.either(1, 1, 2) if g.depth else g.either(0, 1, 1, 2))
    ]
    grows = [g.chance(0.25) for _ in state]
    body = Body(g)
    iteration = g.either(0, 1, 2)
    i = body.argument("i", Value("", (exact(np.array(iteration, np.int64)),) * FEEDS, 0))
    going = body.argument("go", Value("", (exact(np.array(True)),) * FEEDS, 0))
    carried = [body.argument("s", v, plain) for v, plain in zip(state, grows, strict=True)]
    for _ in range(g.either(0, 1, 1, 2)):
        use_iteration(body, i)
    for v, plain in zip(carried, grows, strict=True):
        if plain and v.rank:
            grow(body, v, i)
    fill(body, g.either(0, 1, 2, 3))
    body.returns(goes_on(body, i, going, carried, must_end=trips is None))
    for v in carried:
        body.returns(renewed(body, v, may_grow=True))
    # Inside a body, this loop may run no iteration in some outer iteration; the shape of its scan outputs is then undefined.
    scanned = 0 if g.depth else g.either(0, 1, 1, 2) if state else g.either(1, 2)
    for _ in range(scanned):
        body.returns(body.among(body.values))
    finish(g, "Loop", [trips, condition, *state], len(state) + scanned, body=body.graph())


def bounded_trips(g: Builder) -> Value:
    """Return i64[] or i64[1] below MOST_TRIPS, sometimes negative."""
    kind = g.below(5)
    if kind == 0:
        return g.constant(np.array(g.either(-2, 0, 1, 2, 3, 5)), "i64")
    x = size(g)
    if any((a > MOST_TRIPS).any() for a in x.arrays):
        x = g.out("Min", x, g.constant(np.array(MOST_TRIPS - 1), "i64"))
    return g.out("Sub", x, g.constant(np.array(g.either(1, 3)), "i64")) if kind == 1 else x


def use_iteration(body: Body, i: Value) -> None:
    """Add something that depends on the iteration: numbers, an element, a size, the extent of a sum. Raises Rejected."""
    try:
        kind = body.below(6)
        more = body.out("Add", i, body.constant(np.array(1), "i64"))
        if kind == 0:
            x = body.float()
            body.out("Mul", x, body.out("Cast", i, to=x.dtype.code))
        elif kind == 1:
            x = body.pick(lambda v: v.rank >= 1 and v.depth < body.depth)
            body.out("Gather", x, i, axis=0)
        elif kind == 2:
            x = body.number(1)
            part = body.out("Slice", x, body.integers(0), as_vector(body, more), body.integers(body.below(x.rank)))
            reduce_or_keep(body, part)
        elif kind == 3:
            x = body.number(1)
            end = body.integers(np.iinfo(np.int64).max)
            reduce_or_keep(body, body.out("Slice", x, as_vector(body, i), end, body.integers(body.below(x.rank))))
        elif kind == 4:
            counted = body.out("Range", body.constant(np.array(0), "i64"), more, body.constant(np.array(1), "i64"))
            reduce_or_keep(body, body.out("Cast", counted, to=body.either(1, 7)))
        else:
            reduce_or_keep(
                body, body.out("Expand", body.number(1), body.out("Concat", as_vector(body, more), body.integers(1), axis=0))
            )
    except Rejected:
        return


def reduce_or_keep(body: Body, x: Value) -> None:
    if body.chance(0.7):
        body.reduced(body.either("ReduceSum", "ReduceMax", "ReduceMean"), x, [body.below(x.rank)], body.either(0, 1))


def grow(body: Body, v: Value, i: Value) -> None:
    """Return a state that grows or shrinks in each iteration."""
    try:
        kind = body.below(3)
        if kind == 0:
            body.out(
                "Concat",
                v,
                v if body.chance(0.4) else body.out("Slice", v, body.integers(-1), body.integers(9), body.integers(0)),
                axis=0,
            )
        elif kind == 1:
            body.out("Slice", v, body.integers(1), body.integers(99), body.integers(0))
        else:
            body.out("Pad", v, body.integers(*([1] + [0] * (2 * v.rank - 1))))
    except Rejected:
        return


def goes_on(body: Body, i: Value, going: Value, carried: Sequence[Value], must_end: bool) -> Value:
    """Return the condition of a body: its input, a constant, or a comparison of state or iteration."""
    limit = body.constant(np.array(body.below(MOST_TRIPS)), "i64")
    if must_end:
        ends = body.out("Less", i, limit)
        summed = [v for v in carried if v.is_number and v.dtype.name not in ("bool", "bf16")]
        if summed and body.chance(0.5):
            total = body.out("ReduceSum", body.among(summed), keepdims=0)
            small = body.out("Less", total, body.constant(np.array(body.either(5, 20, 60)), total.dtype.name))
            return body.out("And", ends, small)
        return ends
    if body.chance(0.3):
        return body.out("Less", i, limit)
    return body.out("Identity", going) if body.chance(0.8) else body.constant(np.array(True))


def renewed(body: Body, v: Value, may_grow: bool) -> Value:
    """Return a new state: something that the body made, the state plus or minus something, or the state itself."""
    found = [x for x in body.values if x.dtype is v.dtype and x.rank == v.rank and x.name != v.name]
    found = [x for x in found if may_grow or x.shapes == v.shapes]
    if found and body.chance(0.75):
        return found[-1] if body.chance(0.6) else body.among(found)
    if v.is_number and body.chance(0.7):
        return body.out(body.either("Add", "Sub", "Max"), v, body.constant(np.ones(()), v.dtype.name))
    return v


# ---- Scan --------------------------------------------------------------------------------------------------------------------


def scan(g: Builder) -> None:
    x = g.pick(lambda v: v.rank >= 1 and all(s[0] > 0 for s in v.shapes))
    axis = g.below(x.rank)
    if any(s[axis] == 0 for s in x.shapes):
        raise Rejected("nothing to scan")
    state = [g.number() for _ in range(g.either(0, 1, 1, 2))]
    body = Body(g)
    for v in state:
        body.argument("s", v)
    first = tuple(k.native.take(0, axis) for k in x.known)
    body.argument("e", Value("", tuple(map(exact, first)), 0) if all(k.is_exact for k in x.known) else sliced_known(x, axis))
    carried = body.values[: len(state)]
    fill(body, g.either(1, 2, 3))
    for v in carried:
        body.returns(renewed(body, v, may_grow=False))
    outputs = g.either(0, 1, 2) if state else g.either(1, 2)
    for _ in range(outputs):
        body.returns(body.among(body.values))
    attributes = {"num_scan_inputs": 1, "scan_input_axes": [axis], "scan_input_directions": [g.either(0, 1)]}
    if g.chance(0.3) and outputs:
        attributes["scan_output_directions"] = [g.either(0, 1) for _ in range(outputs)]
    finish(g, "Scan", [*state, x], len(state) + outputs, body=body.graph(), **attributes)


def sliced_known(x: Value, axis: int) -> Value:
    """Return the first slice along an axis."""
    known = tuple(type(k)(k.native.take(0, axis), k.wide.take(0, axis), k.loose.take(0, axis)) for k in x.known)
    return Value("", known, 0)


FAMILY = ((2, branch), (6, loop), (2, scan))
