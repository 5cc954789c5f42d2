"""Kernels written by hand: two worked examples, and what each word of the builder makes."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.dtypes import boolean, f32, i64, u8
from sardonyx.loop.builder import KernelBuilder, as_index, checked, trusted
from sardonyx.loop.interpreter import Failure, run
from sardonyx.loop.nodes import Kernel
from sardonyx.loop.printer import text
from sardonyx.loop.values import op, where
from sardonyx.loop.verifier import InvalidKernel


def top_k() -> Kernel:
    """values, indices [rows, k] of the k largest of each row of x [rows, n], the largest first; of equals the one that comes first.

    The k best so far lie in order in the output; an element goes in behind all that are not smaller, the last one falls out.
    """
    b = KernelBuilder("top k")
    rows, n, k = b.size("rows"), b.size("n"), b.size("k")
    x = b.input("x", f32, rows * n)
    values, indices = b.output("values", f32, rows * k), b.output("indices", i64, rows * k)
    with b.loop("row", rows, kind="parallel") as row:
        count = b.local(i64, 0)
        with b.loop("i", n) as i:
            candidate = b.let(x[row * n + i])
            place = b.local(i64, count.value)

            def ahead():
                """The element before the place, if there is one, is smaller."""
                before = op("max", place.value - 1, 0)
                return (place.value > 0) & (values[row * k + trusted(before, k)] < candidate)

            with b.while_(ahead()):
                place.add(-1)
                with b.if_(place.value + 1 < as_index(k)):
                    here, after = trusted(place.value, k), trusted(place.value + 1, k)
                    values[row * k + after] = values[row * k + here]
                    indices[row * k + after] = indices[row * k + here]
            with b.if_(place.value < as_index(k)):
                here = row * k + trusted(place.value, k)
                values[here] = candidate
                indices[here] = as_index(i)
            count.set(op("min", count.value + 1, as_index(k)))
    return b.build()


def prefix_sum() -> Kernel:
    """y[row, i] = sum of x[row, :i] and, if inclusive, x[row, i]; from the end if reverse."""
    b = KernelBuilder("prefix sum")
    rows, n = b.size("rows"), b.size("n")
    flags = b.input("inclusive and reverse", boolean, 2)
    x, y = b.input("x", f32, rows * n), b.output("y", f32, rows * n)
    inclusive, reverse = flags[0], flags[1]
    with b.loop("row", rows, kind="parallel") as row:
        total = b.local(f32, 0)
        with b.loop("i", n) as i:
            at = row * n + trusted(where(reverse, as_index(n - 1 - i), as_index(i)), n)
            after = b.let(total.value + x[at])
            y[at] = where(inclusive, after, total.value)
            total.set(after)
    return b.build()


@pytest.mark.parametrize(("n", "k", "threads"), [(1, 1, 1), (7, 3, 2), (20, 20, 1), (50, 7, 3)])
def test_top_k(n: int, k: int, threads: int) -> None:
    """Few distinct values: ties keep their order."""
    x = np.random.default_rng(n).integers(0, 6, (3, n)).astype(np.float32)
    values, indices = np.zeros((3, k), np.float32), np.zeros((3, k), np.int64)
    assert run(top_k(), {"x": x, "values": values, "indices": indices}, {"rows": 3, "n": n, "k": k}, threads) is None
    order = np.argsort(-x, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(values, np.take_along_axis(x, order, 1))


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_prefix_sum(inclusive: bool, reverse: bool) -> None:
    x = np.arange(1, 11, dtype=np.float32).reshape(2, 5)
    y = np.zeros_like(x)
    run(prefix_sum(), {"x": x, "y": y, "inclusive and reverse": np.array([inclusive, reverse])}, {"rows": 2, "n": 5}, strict=True)
    walk = x[:, ::-1] if reverse else x
    want = np.cumsum(walk, 1) - (0 if inclusive else walk)
    np.testing.assert_array_equal(y, want[:, ::-1] if reverse else want)


def test_what_is_written_is_what_is_made() -> None:
    b = KernelBuilder("k")
    n = b.size("n")
    x, y = b.input("x", f32, n), b.output("y", f32, n)
    best = b.local(f32, -1)
    with b.loop("i", n, lo=1) as i:
        with b.if_(x[i] > best.value):
            best.set(x[i])
        with b.else_():
            y[i] = 0
        y.store(i, best.value, guard=x.load(i, x[0] < 3) != 0, combine="max")
    b.check(best.value > 0, 3, as_index(n))
    y[0] = b.reduce("add", n, lambda r: x[r] * 2)
    assert text(b.build()) == (
        "kernel(b0: f32 readonly, b1: f32; s0)\n"
        "alloc b2: f32 local [1]:\n"
        "  b2[0] = -1.0\n"
        "  for i0 in [1, s0) serial:\n"
        "    if gt(b0[i0], b2[0]):\n"
        "      b2[0] = b0[i0]\n"
        "    else:\n"
        "      b1[i0] = 0.0\n"
        "    b1[i0] = max b2[0] where ne(b0[i0 where lt(b0[0], 3.0)], 0.0)\n"
        "  check gt(b2[0], 0.0) else 3, index(s0)\n"
        "  v0 = reduce add over i1 in [0, s0) serial:\n"
        "    mul(b0[i1], 2.0)\n"
        "  b1[0] = v0\n"
    )


def test_let_keeps_a_value() -> None:
    """A value is loaded by the statement in which it stands; let loads it now."""
    b = KernelBuilder("k")
    y = b.output("y", f32, 3)
    now, later = b.let(y[0]), y[0]
    y[0] = 9
    y[1], y[2] = now, later
    out = np.array([1, 0, 0], np.float32)
    run(b.build(), {"y": out}, {})
    np.testing.assert_array_equal(out, [9, 1, 9])


def test_checked_indices() -> None:
    b = KernelBuilder("k")
    n = b.size("n")
    x, indices, y = b.input("x", f32, n), b.input("indices", i64, 2), b.output("y", f32, 2)
    with b.loop("i", 2) as i:
        y[i] = x[x.checked(indices[i], n, 5)]
    kernel = b.build()
    arrays = {"x": np.arange(4, dtype=np.float32), "y": np.zeros(2, np.float32)}
    assert run(kernel, arrays | {"indices": np.array([-1, 2])}, {"n": 4}) is None
    np.testing.assert_array_equal(arrays["y"], [3, 2])
    assert run(kernel, arrays | {"indices": np.array([0, 4])}, {"n": 4}) == Failure(5, (4, 4))


def test_trusted_indices_know_their_bound() -> None:
    b = KernelBuilder("k")
    n = b.size("n")
    x, index = b.input("x", f32, n * 4), b.input("index", u8)
    assert x.at(index[0]) == trusted(index[0], n * 4)
    assert (checked(index[0], 4, 1) + n * 4) // 4 == n
    assert index.at(index[0]) != trusted(index[0], 4)


def test_scratch_lives_to_the_end_of_its_block() -> None:
    b = KernelBuilder("k")
    n = b.size("n")
    y = b.output("y", f32, n)
    with b.loop("i", n, kind="parallel") as i:
        row = b.scratch("row", f32, n)
        row[i] = 1
        y[i] = row[i]
    kernel = b.build()
    assert "alloc b1: f32 scratch [s0]:\n    b1[i0] = 1.0" in text(kernel)
    b.blocks[0].clear()
    y[0] = row[0]
    with pytest.raises(InvalidKernel, match="is not in scope"):
        b.build()


def test_misuse() -> None:
    b = KernelBuilder("k")
    y = b.output("y", f32)
    with pytest.raises(ValueError, match="else_ without an if_"), b.else_():
        pass
    with pytest.raises(TypeError, match="truth"):
        assert y[0] < 1
    with pytest.raises(TypeError, match="add of f32, i64"):
        y[0] + as_index(3)
    with pytest.raises(TypeError, match="no dtype"):
        op("add", 1, 2)
    with b.loop("i", 3), pytest.raises(ValueError, match="inside a block"):
        b.build()
