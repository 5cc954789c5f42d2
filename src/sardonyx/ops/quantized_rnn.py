"""DynamicQuantizeLSTM of the domain com.microsoft: an LSTM whose matrix products are computed on integers.

The input sequence is quantised once, the state before each step; each with one scale for all its numbers. The weights are quantised
in the model, with a scale and a zero point for each direction, or for each column of a direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from sardonyx.base.dtypes import f32, i8, i32, u8
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.require import require_same
from sardonyx.expr.tensor import Tensor, compute
from sardonyx.loop.nodes import Expr
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.integer_products import shifted_product
from sardonyx.ops.pointwise import add, cast, mul, view
from sardonyx.ops.quantize import dynamic_quantize
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.reduce import drop, total
from sardonyx.ops.rnn import (
    LSTM_ACTIVATIONS,
    Cell,
    Direction,
    check_shapes,
    chosen_activations,
    in_directions,
    lstm_direction,
    summed_bias,
)


class Weights(Struct, frozen=True):
    """Quantised weights of all directions. q: T[d, k, n], scale: f32[d] or f32[d, n], zero_point: T[d] or T[d, n]"""

    q: Tensor
    scale: Tensor
    zero_point: Tensor

    def times(self, direction: Direction, a: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """Multiply quantised numbers by this direction's weights. a: u8[*d, m, k], its scale: f32[] and zero point: u8[] -> f32[*d,
        m, n]
        """
        sums = shifted_product(a, direction.own(self.q), zero_point, self.by_column(direction, self.zero_point))
        return mul(cast(sums, f32), mul(self.by_column(direction, self.scale), scale))

    def by_column(self, direction: Direction, t: Tensor) -> Tensor:
        """Return this direction's scales or zero points, so that they broadcast over columns: T[] or T[n]"""
        own = direction.own(t)
        if t.rank == 1 or t.shape[1] == 1:
            return view(own, [], lambda: [0] * t.rank)
        require_same(
            t.shape,
            [self.q.shape[0], self.q.shape[2]],
            "scales or zero points of shape {} do not fit weights of shape {}",
            t.shape,
            self.q.shape,
        )
        return view(own, own.shape[1:], lambda j: (0, j))


