"""Inputs whose sizes or ranks don't fit each other are refused by name, and no operator reads past an input's end.

The numpy evaluation of a record's tensors checks every index: an IndexError here would be a read outside its memory in compiled code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sardonyx.base.dtypes import from_numpy
from sardonyx.base.errors import SardonyxError
from sardonyx.base.symbolic import evaluate as evaluate_dim
from sardonyx.base.symbolic import symbols
from sardonyx.expr.evaluate import evaluate
from sardonyx.expr.origin import origin
from sardonyx.expr.require import Requirement, collect
from sardonyx.expr.tensor import Tensor, constant, input_tensor
from sardonyx.ops import FAMILIES
from sardonyx.ops.record import Case, Op
from tests.ops import harness

COMPARED = frozenset(
    (
        *("GridSample", "DeformConv", "TensorScatter", "ReverseSequence", "FeatureVectorizer", "BatchNormalization"),
        *("MatMulInteger", "ConvInteger", "MatMul", "Add", "Concat", "Where", "Conv", "LayerNormalization"),
    )
)
"""Operators for which this holds; for the others (an attention's biases, losses' weights, kernels over empty inputs) it is to come."""

RECORDS = [op for family in FAMILIES for op in family if op.meaning is not None and op.name in COMPARED]


def changed(x: np.ndarray[Any, Any]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """The array with other sizes: one axis longer, shorter or empty, one more or one less."""
    for axis, n in enumerate(x.shape):
        if n:
            yield f"axis {axis} of {n + 1}", np.concatenate([x, x.take([0], axis)], axis)
            yield f"axis {axis} of 0", x.take([], axis)
        if n > 1:
            yield f"axis {axis} of {n - 1}", x.take(range(n - 1), axis)
            yield f"no axis {axis}", x.take(0, axis)
    yield "an axis before", x[None]
    yield "an axis behind", x[..., None]


def misfits(case: Case) -> Iterator[tuple[str, list[np.ndarray[Any, Any] | None]]]:
    for i, x in enumerate(case.inputs):
        if x is not None:
            for what, y in changed(np.asarray(x)):
                yield f"input {i}: {what}", [*case.inputs[:i], np.ascontiguousarray(y), *case.inputs[i + 1 :]]


def evaluated(op: Op, case: Case, inputs: list[np.ndarray[Any, Any] | None], are_known: bool) -> None:
    """Evaluates the outputs. Vectors and scalars are known beforehand where `are_known`."""
    feeds: dict[Tensor, np.ndarray[Any, Any]] = {}
    given: list[Tensor | None] = []
    for i, x in enumerate(inputs):
        if x is None or (are_known and x.ndim < 2):
            given.append(None if x is None else constant(x))
        else:
            given.append(input_tensor(f"x{i}", from_numpy(x.dtype), x.shape))
            feeds[given[-1]] = x
    with collect() as requirements, origin(op.name):
        made = op.call(given, case.attributes, case.outputs)[: case.outputs]
    if all(map(holds, requirements)):
        evaluate([t for t in made if t is not None], feeds, {})


def holds(r: Requirement) -> bool:
    """Does a requirement on sizes hold? (One on sizes that data give is checked when these are known.)"""
    if symbols(r.dim):
        return True
    return evaluate_dim(r.dim, {}.__getitem__) == 0 if r.relation == "zero" else evaluate_dim(r.dim, {}.__getitem__) >= 0


@pytest.mark.parametrize("op", RECORDS, ids=lambda op: f"{op.domain}.{op.name}-{op.since}")
def test_sizes_that_do_not_fit(op: Op) -> None:
    for case in op.cases[:2]:
        for what, inputs in misfits(case):
            for are_known in (False, True):
                try:
                    evaluated(op, case, inputs, are_known)
                except SardonyxError:
                    pass
                except Exception as error:
                    raise AssertionError(f"{what}, {case.attributes}: {[x if x is None else x.shape for x in inputs]}") from error


def test_a_batch_of_another_size_is_refused_by_the_run() -> None:
    """The model does not tell the sizes; the session compares them before anything is read."""
    image, points = np.ones((1, 1, 4, 4), np.float32), np.zeros((5000, 1, 2, 2), np.float32)
    with pytest.raises(SardonyxError, match="GridSample"):
        harness.run("GridSample", [image, points], symbolic=True)
