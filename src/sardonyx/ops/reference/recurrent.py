"""RNN, GRU and LSTM in numpy, with sequence lengths, clipping and all activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sardonyx.ops.reference.arrays import Array

Activation = Callable[[Array], Array]


def sigmoid(x: Array) -> Array:
    return np.asarray(np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x)))))


# name: (function of (x, alpha, beta), default alpha, default beta)
ACTIVATIONS: dict[str, tuple[Callable[[Array, float, float], Array], float, float]] = {
    "relu": (lambda x, a, b: np.maximum(x, 0), 0, 0),
    "tanh": (lambda x, a, b: np.tanh(x), 0, 0),
    "sigmoid": (lambda x, a, b: sigmoid(x), 0, 0),
    "affine": (lambda x, a, b: a * x + b, 1, 0),
    "leakyrelu": (lambda x, a, b: np.where(x < 0, a * x, x), 0.01, 0),
    "thresholdedrelu": (lambda x, a, b: np.where(x > a, x, 0), 1, 0),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), 1, 1),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
    "elu": (lambda x, a, b: np.where(x < 0, a * (np.exp(np.minimum(x, 0)) - 1), x), 1, 0),
    "softsign": (lambda x, a, b: x / (1 + np.abs(x)), 0, 0),
    "softplus": (lambda x, a, b: np.logaddexp(x, 0), 0, 0),
}
# The activations that take an alpha, or a beta, from the attributes' lists.
_HAS_ALPHA = {"affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"}
_HAS_BETA = {"affine", "scaledtanh", "hardsigmoid"}


def make_activations(
    names: Sequence[str], alphas: Sequence[float] | None, betas: Sequence[float] | None, clip: float | None
) -> list[Activation]:
    """Return the activations with their parameters; their arguments are clipped first. Raises ValueError for an unknown name."""
    alpha, beta = iter(alphas or ()), iter(betas or ())
    return [make_activation(name.lower(), alpha, beta, clip) for name in names]


def make_activation(name: str, alphas: Any, betas: Any, clip: float | None) -> Activation:
    """Return one activation, which takes its parameters from the iterators `alphas` and `betas`."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}")
    function, a, b = ACTIVATIONS[name]
    a = next(alphas, a) if name in _HAS_ALPHA else a
    b = next(betas, b) if name in _HAS_BETA else b
    if clip:
        return lambda x: function(np.clip(x, -clip, clip), a, b)
    return lambda x: function(x, a, b)


def recur(
    x: Array, lengths: Array, state: list[Array], backwards: bool, step: Callable[[Array, list[Array]], list[Array]]
) -> tuple[Array, list[Array]]:
    """Run the steps of one direction. x: f[s, b, i] -> (f[s, b, h], final state)

    A row stops at its length: its state stays, and its outputs are 0. Backwards, a row of length l is read from l - 1 down to 0.
    """
    outputs = np.zeros((x.shape[0], *state[0].shape), state[0].dtype)
    rows = np.arange(x.shape[1])
    for t in range(x.shape[0]):
        alive = t < lengths
        places = np.where(alive, lengths - 1 - t, 0) if backwards else np.full(len(rows), t)
        new = step(x[places, rows], state)
        state = [np.where(alive[:, None], after, before) for after, before in zip(new, state, strict=True)]
        outputs[places[alive], rows[alive]] = state[0][alive]
    return outputs, state


def layer(
    cell: Callable[[int], Callable[[Array, list[Array]], list[Array]]],
    x: Array,
    lengths: Array | None,
    states: list[Array | None],
    direction: str,
    hidden_size: int,
    layout: int,
) -> tuple[Array, ...]:
    """Run one or two directions. cell(d): the step function of direction d; states: f[d, b, h] each -> (f[s, d, b, h], *final
    states)
    """
    if layout:
        x = x.swapaxes(0, 1)
        states = [None if s is None else s.swapaxes(0, 1) for s in states]
    directions = 2 if direction == "bidirectional" else 1
    batch = x.shape[1]
    lengths = np.full(batch, x.shape[0]) if lengths is None else np.asarray(lengths)
    outputs, finals = [], []
    for d in range(directions):
        start = [np.zeros((batch, hidden_size), x.dtype) if s is None else s[d] for s in states]
        y, final = recur(x, lengths, start, direction == "reverse" or d == 1, cell(d))
        outputs.append(y)
        finals.append(final)
    sequence = np.stack(outputs, 1)
    last = [np.stack(values) for values in zip(*finals, strict=True)]
    if layout:
        return np.moveaxis(sequence, 2, 0), *(value.swapaxes(0, 1) for value in last)
    return sequence, *last


