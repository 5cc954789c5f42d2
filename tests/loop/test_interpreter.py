"""Whole kernels through the interpreter, against numpy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from sardonyx.base import dtypes
from sardonyx.base.dtypes import DType, boolean, f32, i8, i32, i64, u8
from sardonyx.base.symbolic import Dim, Symbol, minimum, value
from sardonyx.loop.interpreter import Conflict, Failure, run
from sardonyx.loop.nodes import (
    TRUSTED,
    Alloc,
    Buffer,
    Cast,
    Check,
    Const,
    Element,
    Expr,
    For,
    Index,
    Kernel,
    Kind,
    Load,
    Op,
    Reduce,
    Select,
    Seq,
    Step,
    Stmt,
    Store,
    Tile,
    While,
    first,
)
from tests.loop.kernels import gather, relu_in_place, softmax

X, Y = Buffer("x", f32, readonly=True), Buffer("y", f32)
N, ROW, COLUMN = Symbol("n"), Symbol("row"), Symbol("column")


def kernel(body: Stmt, *more: Buffer) -> Kernel:
    return Kernel("k", (X, Y, *more), (N,), body)


def over(symbol: Symbol, n: Dim, body: Stmt, kind: Kind = "serial") -> For:
    return For(symbol, 0, n, kind, body)


@pytest.mark.parametrize(
    ("kind", "threads", "strict"), [("vector", 1, False), ("vector", 3, False), ("vector", 1, True), ("serial", 2, False)]
)
def test_softmax(kind: Kind, threads: int, strict: bool) -> None:
    x = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    y = np.zeros_like(x)
    assert run(softmax(kind=kind), {"x": x, "y": y}, {"n": 4}, threads, strict) is None
    e = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(y, e / e.sum(1, keepdims=True), rtol=1e-6)


def test_same_bits_however_it_runs() -> None:
    x = np.random.default_rng(1).normal(size=(5, 64)).astype(np.float32)
    results = []
    for kind, threads in product(("vector", "serial"), (1, 4)):
        y = np.zeros_like(x)
        run(softmax(kind=kind), {"x": x, "y": y}, {"n": 5}, threads)  # type: ignore[arg-type]
        results.append(y.tobytes())
    assert len(set(results)) == 1


def test_if_and_guard() -> None:
    x = np.array([-1, -2, 3, -4, -5], np.float32)
    run(relu_in_place(), {"x": x}, {"n": 5})
    np.testing.assert_array_equal(x, [0, -2, 3, -4, 0])


def test_elements_are_checked_and_clamped() -> None:
    x, y = np.arange(5, dtype=np.float32), np.zeros(4, np.float32)
    sizes = {"n": 5, "m": 4}
    assert run(gather(), {"x": x, "indices": np.array([0, -1, 4, -5]), "y": y}, sizes) is None
    np.testing.assert_array_equal(y, [0, 4, 4, 0])
    assert run(gather(), {"x": x, "indices": np.array([2, 5, -6, 1]), "y": y}, sizes) == Failure(7, (5, 5))
    np.testing.assert_array_equal(y, [2, 4, 0, 1])


@pytest.mark.parametrize("kind", ["serial", "vector"])
def test_check_records_the_first(kind: Kind) -> None:
    good = Op("lt", Load(X, value(ROW)), Const(3, f32))
    checks = Seq((Check(good, 2, (Index(value(ROW)), Cast(Load(X, value(ROW)), i64))),))
    body = over(ROW, 4, Seq((checks, Store(Y, value(ROW), Load(X, value(ROW))))), "serial")
    y = np.zeros(4, np.float32)
    x = np.array([1, 5, 2, 7], np.float32)
    assert run(kernel(body), {"x": x, "y": y}, {"n": 0}) == Failure(2, (1, 5))
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("offset", [value(ROW) - 1, value(ROW) + 1])
@pytest.mark.parametrize("kind", ["serial", "vector"])
def test_out_of_bounds(offset: Dim, kind: Kind) -> None:
    arrays = {"x": np.zeros(4, np.float32), "y": np.zeros(4, np.float32)}
    with pytest.raises(IndexError, match=r"k: x\[(-1|4)\] of 4"):
        run(kernel(over(ROW, 4, Store(Y, value(ROW), Load(X, offset)), kind)), arrays, {"n": 0})
    with pytest.raises(IndexError, match=r"k: y\["):
        run(kernel(over(ROW, 4, Store(Y, offset, Load(X, value(ROW))), kind)), arrays, {"n": 0})


@pytest.mark.parametrize("kind", ["serial", "vector"])
def test_a_guard_keeps_memory_untouched(kind: Kind) -> None:
    inside = Op("lt", Index(value(ROW)), Const(3, i64))
    load = Load(X, value(ROW), inside)
    body = over(ROW, 5, Store(Y, value(ROW), load, guard=Op("ge", Index(value(ROW)), Const(2, i64))), kind)
    y = np.full(5, 9, np.float32)
    run(kernel(body), {"x": np.array([1, 2, 3], np.float32), "y": y}, {"n": 0})
    np.testing.assert_array_equal(y, [9, 9, 3, 0, 0])


def test_combining_over_lanes() -> None:
    """A place that does not move with the variable takes up all lanes, others one each."""
    one = Store(Y, 0, Load(X, value(ROW)), "add")
    each = Store(Y, value(ROW) + 1, Load(X, value(ROW)), "max")
    x, y = np.array([1, 2, 3], np.float32), np.array([10, 0, 5, 0], np.float32)
    run(kernel(over(ROW, 3, Seq((one, each)), "vector")), {"x": x, "y": y}, {"n": 0})
    np.testing.assert_array_equal(y, [16, 1, 5, 3])


def test_conflicts_of_a_vector_loop() -> None:
    arrays = {"x": np.zeros(8, np.float32), "y": np.zeros(8, np.float32)}
    with pytest.raises(Conflict, match="same element of y"):
        run(kernel(over(ROW, 4, Store(Y, 0, Load(X, value(ROW))), "vector")), arrays, {"n": 0})
    shift = over(ROW, 4, Store(Y, value(ROW) + 1, Load(Y, value(ROW))), "vector")
    with pytest.raises(Conflict, match=r"meet at y\[1\]"):
        run(kernel(shift), arrays, {"n": 0}, strict=True)
    total = Seq((Store(Y, 0, Load(X, value(ROW)), "add"), Store(Y, value(ROW) + 1, Load(Y, 0))))
    with pytest.raises(Conflict, match=r"meet at y\[0\]"):
        run(kernel(over(ROW, 4, total, "vector")), arrays, {"n": 0}, strict=True)


def test_conflicts_of_a_parallel_loop() -> None:
    """Results must not meet; a thread's scratch may be used again by its next iteration."""
    arrays = {"x": np.zeros(8, np.float32), "y": np.zeros(8, np.float32)}
    with pytest.raises(Conflict):
        run(kernel(over(ROW, 4, Store(Y, 0, Load(X, 0), "add"), "parallel")), arrays, {"n": 0}, strict=True)
    scratch = Buffer("scratch", f32, "scratch")
    again = Seq((Store(scratch, 0, Load(X, value(ROW))), Store(Y, value(ROW), Load(scratch, 0))))
    run(kernel(Alloc(scratch, 1, over(ROW, 4, again, "parallel"))), arrays, {"n": 0}, strict=True)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_a_parallel_loop_runs_once_over_its_range(threads: int) -> None:
    counts = over(ROW, value(N), Store(Y, value(ROW), Const(1, f32), "add"), "parallel")
    y = np.zeros(5, np.float32)
    run(kernel(counts), {"x": y.copy(), "y": y}, {"n": 5}, threads)
    np.testing.assert_array_equal(y, 1)


