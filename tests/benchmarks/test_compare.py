from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import compare, models
from benchmarks.compare import Comparison, Settings
from benchmarks.engines import ENGINES


def test_ratios_are_taken_round_by_round_against_the_fastest_peer() -> None:
    times = {"ours": [1.0, 2.0, 4.0], "slow": [9.0, 9.0, 9.0], "fast": [2.0, 6.0, 8.0]}
    comparison = Comparison("m", "c", 1, "ours", times)
    assert comparison.best_peer == "fast"
    assert comparison.ratios("fast") == [2.0, 3.0, 2.0]
    assert comparison.ratio("fast") == 2.0
    assert comparison.passed


def test_without_ours_nothing_is_compared() -> None:
    comparison = Comparison("m", "c", 1, "ours", {"peer": [1.0]}, failures={"ours": "died"})
    assert comparison.best_peer is None
    assert not comparison.passed


def test_an_engine_that_disagrees_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "mlp", replace(models.MODELS["mlp"], tolerance=-1.0))
    settings = Settings((ENGINES["onnxruntime"],), threads=(1,), rounds=1, seconds=0.0, cases=("64",))
    _, (comparison,) = compare.compare_model("mlp", settings, tmp_path)
    assert comparison.disagreements == {"onnxruntime": 0.0}
    assert comparison.times == {}
    assert not comparison.passed


def test_a_model_is_compared_at_each_number_of_threads(tmp_path: Path) -> None:
    settings = Settings((ENGINES["onnxruntime"],), threads=(1, 2), rounds=2, seconds=0.0)
    creations, comparisons = compare.compare_model("mlp", settings, tmp_path)
    assert [(c.threads, c.engine, c.warm) for c in creations] == [(1, "onnxruntime", None), (2, "onnxruntime", None)]
    cases = [case.name for case in models.MODELS["mlp"].cases]
    assert [(c.threads, c.case) for c in comparisons] == [(threads, case) for threads in (1, 2) for case in cases]
    assert all(len(c.times["onnxruntime"]) == 2 for c in comparisons)
    assert not list(tmp_path.iterdir()), "the filled model is removed"


@pytest.mark.parametrize("arguments", [["nonsense"], ["mlp", "--against", "nonsense"]])
def test_unknown_names_are_refused(arguments: list[str]) -> None:
    app = compare.typer.Typer()
    app.command()(compare.main)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "nonsense" in result.output
