"""Every cast between two dtypes of numbers, in vectors and one by one, against numpy and ml_dtypes; bit casts."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.dtypes import ALL, DType, f4e2m1, f8e8m0, f16, f32, u8, u16
from sardonyx.base.symbolic import Symbol, value
from sardonyx.codegen.features import Target
from sardonyx.loop.nodes import Bitcast, Buffer, Cast, For, Kernel, Load, Seq, Store
from tests.codegen.harness import TARGETS, run
from tests.codegen.values import Array, edges

NUMBERS = [d for d in ALL if d.is_number and d is not f8e8m0]
N = Symbol("n")
I = Symbol("i", value(N))


def inputs(dtype: DType) -> Array:
    """All codes of up to 16 bits, else awkward and random numbers."""
    if dtype.kind == "bool":
        return np.array([False, True, True])
    if dtype.is_integer and dtype.bits < 8:
        return edges(dtype)
    if dtype.bits <= 8:
        return np.arange(1 << dtype.bits).astype(np.uint8).view(dtype.numpy)
    if dtype.bits == 16:
        return np.arange(0, 1 << 16, 5, np.uint16).view(dtype.numpy)
    rng = np.random.default_rng(0)
    if dtype.is_integer:
        wide = rng.integers(0, 256, 997 * dtype.itemsize, np.uint8).view(dtype.numpy)
        return np.concatenate([edges(dtype), wide >> rng.integers(0, dtype.bits, wide.shape).astype(dtype.numpy)])
    spread = rng.standard_normal(4001) * 10.0 ** rng.integers(-9, 10, 4001)
    near = np.arange(-70000, 70000, 33) / 8  # ties of f16
    return np.concatenate([edges(dtype), spread, near, near + 1e-7]).astype(dtype.numpy)


def expected(x: Array, to: DType) -> Array:
    """ONNX's Cast: floats saturate to integers, NaN is 0; f8 saturate."""
    if x.dtype == to.numpy:
        return x
    with np.errstate(all="ignore"):
        if to.kind == "bool":
            return wide(x) != 0
        if to.is_integer and x.dtype.kind in "fV" and not np.issubdtype(x.dtype, np.integer) and "int" not in x.dtype.name:
            return truncated(x, to)
        if to.is_float and to.bits < 32:
            return nearest(wide(x), to)
        return (x.astype(np.int32) if x.dtype.name.endswith(("int4", "int2")) else x).astype(to.numpy)


def wide(a: Array) -> Array:
    with np.errstate(all="ignore"):
        return a.astype(np.float64)


def truncated(x: Array, to: DType) -> Array:
    through = to.numpy if to.bits >= 8 else np.dtype(np.int32)
    info = np.iinfo(through)
    whole = np.nan_to_num(np.trunc(wide(x)), nan=0.0, posinf=1e30, neginf=-1e30)
    return np.array([min(max(int(v), info.min), info.max) for v in whole], through).astype(to.numpy)


def nearest(x: Array, to: DType) -> Array:
    """The nearest of all values of a narrow float, ties to the even code; past them infinity or, without one, the greatest."""
    codes = np.arange(1 << (to.bits - 1), dtype=np.uint16 if to.bits == 16 else np.uint8)
    known = codes.view(to.numpy).astype(np.float64)
    known = known[np.isfinite(known)]
    magnitude = np.abs(x)
    above = np.searchsorted(known, magnitude).clip(1, len(known) - 1)
    below = above - 1
    low, high = magnitude - known[below], known[above] - magnitude
    pick = np.where((high < low) | ((high == low) & (above % 2 == 0)), above, below)
    out = known[pick]
    if to.bits == 16:
        step = known[-1] - known[-2]
        out = np.where(magnitude >= known[-1] + step / 2, np.inf, out)
    return np.where(np.isnan(x), np.nan, np.copysign(out, x)).astype(to.numpy)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("kind", ["vector", "serial"])
@pytest.mark.parametrize("source", NUMBERS, ids=str)
def test_casts(source: DType, kind: str, target: Target) -> None:
    x = inputs(source)
    load = Load(Buffer("x", source, readonly=True), value(I))
    outputs = [Buffer(f"to_{d}", d) for d in NUMBERS]
    body = Seq(tuple(Store(b, value(I), Cast(load, b.dtype)) for b in outputs))
    kernel = Kernel("casts", (load.buffer, *outputs), (N,), For(I, 0, value(N), kind, body))
    found = [np.zeros(len(x), d.numpy) for d in NUMBERS]
    run(kernel, [x, *found], {"n": len(x)}, target)
    for to, got in zip(NUMBERS, found, strict=True):
        want = expected(x, to)
        if to.is_float:
            got, want = wide(got), wide(want)
            got_nan, want_nan = np.isnan(got), np.isnan(want)
            if to is not f4e2m1:
                np.testing.assert_array_equal(got_nan, want_nan, f"{source} -> {to}")
            got, want = got[~want_nan], want[~want_nan]
        np.testing.assert_array_equal(got, want, f"{source} -> {to} on {target.name}")


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_bitcasts(target: Target) -> None:
    x = np.arange(37, dtype=np.float32) - 8
    load = Load(Buffer("x", f32), value(I))
    h = Cast(load, f16)
    bits, half = Buffer("bits", u16), Buffer("half", u8)
    body = Seq((Store(bits, value(I), Bitcast(h, u16)), Store(half, value(I), Cast(Bitcast(h, u16), u8))))
    kernel = Kernel("bits", (load.buffer, bits, half), (N,), For(I, 0, value(N), "vector", body))
    got, low = np.zeros(37, np.uint16), np.zeros(37, np.uint8)
    run(kernel, [x, got, low], {"n": 37}, target)
    want = x.astype(np.float16).view(np.uint16)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(low, want.astype(np.uint8))