def test_first_is_where_the_thread_begins() -> None:
    body = over(ROW, 5, Store(Y, value(ROW), Cast(Index(value(first(ROW))), f32)), "parallel")
    y = np.zeros(5, np.float32)
    run(kernel(body), {"x": y.copy(), "y": y}, {"n": 0}, threads=2)
    np.testing.assert_array_equal(y, [0, 0, 2, 2, 2])


def test_while_counts_down() -> None:
    going = Op("gt", Load(Y, 0), Const(0, f32))
    body = Seq((Store(Y, 0, Const(-1, f32), "add"), Store(Y, 1, Const(2, f32), "add")))
    y = np.array([5, 0], np.float32)
    run(kernel(While(going, body)), {"x": y.copy(), "y": y}, {"n": 0})
    np.testing.assert_array_equal(y, [0, 10])


def test_scratch_starts_undefined() -> None:
    scratch = Buffer("scratch", f32, "scratch")
    y = np.zeros(1, np.float32)
    run(kernel(Alloc(scratch, 1, Store(Y, 0, Load(scratch, 0)))), {"x": y.copy(), "y": y}, {"n": 0})
    assert np.isnan(y[0])
    with pytest.raises(NameError, match="scratch is not allocated"):
        run(kernel(Store(Y, 0, Load(scratch, 0))), {"x": y.copy(), "y": y}, {"n": 0})


