from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import onnxruntime.capi.onnxruntime_pybind11_state
import pytest

from sardonyx.graph import schemas
from sardonyx.inspection import operators
from sardonyx.ops.record import Op, Rule

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"


def test_the_page_is_current() -> None:
    known = {"": onnx.defs.onnx_opset_version(), schemas.ML: onnx.defs.onnx_ml_opset_version()}
    if any(known[domain] < version for domain, version in operators.OPSETS.items()):
        pytest.skip(f"onnx {onnx.__version__} has not all the operators that the page lists")
    stale = "stale: run `python -m sardonyx.inspection.operators docs/operators.md`"
    assert PAGE.read_text(encoding="utf-8") == operators.page(), stale


def test_every_operator_of_the_standard_has_a_row() -> None:
    names = [row.name for row in operators.rows("")]
    assert len(names) == len(set(names)) > 190
    assert {"Conv", "If", "MatMul", "StringNormalizer"} <= set(names)
    assert not {"Scatter", "Upsample"} & set(names)


def meaning() -> None:
    raise AssertionError("a record is read, not called")


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([], operators.Row("X", None, "reference")),
        ([Op("X", 7, host=True)], operators.Row("X", 7, "host step", "to come", "to come")),
        (
            [Op("X", 13, expand=meaning, gradient=Rule.DERIVED), Op("X", 6, lower=meaning)],  # type: ignore[arg-type]
            operators.Row("X", 6, "expansion", "from its expansion", "to come"),
        ),
        (
            [Op("X", 2, kernel=meaning, gradient=meaning, quantised=Rule.NONE), Op("X", 1, host=True)],  # type: ignore[arg-type]
            operators.Row("X", 2, "loops", "a rule", "has none"),
        ),
    ],
)
def test_rows_follow_from_records(records: list[Op], expected: operators.Row) -> None:
    assert operators.row("X", records) == expected


def test_operators_without_a_record_of_their_own() -> None:
    assert operators.row("Loop", []).way == "repeated body"
    assert operators.row("Constant", []).way == "at load"
    assert operators.row("Loop", [], "com.example").way == "reference"


GENERATORS = {"BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"}


def test_the_operators_that_are_counted_are_those_with_a_kernel_in_onnxruntime() -> None:
    if not onnxruntime.__version__.startswith("1.32."):
        pytest.skip(f"onnxruntime {onnxruntime.__version__} has other kernels than 1.32")
    kernels = onnxruntime.capi.onnxruntime_pybind11_state.get_all_opkernel_def()
    theirs = {k.op_name for k in kernels if (k.domain, k.provider) == ("com.microsoft", "CPUExecutionProvider")}
    assert set(operators.ONNXRUNTIME) == theirs - GENERATORS


def test_missing_operators_are_named() -> None:
    names = [name for name in operators.ONNXRUNTIME if name != "QGemm"]
    assert operators.coverage(names).startswith(f"{len(names)} of the {len(names) + 1} ")
    assert "missing: QGemm." in operators.coverage(names)
    assert "missing" not in operators.coverage(operators.ONNXRUNTIME)