def quantised_sequence(x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise the input sequence. x: f32[t, b, i] -> u8[t, b, i], scale, zero point

    lengths: steps beyond the longest sequence count as 0, so that they don't affect the scale.
    """
    if lengths is None:
        return dynamic_quantize(x)
    longest = drop(total(lengths, [0], "max"), [0])

    def body(t: Dim, n: Dim, i: Dim) -> Expr:
        runs = scalar.apply("lt", scalar.cast(scalar.index(t), i32), at(longest, ()))
        return scalar.select(runs, at(x, (t, n, i)), 0)

    return dynamic_quantize(compute(f32, x.shape, body))


def dynamic_quantize_lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    sequence_lens: Tensor | None,
    initial_h: Tensor | None,
    initial_c: Tensor | None,
    p: Tensor | None,
    w_scale: Tensor,
    w_zero_point: Tensor,
    r_scale: Tensor,
    r_zero_point: Tensor,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
) -> list[Tensor]:
    """Compute DynamicQuantizeLSTM, see `rnn.lstm`. x: f32[t, b, i], w: T[d, i, 4 h], r: T[d, h, 4 h]; their scales and zero points:
    [d] or [d, 4 h]

    -> Y: f32[t, d, b, h], Y_h: f32[d, b, h], Y_c: f32[d, b, h]. Raises Fail for shapes and attributes that don't fit.
    """
    functions = chosen_activations(activations or LSTM_ACTIVATIONS, activation_alpha, activation_beta, clip)
    check_shapes(x, w, r, direction)
    hidden = r.shape[1]
    by_w, by_r = Weights(w, w_scale, w_zero_point), Weights(r, r_scale, r_zero_point)
    for weights in (w, r):
        require_same(weights.shape[2:], [4 * hidden], "weights of shapes {} and {} do not have 4 gates", w.shape, r.shape)
    require_same(x.shape[2:], [w.shape[1]], "sequences of shape {} do not fit weights of shape {}", x.shape, w.shape)
    bias = summed_bias(b, 4 * hidden)
    q, scale, zero_point = quantised_sequence(x, sequence_lens)
    steps, batch = x.shape[:2]

    def one_direction(direction: Direction) -> list[Tensor]:
        in_order = view(q, [steps, 1, batch, q.shape[2]], lambda t, d, n, i: (steps - 1 - t if direction.backward else t, n, i))
        xw = by_w.times(direction, in_order, scale, zero_point)
        own_bias = direction.own_or_none(bias)
        if own_bias is not None:
            xw = add(xw, own_bias)

        def times_r(h: Tensor, first: Dim, n: Dim) -> Tensor:
            assert first == 0
            return by_r.times(direction, *dynamic_quantize(h))

        cell = Cell(f32, steps, batch, hidden, direction, xw, times_r, sequence_lens)
        return lstm_direction(cell, initial_h, initial_c, p, input_forget, 0)

    return in_directions(direction, 0, functions, 3, one_direction)


def quantised_weights(directions: int, dtype: Any = np.int8, per_column: bool = False, shift: int = 0) -> tuple[np.ndarray, ...]:
    """Make w and r with their scales and zero points for a test case."""
    size, hidden = 3, 4
    shape = (directions, 4 * hidden) if per_column else (directions,)
    low = -127 if dtype == np.int8 else 0
    w, r = (integers(directions, k, 4 * hidden, lo=low, hi=low + 254).astype(dtype) for k in (size, hidden))
    scale = np.abs(reals(*shape, scale=0.004)) + np.float32(0.002)
    return w, r, scale, np.full(shape, shift, dtype), scale[..., ::-1].copy(), np.full(shape, shift, dtype)


def case(name: str, directions: int = 1, given: tuple[Any, ...] = (None,) * 5, attributes: Any = (), **kind: Any) -> Case:
    w, r, *parameters = quantised_weights(directions, **kind)
    direction = {"direction": "bidirectional"} if directions == 2 else {}
    return Case((X, w, r, *given, *parameters), {"hidden_size": 4, **direction, **dict(attributes)}, name, outputs=3)


X = reals(5, 2, 3)
BIAS, PEEPHOLES = reals(1, 32, scale=0.3), reals(1, 12, scale=0.3)
STATE, STATES = reals(1, 2, 4, scale=0.5), reals(2, 2, 4, scale=0.5)
LENGTHS = np.array([5, 3], np.int32)

OPS = (
    Op(
        "DynamicQuantizeLSTM",
        since=1,
        domain="com.microsoft",
        in_standard=False,
        expand=dynamic_quantize_lstm,
        element_types={
            **dict.fromkeys(("x", "b", "initial_h", "initial_c", "p", "w_scale", "r_scale"), (f32,)),
            **dict.fromkeys(("w", "r", "w_zero_point", "r_zero_point"), (i8, u8)),
            "sequence_lens": (i32,),
        },
        cases=(
            case("plain"),
            case("unsigned", dtype=np.uint8, shift=128),
            case("columns", per_column=True),
            case("everything", 1, (BIAS, None, STATE, STATE, PEEPHOLES), {"direction": "reverse"}.items()),
            case("coupled", 1, (BIAS, None, None, None, None), {"input_forget": 1, "clip": 0.3}.items()),
            case("bidirectional", 2, (np.tile(BIAS, (2, 1)), None, STATES, STATES, np.tile(PEEPHOLES, (2, 1))), per_column=True),
            case("lengths", 1, (BIAS, LENGTHS, STATE, None, None)),
        ),
        gradient=Rule.NONE,
        quantised=Rule.NONE,
        tolerance=1e-4,
    ),
)
