"""Formulas over sizes as records: what is written comes back with the same values, nothing else is read."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from sardonyx.base.symbolic import Dim, Symbol, alias, ceil_divide, equals, maximum, minimum, named, value
from sardonyx.expr.decide import number
from sardonyx.session.stored_values import Unstorable
from sardonyx.session.stored_variants import dim, dim_record, kind, kind_record

N, M = value(Symbol("n")), value(Symbol("m.0"))
FORMULAS: list[Dim] = [
    *(0, -7, N, N - 1, 3 * N * N - 2 * N * M + 5, N // 4, (N + M) % 3, minimum(N, M) - maximum(N, 3), equals(N, M)),
    *(ceil_divide(N * M, 4) - 1, named(N // 3 + M) * 2, alias(N // 2 + 1) + M, (named(N // 3 + M) + 1) // 2),
]


@pytest.mark.parametrize("formula", FORMULAS, ids=str)
def test_a_formula_comes_back(formula: Dim):
    again = dim(json.loads(json.dumps(dim_record(formula))))
    for n, m in ((0, 0), (1, 7), (12, 5), (100, 3)):
        sizes = {Symbol("n"): n, Symbol("m.0"): m}
        assert number(again, sizes) == number(formula, sizes)


def test_a_loop_variable_is_not_kept():
    with pytest.raises(Unstorable):
        kind_record((list,))


@pytest.mark.parametrize("record", [None, "n", 1.5, [[1]], [["x", []]], [[1, [5]]], [[1, [["/", 1, 2]]]], [[1, [["//", 1]]]], {}])
def test_no_other_formula_is_read(record: Any):
    with pytest.raises(ValueError):  # noqa: PT011
        dim(record)


def test_kinds():
    for found in ((np.dtype(np.float32), 3), (np.dtype(bool), 0), (np.dtype(object), 1)):
        assert kind(json.loads(json.dumps(kind_record(found)))) == found
