"""Every cast between two dtypes of numbers, in vectors and one by one, against its meaning in numpy; bit casts."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.dtypes import ALL, DType, f16, f32, u8, u16
from sardonyx.base.symbolic import Symbol, value
from sardonyx.codegen.features import Target
from sardonyx.loop import semantics
from sardonyx.loop.nodes import Bitcast, Buffer, Cast, For, Kernel, Load, Seq, Store
from tests.codegen.harness import TARGETS, run
from tests.codegen.values import Array, edges

NUMBERS = [d for d in ALL if d.is_number]
N = Symbol("n")
AT = Symbol("i", value(N))


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


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("kind", ["vector", "serial"])
@pytest.mark.parametrize("source", NUMBERS, ids=str)
def test_casts(source: DType, kind: str, target: Target) -> None:
    x = inputs(source)
    load = Load(Buffer("x", source, readonly=True), value(AT))
    outputs = [Buffer(f"to_{d}", d) for d in NUMBERS]
    body = Seq(tuple(Store(b, value(AT), Cast(load, b.dtype)) for b in outputs))
    kernel = Kernel("casts", (load.buffer, *outputs), (N,), For(AT, 0, value(N), kind, body))
    found = [np.zeros(len(x), d.numpy) for d in NUMBERS]
    run(kernel, [x, *found], {"n": len(x)}, target)
    for to, got in zip(NUMBERS, found, strict=True):
        want = semantics.cast(x, source, to)
        if to.is_float:
            with np.errstate(all="ignore"):
                got, want = got.astype(np.float64), want.astype(np.float64)
        np.testing.assert_array_equal(got, want, f"{source} -> {to} on {target.name}")


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_bitcasts(target: Target) -> None:
    x = np.arange(37, dtype=np.float32) - 8
    load = Load(Buffer("x", f32), value(AT))
    h = Cast(load, f16)
    bits, half = Buffer("bits", u16), Buffer("half", u8)
    body = Seq((Store(bits, value(AT), Bitcast(h, u16)), Store(half, value(AT), Cast(Bitcast(h, u16), u8))))
    kernel = Kernel("bits", (load.buffer, bits, half), (N,), For(AT, 0, value(N), "vector", body))
    got, low = np.zeros(37, np.uint16), np.zeros(37, np.uint8)
    run(kernel, [x, got, low], {"n": 37}, target)
    want = x.astype(np.float16).view(np.uint16)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(low, want.astype(np.uint8))
