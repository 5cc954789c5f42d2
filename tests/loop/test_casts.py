"""Casts in integer operations give what ml_dtypes gives, over all codes and over random and halfway f32 numbers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from sardonyx.base import dtypes
from sardonyx.base.dtypes import DType, f8e8m0, f32, i32
from sardonyx.loop import semantics
from sardonyx.loop.casts import NARROW, convert, narrow
from sardonyx.loop.nodes import Buffer, Cast, Load, walk
from sardonyx.loop.values import Value
from tests.loop.evaluation import Array, compute

FLOATS = tuple(NARROW)


def never(source: DType, to: DType) -> bool:
    return False


def converted(x: Array, to: DType) -> Array:
    return compute(lambda v: Value(convert(v.expr, to, never)), x)


def codes(dtype: DType) -> Array:
    """Every value of a type."""
    unsigned = np.uint16 if dtype.bits == 16 else np.uint8
    return np.arange(1 << dtype.bits, dtype=unsigned).view(dtype.numpy)


def finite(dtype: DType) -> Array:
    with np.errstate(all="ignore"):
        values = codes(dtype).astype(np.float64)
    return np.sort(values[np.isfinite(values)])


def midpoints(dtype: DType) -> Array:
    """f32 numbers halfway between neighbours."""
    values = finite(dtype)
    return ((values[1:] + values[:-1]) / 2).astype(np.float32)


def numbers(dtype: DType) -> Array:
    """f32 numbers: the values of dtype, the midpoints between neighbours, those just beside them, and random ones."""
    rng = np.random.default_rng(3)
    values, middle = finite(dtype), midpoints(dtype)
    beside = [np.nextafter(middle, np.float32(sign * np.inf)) for sign in (1, -1)]
    random = rng.integers(0, 2**32, 100_000, dtype=np.uint32).view(np.float32)
    edges = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 3e38, 1e-45], np.float32)
    return np.concatenate([values.astype(np.float32), middle, *beside, random, edges])


def assert_same(got: Array, want: Array) -> None:
    """Equal bits, or NaN both."""
    assert got.dtype == want.dtype
    unsigned = np.dtype(f"u{got.dtype.itemsize}")
    with np.errstate(all="ignore"):
        nan = np.isnan(got.astype(np.float64)) & np.isnan(want.astype(np.float64))
    np.testing.assert_array_equal(np.where(nan, 0, got.view(unsigned)), np.where(nan, 0, want.view(unsigned)))


def saturated(x: Array, dtype: DType) -> Array:
    """ml_dtypes' conversion, limited as ONNX's Cast with saturate=1."""
    limit = ml_dtypes.finfo(dtype.numpy).max
    with np.errstate(all="ignore"):
        if dtype.bits == 8:
            x = np.clip(x, np.float32(-float(limit)), np.float32(float(limit)))
        out = x.astype(dtype.numpy)
    if dtype is dtypes.f4e2m1:
        out[np.isnan(x)] = -0.0
    return out


@pytest.mark.parametrize("dtype", [*FLOATS, f8e8m0], ids=str)
def test_widen_every_code(dtype: DType) -> None:
    assert_same(converted(codes(dtype), f32), codes(dtype).astype(np.float32))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_narrow(dtype: DType) -> None:
    x = numbers(dtype)
    assert_same(converted(x, dtype), saturated(x, dtype))


@pytest.mark.parametrize("dtype", [d for d in FLOATS if d.bits == 8], ids=str)
def test_narrow_without_saturation(dtype: DType) -> None:
    x = numbers(dtype)
    with np.errstate(all="ignore"):
        want = x.astype(dtype.numpy)
    assert_same(compute(lambda v: narrow(v, dtype, saturate=False), x), want)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_f64_rounds_once(dtype: DType) -> None:
    """A number just beside a midpoint goes to its own side, though its f32 is the midpoint."""
    middle = midpoints(dtype)
    middle = middle[middle != 0]
    for side in (np.float32(1), np.float32(-1)):
        exact = middle.astype(np.float64)
        beside = exact + side * np.abs(exact) * 2.0**-45
        assert_same(converted(beside, dtype), saturated(np.nextafter(middle, side * np.float32(np.inf)), dtype))


def test_e8m0_rounding() -> None:
    x = np.array([0.0, 2.0**-128, 2.0**-127, 1.4 * 2.0**-127, 0.25, 0.3, 1.5, 3.0, 2.0**127, 3e38, np.inf, np.nan], np.float32)

    def power(**how: object) -> list[int]:
        return compute(lambda v: narrow(v, f8e8m0, **how), x).view(np.uint8).tolist()  # type: ignore[arg-type]

    assert power() == [0, 0, 0, 1, 125, 126, 128, 129, 254, 254, 254, 255]
    assert power(round_mode="down") == [0, 0, 0, 0, 125, 125, 127, 128, 254, 254, 254, 255]
    assert power(round_mode="nearest") == [0, 0, 0, 0, 125, 125, 128, 129, 254, 254, 254, 255]
    assert power(saturate=False) == [255, 255, 0, 1, 125, 126, 128, 129, 254, 255, 255, 255]
    assert power(saturate=False, round_mode="nearest") == [255, 255, 0, 0, 125, 125, 128, 129, 254, 255, 255, 255]


@pytest.mark.parametrize("dtype", [dtypes.i4, dtypes.u4, dtypes.i2, dtypes.u2], ids=str)
def test_small_integers_keep_the_low_bits(dtype: DType) -> None:
    x = np.arange(-40, 40).astype(np.float32) + np.float32(0.25)
    want = np.trunc(x).astype(np.int32).astype(dtype.numpy)
    assert_same(converted(x, dtype), want)
    assert_same(converted(x.astype(np.int32), dtype), x.astype(np.int32).astype(dtype.numpy))
    assert_same(converted(want, f32), want.astype(np.float32))


@pytest.mark.parametrize("source", [*FLOATS, f8e8m0, dtypes.i4, dtypes.boolean, dtypes.i64, dtypes.f64], ids=str)
@pytest.mark.parametrize("to", [*FLOATS, f8e8m0, dtypes.u2, dtypes.boolean, i32, dtypes.f64], ids=str)
def test_every_pair_means_what_cast_means(source: DType, to: DType) -> None:
    if source.bits <= 16:
        x = codes(source) if source.bits > 1 and source is not dtypes.boolean else np.array([False, True])
    else:
        x = np.array([0, 1, -1, 7, 448, 449, 65519, 65520, 2**24 + 1, -(2**30)], source.numpy)
    assert_same(converted(x, to), semantics.cast(x, source, to))


def test_native_casts_stay() -> None:
    x = Load(Buffer("x", dtypes.f16), 0)
    assert convert(x, dtypes.bf16, lambda a, b: True) is Cast(x, dtypes.bf16)
    steps = [e for e in walk(convert(x, dtypes.f8e5m2, lambda a, b: a is dtypes.f16 and b is f32)) if isinstance(e, Cast)]
    assert steps[0] is Cast(x, f32)
