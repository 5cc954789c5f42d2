"""Random small graphs of tensors for the fuzzer: shapes static and symbolic, every mechanism of placing within reach.

Numbers are small integers, so that sums and products are exact in any order and results can be compared bit by bit; where they could
grow past what f32 holds they are squashed. What comes out of a softmax or a division is `exact` no more and is compared within bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from sardonyx.base.dtypes import f32, f64, i32
from sardonyx.base.symbolic import Defined, Dim, evaluate, symbol
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.region import scan
from sardonyx.expr.tensor import Tensor, compute, constant, input_tensor
from sardonyx.ops import linalg, movement, pointwise, shape, softmax
from sardonyx.ops.conv import conv
from sardonyx.ops.pointwise import along, mean_along, normal_axis

Array = np.ndarray[Any, np.dtype[Any]]
LARGEST = float(1 << 18)
MOST_ELEMENTS = 6000
SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 16, 17, 33)


@dataclass
class Made:
    """A tensor of the graph, the largest number it can hold, and whether that is exact."""

    tensor: Tensor
    bound: float
    exact: bool = True


@dataclass
class Graph:
    """Inputs with their feeds, and everything computed so far."""

    draw: Callable[[Any], Any]
    sizes: dict[str, int]
    inputs: list[Tensor] = field(default_factory=list)
    feeds: list[Array] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)

    def pick(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def flag(self) -> bool:
        return bool(self.draw(st.booleans()))

    def number(self, d: Dim) -> int:
        return evaluate(d, lambda s: self.number(s.definition) if isinstance(s, Defined) else self.sizes[s.name])

    def shape(self, t: Tensor) -> list[int]:
        return [self.number(n) for n in t.shape]

    # ---- leaves -----------------------------------------------------------------------------------------------------------

    def size(self) -> Dim:
        """A fixed size or one with a name."""
        name = self.pick(*self.sizes, "", "")
        return symbol(name) if name else self.pick(*SIZES)

    def numbers(self, sizes: Sequence[int], dtype: Any) -> Array:
        seed = self.draw(st.integers(0, 99))
        return np.random.default_rng(seed).integers(-3, 4, sizes).astype(dtype)

    def leaf(self, sizes: Sequence[Dim]) -> Tensor:
        """An input, or a weight where all sizes are fixed."""
        numbers = self.numbers([self.number(n) for n in sizes], np.float32)
        if all(isinstance(n, int) for n in sizes) and self.flag():
            return constant(numbers, f"w{len(self.made)}")
        self.inputs.append(input_tensor(f"x{len(self.inputs)}", f32, sizes))
        self.feeds.append(numbers)
        return self.inputs[-1]

    def add(self, t: Tensor, bound: float, exact: bool = True) -> None:
        if math.prod(self.shape(t)) > MOST_ELEMENTS:
            return
        if bound > LARGEST or (exact and self.draw(st.integers(0, 5)) == 0):
            t, bound = squashed(t, exact), 4.0
        self.made.append(Made(t, bound, exact))

    def any(self, rank: int = 0) -> Made | None:
        """Something of at least this rank, recent ones first."""
        fitting = [m for m in self.made if m.tensor.rank >= rank]
        return fitting[-1 - min(self.draw(st.integers(0, 3)), len(fitting) - 1)] if fitting else None

    def axis(self, t: Tensor) -> int:
        return int(self.draw(st.integers(0, t.rank - 1)))

    def matching(self, t: Tensor) -> Made:
        """Something that broadcasts with t: of t's shape, or with ones in it, or of a lower rank."""
        same = [m for m in self.made if m.tensor.shape == t.shape and m.tensor is not t]
        if same and self.flag():
            return self.pick(*same)
        sizes = [1 if self.draw(st.integers(0, 3)) == 0 else n for n in t.shape]
        return Made(self.leaf(sizes[self.draw(st.integers(0, t.rank)) :]), 3.0)


def squashed(t: Tensor, exact: bool) -> Tensor:
    """Numbers no larger than 4."""
    whole = pointwise.pointwise(lambda e: scalar.apply("rint", e), t) if exact else t
    return pointwise.pointwise(lambda e: scalar.minimum(scalar.maximum(e, -4), 4), whole)


# ---- one step each: draws what it needs and adds what it makes ---------------------------------------------------------------


def unary(g: Graph) -> None:
    if m := g.any():
        fn = g.pick("neg", "abs", "relu", "half", "twice")
        rules: dict[str, Callable[[Any], Any]] = {
            "relu": lambda e: scalar.maximum(e, 0),
            "half": lambda e: scalar.apply("floor", scalar.mul(e, 0.5)),
            "twice": lambda e: scalar.add(e, e),
        }
        exact = m.exact if fn != "half" else True
        if fn == "half" and not m.exact:
            return
        rule = rules.get(fn, lambda e: scalar.apply(fn, e))
        g.add(pointwise.pointwise(rule, m.tensor), m.bound * 2, exact)


