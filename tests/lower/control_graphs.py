"""Random models of nested Loop, Scan and If: `random_model(seed)` gives one with feeds for it, always the same for a seed.

What they try: bodies that capture values from all around them; trip counts and conditions known, fed, computed, or of the iteration
around; none, zero and negative trip counts; Loops as `while`; slices, sums and maxima whose length depends on an iteration; states that
pass through, change places or come from outside; stacked results; branches of If with loops inside.

    model, feeds = random_model(7, depth=3)

Numbers are small integers, also as floats, so that every runtime gives the same bits: they are clipped to [-4, 4] where they could grow.
A graph that has no meaning (a negative index, an empty maximum) is never made, and none in which runtimes may differ: rows of unknown
size are not stacked (by no iteration they have any), nothing is scanned that is empty. Loops end after 4 iterations at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]
Kind: TypeAlias = str
"""v: f32[n], w: f32[5], m: f32[r, n], x: f32 scalar, k: i64 scalar in [-9, 9], b: bool scalar"""

SHAPES: dict[Kind, tuple[int, list[str | int]]] = {
    "v": (TensorProto.FLOAT, ["n"]),
    "w": (TensorProto.FLOAT, [5]),
    "m": (TensorProto.FLOAT, ["r", "n"]),
    "x": (TensorProto.FLOAT, []),
    "k": (TensorProto.INT64, []),
    "b": (TensorProto.BOOL, []),
}
MOST_NODES = 7
"""Steps of a body, each a node or a few."""


def random_model(seed: int, depth: int = 3) -> tuple[bytes, list[dict[str, Array]]]:
    """A model with control flow up to `depth` levels deep, and three feeds, of other sizes each."""
    rng = np.random.default_rng(seed)
    graph = Graph(rng, depth)
    inputs = ["v", "w", "m", "x", "k", "b"]
    scope = Scope({kind: [f"in_{kind}"] for kind in inputs})
    for _ in range(int(rng.integers(2, MOST_NODES))):
        graph.step(scope, depth)
    graph.control(scope, depth)
    graph.step(scope, depth)
    outputs = graph.outputs(scope)
    fixed = bool(rng.random() < 0.3)  # sizes that are known when the model is made
    sizes = [{"n": int(rng.choice([1, 2, 3, 8, 17])), "r": int(rng.choice([1, 2, 3]))} for _ in range(3)]
    if fixed:
        sizes = sizes[:1] * 3

    def info(name: str, kind: Kind) -> onnx.ValueInfoProto:
        dtype, shape = SHAPES[kind]
        return helper.make_tensor_value_info(name, dtype, [sizes[0].get(str(d), d) for d in shape] if fixed else shape)

    made = helper.make_graph(
        scope.nodes,
        "g",
        [info(f"in_{kind}", kind) for kind in inputs],
        [helper.make_tensor_value_info(name, SHAPES[kind][0], None) for kind, name in outputs],
        [numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return model.SerializeToString(), [feeds(rng, size) for size in sizes]


def feeds(rng: np.random.Generator, sizes: dict[str, int]) -> dict[str, Array]:
    out: dict[str, Array] = {}
    for kind in ("v", "w", "m", "x"):
        shape = [sizes.get(str(d), d) for d in SHAPES[kind][1]]
        out[f"in_{kind}"] = rng.integers(-3, 4, shape).astype(np.float32)
    out["in_k"] = np.array(rng.integers(-1, 4), np.int64)
    out["in_b"] = np.array(rng.random() < 0.5)
    return out


@dataclass
class Scope:
    """The values that nodes of a body may read, by kind, outer ones first, and the body's own nodes. own: made by them, or its
    arguments: what a body may return."""

    values: dict[Kind, list[str]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    own: set[str] = field(default_factory=set)

    def inner(self) -> Scope:
        return Scope({kind: list(names) for kind, names in self.values.items()})

    def add(self, kind: Kind, name: str) -> str:
        self.values.setdefault(kind, []).append(name)
        self.own.add(name)
        return name


@dataclass
class Graph:
    """A model while it is drawn."""

    rng: np.random.Generator
    depth: int
    count: int = 0
    constants: dict[str, Array] = field(default_factory=dict)

    # ---- drawing ------------------------------------------------------------------------------------------------------------

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def name(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def value(self, scope: Scope, kind: Kind) -> str:
        """One of this kind, more likely one of the last."""
        names = scope.values[kind]
        return names[-1 - min(int(self.rng.geometric(0.4)) - 1, len(names) - 1)]

    def number(self, value: int | float | Sequence[int], dtype: Any = np.int64) -> str:
        array = np.array(value, dtype)
        name = f"c_{array.dtype}_{'_'.join(map(str, array.ravel()))}_{array.ndim}".replace("-", "m").replace(".", "p")
        self.constants[name] = array
        return name

    # ---- nodes --------------------------------------------------------------------------------------------------------------

    def node(self, scope: Scope, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        names = [self.name(op.lower()) for _ in range(outputs)]
        scope.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0]

    def small(self, scope: Scope, x: str) -> str:
        return self.node(scope, "Clip", x, self.number(-4.0, np.float32), self.number(4.0, np.float32))

    def whole(self, scope: Scope, k: str, low: int, high: int) -> str:
        """k within [low, high]"""
        return self.node(scope, "Max", self.node(scope, "Min", k, self.number(high)), self.number(low))

    def step(self, scope: Scope, depth: int) -> None:
        """Adds one value or a few."""
        if depth > 0 and self.chance(0.35):
            self.control(scope, depth)
            return
        steps: tuple[Callable[[Scope], None], ...] = (
            *(self.arithmetic, self.arithmetic, self.length, self.length, self.element, self.integer, self.condition),
            *(self.choice, self.measure, self.reordered, self.product),
        )
        self.pick(*steps)(scope)

    def arithmetic(self, scope: Scope) -> None:
        kind = self.pick("v", "w", "m", "x")
        other = self.value(scope, self.pick(kind, "x", "v" if kind == "m" else kind))
        made = self.node(scope, self.pick("Add", "Sub", "Mul", "Max", "Min"), self.value(scope, kind), other)
        scope.add(kind, self.small(scope, made))

    def sliced(self, scope: Scope, x: str, kind: Kind) -> str:
        """A part of x whose length depends on an integer; along the last axis of a matrix."""
        at = self.node(scope, "Unsqueeze", self.value(scope, "k"), self.number([0]))
        axis = self.number([1 if kind == "m" else 0])
        if self.chance(0.5):
            at = self.node(scope, "Add", at, self.number([int(self.rng.integers(0, 3))]))
        start, end = self.pick((self.number([0]), at), (at, self.number([1 << 31])), (self.number([1]), at), (at, self.number([3])))
        return self.node(scope, "Slice", x, start, end, axis)

    def length(self, scope: Scope) -> None:
        """A sum over a slice, or the slice in its place among zeros."""
        kind = self.pick("v", "w", "m")
        part = self.sliced(scope, self.value(scope, kind), kind)
        how = self.pick("sum", "sum", "rows", "squares", "range")
        if how == "range":
            n = self.whole(scope, self.value(scope, "k"), 0, 6)
            counted = self.node(scope, "Range", self.number(0), n, self.number(1))
            total = self.node(scope, "ReduceSum", counted, keepdims=0)
            scope.add("k", self.whole(scope, total, -9, 9))
        elif how == "rows" and kind == "m":
            total = self.node(scope, "ReduceSum", part, self.number([1]), keepdims=1)
            scope.add("m", self.small(scope, self.node(scope, "Add", self.value(scope, "m"), total)))
        else:
            if how == "squares":
                part = self.node(scope, "Mul", part, part)
            scope.add("x", self.small(scope, self.node(scope, "ReduceSum", part, keepdims=0)))

    def element(self, scope: Scope) -> None:
        """v at an integer modulo its size."""
        kind = self.pick("v", "w")
        x = self.value(scope, kind)
        n = self.node(scope, "Squeeze", self.node(scope, "Shape", x))
        at = self.node(scope, "Mod", self.value(scope, "k"), n)
        scope.add("x", self.node(scope, "Gather", x, at))

    def integer(self, scope: Scope) -> None:
        made = self.node(scope, self.pick("Add", "Sub", "Mul", "Min", "Max"), self.value(scope, "k"), self.value(scope, "k"))
        if self.chance(0.4):
            made = self.node(scope, "Cast", self.value(scope, "x"), to=TensorProto.INT64)
        scope.add("k", self.whole(scope, made, -9, 9))

    def condition(self, scope: Scope) -> None:
        kind = self.pick("x", "k")
        made = self.node(scope, self.pick("Less", "Greater", "Equal"), self.value(scope, kind), self.value(scope, kind))
        if self.chance(0.4):
            made = self.node(scope, self.pick("And", "Or", "Xor"), made, self.value(scope, "b"))
        scope.add("b", made)

    def choice(self, scope: Scope) -> None:
        kind = self.pick("v", "w", "x", "k")
        scope.add(kind, self.node(scope, "Where", *(self.value(scope, k) for k in ("b", kind, kind))))

    def measure(self, scope: Scope) -> None:
        total = self.node(scope, "ReduceSum", self.value(scope, self.pick("v", "w", "m")), keepdims=0)
        scope.add("x", self.small(scope, total))

    def reordered(self, scope: Scope) -> None:
        """Backwards, or as a running sum."""
        kind = self.pick("v", "w")
        x = self.value(scope, kind)
        if self.chance(0.5):
            scope.add(kind, self.small(scope, self.node(scope, "CumSum", x, self.number(0))))
        else:
            ends = self.number([-1]), self.number([-(1 << 31)]), self.number([0]), self.number([-1])
            scope.add(kind, self.node(scope, "Slice", x, *ends))

    def product(self, scope: Scope) -> None:
        scope.add("v", self.small(scope, self.node(scope, "MatMul", self.row(scope), self.value(scope, "m"))))

    def row(self, scope: Scope) -> str:
        """A value of r elements."""
        return self.node(scope, "ReduceSum", self.value(scope, "m"), self.number([1]), keepdims=0)

    # ---- control flow ---------------------------------------------------------------------------------------------------------

    def control(self, scope: Scope, depth: int) -> None:
        self.pick(self.loop, self.loop, self.loop, self.scan, self.branch)(scope, depth - 1)

    def info(self, name: str, kind: Kind | None) -> onnx.ValueInfoProto:
        dtype, shape = SHAPES[kind] if kind is not None else (0, [])
        return helper.make_tensor_value_info(name, dtype, [n if isinstance(n, int) else None for n in shape])

    def body(self, scope: Scope, depth: int) -> None:
        for _ in range(int(self.rng.integers(1, MOST_NODES - 1))):
            self.step(scope, depth)

    def returned(self, scope: Scope, kind: Kind) -> str:
        """A value of this kind that the body may return: its own, or a copy of one from outside."""
        name = self.value(scope, kind)
        return name if name in scope.own and self.chance(0.9) else self.node(scope, "Identity", name)

    def states(self, scope: Scope) -> list[Kind]:
        return [self.pick("v", "w", "m", "x", "x", "k", "b") for _ in range(int(self.rng.integers(1, 4)))]

    def loop(self, scope: Scope, depth: int) -> None:
        """A Loop: counted, with a condition beside the count, or with nothing but a condition."""
        inner, states = scope.inner(), self.states(scope)
        i, going = inner.add("k", self.name("i")), self.name("going")
        inner.own -= {i}  # onnxruntime counts on in the memory of what a Loop returns as it is
        inner.own.add(going)
        arguments = [inner.add(kind, self.name("state")) for kind in states]
        initial = [self.value(scope, kind) for kind in states]
        self.body(inner, depth)
        how = self.pick("count", "count", "count", "both", "while")
        trips = {"while": lambda: ""}.get(how, lambda: self.trips(scope))()
        start = self.value(scope, "b") if how != "count" and self.chance(0.5) else self.pick("", self.number(True, np.bool_))
        goes_on = going if self.chance(0.5) else self.node(inner, "Identity", going)
        if how != "count":
            few = self.node(inner, "Less", i, self.number(int(self.rng.integers(0, 4))))
            goes_on = self.node(inner, "And", few, self.value(inner, "b"))
        returned = [self.returned(inner, kind) for kind in states]
        stacked = self.stacked(inner) if how == "count" or depth == self.depth - 1 else []
        graph = helper.make_graph(
            inner.nodes,
            self.name("body"),
            [self.info(i, "k"), self.info(going, "b"), *map(self.info, arguments, states)],
            [self.info(goes_on, "b"), *map(self.info, returned, states), *(self.info(n, k) for k, n in stacked)],
        )
        outputs = [self.name("final") for _ in states] + [self.name("stack") for _ in stacked]
        scope.nodes.append(helper.make_node("Loop", [trips, start, *initial], outputs, body=graph))
        self.results(scope, states, stacked, outputs)

    def trips(self, scope: Scope) -> str:
        """A trip count: a number, or one of the integers, at most 4."""
        if self.chance(0.4):
            return self.number(int(self.pick(-1, 0, 1, 2, 3)))
        return self.node(scope, "Min", self.value(scope, "k"), self.number(int(self.pick(2, 3, 4))))

    def stacked(self, inner: Scope) -> list[tuple[Kind, str]]:
        kinds = [self.pick("w", "x", "k") for _ in range(int(self.rng.integers(0, 3)))]
        return [(kind, self.returned(inner, kind)) for kind in kinds]

    def results(self, scope: Scope, states: Sequence[Kind], stacked: Sequence[tuple[Kind, str]], outputs: Sequence[str]) -> None:
        """The outputs of a Loop or Scan join the scope; what is stacked as a sum over its rows."""
        for kind, name in zip(states, outputs, strict=False):
            scope.add(kind, name)
        for (kind, _), name in zip(stacked, outputs[len(states) :], strict=True):
            total = self.node(scope, "ReduceSum", name, self.number([0]), keepdims=0)
            scope.add(kind, self.whole(scope, total, -9, 9) if kind == "k" else self.small(scope, total))

    def scan(self, scope: Scope, depth: int) -> None:
        """A Scan over the rows of a matrix or the elements of a vector, forwards or backwards."""
        inner, states = scope.inner(), self.states(scope)
        arguments = [inner.add(kind, self.name("state")) for kind in states]
        initial = [self.value(scope, kind) for kind in states]
        source, element = self.pick(("m", "v"), ("v", "x"), ("w", "x"))
        slice_ = inner.add(element, self.name("slice"))
        inner.own -= {*arguments, slice_}  # onnxruntime has numbers that nobody wrote where a Scan returns what it is given
        self.body(inner, depth)
        returned = [self.returned(inner, kind) for kind in states]
        stacked = self.stacked(inner)
        graph = helper.make_graph(
            inner.nodes,
            self.name("body"),
            [*map(self.info, arguments, states), self.info(slice_, element)],
            [*map(self.info, returned, states), *(self.info(n, k) for k, n in stacked)],
        )
        outputs = [self.name("final") for _ in states] + [self.name("stack") for _ in stacked]
        inputs = [*initial, self.value(scope, source)]
        ways = {
            "scan_input_directions": [int(self.chance(0.3))],
            "scan_output_directions": [int(self.chance(0.3)) for _ in stacked],
        }
        attributes = {name: way for name, way in ways.items() if way}
        scope.nodes.append(helper.make_node("Scan", inputs, outputs, body=graph, num_scan_inputs=1, **attributes))
        self.results(scope, states, stacked, outputs)

    def branch(self, scope: Scope, depth: int) -> None:
        kinds = self.states(scope)
        graphs = []
        for name in ("then", "otherwise"):
            inner = scope.inner()
            if self.chance(0.9):
                self.body(inner, depth)
            returned = [self.returned(inner, kind) for kind in kinds]
            graphs.append(helper.make_graph(inner.nodes, self.name(name), [], list(map(self.info, returned, kinds))))
        outputs = [self.name("either") for _ in kinds]
        scope.nodes.append(helper.make_node("If", [self.value(scope, "b")], outputs, then_branch=graphs[0], else_branch=graphs[1]))
        for kind, output in zip(kinds, outputs, strict=True):
            scope.add(kind, output)

    def outputs(self, scope: Scope) -> list[tuple[Kind, str]]:
        """The last values of some kinds, and some others, none twice; none that is an input."""
        made = [(kind, name) for kind, names in scope.values.items() for name in names if name in scope.own]
        last = [(kind, names[-1]) for kind, names in scope.values.items() if names[-1] in scope.own]
        more = [made[int(self.rng.integers(len(made)))] for _ in range(2)]
        return list(dict.fromkeys([*last, *more]))
