"""RNN, GRU, LSTM: a scan over time whose state has both directions side by side.

x W for all steps is one product, time reversed already for the backward direction:  xw[t, direction, batch, gate * hidden]
each step is products of the state with R, and pointwise gates:                      h[direction, batch, hidden]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

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
from sardonyx.ops.pointwise import add, expand_to, pointwise, reduce, view
from sardonyx.ops.record import Case, Op

Activation = Callable[[Expr], Expr]

ACTIVATIONS: dict[str, tuple[Callable[..., Expr], tuple[float, ...]]] = {
    "relu": (activation.relu, ()),
    "tanh": (lambda x: scalar.apply("tanh", x), ()),
    "sigmoid": (activation.sigmoid, ()),
    "softsign": (activation.softsign, ()),
    "softplus": (activation.softplus, ()),
    "affine": (lambda x, alpha, beta: scalar.add(scalar.mul(x, alpha), beta), (1.0, 0.0)),
    "scaledtanh": (lambda x, alpha, beta: scalar.mul(scalar.apply("tanh", scalar.mul(x, beta)), alpha), (1.0, 1.0)),
    "hardsigmoid": (activation.hard_sigmoid, (0.2, 0.5)),
    "leakyrelu": (activation.leaky_relu, (0.01,)),
    "thresholdedrelu": (activation.thresholded_relu, (1.0,)),
    "elu": (activation.elu, (1.0,)),
}
"""By name in lower case: the function, and the defaults of its alpha and beta."""


def chosen_activations(
    names: Sequence[str], alphas: Sequence[float] | None, betas: Sequence[float] | None, clip: float | None
) -> list[Activation]:
    """The functions of these names; each that has an alpha, or a beta, takes the next one. Raises Fail for an unknown name."""
    alpha, beta = iter(alphas or ()), iter(betas or ())
    out = []
    for name in names:
        if name.lower() not in ACTIVATIONS:
            raise Fail(f"activation {name}")
        fn, defaults = ACTIVATIONS[name.lower()]
        numbers = [next(given, default) for given, default in zip((alpha, beta), defaults, strict=False)]
        out.append(clipped(fn, numbers, clip))
    return out


def clipped(fn: Callable[..., Expr], numbers: Sequence[float], clip: float | None) -> Activation:
    if clip is None:
        return lambda x: fn(x, *numbers)
    return lambda x: fn(scalar.minimum(scalar.maximum(x, -clip), clip), *numbers)


@dataclass(frozen=True, slots=True)
class Cell:
    """What the operators share: sizes, the inputs' products with W, the weights R, and the time that is processed at a step."""

    dtype: DType
    steps: Dim
    directions: int
    batch: Dim
    hidden: Dim
    backward: bool  # of one direction only
    xw: Tensor  # [t, direction, batch, gates * hidden], biases included
    r: Tensor
    lengths: Tensor | None
    functions: list[list[Activation]]  # by direction

    @property
    def state_shape(self) -> list[Dim]:
        return [self.directions, self.batch, self.hidden]

    def time(self, t: Dim, d: Dim) -> Dim:
        """The time that direction d processes at step t."""
        if self.directions == 1:
            return self.steps - 1 - t if self.backward else t
        return t + d * (self.steps - 1 - 2 * t)

    def apply(self, which: int, x: Expr, d: Dim) -> Expr:
        """Activation `which` of direction d."""
        own = [fns[which](x) for fns in self.functions]
        if len(own) == 1 or own[0] is own[1]:
            return own[0]
        return scalar.select(scalar.apply("eq", scalar.index(d), 0), own[0], own[1])

    def recurrent(self, h: Tensor, first: int, gates: int) -> Tensor:
        """h R^T of `gates` gates from `first` on: T[direction, batch, gates * hidden]"""
        lo, n = first * self.hidden, gates * self.hidden
        return product(h, view(self.r, [self.directions, self.hidden, n], lambda d, k, j: (d, lo + j, k)), self.dtype)

    def gate(self, k: int, t: Dim, i: Sequence[Dim]) -> Expr:
        """Gate k's share of x W at step t."""
        d, b, j = i
        return at(self.xw, (t, d, b, k * self.hidden + j))

    def state(self, body: Callable[..., Expr]) -> Tensor:
        return compute(self.dtype, self.state_shape, body)

    def run(self, initial: Sequence[Tensor], step: Callable[..., list[Tensor]], layout: int) -> list[Tensor]:
        """[Y, *final states] from the states' initial values and what a step makes of them; the first one is what Y collects."""

        def turn(t: Dim, *states: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            new = step(t, *states)
            if self.lengths is None:
                return new, new[:1]
            kept = [self.within(t, n, s) for n, s in zip(new, states, strict=True)]
            return kept, [self.within(t, new[0], None)]

        finals, (stack,) = scan(self.steps, initial, turn)
        return [self.in_time(stack, layout), *(batch_first(f) if layout else f for f in finals)]

    def within(self, t: Dim, new: Tensor, old: Tensor | None) -> Tensor:
        """new where the sequence has not ended, else old (or zero)."""
        lengths = self.lengths
        assert lengths is not None

        def body(d: Dim, b: Dim, j: Dim) -> Expr:
            runs = scalar.apply("lt", scalar.cast(scalar.index(self.time(t, d)), lengths.dtype), at(lengths, (b,)))
            return scalar.select(runs, at(new, (d, b, j)), 0 if old is None else at(old, (d, b, j)))

        return self.state(body)

    def in_time(self, stack: Tensor, layout: int) -> Tensor:
        """Y from what the steps made: T[step, direction, batch, hidden] -> T[time, direction, batch, hidden], or batch first"""
        if self.directions == 1:
            return self.laid_out(stack, lambda t, d, b, j: (self.time(t, d), d, b, j), layout, 1)
        parts = [self.laid_out(stack, lambda t, _, b, j, d=d: (self.time(t, d), d, b, j), layout, 1) for d in (0, 1)]
        shape = [*parts[0].shape]
        axis = 2 if layout else 1
        shape[axis] = 2
        return assemble(self.dtype, shape, [(p, [d if a == axis else 0 for a in range(4)]) for d, p in enumerate(parts)])

    def laid_out(self, stack: Tensor, index: Callable[..., Sequence[Dim]], layout: int, directions: int) -> Tensor:
        if layout:
            return view(stack, [self.batch, self.steps, directions, self.hidden], lambda b, t, d, j: index(t, d, b, j))
        return view(stack, [self.steps, directions, self.batch, self.hidden], index)


def batch_first(state: Tensor) -> Tensor:
    """T[direction, batch, hidden] <-> T[batch, direction, hidden]"""
    a, b, c = state.shape
    return view(state, [b, a, c], lambda i, j, k: (j, i, k))


def cell(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None,
    lengths: Tensor | None,
    direction: str,
    layout: int,
    functions: list[Activation],
) -> Cell:
    """The common part. x: T[t, b, i] (or [b, t, i]), w: T[d, g h, i], r: T[d, g h, h], bias: T[d, g h]; functions of both directions"""
    if direction not in ("forward", "reverse", "bidirectional"):
        raise Fail(f"direction {direction}")
    directions = 2 if direction == "bidirectional" else 1
    for weights in (w, r):
        if weights.rank != 3:
            raise Fail(f"[ShapeInferenceError] weights of shape {list(weights.shape)}")
        require_equal(weights.shape[0], directions, f"weights of shape {list(weights.shape)} for {direction}")
    if x.rank != 3:
        raise Fail(f"[ShapeInferenceError] sequences of shape {list(x.shape)}")
    require_equal(x.shape[2], w.shape[2], f"sequences of shape {list(x.shape)} and weights of shape {list(w.shape)}")
    xs = batch_first(x) if layout else x
    each = len(functions) // directions
    by_direction = [functions[d * each : (d + 1) * each] for d in range(directions)]
    steps, batch = xs.shape[:2]
    xw = input_products(xs, w, bias, [direction == "reverse"] if directions == 1 else [False, True])
    return Cell(x.dtype, steps, directions, batch, r.shape[2], direction == "reverse", xw, r, lengths, by_direction)


def input_products(x: Tensor, w: Tensor, bias: Tensor | None, backward: Sequence[bool]) -> Tensor:
    """x W^T + bias for all steps, in the order in which each direction processes them: T[t, direction, b, g h]"""
    steps, batch, size = x.shape
    width = w.shape[1]
    parts = []
    for d, reverse in enumerate(backward):

        def term(t: Dim, _: Dim, b: Dim, j: Dim, k: Dim, d: int = d, reverse: bool = reverse) -> Expr:
            carrier = scalar.wide(x.dtype)
            read = at(x, (steps - 1 - t if reverse else t, b, k))
            return scalar.mul(scalar.cast(read, carrier), scalar.cast(at(w, (d, j, k)), carrier))

        part = reduce("add", x.dtype, [steps, 1, batch, width], [size], term)
        if bias is not None:
            own = view(bias, [width], lambda j, d=d: (d, j))
            part = add(part, own)
        parts.append(part)
    if len(parts) == 1:
        return parts[0]
    return assemble(x.dtype, [steps, 2, batch, width], [(p, [0, d, 0, 0]) for d, p in enumerate(parts)])


def summed_bias(b: Tensor | None, width: Dim, only_w_from: Dim | None = None) -> Tensor | None:
    """Wb + Rb of T[d, 2 width] -> T[d, width]; from column `only_w_from` on, Wb alone."""
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
    """The state before the first step: given, or zero."""
    if given is None:
        return expand_to(constant(np.zeros((), c.dtype.numpy)), c.state_shape)
    state = batch_first(given) if layout else given
    for n, m in zip(state.shape, c.state_shape, strict=True):
        require_equal(n, m, f"an initial state of shape {list(given.shape)} for {list(c.state_shape)}")
    # in the cell's own sizes, which may be equal only at run time
    return compute(c.dtype, c.state_shape, lambda *i: at(state, i))


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
    """h' = f(x W^T + h R^T + Wb + Rb). x: T[t, b, i], w: T[d, h, i], r: T[d, h, h], b: T[d, 2 h] -> Y: T[t, d, b, h], Y_h: T[d, b, h]"""
    functions = chosen_activations(activations or ["Tanh"] * 2, activation_alpha, activation_beta, clip)
    c = cell(x, w, r, summed_bias(b, r.shape[2]), sequence_lens, direction, layout, one_each(functions, direction, 1))

    def step(t: Dim, h: Tensor) -> list[Tensor]:
        own = c.recurrent(h, 0, 1)
        return [c.state(lambda *i: c.apply(0, scalar.add(c.gate(0, t, i), at(own, i)), i[0]))]

    return c.run([initial_state(initial_h, c, layout)], step, layout)


def one_each(functions: list[Activation], direction: str, count: int) -> list[Activation]:
    """`count` functions for each direction. Raises Fail if there are fewer."""
    wanted = count * (2 if direction == "bidirectional" else 1)
    if len(functions) < wanted:
        raise Fail(f"{len(functions)} activations where {wanted} are needed")
    return functions[:wanted]


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
    """Gates z, r, h. x: T[t, b, i], w: T[d, 3 h, i], r: T[d, 3 h, h], b: T[d, 6 h] -> Y: T[t, d, b, h], Y_h: T[d, b, h]

    h' = (1 - z) n + z h, n = g(x W + (r h) R), or g(x W + r (h R + Rb)) with linear_before_reset
    """
    functions = chosen_activations(activations or ["Sigmoid", "Tanh"] * 2, activation_alpha, activation_beta, clip)
    size = r.shape[2]
    bias = summed_bias(b, 3 * size, 2 * size if linear_before_reset else None)
    c = cell(x, w, r, bias, sequence_lens, direction, layout, one_each(functions, direction, 2))

    def gate(k: int, t: Dim, own: Tensor) -> Tensor:
        def body(d: Dim, n: Dim, j: Dim) -> Expr:
            return c.apply(0, scalar.add(c.gate(k, t, (d, n, j)), at(own, (d, n, k * size + j))), d)

        return c.state(body)

    def candidate_after(t: Dim, reset: Tensor, own: Tensor) -> Tensor:
        def body(d: Dim, n: Dim, j: Dim) -> Expr:
            inner = at(own, (d, n, 2 * size + j))
            if b is not None:
                inner = scalar.add(inner, at(b, (d, 5 * size + j)))
            return c.apply(1, scalar.add(c.gate(2, t, (d, n, j)), scalar.mul(at(reset, (d, n, j)), inner)), d)

        return c.state(body)

    def candidate_before(t: Dim, reset: Tensor, h: Tensor) -> Tensor:
        own = c.recurrent(pointwise(scalar.mul, reset, h), 2, 1)
        return c.state(lambda *i: c.apply(1, scalar.add(c.gate(2, t, i), at(own, i)), i[0]))

    def step(t: Dim, h: Tensor) -> list[Tensor]:
        own = c.recurrent(h, 0, 3 if linear_before_reset else 2)
        update, reset = gate(0, t, own), gate(1, t, own)
        new = candidate_after(t, reset, own) if linear_before_reset else candidate_before(t, reset, h)
        return [pointwise(lambda z, n, old: scalar.add(scalar.mul(scalar.sub(1, z), n), scalar.mul(z, old)), update, new, h)]

    return c.run([initial_state(initial_h, c, layout)], step, layout)


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
    """Gates i, o, f, c. x: T[t, b, i], w: T[d, 4 h, i], r: T[d, 4 h, h], b: T[d, 8 h], p: T[d, 3 h]
    -> Y: T[t, d, b, h], Y_h: T[d, b, h], Y_c: T[d, b, h]

    C' = f C + i c, h' = o h(C'); the peepholes p let the gates i, f see C, and o see C'
    """
    functions = chosen_activations(activations or ["Sigmoid", "Tanh", "Tanh"] * 2, activation_alpha, activation_beta, clip)
    bias = summed_bias(b, 4 * r.shape[2])
    c = cell(x, w, r, bias, sequence_lens, direction, layout, one_each(functions, direction, 3))

    def step(t: Dim, h: Tensor, memory: Tensor) -> list[Tensor]:
        own = c.recurrent(h, 0, 4)

        def gate(k: int, which: int, i: tuple[Dim, ...], peep: tuple[int, Tensor] | None) -> Expr:
            d, n, j = i
            pre = scalar.add(c.gate(k, t, i), at(own, (d, n, k * c.hidden + j)))
            if p is not None and peep is not None:
                pre = scalar.add(pre, scalar.mul(at(p, (d, peep[0] * c.hidden + j)), at(peep[1], i)))
            return c.apply(which, pre, d)

        def remembered(*i: Dim) -> Expr:
            enter = gate(0, 0, i, (0, memory))
            forget = scalar.sub(1, enter) if input_forget else gate(2, 0, i, (2, memory))
            return scalar.add(scalar.mul(forget, at(memory, i)), scalar.mul(enter, gate(3, 1, i, None)))

        new = c.state(remembered)
        shown = c.state(lambda *i: scalar.mul(gate(1, 0, i, (1, new)), c.apply(2, at(new, i), i[0])))
        return [shown, new]

    return c.run([initial_state(initial_h, c, layout), initial_state(initial_c, c, layout)], step, layout)


def weights(gates: int, directions: int = 1, size: int = 3, hidden: int = 4) -> tuple[np.ndarray, ...]:
    """w, r and b for a test case."""
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
    """Cases that the three share."""
    one, two = weights(gates), weights(gates, 2)
    return (
        Case((X, *one[:2]), {"hidden_size": 4}, "plain"),
        Case((X, *one, None, H1), {"hidden_size": 4, "direction": "reverse"}, "reverse"),
        Case((X, *two, LENGTHS, H2), {"hidden_size": 4, "direction": "bidirectional"}, "lengths"),
        Case((X, *one), {"hidden_size": 4, "clip": 0.2}, "clip"),
    )


OPS = (
    Op("RNN", since=7, lower=rnn, cases=common(1), tolerance=1e-5),
    Op(
        "GRU",
        since=7,
        lower=gru,
        cases=(*common(3), Case((X, *weights(3)), {"hidden_size": 4, "linear_before_reset": 1}, "linear_before_reset")),
        tolerance=1e-5,
    ),
    Op(
        "LSTM",
        since=7,
        lower=lstm,
        cases=(
            *common(4),
            Case((X, *weights(4), None, H1, H1, reals(1, 12, scale=0.3)), {"hidden_size": 4}, "peepholes"),
            Case((X, *weights(4)), {"hidden_size": 4, "input_forget": 1}, "coupled"),
        ),
        tolerance=1e-5,
    ),
)
