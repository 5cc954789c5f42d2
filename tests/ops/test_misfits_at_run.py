"""Operators whose inputs' sizes and numbers a run brings, wrong ones too: each refuses or computes, and touches no memory but its own.
It computes from nothing too: where an axis is empty, no size is divided by zero.

Inputs, outputs and arenas lie before pages that nobody may touch, in a child: an access past their end is a signal.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fuzz.child_process import Limits, Outcome, execute
from fuzz.guard_pages import guarded_copy
from fuzz.sizes import guard_memory
from sardonyx.base.errors import SardonyxError
from sardonyx.ops.record import Case, Op
from tests.ops import harness
from tests.ops.test_misfits import RECORDS, changed

LIMITS = Limits(processor=60, clock=400, memory=3 << 30)
BATCHES = 12
I64 = np.iinfo(np.int64)
HOSTILE = (0, -1, 2**31, I64.max, I64.min)
LARGE = tuple(f"holds {n}" for n in HOSTILE if abs(n) > 1)
NOTHING = "divided by zero"
"""What an error may say of large numbers alone, which may overflow as well."""

Inputs = list[np.ndarray | None]


def has_sizes_to_fit(op: Op) -> bool:
    """Does it take several tensors of which one has an axis?"""
    inputs = [np.asarray(x) for x in op.cases[0].inputs if x is not None] if op.cases else []
    return len(inputs) > 1 and any(x.ndim for x in inputs)


def variants(case: Case) -> Iterator[tuple[str, Inputs]]:
    """The case with one input changed: other sizes, other integers; and with all axes of one size empty."""
    given = [None if x is None else np.asarray(x) for x in case.inputs]
    for n in sorted({n for x in given if x is not None for n in x.shape if n}):
        yield f"all axes of {n} are empty", [x if x is None else emptied(x, n) for x in given]
    for i, x in enumerate(case.inputs):
        if x is None:
            continue
        x = np.asarray(x)
        found = [(what, y) for what, y in changed(x) if y.ndim == x.ndim]
        if x.dtype in (np.int64, np.int32) and x.size:
            limits = np.iinfo(x.dtype)
            found += [(f"holds {n}", np.full_like(x, max(limits.min, min(n, limits.max)))) for n in HOSTILE]
        for what, y in found:
            yield f"input {i}: {what}", [*case.inputs[:i], np.ascontiguousarray(y).reshape(y.shape), *case.inputs[i + 1 :]]


def emptied(x: np.ndarray, n: int) -> np.ndarray:
    """x without the elements of its axes of size n."""
    return x[tuple(slice(0) if size == n else slice(None) for size in x.shape)]


def try_all(op: Op) -> str:
    """What is wrong with the operator, or nothing: an exception that is not documented, or that stands for one."""
    case = op.cases[0]
    arrays = [None if x is None else np.asarray(x) for x in case.inputs]
    arguments = {"version": harness.newest_version(op), "domain": op.domain, "outputs": case.outputs, "symbolic": True}
    try:
        harness.run(op.name, arrays, case.attributes, **arguments)
    except (harness.NotCompiled, SardonyxError) as error:  # it has to know some of its inputs: test_misfits does without a session
        return f"{op.name}: {error}" if getattr(error, "defect", False) else ""
    for what, inputs in variants(case):
        print(op.name, what, flush=True)  # a signal leaves no more than this
        given = [None if x is None else guarded_copy(np.asarray(x)) for x in inputs]
        try:
            harness.run(op.name, given, case.attributes, **arguments)
        except harness.NotCompiled:
            continue
        except SardonyxError as error:
            if error.defect or (NOTHING in str(error) and not what.endswith(LARGE)):
                return f"{op.name}, {what}: {error}"
        except Exception:
            return f"{op.name}, {what}: {traceback.format_exc()}"
    return ""


@pytest.mark.parametrize("batch", range(BATCHES))
def test_operators_stay_inside_their_inputs(batch: int, tmp_path: Path) -> None:
    ops = [op for op in RECORDS if has_sizes_to_fit(op)][batch::BATCHES]

    def run(_: bytes) -> Outcome:
        guard_memory()
        wrong = [found for op in ops if (found := try_all(op))]
        return Outcome("done", "\n".join(wrong))

    _, outcome = execute(lambda: b"", run, LIMITS, tmp_path)
    assert outcome.label == "done", f"{outcome.label} in {outcome.details[-600:]}"
    assert not outcome.finding, outcome.finding


def bordered(x: np.ndarray, pads: list[int], mode: str) -> np.ndarray | None:
    """np.pad's result, by ONNX's layout of pads; None where there is none: too little to mirror, nothing to repeat, nothing left."""
    widths = list(zip(pads[: x.ndim], pads[x.ndim :], strict=True))
    left = [n + min(a, 0) + min(b, 0) for n, (a, b) in zip(x.shape, widths, strict=True)]
    grown = [(max(a, 0), max(b, 0)) for a, b in widths]
    if min(left) < 0 or max(left) + sum(map(sum, grown)) > 1000:
        return None
    if any(max(w) > (n - 1 if mode == "reflect" else n and 1000) for n, w in zip(left, grown, strict=True) if max(w)):
        return None
    kept = x[tuple(slice(max(-a, 0), n + min(b, 0)) for n, (a, b) in zip(x.shape, widths, strict=True))]
    return np.pad(kept, grown, mode)  # type: ignore[call-overload, no-any-return]


PADS = (
    [0] * 4,
    [2, 0, 0, 3],
    [0, 3, 2, 0],
    [5, 0, 0, 0],
    [0, 0, 0, 9],
    [-1, 1, 0, 2],
    [1, -3, 0, 1],
    [0, 2, 0, 2],
    [1, 0, I64.max, 0],
    [I64.min] * 4,
)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_borders_that_a_run_tells(mode: str, tmp_path: Path) -> None:
    """What numpy has is computed, and everything else refused, without a read beyond the tensor."""

    def run(_: bytes) -> Outcome:
        guard_memory()
        for shape in ((3, 4), (0, 4), (1, 4), (3, 0), (5, 1)):
            x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
            for pads in PADS:
                wanted = bordered(x, pads, mode)
                with contextlib.nullcontext() if wanted is not None else pytest.raises(SardonyxError) as refusal:
                    (got,) = harness.run("Pad", [guarded_copy(x), guarded_copy(np.array(pads))], {"mode": mode}, symbolic=True)
                if wanted is None:
                    assert not refusal.value.defect
                else:
                    np.testing.assert_array_equal(got, wanted)
        return Outcome("done")

    _, outcome = execute(lambda: b"", run, LIMITS, tmp_path)
    assert outcome.label == "done", outcome.details[-600:]
