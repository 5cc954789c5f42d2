"""Each step reads and sets the fields of values that its line in the list declares, and no others."""

from __future__ import annotations

import runpy
from pathlib import Path
from unittest import mock

import onnx
import pytest

from sardonyx.base.options import CompileOptions
from sardonyx.inspection.loops import lowered_parts
from sardonyx.lower import lowered
from sardonyx.lower.lowered import PROGRAM, VALUES
from tests.lower.control_graphs import random_model
from tests.lower.fields import FIELDS, watched_lists
from tests.lower.test_steps import everything

EXAMPLES = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "kernels.py"))["EXAMPLES"]
STEPS = [*VALUES, *PROGRAM]


@pytest.fixture(scope="module")
def accesses() -> dict[str, tuple[set[str], set[str]]]:
    """{step: (fields it reads, fields it sets)} over convolutions, attention, loops, trees and random control flow."""
    models = [
        everything(),
        *(example.model() for example in EXAMPLES),
        *(onnx.load_from_string(random_model(s)[0]) for s in range(12)),
    ]
    found: dict[str, tuple[set[str], set[str]]] = {}
    with mock.patch.object(lowered, "run_list", watched_lists(found)):
        for model in models:
            lowered_parts(model.SerializeToString(), CompileOptions(target="avx2", winograd=True))
    return found


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_step_accesses_the_fields_that_it_declares(step: lowered.Step, accesses: dict[str, tuple[set[str], set[str]]]) -> None:
    read, was_set = accesses[step.name]
    assert {*step.reads.split()} <= {*FIELDS}
    assert read == {*step.reads.split()}
    assert was_set == {*step.sets.split()}


def test_a_field_that_is_not_declared_is_found() -> None:
    found: dict[str, tuple[set[str], set[str]]] = {}
    spy = lowered.Step("spy", lambda graph: [setattr(v, "level", len(v.strides)) for v in graph.values.values()])
    with mock.patch.object(lowered, "run_list", watched_lists(found)), mock.patch.object(lowered, "VALUES", (spy, *VALUES)):
        lowered_parts(EXAMPLES[0].model().SerializeToString(), CompileOptions(target="avx2"))
    assert found["spy"] == ({"strides"}, {"level"})
