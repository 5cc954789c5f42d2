"""Functions of Values computed over arrays, and their distance from a better result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sardonyx.base.dtypes import from_numpy
from sardonyx.loop.nodes import Buffer, Expr, Load, Op, walk
from sardonyx.loop.semantics import evaluate
from sardonyx.loop.values import Value

Array = np.ndarray[Any, np.dtype[Any]]
WIDER = {np.dtype(np.float32): np.float64, np.dtype(np.float64): np.longdouble}


def compute(function: Callable[..., Value], *arrays: Array) -> Array:
    """function of one Value per array, evaluated for all elements at once."""
    given = {Buffer(f"x{i}", from_numpy(a.dtype)): a for i, a in enumerate(arrays)}
    expr = function(*(Value(Load(buffer, 0)) for buffer in given)).expr
    return evaluate(expr, lambda load: given[load.buffer])


def operations(expr: Expr) -> list[str]:
    """The names of the Ops in expr, each node once."""
    return [e.fn for e in walk(expr) if isinstance(e, Op)]


def ulps(got: Array, want: Array) -> Array:
    """|got - want| in units of got's last place at `want` (of a wider type). 0 for what rounds to the same, infinite for a NaN or an
    infinity that should not be or is missing."""
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = want.astype(got.dtype)
        _, exponent = np.frexp(np.maximum(np.abs(want), want.dtype.type(info.smallest_normal)))
        unit = np.ldexp(np.ones_like(want), exponent - 1 - info.nmant)
        distance = np.abs(got.astype(want.dtype) - want) / unit
    same = (got == rounded) | (np.isnan(got) & np.isnan(want))
    comparable = np.isfinite(got) & np.isfinite(rounded)
    return np.where(comparable, distance, np.where(same, 0, np.inf))


def worst(function: Callable[..., Value], reference: Callable[..., Array], *arrays: Array) -> float:
    """The greatest error of function over the arrays, in ulps, against reference in a wider type."""
    with np.errstate(all="ignore"):
        want = reference(*(a.astype(WIDER[a.dtype]) for a in arrays))
    return float(ulps(compute(function, *arrays), want).max())


def sample(dtype: type, *ranges: tuple[float, float], count: int = 20000) -> Array:
    """Numbers of every exponent, evenly spaced ones from the ranges, and those that stand at an edge."""
    rng = np.random.default_rng(7)
    unsigned = np.uint32 if dtype is np.float32 else np.uint64
    anything = rng.integers(0, np.iinfo(unsigned).max, count, dtype=unsigned, endpoint=True).view(dtype)
    info = np.finfo(dtype)
    edges = [0.0, 1.0, 0.5, np.inf, np.nan, info.max, info.smallest_normal, info.smallest_subnormal, info.eps]
    even = [np.linspace(lo, hi, count).astype(dtype) for lo, hi in ranges]
    return np.concatenate([np.array(edges, dtype), -np.array(edges, dtype), anything, *even])
