"""Shapes that are formulas, or that only data decide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.base.dtypes import f32, i64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, Symbol, symbol, symbols
from sardonyx.expr import require
from sardonyx.expr.decide import Undecided, answering
from sardonyx.expr.evaluate import evaluate
from sardonyx.expr.known import known
from sardonyx.expr.tensor import Tensor, constant, input_tensor
from sardonyx.ops import shape
from tests.ops.harness import run

B, S = symbol("b"), symbol("s")
SIZES = {Symbol("b"): 2, Symbol("s"): 3}


def ints(*numbers: int) -> Tensor:
    return constant(np.array(numbers, np.int64))


def fed(*dims: Dim) -> Tensor:
    return input_tensor("x", f32, dims)


def check_reshape(dims: Sequence[Dim], target: Sequence[Dim], by: Tensor) -> None:
    """x: f32[dims] reshaped `by` has the shape target, needs no checks at run time, and keeps the order of elements."""
    x = fed(*dims)
    with require.collect() as requirements:
        y = shape.reshape(x, by)
    assert y.shape == tuple(target)
    assert not [r for r in requirements if r.relation == "zero"]
    total = int(np.prod([d if isinstance(d, int) else {"b": 2, "s": 3, "b*s": 6}[str(d)] for d in dims]))
    numbers = np.arange(total, dtype=np.float32)
    (got,) = evaluate(
        [y], {x: numbers.reshape([SIZES[next(iter(d.symbols))] if not isinstance(d, int) else d for d in dims])}, SIZES
    )
    np.testing.assert_array_equal(got.ravel(), numbers)


def test_heads_are_split_by_formulas() -> None:
    check_reshape((B, S, 768), (B, S, 12, 64), ints(0, 0, 12, 64))
    check_reshape((B, S, 768), (B, S, 12, 64), ints(0, 0, -1, 64))


def test_rows_are_merged_by_formulas() -> None:
    check_reshape((B, S, 8), (B * S, 8), ints(-1, 8))


def test_target_made_of_sizes() -> None:
    x = fed(B, S, 8)
    target = shape.vector([B * S, 2, 4])
    y = shape.reshape(x, target)
    assert y.shape == (B * S, 2, 4)
    numbers = np.arange(48, dtype=np.float32).reshape(2, 3, 8)
    np.testing.assert_array_equal(evaluate([y], {x: numbers}, SIZES)[0], numbers.reshape(6, 2, 4))


def test_index_of_a_split_axis_has_no_division() -> None:
    x = fed(B, S, 768)
    y = shape.reshape(x, ints(0, 0, 12, 64))
    assert y.body is not None
    assert "//" not in str(y.body)
    assert "%" not in str(y.body)


@given(st.permutations([2, 3, 4, 5]), st.permutations([6, 1, 20]), st.booleans())
def test_any_reshape(dims: list[int], target: list[int], known_target: bool) -> None:
    numbers = np.arange(120).reshape(dims)
    (got,) = run("Reshape", [numbers, np.array(target)], known=[1] if known_target else ())
    np.testing.assert_array_equal(got, numbers.reshape(target))


@pytest.mark.parametrize("target", [[2, 12], [-1, 6], [0, -1], [0, 0, 4], [24], [1, 2, 3, 4]])
def test_targets_from_data(target: list[int]) -> None:
    numbers = np.arange(24).reshape(2, 3, 4)
    (got,) = run("Reshape", [numbers, np.array(target)])
    np.testing.assert_array_equal(got, numbers.reshape([numbers.shape[a] if n == 0 else n for a, n in enumerate(target)]))


@pytest.mark.parametrize("target", [[-1, 4], [4, -1], [0, -1], [-1, 0], [0, 0, -1], [0, 5, 9]])
@pytest.mark.parametrize("size", [(3, 0, 2), (0, 0, 2), (3, 4, 0)], ids=str)
def test_nothing_takes_any_shape_of_nothing(size: tuple[int, ...], target: list[int]) -> None:
    """Sizes and target are known only at the run, where a size that others are divided by is 0."""
    x = np.zeros(size, np.float32)
    kept = [size[a] if n == 0 else n for a, n in enumerate(target)]
    if -1 in kept and 0 in kept:  # beside 0 anything may stand for -1: onnxruntime has 0
        kept[kept.index(-1)] = 0
    wanted = [0 if n == -1 else n for n in kept]
    if np.prod(wanted) != 0:
        with pytest.raises(Fail, match="cannot reshape"):
            run("Reshape", [x, np.array(target)], symbolic=True)
    else:
        assert run("Reshape", [x, np.array(target)], symbolic=True)[0].shape == tuple(wanted)


@pytest.mark.parametrize("target", [[5, 5], [-1, 5], [-1, -1], [-2, 12], [0, 0, 0, 0]])
def test_impossible_reshapes(target: list[int]) -> None:
    with pytest.raises(Fail, match=r"\[ShapeInferenceError\]"):
        shape.reshape(constant(np.zeros((2, 3, 4), np.float32)), ints(*target))


def test_groups_are_the_shortest() -> None:
    assert list(shape.groups((B, S, 768), (B * S, 12, 64))) == [([0, 1], [0]), ([2], [1, 2])]
    assert list(shape.groups((2, 3, 4), (6, 1, 4))) == [([0, 1], [0]), ([2], [2])]
    assert list(shape.groups((), (1, 1))) == []


def test_shape_is_shape_arithmetic() -> None:
    x = fed(B, S, 8)
    assert known(shape.shape(x)).tolist() == [B, S, 8]
    assert known(shape.shape(x, -2)).tolist() == [S, 8]
    assert known(shape.size(x)).item() == 8 * B * S
    np.testing.assert_array_equal(evaluate([shape.shape(x)], {}, SIZES)[0], [2, 3, 8])


def test_expand_takes_the_larger_of_sizes_from_data() -> None:
    x, target = input_tensor("x", f32, (3, 1)), input_tensor("t", i64, (3,))
    y = shape.expand(x, target)
    numbers = np.arange(3, dtype=np.float32).reshape(3, 1)
    got = evaluate([y], {x: numbers, target: np.array([2, 1, 4])}, {})[0]
    np.testing.assert_array_equal(got, np.broadcast_to(numbers, (2, 3, 4)))


@given(st.integers(-20, 20), st.integers(-20, 20), st.integers(-4, 4).filter(bool), st.booleans())
def test_range(start: int, limit: int, delta: int, known_bounds: bool) -> None:
    (got,) = run("Range", [np.array(v) for v in (start, limit, delta)], known=(0, 1, 2) if known_bounds else ())
    np.testing.assert_array_equal(got, np.arange(start, limit, delta))


def test_range_of_an_unknown_size() -> None:
    y = shape.arange(constant(np.array(0)), shape.size(fed(B, S)), constant(np.array(1)))
    assert y.shape == (B * S,)


def test_squeeze_of_what_may_not_be_one() -> None:
    with pytest.raises(Undecided, match="depends on whether"):
        shape.squeeze(fed(B, 1))
    for size, left in ((1, 0), (2, 1)):
        with answering(dict.fromkeys(symbols(B), size), {}):
            assert shape.squeeze(fed(B, 1)).rank == left
    with require.collect() as requirements:
        assert shape.squeeze(fed(B, 3), ints(0)).shape == (3,)
    assert {r.dim for r in requirements} == {B - 1}
    with pytest.raises(Fail, match="cannot squeeze axis 1"):
        shape.squeeze(fed(B, 3), ints(1))


def test_constant_of_nothing() -> None:
    with pytest.raises(Fail, match="0 values"):
        shape.constant_node()
