"""Inputs whose sizes or ranks don't fit each other are refused by name, and no operator reads past an input's end.

The numpy evaluation of a record's tensors checks every index: an IndexError here would be a read outside its memory in compiled code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sardonyx.base.dtypes import from_numpy
from sardonyx.base.errors import SardonyxError, Unsupported
from sardonyx.base.symbolic import ground, symbol
from sardonyx.expr.evaluate import Grid, Scope, evaluate
from sardonyx.expr.known import DataSymbol
from sardonyx.expr.origin import origin
from sardonyx.expr.require import Requirement, collect
from sardonyx.expr.tensor import Tensor, constant, input_tensor
from sardonyx.ops import every
from sardonyx.ops.record import Case, Op
from tests.ops import harness

RECORDS = [op for op in every() if op.meaning is not None and op.name not in ("Cast", "CastLike")]


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
    """Evaluates the outputs, if what the operator requires holds. Vectors and scalars are known beforehand where `are_known`."""
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
    if all(holds(r, feeds) for r in requirements):
        evaluate([t for t in made if t is not None], feeds, {})


def holds(r: Requirement, feeds: dict[Tensor, np.ndarray[Any, Any]]) -> bool:
    """Does a requirement hold? Sizes that data decide are computed; what must hold in an iteration is taken to."""
    data = [s.tensor for s in ground(r.dim) if isinstance(s, DataSymbol)]
    if len(data) < len(ground(r.dim)):
        return True
    numbers = dict(zip(data, evaluate(data, feeds, {}), strict=True))
    number = int(Grid(Scope(feeds | numbers, {}), {}).dim(r.dim))
    return number == 0 if r.relation == "zero" else number >= 0


@pytest.mark.parametrize("op", RECORDS, ids=lambda op: f"{op.domain}.{op.name}-{op.since}")
def test_sizes_that_do_not_fit(op: Op) -> None:
    for case in op.cases[: 1 if op.kernel else 2]:  # kernels are interpreted, which takes long
        for what, inputs in misfits(case):
            for are_known in {False, not op.kernel and any(x is not None and x.ndim < 2 for x in inputs)}:
                try:
                    evaluated(op, case, inputs, are_known)
                except (SardonyxError, Unsupported):
                    pass
                except Exception as error:
                    raise AssertionError(f"{what}, {case.attributes}: {[x if x is None else x.shape for x in inputs]}") from error


@pytest.mark.parametrize("op", RECORDS, ids=lambda op: f"{op.domain}.{op.name}-{op.since}")
def test_no_read_is_unproved(op: Op) -> None:
    """Whatever its sizes will be, each read lies inside its tensor for certain, or is required to."""
    for case in op.cases:
        for are_known in (False, True):
            inputs: list[Tensor | None] = []
            for i, x in enumerate(case.inputs):
                if x is None or (are_known and np.ndim(x) < 2):
                    inputs.append(None if x is None else constant(np.asarray(x)))
                    continue
                x = np.asarray(x)
                is_list = x.ndim == 1 and x.dtype == np.int64  # the number of pads, axes and sizes decides ranks
                sizes = x.shape if is_list else [symbol(f"x{i}_{axis}") for axis in range(x.ndim)]
                inputs.append(input_tensor(f"x{i}", from_numpy(x.dtype), sizes))
            try:
                with collect(), origin(op.name):
                    op.call(inputs, case.attributes, case.outputs)
            except (SardonyxError, Unsupported) as error:
                if "may lie outside" in str(error):
                    raise AssertionError(f"{case.attributes}: {inputs}") from error


NUMBERS = (0, -1, 7, 2**31, -(2**63), 2**63 - 1)


def other_attributes(attributes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The attributes with one changed: another number, a list that is longer, shorter, empty, or of other numbers."""
    for name, value in attributes.items():
        if isinstance(value, int):
            yield from ({**attributes, name: n} for n in NUMBERS)
        elif isinstance(value, list) and value and isinstance(value[0], int):
            lists = [], value[:-1], [*value, value[0]], [-1] * len(value), [0] * len(value), [2**62] * len(value)
            yield from ({**attributes, name: numbers} for numbers in lists)


@pytest.mark.parametrize("op", RECORDS, ids=lambda op: f"{op.domain}.{op.name}-{op.since}")
def test_attributes_that_do_not_fit(op: Op) -> None:
    """They are refused, or they are a meaning; what that comes to is left to sessions (fuzz.sizes)."""
    for case in op.cases:
        inputs = [
            None if x is None else input_tensor(f"x{i}", from_numpy(np.asarray(x).dtype), np.shape(x))
            for i, x in enumerate(case.inputs)
        ]
        for attributes in other_attributes(case.attributes):
            try:
                with collect(), origin(op.name):
                    op.call(inputs, attributes, case.outputs)
            except (SardonyxError, Unsupported):
                pass
            except Exception as error:
                raise AssertionError(f"{attributes}: {inputs}") from error


def test_a_batch_of_another_size_is_refused_by_the_run() -> None:
    """The model does not tell the sizes; the session compares them before anything is read."""
    image, points = np.ones((1, 1, 4, 4), np.float32), np.zeros((5000, 1, 2, 2), np.float32)
    with pytest.raises(SardonyxError, match="GridSample"):
        harness.run("GridSample", [image, points], symbolic=True)
