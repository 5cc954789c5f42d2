"""Reductions in expressions and by combining stores: every function and dtype, nested loops of every kind, empty ranges."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.dtypes import DType, boolean, f32, f64, i8, i32, i64, u8
from sardonyx.base.symbolic import Symbol, value
from sardonyx.codegen.features import Target
from sardonyx.loop import semantics
from sardonyx.loop.nodes import REDUCTIONS, Buffer, Const, For, If, Index, Kernel, Load, Op, Reduce, Select, Seq, Store
from tests.codegen.harness import TARGETS, run

M, N = Symbol("m"), Symbol("n")
m, n = value(M), value(N)
R, J, K = Symbol("r", m), Symbol("j", n), Symbol("k", 3)
r, j, k = value(R), value(J), value(K)
SIZES = [0, 1, 5, 16, 23, 64, 100]
every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)


def functions(dtype: DType) -> list[str]:
    if dtype is boolean:
        return ["and", "or", "min", "max"]
    return sorted(REDUCTIONS - ({"and", "or", "xor"} if dtype.is_float else set()))


def numbers(shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2 if dtype is boolean else 6, shape)
    return (
        x.astype(dtype.numpy) - dtype.numpy.type(0 if dtype.kind in ("uint", "bool") else 2)
        if dtype is not boolean
        else x.astype(bool)
    )


def reduced(fn: str, x: np.ndarray, dtype: DType) -> np.ndarray:
    """fn over the last axis; the numbers are small and whole, so the order is free."""
    out = np.full(x.shape[:-1], semantics.neutral(fn, dtype))
    for column in range(x.shape[-1]):
        out = semantics.apply(fn, out, x[..., column])
    return out


@every_target
@pytest.mark.parametrize("kind", ["vector", "serial"])
@pytest.mark.parametrize("dtype", [f32, f64, i8, i32, i64, u8, boolean], ids=str)
def test_rows(dtype: DType, kind: str, target: Target) -> None:
    """y[r] = fn over j of x[r, j], as an expression and as a combining store."""
    names = functions(dtype)
    x = Buffer("x", dtype, readonly=True)
    outputs = [Buffer(f"y{c}", dtype) for c in range(2 * len(names))]
    load = Load(x, r * n + j)
    body = [Store(y, r, Reduce(fn, ((J, kind),), load)) for y, fn in zip(outputs, names, strict=False)]
    body += [For(J, 0, n, kind, Seq(tuple(Store(y, r, load, fn) for y, fn in zip(outputs[len(names) :], names, strict=True))))]
    kernel = Kernel("rows", (x, *outputs), (M, N), For(R, 0, m, "parallel", Seq(tuple(body))))
    for size in SIZES:
        data = numbers((3, size), dtype)
        if dtype.is_float and size > 5:
            data[1, 4] = np.nan
        found = [np.ones(3, dtype.numpy) for _ in outputs]
        run(kernel, [data, *found], {"m": 3, "n": size}, target, threads=2)
        for c, fn in enumerate(names):
            want = reduced(fn, data, dtype)
            np.testing.assert_array_equal(found[c], want, f"{fn} {size}")
            combined = semantics.apply(fn, np.ones(3, dtype.numpy), want)
            np.testing.assert_array_equal(found[len(names) + c], combined, f"combining {fn} {size}")


@every_target
@pytest.mark.parametrize("kinds", ["serial vector", "vector serial", "unrolled vector", "vector unrolled", "unrolled serial"])
def test_nested(kinds: str, target: Target) -> None:
    """Over two loops, one of them of three turns."""
    outer, inner = kinds.split()
    x, y, z = Buffer("x", f32, readonly=True), Buffer("y", f32), Buffer("z", f32)
    symbols = (K, J) if outer in ("unrolled", "serial") and inner != "unrolled" else (J, K)
    if "unrolled" in kinds:
        symbols = (K, J) if outer == "unrolled" else (J, K)
    body = Op("mul", Load(x, k * n + j), Load(x, j))
    total = Reduce("add", ((symbols[0], outer), (symbols[1], inner)), body)  # type: ignore[arg-type]
    kernel = Kernel("nested", (x, y, z), (N,), Seq((Store(y, 0, total), Store(z, 0, Op("add", total, total)))))
    for size in SIZES:
        data = numbers((3, size), f32)
        got, double = np.zeros(1, np.float32), np.zeros(1, np.float32)
        run(kernel, [data, got, double], {"n": size}, target)
        assert got[0] == (data * data[0]).sum() if size else got[0] == 0
        assert double[0] == 2 * got[0]


@every_target
def test_inside_lanes(target: Target) -> None:
    """A reduction along another axis than the vectors': each lane has its own; also one whose terms need a row's reduction."""
    x, y, z = Buffer("x", f32, readonly=True), Buffer("y", f32), Buffer("z", f32)
    top = Reduce("max", ((K, "serial"),), Load(x, k * n + j))
    below = Op("sub", Load(x, k * n + j), top)
    row = Reduce("add", ((J, "vector"),), Load(x, j))
    body = Seq((Store(y, j, Reduce("add", ((K, "unrolled"),), below)), Store(z, j, Op("mul", row, Load(x, j)))))
    kernel = Kernel("columns", (x, y, z), (N,), For(J, 0, n, "vector", body))
    for size in SIZES:
        data = numbers((3, size), f32)
        a, b = np.zeros(size, np.float32), np.zeros(size, np.float32)
        run(kernel, [data, a, b], {"n": size}, target)
        np.testing.assert_array_equal(a, (data - data.max(0, initial=-9)).sum(0))
        np.testing.assert_array_equal(b, data[0].sum() * data[0])


@every_target
def test_combining_loops_inside_each_other(target: Target) -> None:
    """Totals over serial, vector and unrolled loops at once, at places that move with outer loops or with none."""
    x = Buffer("x", i32, readonly=True)
    total, rows, columns, both = (Buffer(name, i32) for name in ("total", "rows", "columns", "both"))
    load = Load(x, (r * 3 + k) * n + j)
    inner = Seq(
        (
            Store(total, 0, load, "add"),
            Store(rows, r, load, "add"),
            Store(columns, j, load, "add"),
            Store(both, k, Op("mul", load, load), "max"),
        )
    )
    body = For(R, 0, m, "serial", For(K, 0, 3, "unrolled", For(J, 0, n, "vector", inner)))
    kernel = Kernel("combine", (x, total, rows, columns, both), (M, N), body)
    for size in SIZES:
        data = numbers((4, 3, size), i32)
        found = [np.full(s, 5, np.int32) for s in (1, 4, size, 3)]
        run(kernel, [data, *found], {"m": 4, "n": size}, target)
        want = [data.sum(), data.sum((1, 2)), data.sum((0, 1)), (data * data).max((0, 2), initial=0)]
        for got, w in zip(found[:3], want[:3], strict=True):
            np.testing.assert_array_equal(got, w + 5)
        np.testing.assert_array_equal(found[3], np.maximum(want[3], 5))


@every_target
def test_guarded_totals(target: Target) -> None:
    """A combining store under a guard that differs by lane, is the same for all, or stands in a branch."""
    x, y = Buffer("x", f32, readonly=True), Buffer("y", f32)
    load = Load(x, j)
    positive, often = Op("gt", load, Const(0.0, f32)), Op("gt", Index(n), Const(6, i64))
    body = Seq((Store(y, 0, load, "add", positive), Store(y, 1, load, "max", often), Store(y, 2, Const(1.0, f32), "add")))
    branch = For(J, 0, n, "vector", If(positive, Store(y, 3, load, "add"), Store(y, 4, load, "add")))
    kernel = Kernel("guarded", (x, y), (N,), Seq((For(J, 0, n, "vector", body), branch)))
    for size in SIZES:
        data = numbers((size,), f32)
        got = np.full(5, 0.5, np.float32)
        run(kernel, [data, got], {"n": size}, target)
        top = max(0.5, data.max(initial=-9)) if size > 6 else 0.5
        plus, minus = data[data > 0].sum(), data[data <= 0].sum()
        np.testing.assert_array_equal(got, np.float32([0.5 + plus, top, 0.5 + size, 0.5 + plus, 0.5 + minus]))


@every_target
def test_argmax(target: Target) -> None:
    """The first index of the greatest: a minimum over indices, of i64 in lanes of f32."""
    x, y = Buffer("x", f32, readonly=True), Buffer("y", i64)
    top = Reduce("max", ((J, "vector"),), Load(x, r * n + j))
    found = Select(Op("eq", Load(x, r * n + j), top), Index(j), Index(n))
    kernel = Kernel("argmax", (x, y), (M, N), For(R, 0, m, "parallel", Store(y, r, Reduce("min", ((J, "vector"),), found))))
    for size in SIZES[1:]:
        data = np.random.default_rng(size).standard_normal((5, size)).astype(np.float32)
        got = np.zeros(5, np.int64)
        run(kernel, [data, got], {"m": 5, "n": size}, target, threads=3)
        np.testing.assert_array_equal(got, data.argmax(1))
