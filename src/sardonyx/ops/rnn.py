"""RNN, GRU and LSTM: a scan over time for each direction, so that the direction's weights stay in a core's cache.

The products x W of all steps are one matrix product, in the order of processing (reversed for the backward direction): xw[t, 1,
batch, gates hidden]. Each step multiplies the state h[1, batch, hidden] by R and applies the gates elementwise.
Narrow floats are widened before the first step and rounded after the last one, so that states are not rounded at each step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from sardonyx.base.dtypes import DType
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.region import scan
from sardonyx.expr.require import require_equal
from sardonyx.expr.tensor import Tensor, assemble, compute, constant
from sardonyx.loop.nodes import Expr
from sardonyx.ops import activation
from sardonyx.ops.cases import reals
from sardonyx.ops.linalg import product
from sardonyx.ops.pointwise import add, cast, expand_to, pointwise, reduce, view
from sardonyx.ops.record import Case, Op, as_in_files
from sardonyx.ops.reference import recurrent

Activation = Callable[[Expr], Expr]
"""Function of one element."""

ACTIVATIONS: dict[str, tuple[Callable[..., Expr], tuple[float, ...]]] = {
    "relu": (activation.relu, ()),
    "tanh": (lambda x: scalar.apply("tanh", x), ()),
    "sigmoid": (activation.sigmoid, ()),
    "softsign": (activation.softsign, ()),
    "softplus": (activation.softplus, ()),
    "affine": (lambda x, alpha, beta: scalar.add(scalar.mul(x, alpha), beta), (1.0, 0.0)),
    "scaledtanh": (lambda x, alpha, beta: scalar.mul(scalar.apply("tanh", scalar.mul(x, beta)), alpha), (1.0, 1.0)),
    "hardsigmoid": (activation.hard_sigmoid, (as_in_files(0.2), 0.5)),
    "leakyrelu": (activation.leaky_relu, (as_in_files(0.01),)),
    "thresholdedrelu": (activation.thresholded_relu, (1.0,)),
    "elu": (activation.elu, (1.0,)),
}
"""By lower-case name: the function, and the defaults of its alpha and beta if it has them."""


def chosen_activations(
    names: Sequence[str], alphas: Sequence[float] | None, betas: Sequence[float] | None, clip: float | None
) -> list[Activation]:
    """Return the activations of these names. Each takes the next of `alphas` if it has an alpha, and of `betas` if it has a beta.

    clip: limit of the magnitude of their arguments. Raises Fail for an unknown name.
    """
    alpha, beta = iter(alphas or ()), iter(betas or ())
    out = []
    for name in names:
        if name.lower() not in ACTIVATIONS:
            raise Fail(f"activation {name} is unknown")
        fn, defaults = ACTIVATIONS[name.lower()]
        numbers = [next(given, default) for given, default in zip((alpha, beta), defaults, strict=False)]
        out.append(clipped(fn, numbers, clip))
    return out


def clipped(fn: Callable[..., Expr], numbers: Sequence[float], clip: float | None) -> Activation:
    """Return the activation with its parameters; its argument is clamped to [-clip, clip]."""
    if clip is None:
        return lambda x: fn(x, *numbers)
    return lambda x: fn(scalar.minimum(scalar.maximum(x, -clip), clip), *numbers)


class Direction(Struct, frozen=True):
    """One direction of a recurrent operator.

    number: its index among the directions in the weights (None if there is one only). backward: whether time runs backwards.
    functions: its activations.
    """

    number: int | None
    backward: bool
    functions: list[Activation]

    def own(self, t: Tensor, axis: int = 0) -> Tensor:
        """Return this direction's part of t. T[d, ...] -> T[1, ...], where d stands on `axis`"""
        if self.number is None:
            return t
        d = self.number
        shape = [1 if a == axis else n for a, n in enumerate(t.shape)]
        return view(t, shape, lambda *i: (*i[:axis], d, *i[axis + 1 :]))

    def own_or_none(self, t: Tensor | None, axis: int = 0) -> Tensor | None:
        """Return this direction's part of t, or None for None."""
        return None if t is None else self.own(t, axis)