def reduced(e: Expr, n: int = 6) -> np.ndarray:
    """y[row] = e for row < 3, in a vector loop; x counts up from 0."""
    y = np.zeros(3, np.float32)
    x = np.arange(20, dtype=np.float32)
    run(kernel(over(ROW, 3, Store(Y, value(ROW), e), "vector")), {"x": x, "y": y}, {"n": n})
    return y


def test_reductions() -> None:
    r, s = Symbol("r", value(N)), Symbol("s", 2)
    np.testing.assert_array_equal(reduced(Reduce("add", ((r, "vector"),), Load(X, value(r) + value(ROW)))), [15, 21, 27])
    np.testing.assert_array_equal(reduced(Reduce("max", ((r, "serial"),), Load(X, value(r))), n=0), -np.inf)
    both = Reduce("add", ((s, "serial"), (r, "vector")), Op("mul", Load(X, value(s)), Load(X, value(r) + value(ROW))))
    np.testing.assert_array_equal(reduced(both), [15, 21, 27])
    nested = Reduce("max", ((s, "serial"),), Reduce("add", ((r, "vector"),), Load(X, value(s) * value(r))))
    np.testing.assert_array_equal(reduced(nested), 15)


def test_a_reduction_as_long_as_the_row() -> None:
    """Its extent depends on the vector loop's variable."""
    r = Symbol("r", value(ROW) + 1)
    np.testing.assert_array_equal(reduced(Reduce("add", ((r, "serial"),), Load(X, value(r)))), [0, 1, 3])


