"""Loads and stores in lanes: every stride, guards, what is read again after a store."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.dtypes import DType, boolean, f16, f32, f64, i4, i8, i32, i64, u8
from sardonyx.base.symbolic import Dim, Symbol, evaluate, value
from sardonyx.codegen.features import Target
from sardonyx.loop.nodes import Buffer, Cast, Const, Expr, For, Index, Kernel, Load, Op, Seq, Store
from tests.codegen.harness import TARGETS, run

N, S = Symbol("n"), Symbol("s")
AT = Symbol("i", value(N))
n, s, i = value(N), value(S), value(AT)
SIZES = [0, 1, 7, 16, 17, 40]
MAPS: dict[str, Dim] = {
    "all": i,
    "later": i + 5,
    "backwards": n - 1 - i,
    "twice": 2 * i,
    "third": 3 * i + 1,
    "far": 5 * i,
    "symbolic": s * i + 2,
    "quotient": i // 3,
    "remainder": i % 7 + (i // 7) * 9,
    "symbolic quotient": (i + 3) // s,
    "square": i * i,
    "fixed": s,
}
every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)


def at(dim: Dim, **numbers: int) -> int:
    return evaluate(dim, lambda symbol: numbers[symbol.name])


def loop(body: Store | Seq, kind: str = "vector") -> For:
    return For(AT, 0, n, kind, body)


def numbers(size: int, dtype: DType) -> np.ndarray:
    rng = np.random.default_rng(size)
    return rng.integers(0, 2 if dtype is boolean else 8, size).astype(dtype.numpy)


@every_target
@pytest.mark.parametrize("dtype", [f32, f64, f16, i64, i8, boolean, i4], ids=str)
def test_loads_by_any_map(dtype: DType, target: Target) -> None:
    x = Buffer("x", dtype, readonly=True)
    outputs = [Buffer(f"y{k}", dtype) for k in range(len(MAPS))]
    body = Seq(tuple(Store(y, i, Load(x, offset)) for y, offset in zip(outputs, MAPS.values(), strict=True)))
    kernel = Kernel("maps", (x, *outputs), (N, S), loop(body))
    for size in SIZES:
        data = numbers(2000, dtype)
        found = [np.zeros(size, dtype.numpy) for _ in outputs]
        run(kernel, [data, *found], {"n": size, "s": 4}, target)
        for (name, offset), got in zip(MAPS.items(), found, strict=True):
            want = data[[at(offset, i=k, n=size, s=4) for k in range(size)]] if size else data[:0]
            np.testing.assert_array_equal(got, want, f"{name} of {dtype}, {size}")


@every_target
@pytest.mark.parametrize("dtype", [f32, i64, u8, boolean, i4], ids=str)
def test_stores_by_any_map(dtype: DType, target: Target) -> None:
    x = Buffer("x", dtype, readonly=True)
    maps = {k: m for k, m in MAPS.items() if k not in ("quotient", "symbolic quotient", "fixed")}
    outputs = [Buffer(f"y{k}", dtype) for k in range(len(maps))]
    body = Seq(tuple(Store(y, offset, Load(x, i)) for y, offset in zip(outputs, maps.values(), strict=True)))
    kernel = Kernel("maps", (x, *outputs), (N, S), loop(body))
    for size in SIZES:
        data = numbers(size, dtype)
        found = [np.zeros(2000, dtype.numpy) for _ in outputs]
        run(kernel, [data, *found], {"n": size, "s": 4}, target)
        for (name, offset), got in zip(maps.items(), found, strict=True):
            want = np.zeros(2000, dtype.numpy)
            for k in range(size):
                want[at(offset, i=k, n=size, s=4)] = data[k]
            np.testing.assert_array_equal(got, want, f"{name} of {dtype}, {size}")


@every_target
@pytest.mark.parametrize("kind", ["vector", "serial"])
def test_guards_keep_off_memory(kind: str, target: Target) -> None:
    """Where a guard is false the address would not even be mapped."""
    x, y, z, w = Buffer("x", f32, readonly=True), Buffer("y", f32), Buffer("z", f32), Buffer("w", f32)
    far = 1 << 40
    inside: Expr = Op("lt", Index(i), Index(s))
    never: Expr = Op("lt", Index(s), Const(0, i64))
    body = Seq(
        (
            Store(y, i, Load(x, i + far * ((i + 1000 - s) // 1000), inside)),
            Store(z, i + far * ((i + 1000 - s) // 1000), Const(2.0, f32), guard=inside),
            Store(w, i, Op("add", Load(x, far, never), Load(x, i * 3 + far, never))),
        )
    )
    kernel = Kernel("guards", (x, y, z, w), (N, S), loop(body, kind))
    for size in SIZES:
        data = numbers(200, f32) + 1
        found = [np.full(200, -1, np.float32) for _ in range(3)]
        run(kernel, [data, *found], {"n": size, "s": 9}, target)
        k = np.arange(200)
        np.testing.assert_array_equal(found[0], np.where(k < size, np.where(k < 9, data, 0), -1))
        np.testing.assert_array_equal(found[1], np.where((k < size) & (k < 9), 2, -1))
        np.testing.assert_array_equal(found[2], np.where(k < size, 0, -1))


@every_target
def test_a_store_is_seen_by_later_loads(target: Target) -> None:
    """Within a turn, and from one loop to the next."""
    x, y, t = Buffer("x", f32), Buffer("y", f32), Buffer("t", f32)
    one = Const(1.0, f32)
    first = Seq((Store(t, i, Op("add", Load(x, i), one)), Store(y, i, Op("mul", Load(t, i), Load(x, i)))))
    second = Seq((Store(x, i, Op("add", Load(y, n - 1 - i), one)), Store(t, i, Load(x, i))))
    kernel = Kernel("again", (x, y, t), (N,), Seq((loop(first), loop(second), loop(Store(x, i, Load(y, 0))))))
    for size in SIZES[1:]:
        data = numbers(size, f32)
        a, b, c = data.copy(), np.zeros(size, np.float32), np.zeros(size, np.float32)
        run(kernel, [a, b, c], {"n": size}, target)
        want = (data + 1) * data
        np.testing.assert_array_equal(b, want)
        np.testing.assert_array_equal(c, want[::-1] + 1)
        np.testing.assert_array_equal(a, np.full(size, want[0]))


@every_target
def test_a_uniform_load_of_what_the_loop_stores_is_not_hoisted(target: Target) -> None:
    x = Buffer("x", i32)
    kernel = Kernel("chain", (x,), (N,), For(AT, 0, n, "serial", Store(x, 0, Op("add", Load(x, 0), Const(3, i32)))))
    data = np.array([4], np.int32)
    run(kernel, [data], {"n": 11}, target)
    assert data[0] == 37


@every_target
def test_mixed_widths(target: Target) -> None:
    """8-byte, 4-byte, 2-byte and 1-byte elements in one loop."""
    a, b, c, d = Buffer("a", f64), Buffer("b", f16), Buffer("c", i8), Buffer("d", boolean)
    out, flag = Buffer("out", f32), Buffer("flag", boolean)
    total = Op("add", Op("add", Cast(Load(a, i), f32), Cast(Load(b, i), f32)), Cast(Load(c, i), f32))
    body = Seq((Store(out, i, total), Store(flag, i, Op("and", Load(d, i), Op("gt", total, Const(4.0, f32))))))
    kernel = Kernel("mixed", (a, b, c, d, out, flag), (N,), loop(body))
    for size in SIZES:
        arrays = [numbers(size, t) for t in (f64, f16, i8, boolean)]
        got, set_ = np.zeros(size, np.float32), np.zeros(size, bool)
        run(kernel, [*arrays, got, set_], {"n": size}, target)
        want = sum(v.astype(np.float32) for v in arrays[:3]) if size else got
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(set_, arrays[3] & (want > 4))