def binary(g: Graph) -> None:
    if m := g.any():
        other = g.matching(m.tensor)
        fn = g.pick("add", "sub", "mul", "max", "min")
        bound = m.bound * other.bound if fn == "mul" else m.bound + other.bound
        if bound <= LARGEST:
            pair = (m.tensor, other.tensor) if g.flag() else (other.tensor, m.tensor)
            g.add(pointwise.pointwise(lambda x, y: scalar.apply(fn, x, y), *pair), bound, m.exact and other.exact)


def reduced(g: Graph) -> None:
    if m := g.any(1):
        t = m.tensor
        axes = sorted({g.axis(t) for _ in range(g.pick(1, 1, 2))})
        fn = g.pick("add", "add", "max", "min")
        count = math.prod(g.shape(t)[a] for a in axes)
        if (fn == "add" and m.bound * max(count, 1) > LARGEST) or (fn != "add" and count == 0):
            return
        made = along(fn, t, axes)
        if g.flag():
            made = shape.squeeze_axes(made, axes)
        g.add(made, m.bound * max(count, 1) if fn == "add" else m.bound, m.exact)


def soft(g: Graph) -> None:
    if (m := g.any(1)) and m.bound < 64:
        axes = sorted({g.axis(m.tensor) for _ in range(g.pick(1, 1, 2))})
        g.add(softmax.softmax_over(m.tensor, axes), 1.0, False)


def centred(g: Graph) -> None:
    """What layer normalisation begins with."""
    if m := g.any(1):
        t = m.tensor
        mean = mean_along(t, [g.axis(t)])
        if 0 not in g.shape(t):
            g.add(pointwise.sub(t, mean), 2 * m.bound, False)


def product(g: Graph) -> None:
    if m := g.any(1):
        t = m.tensor
        k, columns = t.shape[-1], g.size()
        other = Made(g.leaf([k, columns]), 3.0)
        transposed = g.flag() and t.rank > 1
        if transposed and g.flag():
            other = Made(linalg.transpose(t, [*range(t.rank - 2), t.rank - 1, t.rank - 2]), m.bound, m.exact)
        elif transposed:
            other = Made(linalg.transpose(g.leaf([columns, k])), 3.0)
        bound = m.bound * other.bound * max(g.number(k), 1)
        if bound <= LARGEST:
            g.add(linalg.matmul(t, other.tensor), bound, m.exact and other.exact)


def batched_product(g: Graph) -> None:
    if m := g.any(3):
        t = m.tensor
        b = g.leaf([1 if g.flag() else t.shape[-3], t.shape[-1], g.size()])
        bound = m.bound * 3 * max(g.number(t.shape[-1]), 1)
        if bound <= LARGEST:
            g.add(linalg.matmul(t, b), bound, m.exact)


def convolution(g: Graph) -> None:
    if m := g.any(3):
        t = m.tensor
        if t.rank > 4 or not isinstance(t.shape[1], int) or t.shape[1] == 0 or m.bound > 64:
            return
        groups = g.pick(1, t.shape[1])
        own = t.shape[1] // groups
        kernel = [g.pick(1, 2, 3) for _ in t.shape[2:]]
        w = g.leaf([groups * g.pick(1, 2, 3, 5), own, *kernel])
        pads = [1] * (2 * len(kernel))
        strides = [g.pick(1, 1, 2)] * len(kernel)
        if min(g.shape(t)[2:]) >= 1:
            bound = m.bound * 3 * own * math.prod(kernel)
            g.add(conv(t, w, group=groups, pads=pads, strides=strides), bound, m.exact)


def transposed(g: Graph) -> None:
    if m := g.any(2):
        order = g.draw(st.permutations(range(m.tensor.rank)))
        g.add(linalg.transpose(m.tensor, list(order)), m.bound, m.exact)


def merged(g: Graph) -> None:
    """Two neighbouring axes as one."""
    if m := g.any(2):
        t = m.tensor
        a = g.draw(st.integers(0, t.rank - 2))
        g.add(shape.reshaped(t, [*t.shape[:a], t.shape[a] * t.shape[a + 1], *t.shape[a + 2 :]]), m.bound, m.exact)


