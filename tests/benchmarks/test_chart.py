"""The chart of the README."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks.chart import draw, main, ratios

CASES = [
    {"model": "a & b", "threads": 1, "ratios": {"onnxruntime": [1.0, 4.0, 2.0], "openvino": [1.5]}},
    {"model": "a & b", "threads": 1, "ratios": {"onnxruntime": [8.0]}},
    {"model": "a & b", "threads": 2, "ratios": {"onnxruntime": [100.0]}},
    {"model": "c", "threads": 1, "ratios": {"onnxruntime": [0.5]}},
]


def test_medians_over_rounds_and_means_over_cases() -> None:
    assert ratios(CASES) == {
        "a & b": {"onnxruntime": pytest.approx(4.0), "openvino": pytest.approx(1.5)},
        "c": {"onnxruntime": 0.5},
    }


def test_bars_are_as_long_as_their_ratios(tmp_path: Path) -> None:
    machine = {"processor": "x < y", "cores": 2, "packages": {"onnxruntime": "1.0"}}
    (tmp_path / "compare.json").write_text(json.dumps({"machine": machine, "comparisons": CASES}))
    main(tmp_path / "compare.json", tmp_path / "images" / "speed.svg")
    root = ElementTree.fromstring((tmp_path / "images" / "speed.svg").read_text())
    bars = [float(r.attrib["width"]) for r in root.iter("{http://www.w3.org/2000/svg}rect") if r.attrib["height"] == "8"]
    assert [round(bar / bars[0], 3) for bar in bars] == [1.0, 0.375, 0.125]
    texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a & b", "c", "4.00", "1.50", "0.50", "x < y, 2 cores; onnxruntime 1.0"} <= set(texts)


def test_nothing_measured() -> None:
    with pytest.raises(ValueError, match="no model"):
        draw({}, "")
