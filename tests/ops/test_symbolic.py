"""Every record's cases once more, in a session whose inputs have symbolic sizes: same shapes and numbers as with fixed sizes."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.errors import Fail
from sardonyx.ops import every
from sardonyx.ops.record import Case, Op
from tests.ops import harness

CASES = [
    pytest.param(op, case, id=f"{op.domain}.{op.name}-{op.since}-{case.name or i}")
    for op in every()
    if op.meaning is not None and op.name not in ("Cast", "CastLike")  # hundreds of pairs of dtypes, no matter of sizes
    for i, case in enumerate(op.cases)
]

NEED_FIXED_SIZES = frozenset(
    ("ConvTranspose", "ConvTransposeWithDynamicPads", "GatherND", "ScatterND", "Squeeze", "RotaryEmbedding")
)
"""Operators that may refuse: a kernel of unknown size has no phases, a tuple no length, Squeeze no axes, a row no number of heads."""


@pytest.mark.parametrize(("op", "case"), CASES)
def test_same_as_with_fixed_sizes(op: Op, case: Case) -> None:
    """Vectors and scalars (axes, shapes, scales) are initializers, all other sizes have names of their own."""
    known = [i for i, x in enumerate(case.inputs) if x is not None and x.ndim < 2]
    try:
        got = harness.run(
            op.name,
            case.inputs,
            case.attributes,
            version=harness.newest_version(op),
            domain=op.domain,
            outputs=case.outputs,
            known=known,
            symbolic=True,
        )
    except harness.NotCompiled:
        assert op.name in NEED_FIXED_SIZES
        return
    harness.assert_same(got, harness.run_case(op, case), op.tolerance, op.tolerance)


def test_clashing_sizes_are_refused() -> None:
    with pytest.raises(Fail, match="MatMul"):
        harness.run("MatMul", [np.zeros((2, 3), np.float32), np.zeros((4, 5), np.float32)])


def test_clashing_symbolic_sizes_are_refused_by_the_run() -> None:
    with pytest.raises(Fail, match="matrix multiplication"):
        harness.run("MatMul", [np.zeros((2, 3), np.float32), np.zeros((4, 5), np.float32)], symbolic=True)
