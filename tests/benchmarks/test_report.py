import json
import math
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.compare import Comparison, Creation

COMPARISONS = [
    Comparison("resnet50", "1", 1, "sardonyx", {"sardonyx": [1e-3], "onnxruntime": [2e-3], "openvino": [4e-3]}),
    Comparison("resnet50", "8", 1, "sardonyx", {"sardonyx": [1e-3], "onnxruntime": [8e-3]}, {"openvino": 0.5}),
    Comparison("mlp", "1", 2, "sardonyx", {"sardonyx": [1e-3]}, failures={"onnxruntime": "died"}),
]
CREATIONS = [Creation("resnet50", 1, "sardonyx", 1.5, 0.01), Creation("resnet50", 1, "onnxruntime", 0.2, None)]


def test_geometric_mean() -> None:
    assert report.geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    assert math.isnan(report.geometric_mean([]))


def test_the_mean_is_taken_against_the_best_peer() -> None:
    assert report.best_ratios(COMPARISONS) == pytest.approx([2.0, 8.0])
    assert "1 threads: geometric mean against the best peer 4.00 over 2 cases" in report.summary(COMPARISONS)


def test_markdown_states_times_disagreements_and_failures() -> None:
    lines = report.markdown(CREATIONS, COMPARISONS).splitlines()
    assert "| resnet50 | 1 | 1 | 1.000 | 2.000 | 4.000 | 2.00 (2.00 to 2.00) |" in lines
    assert "| resnet50 | 8 | 1 | 1.000 | 8.000 | differs by 5.0e-01 | 8.00 (8.00 to 8.00) |" in lines
    assert "| mlp | 1 | 2 | 1.000 | failed | - | - |" in lines
    assert "| resnet50 | 1 | sardonyx | 1500.0 | 10.0 |" in lines


def test_files_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the chart needs the bench extra")
    report.write(CREATIONS, COMPARISONS, tmp_path / "results")
    content = json.loads((tmp_path / "results" / "compare.json").read_text())
    assert content["comparisons"][0]["ratios"] == {"onnxruntime": [2.0], "openvino": [4.0]}
    assert (tmp_path / "results" / "compare.png").read_bytes().startswith(b"\x89PNG")
