"""Statements: loops of every kind and bound, branches, allocations, checks, indices from data."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.dtypes import f32, i8, i32, i64, u8
from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import Symbol, evaluate, maximum, minimum, value
from sardonyx.codegen.compile import compile_kernel
from sardonyx.codegen.features import Target, host
from sardonyx.codegen.scratch import scratch_bytes
from sardonyx.loop.nodes import (
    Alloc,
    Buffer,
    Check,
    Const,
    Element,
    For,
    If,
    Index,
    Kernel,
    Load,
    Op,
    Seq,
    Store,
    While,
    first,
)
from tests.codegen.harness import CALL, TARGETS, Failed, run

M, N = Symbol("m"), Symbol("n")
m, n = value(M), value(N)
AT, J = Symbol("i", m), Symbol("j", n)
i, j = value(AT), value(J)
X, Y = Buffer("x", f32, readonly=True), Buffer("y", f32)
every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-4, 9, shape).astype(np.float32)


@every_target
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_parallel_loops_deal_every_turn_once(threads: int, target: Target) -> None:
    """Runs are contiguous and differ by one turn at most; `first` is where a thread begins."""
    count, start = Buffer("count", i32), Buffer("start", i64)
    body = Seq((Store(count, i, Const(1, i32), "add"), Store(start, i, Index(value(first(AT))))))
    kernel = Kernel("deal", (count, start), (M,), For(AT, 2, m, "parallel", body))
    for size in (0, 2, 3, 9, 40):
        counts, starts = np.zeros(size, np.int32), np.full(size, -1)
        run(kernel, [counts, starts], {"m": size}, target, threads)
        assert (counts[2:] == 1).all()
        runs = np.unique(starts[2:], return_counts=True)[1]
        assert len(runs) == min(threads, max(0, size - 2))
        assert len(runs) == 0 or runs.max() - runs.min() <= 1


@every_target
def test_bounds_from_loops_around(target: Target) -> None:
    """Triangles, blocks with a remainder, ranges that start late, in every kind of loop."""
    for kind in ("serial", "vector"):
        body = Seq(
            (
                For(J, i, n, kind, Store(Y, i * n + j, Load(X, j))),  # type: ignore[arg-type]
                For(J, 0, minimum(i, n), kind, Store(Y, i * n + j, Op("neg", Load(X, j)))),  # type: ignore[arg-type]
            )
        )
        kernel = Kernel("triangle", (X, Y), (M, N), For(AT, 0, m, "serial", body))
        for rows, columns in ((0, 3), (5, 3), (20, 40), (7, 16)):
            data, got = numbers(columns), np.zeros((rows, columns), np.float32)
            run(kernel, [data, got], {"m": rows, "n": columns}, target)
            below = np.arange(columns) < np.arange(rows)[:, None]
            np.testing.assert_array_equal(got, np.where(below, -data, data))


@every_target
def test_blocks(target: Target) -> None:
    """for b in blocks of 24: lo = 24 b, hi = min(24 b + 24, n)"""
    b = Symbol("b", (n + 23) // 24)
    lo = value(b) * 24
    store = Store(Y, j, Op("mul", Load(X, j), Load(X, lo)))
    kernel = Kernel("blocks", (X, Y), (N,), For(b, 0, (n + 23) // 24, "parallel", For(J, lo, minimum(lo + 24, n), "vector", store)))
    for size in (0, 1, 24, 25, 100):
        data, got = numbers(size), np.zeros(size, np.float32)
        run(kernel, [data, got], {"n": size}, target, threads=2)
        np.testing.assert_array_equal(got, data * data[np.arange(size) // 24 * 24])


@every_target
def test_integers(target: Target) -> None:
    """Quotients and remainders of what may be negative, minimum, maximum, equality, products."""
    a = i - 7
    dims = [a // 3, a % 3, a // 4, a % 4, a // m, a % m, minimum(a, n), maximum(a * n, i), (i * i + n) // (n + 1)]
    outputs = [Buffer(f"y{c}", i64) for c in range(2 * len(dims))]
    serial = Seq(tuple(Store(y, i, Index(d)) for y, d in zip(outputs, dims, strict=False)))
    lanes = Seq(tuple(Store(y, i, Index(d)) for y, d in zip(outputs[len(dims) :], dims, strict=True)))
    body = Seq((For(AT, 0, m, "serial", serial), For(AT, 0, m, "vector", lanes)))
    kernel = Kernel("integers", tuple(outputs), (M, N), body)
    found = [np.zeros(21, np.int64) for _ in outputs]
    run(kernel, found, {"m": 21, "n": 5}, target)
    for c, got in enumerate(found):
        want = [evaluate(dims[c % len(dims)], lambda s, at=at: {"m": 21, "n": 5, "i": at}[s.name]) for at in range(21)]
        np.testing.assert_array_equal(got, want, str(dims[c % len(dims)]))


@every_target
def test_while_and_if(target: Target) -> None:
    """Collatz steps of each number: a loop whose end depends on data, branches inside."""
    x, steps, state = Buffer("x", i64), Buffer("steps", i64), Buffer("state", i64, "local")
    one, two, three = (Const(v, i64) for v in (1, 2, 3))
    now = Load(state, 0)
    even = Op("eq", Op("and", now, one), Const(0, i64))
    step = If(
        even,
        Store(state, 0, Op("div", now, two)),
        Store(state, 0, Op("add", Op("mul", now, three), one)),
    )
    turn = While(Op("gt", now, one), Seq((step, Store(steps, i, one, "add"))))
    body = Alloc(state, 1, Seq((Store(state, 0, Load(x, i)), turn)))
    kernel = Kernel("collatz", (x, steps), (M,), For(AT, 0, m, "parallel", body))
    data, got = np.arange(1, 12), np.zeros(11, np.int64)
    run(kernel, [data, got], {"m": 11}, target)
    np.testing.assert_array_equal(got, [0, 1, 7, 2, 5, 8, 16, 3, 19, 6, 14])


@every_target
def test_allocations(target: Target) -> None:
    """Scratch of symbolic size, nested and side by side, and a local array, keep apart."""
    row, twice, small = Buffer("row", f32, "scratch"), Buffer("twice", i8, "scratch"), Buffer("small", f32, "local")
    fill = For(J, 0, n, "vector", Store(row, j, Op("mul", Load(X, i * n + j), Const(2.0, f32))))
    inner = Alloc(twice, n * 2, Seq((For(J, 0, n, "serial", Store(twice, 2 * j, Const(1, i8))), _sum(small, row))))
    other = Alloc(twice, 7, Store(twice, 3, Const(1, i8)))
    kernel = Kernel("scratch", (X, Y), (M, N), For(AT, 0, m, "parallel", Seq((Alloc(row, n, Seq((fill, inner))), other))))
    assert evaluate(scratch_bytes(kernel), lambda s: 17) == 128 + 64
    assert evaluate(scratch_bytes(kernel), lambda s: 0) == 64
    for size in (0, 1, 17, 40):
        data, got = numbers(5, size), np.zeros(5, np.float32)
        run(kernel, [data, got], {"m": 5, "n": size}, target, threads=2)
        np.testing.assert_array_equal(got, 2 * data.sum(1))


def _sum(small: Buffer, row: Buffer) -> Alloc:
    add = For(J, 0, n, "vector", Store(small, 1, Load(row, j), "add"))
    return Alloc(small, 2, Seq((Store(small, 1, Const(0.0, f32)), add, Store(Y, i, Load(small, 1)))))


def test_scratch_of_a_size_that_a_loop_decides() -> None:
    row = Buffer("row", f32, "scratch")
    kernel = Kernel("bad", (Y,), (M,), For(AT, 0, m, "serial", Alloc(row, i, Store(Y, i, Const(0.0, f32)))))
    with pytest.raises(Unsupported, match="depends on a loop variable"):
        scratch_bytes(kernel)


@every_target
def test_checks(target: Target) -> None:
    """Nothing is recorded where all hold; else the first failure, with its details, and the kernel goes on."""
    positive = Op("ge", Load(X, i), Const(0.0, f32))
    check = Check(positive, 5, (Index(i), Index(m), Const(-3, i32)))
    kernel = Kernel("checked", (X, Y), (M,), For(AT, 0, m, "serial", Seq((check, Store(Y, i, Load(X, i))))))
    data, got = np.arange(9, dtype=np.float32), np.zeros(9, np.float32)
    run(kernel, [data, got], {"m": 9}, target)
    data[[4, 6]] = -1
    with pytest.raises(Failed) as failure:
        run(kernel, [data, got], {"m": 9}, target)
    assert failure.value.args == (5, CALL, (4, 9, -3))
    np.testing.assert_array_equal(got, data)


@every_target
@pytest.mark.parametrize("kind", ["serial", "vector"])
@pytest.mark.parametrize("dtype", [i64, i32, u8, i8], ids=str)
def test_rows_by_index(dtype: object, kind: str, target: Target) -> None:
    """Gather along either axis: y[i, j] = x[index[i], j], z[i, j] = x[j, index[i]]; indices from the end too."""
    index, z = Buffer("index", dtype, readonly=True), Buffer("z", f32)  # type: ignore[arg-type]
    row = value(Element(Load(index, i), n, 3))
    each = value(Element(Load(index, j), n, 4))
    body = Seq((Store(Y, i * n + j, Load(X, row * n + j)), Store(z, j * m + i, Load(X, each + i * n))))
    loop = For(AT, 0, m, "serial", For(J, 0, n, kind, body))  # type: ignore[arg-type]
    kernel = Kernel("gather", (X, index, Y, z), (M, N), loop)
    size = 19
    data = numbers(size, size)
    where = np.random.default_rng(1).integers(0 if dtype is u8 else -size, size, size).astype(dtype.numpy)  # type: ignore[attr-defined]
    got, other = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    run(kernel, [data, where, got, other], {"m": size, "n": size}, target)
    np.testing.assert_array_equal(got, data[where.astype(int)])
    np.testing.assert_array_equal(other.T, data[:, where.astype(int)])
    if dtype is u8:
        return
    where[[7, 11]] = -size - 5, size
    with pytest.raises(Failed) as failure:
        run(kernel, [data, where, got, other], {"m": size, "n": size}, target)
    code, call, details = failure.value.args
    assert (code in (3, 4), call, details) == (True, CALL, (-size - 5, size, 0))
    where[[7, 11]] = 0, size - 1
    np.testing.assert_array_equal(got, data[where.astype(int)])
    np.testing.assert_array_equal(other.T, data[:, where.astype(int)])


@every_target
def test_scatter(target: Target) -> None:
    """y[index[i], j] += x[i, j]"""
    index = Buffer("index", i64, readonly=True)
    where = value(Element(Load(index, i), 4, 1))
    body = For(J, 0, n, "vector", Store(Y, where * n + j, Load(X, i * n + j), "add"))
    kernel = Kernel("scatter", (X, index, Y), (M, N), For(AT, 0, m, "serial", body))
    data, rows, got = numbers(6, 21), np.array([0, 3, -1, 0, 1, -4]), np.zeros((4, 21), np.float32)
    run(kernel, [data, rows, got], {"m": 6, "n": 21}, target)
    want = np.zeros_like(got)
    np.add.at(want, rows, data)
    np.testing.assert_array_equal(got, want)


@every_target
def test_an_index_under_a_guard_is_not_checked(target: Target) -> None:
    index = Buffer("index", i64, readonly=True)
    inside = Op("lt", Index(j), Const(5, i64))
    where = value(Element(Load(index, j), n, 1))
    kernel = Kernel("guarded", (X, index, Y), (N,), For(J, 0, n, "vector", Store(Y, j, Load(X, where, inside))))
    data, rows, got = numbers(20), np.full(20, 99), np.zeros(20, np.float32)
    rows[:5] = [3, -1, 0, 19, -20]
    run(kernel, [data, rows, got], {"n": 20}, target)
    np.testing.assert_array_equal(got, np.where(np.arange(20) < 5, data[rows % 20], 0))


def test_expressions_too_deep() -> None:
    deep = Load(X, i)
    for _ in range(5000):
        deep = Op("neg", deep)  # type: ignore[assignment]
    with pytest.raises(Unsupported, match="too deeply"):
        compile_kernel(Kernel("deep", (X, Y), (M,), For(AT, 0, m, "serial", Store(Y, i, deep))), host())


def test_an_unrolled_loop_of_unknown_length() -> None:
    with pytest.raises(Unsupported, match="unrolled"):
        run(Kernel("bad", (Y,), (M,), For(AT, 0, m, "unrolled", Store(Y, i, Const(0.0, f32)))), [], {}, host())