def test_integers_of_offsets() -> None:
    """Quotients, remainders and minima, of a vector loop's variable too."""
    row = value(ROW)
    offset = minimum(row // 2 + row % 2 * 3, value(N))
    np.testing.assert_array_equal(reduced(Load(X, offset), n=2), [0, 2, 1])


@pytest.mark.parametrize("dtype", [*dtypes.INTEGERS, *dtypes.FLOATS, *dtypes.NARROW_FLOATS, boolean, dtypes.i4, dtypes.u2], ids=str)
def test_every_dtype_is_loaded_stored_selected_and_cast(dtype: DType) -> None:
    a, b = Buffer("a", dtype, readonly=True), Buffer("b", dtype)
    number = Cast(Load(a, value(ROW)), f32)
    chosen = Select(Op("gt", number, Const(0.5, f32)), Load(a, value(ROW)), Cast(Const(0.25, f32), dtype))
    body = over(ROW, 3, Seq((Store(b, value(ROW), chosen), Store(Y, value(ROW), number))), "vector")
    source, target, y = np.array([0.25, 1, 1]).astype(dtype.numpy), np.ones(3).astype(dtype.numpy), np.zeros(3, np.float32)
    run(kernel(body, a, b), {"a": source, "b": target, "x": y.copy(), "y": y}, {"n": 0})
    np.testing.assert_array_equal(target.astype(np.float32), y)
    np.testing.assert_array_equal(y[1:], 1)


@pytest.mark.parametrize("rows", [1, 3])
def test_tile(rows: int) -> None:
    """Two loops over k; rows of A overlap, as in a convolution."""
    steps = (Step(2, 10, 3 * 16), Step(3, 1, 16))
    tile = Tile(value(N), (1, 3), 16, X, 1, 2, Y, 0, Buffer("c", f32), 4, 16, steps)
    rng = np.random.default_rng(2)
    a, b, c = (rng.normal(size=s).astype(np.float32) for s in (24, 6 * 16, 64))
    before = c.copy()
    run(kernel(tile, tile.c), {"x": a, "y": b, "c": c}, {"n": rows})
    k = [(i * 10 + j, (i * 3 + j) * 16) for i in range(2) for j in range(3)]
    want = [[sum(float(a[1 + 2 * i + ka]) * float(b[kb + j]) for ka, kb in k) for j in range(16)] for i in range(rows)]
    np.testing.assert_allclose(c[4 : 4 + 16 * rows].reshape(rows, 16), want, rtol=1e-5)
    np.testing.assert_array_equal(c[4 + 16 * rows :], before[4 + 16 * rows :])
    with pytest.raises(ValueError, match="a tile of 2 rows"):
        run(kernel(tile, tile.c), {"x": a, "y": b, "c": c}, {"n": 2})


def test_tile_of_bytes() -> None:
    a, b, c = Buffer("a", u8), Buffer("b", i8), Buffer("c", i32)
    tile = Tile(1, (1,), 4, a, 0, 0, b, 0, c, 0, 0, (Step(3, 1, 4),))
    x, w, out = np.array([200, 255, 3], np.uint8), np.arange(-6, 6, dtype=np.int8), np.zeros(4, np.int32)
    run(Kernel("k", (a, b, c), (), tile), {"a": x, "b": w, "c": out}, {})
    np.testing.assert_array_equal(out, x.astype(np.int32) @ w.reshape(3, 4))


def test_tile_over_groups() -> None:
    """Two groups of four neighbours along k; B holds [group, column, neighbour]."""
    a, b, c = Buffer("a", u8), Buffer("b", i8), Buffer("c", i32)
    tile = Tile(2, (2,), 4, a, 0, 8, b, 0, c, 0, 4, (Step(2, 4, 16),), group=4)
    x, w, out = np.arange(16, dtype=np.uint8), np.arange(-16, 16, dtype=np.int8), np.zeros(8, np.int32)
    run(Kernel("k", (a, b, c), (), tile), {"a": x, "b": w, "c": out}, {})
    wanted = np.einsum("mqg,qng->mn", x.reshape(2, 2, 4).astype(np.int32), w.reshape(2, 4, 4).astype(np.int32))
    np.testing.assert_array_equal(out.reshape(2, 4), wanted)


def test_refusals() -> None:
    x = np.zeros(4, np.float32)
    with pytest.raises(TypeError, match="x wants a contiguous array of f32"):
        run(kernel(Seq(())), {"x": x.astype(np.float64), "y": x}, {"n": 0})
    with pytest.raises(TypeError, match="x wants a contiguous array"):
        run(kernel(Seq(())), {"x": np.zeros((4, 4), np.float32).T, "y": x}, {"n": 0})
    with pytest.raises(TypeError, match="readonly"):
        run(kernel(Store(X, 0, Const(0, f32))), {"x": x, "y": x}, {"n": 0})
    with pytest.raises(NameError, match="nothing binds stray"):
        run(kernel(Store(Y, value(Symbol("stray")), Const(0, f32))), {"x": x, "y": x}, {"n": 0})


@pytest.mark.parametrize("kind", ["serial", "vector"])
def test_what_a_guard_switches_off_is_not_looked_at(kind: Kind) -> None:
    """Neither the index, nor what it is read from, nor its check: for loads and stores."""
    indices = Buffer("indices", i64, readonly=True)
    inside = Op("lt", Index(value(ROW)), Const(2, i64))
    at = value(Element(Load(indices, value(ROW)), 4))
    body = over(ROW, 4, Store(Y, at, Load(X, at, inside), guard=inside), kind)
    arrays = {"x": np.arange(4, dtype=np.float32), "y": np.full(4, 9, np.float32), "indices": np.array([3, 1])}
    assert run(kernel(body, indices), arrays, {"n": 0}) is None
    np.testing.assert_array_equal(arrays["y"], [9, 1, 9, 3])
    with pytest.raises(IndexError, match=r"indices\[2\]"):
        run(kernel(over(ROW, 4, Store(Y, value(ROW), Load(X, at)), kind), indices), arrays, {"n": 0})


def test_trusted_elements() -> None:
    """They are taken as they are; the interpreter sees to it that they are right."""
    indices = Buffer("indices", i64, readonly=True)
    body = Store(Y, value(Element(Load(indices, 0), 4, TRUSTED)), Const(1, f32))
    arrays = {"x": np.zeros(4, np.float32), "y": np.zeros(4, np.float32), "indices": np.array([2])}
    assert run(kernel(body, indices), arrays, {"n": 0}) is None
    np.testing.assert_array_equal(arrays["y"], [0, 0, 1, 0])
    with pytest.raises(IndexError, match="trusted"):
        run(kernel(body, indices), arrays | {"indices": np.array([-1])}, {"n": 0})
