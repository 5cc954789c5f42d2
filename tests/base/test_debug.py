"""The debug dial: what it prints, what it dumps, and what turns it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sardonyx.base import debug

VARIABLES = ("SARDONYX_DEBUG", "SARDONYX_DUMP", "SARDONYX_PASSES", "SARDONYX_STEPS", "SARDONYX_VERIFY")


@pytest.fixture(autouse=True)
def _untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_silent_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    debug.show(debug.RAN, "title", "text")
    assert capsys.readouterr() == ("", "")
    assert debug.level() == 0
    assert not debug.is_set()
    assert not debug.wants(debug.RAN)


@pytest.mark.parametrize("level", range(1, 7))
def test_a_level_shows_its_own_and_the_lower_ones(
    level: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SARDONYX_DEBUG", str(level))
    for at in range(1, 7):
        debug.show(at, f"heading {at}", "text\n\n")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "".join(f"--- heading {at}\ntext\n" for at in range(1, level + 1))
    assert [debug.wants(at) for at in range(1, 7)] == [at <= level for at in range(1, 7)]


def test_a_level_that_is_no_number_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARDONYX_DEBUG", "loud")
    with pytest.raises(ValueError, match="SARDONYX_DEBUG is 'loud'"):
        debug.level()


def test_dumps_are_files_in_the_order_of_the_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SARDONYX_DUMP", str(tmp_path / "new"))
    debug.show(debug.ASSEMBLY, "../a b/c", "first")
    debug.show(debug.RAN, "second", "2")
    assert capsys.readouterr() == ("", "")
    files = sorted((tmp_path / "new").iterdir())
    assert [f.name.split("-", 1)[1] for f in files] == [".._a_b_c.txt", "second.txt"]
    assert [f.read_text() for f in files] == ["first", "2"]
    assert all(debug.wants(at) for at in range(1, 7))
    assert debug.is_set()


def test_passes_are_chosen_by_a_regular_expression(monkeypatch: pytest.MonkeyPatch) -> None:
    assert debug.pass_enabled("ConstantFolding")
    monkeypatch.setenv("SARDONYX_PASSES", "^Constant|Fusion$")
    assert [debug.pass_enabled(n) for n in ("ConstantFolding", "MatMulAddFusion", "CastElimination")] == [True, True, False]
    assert debug.is_set()


def test_steps_end_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert debug.stop() is None
    monkeypatch.setenv("SARDONYX_STEPS", "12")
    assert debug.stop() == "12"
    assert debug.is_set()


def test_verification_is_asked_for_and_changes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not debug.verifying()
    monkeypatch.setenv("SARDONYX_VERIFY", "1")
    assert debug.verifying()
    assert not debug.is_set()