def divided(g: Graph) -> None:
    """One axis as two, if it is of a fixed even size; else one of one element more."""
    if m := g.any(1):
        t, a = m.tensor, g.axis(m.tensor)
        n = t.shape[a]
        if t.rank > 4:
            return
        two = [2, n // 2] if isinstance(n, int) and n and n % 2 == 0 else [1, n]
        g.add(shape.reshaped(t, [*t.shape[:a], *(two if g.flag() else two[::-1]), *t.shape[a + 1 :]]), m.bound, m.exact)


def sliced(g: Graph) -> None:
    if m := g.any(1):
        t, a = m.tensor, g.axis(m.tensor)
        start = g.pick(0, 1, 2, -1, -3)
        end = g.pick(1, 3, -1, 1 << 40)
        step = g.pick(1, 1, 2, -1)
        if step < 0:
            start, end = g.pick(-1, 3), g.pick(0, -(1 << 40))
        g.add(movement.sliced(t, [start], [end], [a], [step]), m.bound, m.exact)


def joined(g: Graph) -> None:
    """Concat of something with itself, a part of it, or another of the same other sizes."""
    if m := g.any(1):
        t, a = m.tensor, g.axis(m.tensor)
        parts = [t]
        exact, bound = m.exact, m.bound
        for _ in range(g.pick(1, 2)):
            how = g.pick("same", "leaf", "slice", "other")
            fitting = [o for o in g.made if o.tensor.rank == t.rank and differ_at_most(o.tensor, t, a)]
            if how == "other" and fitting:
                other = g.pick(*fitting)
                parts.append(other.tensor)
                exact, bound = exact and other.exact, max(bound, other.bound)
            elif how == "slice":
                parts.append(movement.sliced(t, [1], [1 << 40], [a], [1]))
            elif how == "leaf":
                parts.append(g.leaf([*t.shape[:a], g.size(), *t.shape[a + 1 :]]))
            else:
                parts.append(t)
        g.add(movement.concat(*parts, axis=a), max(bound, 3.0), exact)


def differ_at_most(x: Tensor, y: Tensor, axis: int) -> bool:
    return all(n == m for i, (n, m) in enumerate(zip(x.shape, y.shape, strict=True)) if i != axis)


def bordered(g: Graph) -> None:
    if m := g.any(1):
        rank = m.tensor.rank
        pads = [g.pick(0, 0, 1, 2) for _ in range(2 * rank)]
        mode = (
            "constant" if 0 in g.shape(m.tensor) or max(pads) >= min(g.shape(m.tensor)) else g.pick("constant", "edge", "reflect")
        )
        g.add(movement.pad_2(m.tensor, pads, 0.0, mode), m.bound, m.exact)


def taken(g: Graph) -> None:
    """Gather along an axis, by fed indices."""
    if m := g.any(1):
        t, a = m.tensor, g.axis(m.tensor)
        extent = g.shape(t)[a]
        if extent == 0:
            return
        count = g.size()
        seed = g.draw(st.integers(0, 99))
        g.inputs.append(input_tensor(f"x{len(g.inputs)}", i32, [count]))
        g.feeds.append(np.random.default_rng(seed).integers(-extent, extent, g.number(count)).astype(np.int32))
        which = g.inputs[-1]
        shape_ = [*t.shape[:a], count, *t.shape[a + 1 :]]
        body = lambda *i: at(t, (*i[:a], element(at(which, (i[a],)), t.shape[a]), *i[a + 1 :]))  # noqa: E731
        g.add(compute(t.dtype, shape_, body), m.bound, m.exact)


def repeated(g: Graph) -> None:
    """A scan over the first axis: state = squash(state * 2 - x[t]), and y[t] = state + x[t] of before."""
    if (m := g.any(1)) and m.exact and m.bound <= 64:
        t = m.tensor
        axis = normal_axis(0, t.rank)
        start = squashed(g.leaf(t.shape[axis + 1 :]), True)

        def step(i: Dim, state: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            x = pointwise.view(t, t.shape[1:], lambda *own: (i, *own))
            twice = pointwise.pointwise(lambda s: scalar.add(s, s), state)
            return [squashed(pointwise.sub(twice, x), True)], [pointwise.add(state, x)]

        finals, stacks = scan(t.shape[0], [start], step)
        g.add(finals[0], 4.0)
        g.add(stacks[0], 4.0 + m.bound)


def widened(g: Graph) -> None:
    if m := g.any():
        g.add(pointwise.cast(pointwise.cast(m.tensor, f64), f32), m.bound, m.exact)


STEPS = (
    *(unary, binary, binary, reduced, soft, centred, product, product, batched_product, convolution),
    *(transposed, merged, divided, sliced, joined, bordered, taken, repeated, widened),
)


@st.composite
def graphs(draw: Callable[[Any], Any], steps: int = 6) -> tuple[Graph, list[Made]]:
    """A graph of up to `steps` steps, and the values that are its outputs."""
    g = Graph(draw, {name: draw(st.sampled_from(SIZES)) for name in ("m", "n")})
    for _ in range(draw(st.integers(1, 2))):
        sizes = [g.size() for _ in range(draw(st.integers(1, 4)))]
        if math.prod(g.number(n) for n in sizes) <= MOST_ELEMENTS:
            g.made.append(Made(g.leaf(sizes), 3.0))
    if not g.made:
        g.made.append(Made(g.leaf([symbol("m"), 3]), 3.0))
    for _ in range(draw(st.integers(1, steps))):
        draw(st.sampled_from(STEPS))(g)
    last = g.made[-1]
    more = draw(st.lists(st.sampled_from(g.made), max_size=2))
    return g, [last, *more]
