"""Questions about sizes: refused while nobody knows them, answered and noted for a run, checked for the next run."""

from __future__ import annotations

import operator

import numpy as np
import pytest

from sardonyx.base.dtypes import boolean, i64
from sardonyx.base.symbolic import Dim, Symbol, alias, symbol, value
from sardonyx.expr.decide import Answer, Undecided, answering, ask, ask_value, number
from sardonyx.expr.index import at
from sardonyx.expr.known import decided, known
from sardonyx.expr.scalar import apply, index
from sardonyx.expr.tensor import Tensor, compute, input_tensor

N, M = Symbol("n"), Symbol("m")


def test_numbers_need_no_sizes() -> None:
    assert ask(0, "==")
    assert not ask(1, "==")
    assert ask(-1, "<")
    assert ask(0, "<=")


def test_without_sizes_a_question_is_undecided() -> None:
    with pytest.raises(Undecided, match=r"n \+ -1|-1 \+ n"):
        ask(value(N) - 1, "==")


@pytest.mark.parametrize(("size", "truth"), [(1, True), (2, False)])
def test_answers_are_noted_and_hold_where_they_are_the_same(size: int, truth: bool) -> None:
    with answering({N: size}, {}) as answers:
        assert ask(value(N) - 1, "==") is truth
        assert ask(value(N) - 1, "==") is truth
    assert list(answers.sizes) == [Answer(value(N) - 1, "==", truth)]
    assert answers.hold({N: size}, {})
    assert answers.hold({N: 1}, {}) is truth
    assert answers.hold({N: 3}, {}) is not truth


def test_a_size_that_is_not_given_is_undecided() -> None:
    with answering({N: 1}, {}) as answers, pytest.raises(Undecided, match="m"):
        ask(value(N) * value(M), "<")
    assert not answers.sizes


def test_named_formulas_are_looked_into() -> None:
    assert number(alias(value(N) * 3 + 1) // 2, {N: 5}) == 8
    deep: Dim = value(N)
    for _ in range(5000):
        deep = alias(deep + 1)
    assert number(deep, {N: 5}) == 5005
    with pytest.raises(KeyError):
        number(deep, {M: 5})


COMPARISONS = {"eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge}


def comparison(fn: str, left: Dim, right: Dim) -> Tensor:
    """left fn right, as a tensor of one bool."""
    return compute(boolean, (), lambda: apply(fn, index(left), index(right)))


@pytest.mark.parametrize("fn", ["eq", "ne", "lt", "le", "gt", "ge"])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_comparisons_of_sizes(fn: str, size: int) -> None:
    t = comparison(fn, symbol("n"), 3)
    assert known(t) is None, "outside of a question nothing is decided"
    expected = COMPARISONS[fn](size, 3)
    with answering({N: size}, {}) as answers:
        assert bool(decided(t)) is expected
    for other in (2, 3, 4):
        if answers.hold({N: other}, {}):
            assert COMPARISONS[fn](other, 3) is expected
    assert answers.hold({N: size}, {})


def test_a_bool_that_is_fed() -> None:
    c = input_tensor("c", boolean, (2,))
    inverted = compute(boolean, (2,), lambda i: apply("not", at(c, [i])))
    fed = {"c": np.array([True, False])}
    with answering({}, fed) as answers:
        assert decided(inverted).tolist() == [False, True]
    assert answers.hold({}, fed)
    assert not answers.hold({}, {"c": np.array([True, True])})


def test_other_numbers_that_are_fed_are_not_looked_at() -> None:
    """Each of their values would be a program of its own."""
    t = input_tensor("k", i64, (1,))
    with answering({}, {"k": np.array([3])}), pytest.raises(Undecided, match="value of k"):
        decided(t)
    assert ask_value("k", (0,)) is None
