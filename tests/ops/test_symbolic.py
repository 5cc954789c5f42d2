"""Every record's cases once more, with all sizes symbolic: same shapes and numbers as with fixed sizes."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.dtypes import from_numpy
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, Symbol, symbols, value
from sardonyx.base.symbolic import evaluate as evaluate_dim
from sardonyx.expr.evaluate import evaluate
from sardonyx.expr.require import collect
from sardonyx.expr.tensor import Tensor, constant, input_tensor
from sardonyx.ops import FAMILIES
from sardonyx.ops.record import Case, Op
from tests.ops import harness
from tests.ops.harness import Array

CASES = [
    pytest.param(op, case, id=f"{op.domain}.{op.name}-{op.since}-{case.name or i}")
    for family in FAMILIES
    for op in family
    if op.meaning is not None and op.name not in ("Cast", "CastLike")  # hundreds of pairs of dtypes, no matter of sizes
    for i, case in enumerate(op.cases)
]

NEED_FIXED_SIZES = frozenset(("ConvTranspose", "GatherND", "ScatterND", "Squeeze", "RotaryEmbedding"))
"""Operators that may refuse: a kernel of unknown size has no phases, a tuple no length, Squeeze no axes, a row no number of heads."""


def symbolic_inputs(case: Case) -> tuple[list[Tensor | None], dict[Tensor, Array], dict[Symbol, int]]:
    """The case's inputs with a symbol for each size; vectors and scalars (axes, shapes, scales) are known beforehand."""
    made: list[Tensor | None] = []
    feeds: dict[Tensor, Array] = {}
    sizes: dict[Symbol, int] = {}
    for k, x in enumerate(case.inputs):
        if x is None:
            made.append(None)
        elif x.ndim < 2:
            made.append(constant(np.asarray(x)))
        else:
            shape: list[Dim] = []
            for axis, n in enumerate(x.shape):
                s = Symbol(f"n{k}_{axis}")
                sizes[s] = n
                shape.append(value(s))
            t = input_tensor(f"x{k}", from_numpy(x.dtype), shape)
            feeds[t] = x
            made.append(t)
    return made, feeds, sizes


@pytest.mark.parametrize(("op", "case"), CASES)
def test_same_as_with_fixed_sizes(op: Op, case: Case) -> None:
    inputs, feeds, sizes = symbolic_inputs(case)
    with collect() as requirements:
        try:
            made = harness.apply(op, inputs, case.attributes, case.outputs)
        except Unsupported:
            assert op.name in NEED_FIXED_SIZES
            return
    got = evaluate([t for t in made[: case.outputs] if t is not None], feeds, sizes)
    harness.assert_same(got, harness.run_case(op, case), op.tolerance, op.tolerance)
    for r in requirements:
        if symbols(r.dim) <= sizes.keys():  # others are sizes that data give
            number = evaluate_dim(r.dim, sizes.__getitem__)
            assert number == 0 if r.relation == "zero" else number >= 0, r


def test_clashing_sizes_are_refused() -> None:
    a, b = input_tensor("a", from_numpy(np.dtype(np.float32)), [2, 3]), input_tensor("b", from_numpy(np.dtype(np.float32)), [4, 5])
    op = next(op for family in FAMILIES for op in family if op.name == "MatMul")
    with pytest.raises(Fail, match="2, 3"):
        harness.apply(op, [a, b], {})