def in_directions(
    direction: str, layout: int, functions: list[Activation], each: int, run: Callable[[Direction], list[Tensor]]
) -> list[Tensor]:
    """Run one direction, or both and join the results. Returns [Y, *final states]

    layout: 1 if the batch is the first axis. each: number of activations of a direction. run: computes one direction.
    Raises Fail for an unknown direction, or too few activations.
    """
    if direction not in ("forward", "reverse", "bidirectional"):
        raise Fail(f"direction must be forward, reverse or bidirectional, not {direction}")
    count = 2 if direction == "bidirectional" else 1
    if len(functions) < each * count:
        raise Fail(f"{len(functions)} activations are given, but {each * count} are needed")
    if count == 1:
        return run(Direction(None, direction == "reverse", functions[:each]))
    directions = [run(Direction(d, d == 1, functions[d * each : (d + 1) * each])) for d in (0, 1)]
    sequences, *states = zip(*directions, strict=True)
    return [beside(sequences, layout + 1), *(beside(pair, layout) for pair in states)]


def beside(tensors: Sequence[Tensor], axis: int) -> Tensor:
    """Join tensors along the axis, in which each has size 1."""
    first = tensors[0]
    shape = [len(tensors) if a == axis else n for a, n in enumerate(first.shape)]
    parts = [(view(t, t.shape, lambda *i: i), [d if a == axis else 0 for a in range(t.rank)]) for d, t in enumerate(tensors)]
    return assemble(first.dtype, shape, parts)


Recurrent = Callable[[Tensor, Dim, Dim], Tensor]
"""Function (h: T[1, batch, hidden], first, n) -> T[1, batch, n]: the product of h with columns first to first + n - 1 of R^T."""


