"""Random operators, compiled: native code draws what numpy draws for the same expressions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sardonyx import ops
from sardonyx.base.errors import Unsupported
from sardonyx.codegen import features
from sardonyx.expr import draws, require
from sardonyx.expr.evaluate import evaluate
from sardonyx.expr.origin import origin
from sardonyx.expr.require import Requirement
from sardonyx.expr.tensor import Tensor
from sardonyx.ops.record import Case, Op
from tests.lower.harness import assert_close, compile_tensors, machine_for
from tests.ops import harness

DRAWN = {
    "RandomUniform": Case((), {"shape": [3, 50], "seed": 1.0}),
    "RandomUniformLike": Case((np.zeros((3, 50)),), {"low": -2.0}),
    "RandomNormal": Case((), {"shape": [3, 50], "mean": 2.0}),
    "RandomNormalLike": Case((np.zeros((3, 50)),), {"scale": 3.0}),
    "Bernoulli": Case((np.linspace(0, 1, 60, dtype=np.float32),), {"dtype": 7}),
    "Multinomial": Case((np.zeros((2, 5), np.float32),), {"sample_size": 20}),
}
"""Random numbers have no reference in numpy, hence no cases in their records."""
RECORDS = [op for op in ops.every() if op.meaning is not None and op.name in DRAWN]


@pytest.mark.parametrize("op", RECORDS, ids=lambda op: f"{op.domain}.{op.name}-{op.since}")
def test_native_code_agrees(op: Op) -> None:
    for case in (DRAWN[op.name],):
        feeds, outputs, requirements = tensors(op, case)
        target = features.host()
        program = compile_tensors(list(feeds), outputs, requirements, target, machine_for(target))
        got = program.run(*feeds.values(), harness.DRAWN_BY)
        assert_close(got, evaluate(outputs, {**feeds, draws.state: harness.DRAWN_BY}, {}), max(op.tolerance, 4e-6))


def tensors(op: Op, case: Case) -> tuple[dict[Tensor, harness.Array], list[Tensor], list[Requirement]]:
    """Inputs with their numbers, outputs, and what they take for granted: inputs fed, or known where the operator asks for that."""
    try:
        return made(op, case, known=False)
    except Unsupported:
        return made(op, case, known=True)


def made(op: Op, case: Case, known: bool) -> tuple[dict[Tensor, harness.Array], list[Tensor], list[Requirement]]:
    feeds: dict[Tensor, Any] = {}
    with require.collect() as requirements, origin(op.name):
        given = [None if x is None else np.asarray(x, order="C") for x in case.inputs]
        inputs = [harness.feed(f"x{i}", x, feeds, known) for i, x in enumerate(given)]
        outputs = op.call(inputs, case.attributes, case.outputs)[: case.outputs]
    return feeds, [t for t in outputs if t is not None], requirements
