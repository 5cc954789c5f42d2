"""The command that prints errors beside onnxruntime's: its measure, its numbers, its lines."""

from __future__ import annotations

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import sardonyx
from benchmarks import errors


def test_an_error_is_in_parts_of_the_largest_output() -> None:
    exact = np.array([1.0, -4.0, 2.0])
    assert errors.error(np.array([1.0, -4.0, 2.0], np.float32), exact) == 0
    assert errors.error(np.array([1.0, -4.0, 2.5], np.float32), exact) == 0.125
    assert errors.error(np.array([1.5, -4.0, 2.0], np.float16), exact) == 0.125


def test_numbers_are_the_same_each_time_and_of_their_kind() -> None:
    for kind in ("equal", "positive", "normal", "ones"):
        np.testing.assert_array_equal(errors.numbers(kind, 5, 3), errors.numbers(kind, 5, 3))
    assert (np.ptp(errors.numbers("equal", 50, 4), axis=0) == 0).all()
    assert (errors.numbers("positive", 50, 4) >= 0).all()
    assert (errors.numbers("normal", 50, 4) < 0).any()


@pytest.mark.parametrize("make", [*errors.NARROW, lambda n: errors.grouped(n, 2, 16, 8, 4), lambda n: errors.plain(n, 2, 16, 8)])
def test_every_network_runs_in_each_dtype(make: errors.Maker) -> None:
    for dtype in (np.float16, np.float32, np.float64):
        n = errors.Network(1)
        result, shape = make(n)
        found = errors.output(sardonyx, n.model(result, shape, dtype), n.random.standard_normal(shape).astype(dtype))
        assert found.dtype == dtype
        assert np.isfinite(found).all()
        assert found.std() > 0


def test_the_command_prints_a_line_for_each_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(errors.KINDS, "sums", lambda: iter([("a", 2e-6, 1e-6), ("b", 1e-7, 0.0)]))
    app = typer.Typer()
    app.command()(errors.main)
    lines = CliRunner().invoke(app, ["sums"]).stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["sums", "ours", "theirs", "ratio"],
        ["a", "2.0e-06", "1.0e-06", "2.0"],
        ["b", "1.0e-07", "0.0e+00", "100.0"],
    ]
