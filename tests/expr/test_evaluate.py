"""The numpy meaning of tensor expressions, definition by definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.base.dtypes import boolean, f32, i64, u8
from sardonyx.base.errors import InvalidArgument
from sardonyx.base.symbolic import Dim, Symbol, symbol, value
from sardonyx.expr import evaluate as module
from sardonyx.expr import scalar
from sardonyx.expr.evaluate import blocks, evaluate
from sardonyx.expr.index import at, element, inside
from sardonyx.expr.known import elements
from sardonyx.expr.origin import origin
from sardonyx.expr.region import scan, while_loop
from sardonyx.expr.tensor import Tensor, assemble, compute, constant, input_tensor, kernel_outputs, reduction
from sardonyx.loop.nodes import Buffer, Cast, Check, Const, Expr, For, Kernel, Load, Op, Seq, Store

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def fed(array: np.ndarray) -> Tensor:
    return input_tensor("x", {"f": f32, "i": i64}[array.dtype.kind], array.shape)


def test_pointwise_with_symbolic_sizes() -> None:
    n = symbol("n")
    x = input_tensor("x", f32, (n, 4))
    y = compute(f32, (n, 4), lambda i, j: scalar.mul(at(x, (i, j)), scalar.cast(scalar.index(i * n + j), f32)))
    (got,) = evaluate([y], {x: X}, {Symbol("n"): 3})
    i, j = np.indices((3, 4))
    np.testing.assert_array_equal(got, X * (i * 3 + j))


@pytest.mark.parametrize("most", [1, 5, 1 << 20])
def test_reduction_in_blocks(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(module, "MOST_POINTS", most)
    x = fed(X)
    y = reduction("max", f32, (4, 1), (3,), lambda j, _, i: at(x, (i, j)))
    np.testing.assert_array_equal(evaluate([y], {x: X}, {})[0], X.max(0)[:, None])


@pytest.mark.parametrize(("fn", "neutral"), [("add", 0), ("mul", 1), ("min", np.inf), ("max", -np.inf)])
def test_empty_reduction(fn: str, neutral: float) -> None:
    x = input_tensor("x", f32, (2, 0))
    y = reduction(fn, f32, (2,), (0,), lambda i, r: at(x, (i, r)))
    np.testing.assert_array_equal(evaluate([y], {x: np.zeros((2, 0), np.float32)}, {})[0], np.full(2, neutral))


def test_integers_wrap() -> None:
    x = input_tensor("x", u8, (2,))
    y = reduction("add", u8, (), (2,), lambda r: at(x, (r,)))
    assert evaluate([y], {x: np.array([200, 100], np.uint8)}, {})[0] == 44


def test_parts() -> None:
    x = fed(X)
    left = compute(f32, (3, 4), lambda i, j: at(x, (i, j)))
    right = compute(f32, (3, 2), lambda i, j: scalar.literal(7.0, f32))
    y = assemble(f32, (3, 6), [(left, (0, 0)), (right, (0, 4))])
    np.testing.assert_array_equal(evaluate([y], {x: X}, {})[0], np.pad(X, ((0, 0), (0, 2)), constant_values=7))


@pytest.mark.parametrize("start", [3, 5])
def test_parts_must_cover_the_whole_once(start: int) -> None:
    first, second = (constant(np.ones(n, np.float32)) for n in (4, 2))
    parts = [compute(f32, t.shape, lambda i, t=t: at(t, (i,))) for t in (first, second)]
    y = assemble(f32, (start + 2,), [(parts[0], (0,)), (parts[1], (start,))])
    with pytest.raises(IndexError):
        evaluate([y], {}, {})


def gather(x: Tensor, indices: Tensor) -> Tensor:
    return compute(x.dtype, indices.shape, lambda *i: at(x, (element(at(indices, i), x.shape[0]),)))


def test_elements_count_from_the_end() -> None:
    x, i = fed(X[0]), constant(np.array([0, -1, 3, -4]))
    np.testing.assert_array_equal(evaluate([gather(x, i)], {x: X[0]}, {})[0], X[0, [0, -1, 3, -4]])


@pytest.mark.parametrize("bad", [4, -5])
def test_elements_are_checked(bad: int) -> None:
    x, i = fed(X[0]), constant(np.array([0, bad]))
    with pytest.raises(InvalidArgument, match=rf"idx={bad} must be within the inclusive range \[-4,3\]"):
        evaluate([gather(x, i)], {x: X[0]}, {})


def test_guarded_reads_are_zero_outside() -> None:
    x = fed(X[0])
    y = compute(f32, (6,), lambda j: at(x, (j - 1,), inside(j - 1, 4)))
    never = compute(f32, (2,), lambda j: at(x, (j + 7,), inside(j - 9, 4)))
    got = evaluate([y, never], {x: X[0]}, {})
    np.testing.assert_array_equal(got[0], [0, 0, 1, 2, 3, 0])
    np.testing.assert_array_equal(got[1], [0, 0])


def test_guards_cover_the_elements_inside() -> None:
    x, i = fed(X[0]), constant(np.array([9, 2]))
    small = compute(f32, (2,), lambda j: at(x, (element(at(i, (j,)), 4),), scalar.apply("lt", at(i, (j,)), 4)))
    np.testing.assert_array_equal(evaluate([small], {x: X[0]}, {})[0], [0, 2])


def test_reads_outside_are_an_error() -> None:
    x = fed(X[0])
    y = compute(f32, (5,), lambda j: at(x, (j,)))
    with pytest.raises(IndexError, match="0 to 4 of 4"):
        evaluate([y], {x: X[0]}, {})


def test_sizes_from_data() -> None:
    count = fed(np.array([0]))
    (n,) = elements(count)
    y = compute(i64, (n, 2), lambda i, j: scalar.index(i * 2 + j))
    np.testing.assert_array_equal(evaluate([y], {count: np.array([3])}, {})[0], np.arange(6).reshape(3, 2))


def test_missing_input() -> None:
    with pytest.raises(KeyError, match="no numbers are given for x"):
        evaluate([fed(X)], {}, {})


def test_scan() -> None:
    x, start = fed(X), input_tensor("h", f32, (4,))
    twice = compute(f32, (3, 4), lambda i, j: scalar.mul(at(x, (i, j)), 2))

    def step(t: Dim, h: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        total = compute(f32, (4,), lambda j: scalar.add(at(h, (j,)), at(twice, (t, j))))
        return [total], [total]

    (final,), (sums,) = scan(3, [start], step)
    got = evaluate([final, sums], {x: X, start: np.ones(4, np.float32)}, {})
    np.testing.assert_array_equal(got[1], 1 + np.cumsum(2 * X, 0))
    np.testing.assert_array_equal(got[0], got[1][-1])


def test_nested_scan() -> None:
    zero = constant(np.zeros((), np.int64))

    def outer(t: Dim, h: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        def inner(s: Dim, g: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            return [compute(i64, (), lambda: scalar.add(at(g, ()), scalar.index(t * 10 + s)))], []

        (total,), _ = scan(3, [h], inner)
        return [total], []

    (final,), _ = scan(2, [zero], outer)
    assert evaluate([final], {}, {})[0] == 0 + 1 + 2 + 10 + 11 + 12


@pytest.mark.parametrize("limit", [0, 5, 100])
def test_while_loop(limit: int) -> None:
    start, true = constant(np.ones((), np.int64)), constant(np.array(limit > 0))

    def step(t: Dim, h: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        double = compute(i64, (), lambda: scalar.mul(at(h, ()), 2))
        return [compute(boolean, (), lambda: scalar.apply("lt", at(double, ()), limit)), double], [double]

    (final,), (stack,), count = while_loop(6, true, [start], step)
    got = evaluate([final, stack, count], {}, {})
    steps = {0: 0, 5: 3, 100: 6}[limit]
    assert (got[0], got[2]) == (2**steps, steps)
    np.testing.assert_array_equal(got[1][:steps], 2 ** np.arange(1, steps + 1))


def test_functions_are_rounded_once() -> None:
    x = np.linspace(-3, 3, 7, dtype=np.float32)
    t = fed(x)
    y = compute(f32, (7,), lambda i: scalar.apply("exp", at(t, (i,))))
    np.testing.assert_array_equal(evaluate([y], {t: x}, {})[0], np.exp(x.astype(np.float64)).astype(np.float32))


@given(st.lists(st.integers(0, 5), max_size=4), st.integers(1, 40))
def test_blocks_cover_each_element_once(shape: list[int], most: int) -> None:
    times = np.zeros(shape, int)
    for block in blocks(shape, most):
        assert times[block].size <= most
        times[block] += 1
    assert (times == 1).all()


def test_body_of_a_loop_node_is_refused() -> None:
    class Strange(Expr):
        __slots__ = ()

    y = compute(f32, (), lambda: Strange(dtype=f32))
    with pytest.raises(TypeError):
        evaluate([y], {}, {})


def doubled(x: Tensor) -> Tensor:
    """A kernel that writes 2 x, and complains about 5."""
    n = Symbol("n")
    source, out = Buffer("x", f32, readonly=True), Buffer("y", f32)
    i = Symbol("i", value(n))
    load = Load(source, value(i))
    five = Check(Op("ne", load, Const(5.0, f32)), 0, (Cast(load, i64),))
    body = For(i, 0, value(n), "serial", Seq((five, Store(out, value(i), Op("add", load, load)))))
    (y,) = kernel_outputs(Kernel("double", (source, out), (n,), body), [x], [(f32, x.shape)], [x.shape[0]], ["no {0}"])
    return y


def test_kernel() -> None:
    x = fed(X[0])
    np.testing.assert_array_equal(evaluate([doubled(x)], {x: X[0]}, {})[0], 2 * X[0])


def test_failed_check_of_a_kernel() -> None:
    x = fed(X[1])
    with origin("Twice"):
        y = doubled(x)
    with pytest.raises(InvalidArgument, match="Twice: no 5"):
        evaluate([y], {x: X[1]}, {})