def halves(b: Array | None, d: int, rows: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Return the bias of the input's weights and that of the state's weights."""
    return (np.zeros(rows, dtype), np.zeros(rows, dtype)) if b is None else (b[d, :rows], b[d, rows:])


def rnn(
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    initial_h: Array | None = None,
    *,
    hidden_size: int | None = None,
    direction: str = "forward",
    activations: Sequence[str] = (),
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    layout: int = 0,
    output_sequence: int = 0,
) -> tuple[Array, ...]:
    """Compute RNN: h = f(x W + h R + b)."""
    names = activations or ["Tanh"] * len(w)
    functions = make_activations(names, activation_alpha, activation_beta, clip)

    def cell(d: int) -> Callable[[Array, list[Array]], list[Array]]:
        wb, rb = halves(b, d, r.shape[-1], x.dtype)
        return lambda xt, state: [functions[d](xt @ w[d].T + state[0] @ r[d].T + wb + rb)]

    return layer(cell, x, lengths, [initial_h], direction, r.shape[-1], layout)


def gru(
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    initial_h: Array | None = None,
    *,
    hidden_size: int | None = None,
    direction: str = "forward",
    activations: Sequence[str] = (),
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
    output_sequence: int = 0,
) -> tuple[Array, ...]:
    """Compute GRU: z, r = f(...), n = g(x W + r * (h R)), h = (1 - z) n + z h. Gates are in the order z, r, n."""
    functions = make_activations(activations or ["Sigmoid", "Tanh"] * len(w), activation_alpha, activation_beta, clip)
    size = r.shape[-1]

    def cell(d: int) -> Callable[[Array, list[Array]], list[Array]]:
        f, g = functions[2 * d : 2 * d + 2]
        wb, rb = halves(b, d, 3 * size, x.dtype)
        wz, wr, wn = np.split(w[d], 3)
        rz, rr, rn = np.split(r[d], 3)
        (wbz, wbr, wbn), (rbz, rbr, rbn) = np.split(wb, 3), np.split(rb, 3)

        def step(xt: Array, state: list[Array]) -> list[Array]:
            h = state[0]
            z = f(xt @ wz.T + h @ rz.T + wbz + rbz)
            reset = f(xt @ wr.T + h @ rr.T + wbr + rbr)
            past = reset * (h @ rn.T + rbn) if linear_before_reset else (reset * h) @ rn.T + rbn
            n = g(xt @ wn.T + past + wbn)
            return [(1 - z) * n + z * h]

        return step

    return layer(cell, x, lengths, [initial_h], direction, size, layout)


def lstm(
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    initial_h: Array | None = None,
    initial_c: Array | None = None,
    p: Array | None = None,
    *,
    hidden_size: int | None = None,
    direction: str = "forward",
    activations: Sequence[str] = (),
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    input_forget: int = 0,
    layout: int = 0,
    output_sequence: int = 0,
) -> tuple[Array, ...]:
    """Compute LSTM. Gates are in the order i, o, f, c; p holds the peepholes of i, o, f."""
    names = activations or ["Sigmoid", "Tanh", "Tanh"] * len(w)
    functions = make_activations(names, activation_alpha, activation_beta, clip)
    size = r.shape[-1]

    def cell(d: int) -> Callable[[Array, list[Array]], list[Array]]:
        f, g, h = functions[3 * d : 3 * d + 3]
        bias = sum(halves(b, d, 4 * size, x.dtype))
        pi, po, pf = np.split(np.zeros(3 * size, x.dtype) if p is None else p[d], 3)

        def step(xt: Array, state: list[Array]) -> list[Array]:
            gi, go, gf, gc = np.split(xt @ w[d].T + state[0] @ r[d].T + bias, 4, axis=-1)
            i = f(gi + pi * state[1])
            forget = 1 - i if input_forget else f(gf + pf * state[1])
            c = forget * state[1] + i * g(gc)
            return [f(go + po * c) * h(c), c]

        return step

    return layer(cell, x, lengths, [initial_h, initial_c], direction, size, layout)