class Cell(Struct, frozen=True):
    """What RNN, GRU and LSTM share for one direction: sizes, the inputs' products with W, the state's with R, and sequence lengths."""

    dtype: DType
    steps: Dim
    batch: Dim
    hidden: Dim
    direction: Direction
    xw: Tensor  # [t, 1, batch, gates * hidden], biases included
    times_r: Recurrent
    lengths: Tensor | None

    @property
    def state_shape(self) -> list[Dim]:
        return [1, self.batch, self.hidden]

    def time(self, t: Dim) -> Dim:
        """Return the time that step t processes."""
        return self.steps - 1 - t if self.direction.backward else t

    def apply(self, which: int, x: Expr) -> Expr:
        """Apply activation number `which` to x."""
        return self.direction.functions[which](x)

    def recurrent(self, h: Tensor, first: int, gates: int) -> Tensor:
        """Compute h R^T for `gates` gates from gate `first` on. -> T[1, batch, gates hidden]"""
        return self.times_r(h, first * self.hidden, gates * self.hidden)

    def gate(self, k: int, t: Dim, i: Sequence[Dim]) -> Expr:
        """Return the element of x W that belongs to gate k at step t."""
        d, b, j = i
        return at(self.xw, (t, d, b, k * self.hidden + j))

    def state(self, body: Callable[..., Expr]) -> Tensor:
        """Make a tensor that has the shape of the state."""
        return compute(self.dtype, self.state_shape, body)

    def run(self, initial: Sequence[Tensor], step: Callable[..., list[Tensor]], layout: int) -> list[Tensor]:
        """Scan over time. step: (t, *states) -> new states; Y collects the first of them. Returns [Y, *final states]

        After the end of its sequence, a row keeps its state, and its outputs are 0.
        """

        def iteration(t: Dim, *states: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            new = step(t, *states)
            if self.lengths is None:
                return new, new[:1]
            kept = [self.within(t, n, s) for n, s in zip(new, states, strict=True)]
            return kept, [self.within(t, new[0], None)]

        finals, (stack,) = scan(self.steps, initial, iteration)
        return [self.in_time(stack, layout), *(batch_first(f) if layout else f for f in finals)]

    def within(self, t: Dim, new: Tensor, old: Tensor | None) -> Tensor:
        """Return `new` for sequences that have not ended at step t, else `old` (or zero)."""
        lengths = self.lengths
        assert lengths is not None

        def body(d: Dim, b: Dim, j: Dim) -> Expr:
            runs = scalar.apply("lt", scalar.cast(scalar.index(self.time(t)), lengths.dtype), at(lengths, (b,)))
            return scalar.select(runs, at(new, (d, b, j)), 0 if old is None else at(old, (d, b, j)))

        return self.state(body)

    def in_time(self, stack: Tensor, layout: int) -> Tensor:
        """Order the outputs of the steps by time. T[step, 1, batch, hidden] -> T[time, 1, batch, hidden], or batch first if layout
        is 1
        """
        if layout:
            return view(stack, [self.batch, self.steps, 1, self.hidden], lambda b, t, d, j: (self.time(t), d, b, j))
        return view(stack, [self.steps, 1, self.batch, self.hidden], lambda t, d, b, j: (self.time(t), d, b, j))


def batch_first(state: Tensor) -> Tensor:
    """Exchange the first two axes of a state. T[direction, batch, hidden] <-> T[batch, direction, hidden]"""
    a, b, c = state.shape
    return view(state, [b, a, c], lambda i, j, k: (j, i, k))


def cell(x: Tensor, w: Tensor, r: Tensor, bias: Tensor | None, lengths: Tensor | None, direction: Direction, layout: int) -> Cell:
    """Make the Cell of a direction. x: T[t, b, i] (or [b, t, i]); weights of all directions: w: T[d, g h, i], r: T[d, g h, h],
    bias: T[d, g h]
    """
    require_equal(x.shape[2], w.shape[2], "sequences of shape {} do not fit weights of shape {}", x.shape, w.shape)
    xs = batch_first(x) if layout else x
    steps, batch = xs.shape[:2]
    xw = input_products(xs, direction.own(w), direction.own_or_none(bias), direction.backward)
    hidden, own = r.shape[2], direction.own(r)

    def times_r(h: Tensor, first: Dim, n: Dim) -> Tensor:
        return product(h, view(own, [1, hidden, n], lambda d, k, j: (d, first + j, k)), x.dtype)

    return Cell(x.dtype, steps, batch, hidden, direction, xw, times_r, lengths)


def check_shapes(x: Tensor, w: Tensor, r: Tensor, direction: str) -> None:
    """Check the ranks and the number of directions. Raises Fail."""
    for weights in (w, r):
        if weights.rank != 3:
            raise Fail(f"[ShapeInferenceError] weights of shape {list(weights.shape)} do not have 3 axes")
        count = 2 if direction == "bidirectional" else 1
        require_equal(weights.shape[0], count, "weights of shape {} do not fit direction {}", weights.shape, direction)
    if x.rank != 3:
        raise Fail(f"[ShapeInferenceError] sequences of shape {list(x.shape)} do not have 3 axes")


def input_products(x: Tensor, w: Tensor, bias: Tensor | None, backward: bool) -> Tensor:
    """Compute x W^T + bias for all steps, in the order of processing. -> T[t, 1, b, g h]"""
    steps, batch, size = x.shape
    width = w.shape[1]

    def term(t: Dim, d: Dim, b: Dim, j: Dim, k: Dim) -> Expr:
        compute_dtype = scalar.wide(x.dtype)
        read = at(x, (steps - 1 - t if backward else t, b, k))
        return scalar.mul(scalar.cast(read, compute_dtype), scalar.cast(at(w, (d, j, k)), compute_dtype))

    out = reduce("add", x.dtype, [steps, 1, batch, width], [size], term)
    return out if bias is None else add(out, view(bias, [width], lambda j: (0, j)))


def summed_bias(b: Tensor | None, width: Dim, only_w_from: Dim | None = None) -> Tensor | None:
    """Add the biases Wb and Rb. b: T[d, 2 width] -> T[d, width]; columns from `only_w_from` on hold Wb alone."""
    if b is None:
        return None

    def body(d: Dim, j: Dim) -> Expr:
        own, other = at(b, (d, j)), at(b, (d, width + j))
        total = scalar.add(own, other)
        if only_w_from is None:
            return total
        return scalar.select(scalar.apply("lt", scalar.index(j), scalar.index(only_w_from)), total, own)

    return compute(b.dtype, [b.shape[0], width], body)


def initial_state(given: Tensor | None, c: Cell, layout: int) -> Tensor:
    """Return the state before the first step: the given one (of all directions: T[d, b, h] or T[b, d, h]), or zero. Raises Fail for
    other shapes.
    """
    if given is None:
        return expand_to(constant(np.zeros((), c.dtype.numpy)), c.state_shape)
    if given.rank != 3:
        raise Fail(f"[ShapeInferenceError] an initial state of shape {list(given.shape)} does not have 3 axes")
    own = c.direction.own(given, axis=layout)
    state = batch_first(own) if layout else own
    for n, m in zip(state.shape, c.state_shape, strict=True):
        require_equal(n, m, "an initial state of shape {} does not fit {}", given.shape, c.state_shape)
    # the result has the cell's sizes; that they equal those of `given` may be known only at run time
    return compute(c.dtype, c.state_shape, lambda *i: at(state, i))


def in_wide_floats(meaning: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    """Make an operator compute in the accumulator dtype of its inputs and round its outputs once."""

    def widened(t: Tensor | None) -> Tensor | None:
        return t if t is None else cast(t, scalar.wide(t.dtype))

    @functools.wraps(meaning)
    def run(x: Tensor, *others: Tensor | None, **attributes: Any) -> list[Tensor]:
        return [cast(y, x.dtype) for y in meaning(widened(x), *map(widened, others), **attributes)]

    return run


@in_wide_floats
def rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    activations: list[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
) -> list[Tensor]:
    """Compute RNN: h' = f(x W^T + h R^T + Wb + Rb). x: T[t, b, i], w: T[d, h, i], r: T[d, h, h], b: T[d, 2 h] -> Y: T[t, d, b, h],
    Y_h: T[d, b, h]
    """
    functions = chosen_activations(activations or ["Tanh"] * 2, activation_alpha, activation_beta, clip)
    check_shapes(x, w, r, direction)

    def one_direction(direction: Direction) -> list[Tensor]:
        c = cell(x, w, r, summed_bias(b, r.shape[2]), sequence_lens, direction, layout)

        def step(t: Dim, h: Tensor) -> list[Tensor]:
            own = c.recurrent(h, 0, 1)
            return [c.state(lambda *i: c.apply(0, scalar.add(c.gate(0, t, i), at(own, i))))]

        return c.run([initial_state(initial_h, c, layout)], step, layout)

    return in_directions(direction, layout, functions, 1, one_direction)


@in_wide_floats
def gru(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    activations: list[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
) -> list[Tensor]:
    """Compute GRU, with gates in the order z, r, h. x: T[t, b, i], w: T[d, 3 h, i], r: T[d, 3 h, h], b: T[d, 6 h] -> Y: T[t, d, b,
    h], Y_h: T[d, b, h]

        h' = (1 - z) n + z h,  n = g(x W + (r h) R + Wb + Rb), or g(x W + Wb + r (h R + Rb)) with linear_before_reset
    """
    functions = chosen_activations(activations or ["Sigmoid", "Tanh"] * 2, activation_alpha, activation_beta, clip)
    check_shapes(x, w, r, direction)
    size = r.shape[2]
    bias = summed_bias(b, 3 * size, 2 * size if linear_before_reset else None)

    def one_direction(direction: Direction) -> list[Tensor]:
        c = cell(x, w, r, bias, sequence_lens, direction, layout)
        inner_bias = direction.own_or_none(b)

        def gate(k: int, t: Dim, own: Tensor) -> Tensor:
            return c.state(lambda d, n, j: c.apply(0, scalar.add(c.gate(k, t, (d, n, j)), at(own, (d, n, k * size + j)))))

        def candidate_after(t: Dim, reset: Tensor, own: Tensor) -> Tensor:
            def body(d: Dim, n: Dim, j: Dim) -> Expr:
                inner = at(own, (d, n, 2 * size + j))
                if inner_bias is not None:
                    inner = scalar.add(inner, at(inner_bias, (d, 5 * size + j)))
                return c.apply(1, scalar.add(c.gate(2, t, (d, n, j)), scalar.mul(at(reset, (d, n, j)), inner)))

            return c.state(body)

        def candidate_before(t: Dim, reset: Tensor, h: Tensor) -> Tensor:
            own = c.recurrent(pointwise(scalar.mul, reset, h), 2, 1)
            return c.state(lambda *i: c.apply(1, scalar.add(c.gate(2, t, i), at(own, i))))

        def step(t: Dim, h: Tensor) -> list[Tensor]:
            own = c.recurrent(h, 0, 3 if linear_before_reset else 2)
            update, reset = gate(0, t, own), gate(1, t, own)
            new = candidate_after(t, reset, own) if linear_before_reset else candidate_before(t, reset, h)
            return [pointwise(lambda z, n, old: scalar.add(scalar.mul(scalar.sub(1, z), n), scalar.mul(z, old)), update, new, h)]

        return c.run([initial_state(initial_h, c, layout)], step, layout)

    return in_directions(direction, layout, functions, 2, one_direction)


@in_wide_floats
def lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    p: Tensor | None = None,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    activations: list[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
) -> list[Tensor]:
    """Compute LSTM, with gates in the order i, o, f, c. x: T[t, b, i], w: T[d, 4 h, i], r: T[d, 4 h, h], b: T[d, 8 h], p: T[d, 3 h]
    -> Y: T[t, d, b, h], Y_h: T[d, b, h], Y_c: T[d, b, h]

        C' = f C + i c,  h' = o h(C')

    The peepholes p add multiples of C to the arguments of gates i and f, and of C' to that of gate o.
    """
    functions = chosen_activations(activations or LSTM_ACTIVATIONS, activation_alpha, activation_beta, clip)
    check_shapes(x, w, r, direction)
    bias = summed_bias(b, 4 * r.shape[2])

    def one_direction(direction: Direction) -> list[Tensor]:
        c = cell(x, w, r, bias, sequence_lens, direction, layout)
        return lstm_direction(c, initial_h, initial_c, p, input_forget, layout)

    return in_directions(direction, layout, functions, 3, one_direction)


LSTM_ACTIVATIONS = ["Sigmoid", "Tanh", "Tanh"] * 2
"""Default activations of both directions."""


def lstm_direction(
    c: Cell, initial_h: Tensor | None, initial_c: Tensor | None, p: Tensor | None, input_forget: int, layout: int
) -> list[Tensor]:
    """Compute one direction of an LSTM. initial_h, initial_c, p: those of all directions. Returns [Y, Y_h, Y_c]"""
    peepholes = c.direction.own_or_none(p)

    def step(t: Dim, h: Tensor, memory: Tensor) -> list[Tensor]:
        own = c.recurrent(h, 0, 4)

        def gate(k: int, which: int, i: tuple[Dim, ...], peep: tuple[int, Tensor] | None) -> Expr:
            d, n, j = i
            pre = scalar.add(c.gate(k, t, i), at(own, (d, n, k * c.hidden + j)))
            if peepholes is not None and peep is not None:
                pre = scalar.add(pre, scalar.mul(at(peepholes, (d, peep[0] * c.hidden + j)), at(peep[1], i)))
            return c.apply(which, pre)

        def remembered(*i: Dim) -> Expr:
            enter = gate(0, 0, i, (0, memory))
            forget = scalar.sub(1, enter) if input_forget else gate(2, 0, i, (2, memory))
            return scalar.add(scalar.mul(forget, at(memory, i)), scalar.mul(enter, gate(3, 1, i, None)))

        new = c.state(remembered)
        return [c.state(lambda *i: scalar.mul(gate(1, 0, i, (1, new)), c.apply(2, at(new, i)))), new]

    return c.run([initial_state(initial_h, c, layout), initial_state(initial_c, c, layout)], step, layout)


def weights(gates: int, directions: int = 1, size: int = 3, hidden: int = 4) -> tuple[np.ndarray, ...]:
    """Make w, r and b for a test case."""
    n = gates * hidden
    return (
        reals(directions, n, size, scale=0.6),
        reals(directions, n, hidden, scale=0.5)[:, ::-1].copy(),
        reals(directions, 2 * n, scale=0.3),
    )


X = reals(5, 2, 3)
LENGTHS = np.array([5, 3], np.int32)
H1, H2 = reals(1, 2, 4, scale=0.5), reals(2, 2, 4, scale=0.5)


def common(gates: int) -> tuple[Case, ...]:
    """Make the cases that RNN, GRU and LSTM share."""
    one, two = weights(gates), weights(gates, 2)
    return (
        Case((X, *one[:2]), {"hidden_size": 4}, "plain"),
        Case((X, *one, None, H1), {"hidden_size": 4, "direction": "reverse"}, "reverse"),
        Case((X, *two, LENGTHS, H2), {"hidden_size": 4, "direction": "bidirectional"}, "lengths"),
        Case((X, *one), {"hidden_size": 4, "clip": 0.2}, "clip"),
    )


OPS = (
    Op("RNN", since=1, lower=rnn, reference=recurrent.rnn, cases=common(1), tolerance=1e-5),
    Op(
        "GRU",
        since=1,
        lower=gru,
        reference=recurrent.gru,
        cases=(*common(3), Case((X, *weights(3)), {"hidden_size": 4, "linear_before_reset": 1}, "linear_before_reset")),
        tolerance=1e-5,
    ),
    Op(
        "LSTM",
        since=1,
        lower=lstm,
        reference=recurrent.lstm,
        cases=(
            *common(4),
            Case((X, *weights(4), None, H1, H1, reals(1, 12, scale=0.3)), {"hidden_size": 4}, "peepholes"),
            Case((X, *weights(4)), {"hidden_size": 4, "input_forget": 1}, "coupled"),
        ),
        tolerance=1e-5,
    ),
)
