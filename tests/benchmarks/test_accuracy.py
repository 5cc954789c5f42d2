import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

from benchmarks import accuracy


def _invoke(arguments: list[str]) -> tuple[int, str]:
    app = accuracy.typer.Typer()
    app.command()(accuracy.main)
    result = CliRunner().invoke(app, [*arguments, "--engine", "onnxruntime"])
    return result.exit_code, result.output


def test_an_engine_agrees_with_itself() -> None:
    code, output = _invoke(["mlp", "--levels", "0,99"])
    assert code == 0
    assert output.count("passed") == 4


def test_a_wrong_output_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outputs of the engine under test are spoilt by a little more than the tolerance allows."""
    honest = accuracy._outputs

    def spoilt(*arguments: object) -> list[list[np.ndarray]]:
        return [[values + np.float32(2e-4) * np.abs(values).max() for values in case] for case in honest(*arguments)]

    monkeypatch.setattr(accuracy, "_outputs", spoilt)
    code, output = _invoke(["mlp"])
    assert code == 1
    assert "2 cases failed" in output


@pytest.mark.parametrize(
    ("difference", "same_bits", "variation", "passed"),
    [(0.0, True, 0.5, True), (2e-4, True, 0.5, False), (0.0, False, 0.5, False), (0.0, True, 0.0, False)],
)
def test_what_passes(difference: float, same_bits: bool, variation: float, passed: bool) -> None:
    assert accuracy.AccuracyResult("m", "c", 99, {1: 0.0, 2: difference}, same_bits, variation).passed is passed


def test_level_and_threads_reach_the_session(tmp_path: pytest.TempPathFactory) -> None:
    path = accuracy.models.save("mlp", tmp_path)
    options = accuracy._session(onnxruntime, path, threads=2, level=1).get_session_options()
    assert options.intra_op_num_threads == 2
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
