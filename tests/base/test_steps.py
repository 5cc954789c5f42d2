"""Steps that run one after the other: what the dial tells of them, and which of them SARDONYX_STEPS leaves."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from sardonyx.base.steps import last_optional, run_steps


@dataclass(frozen=True)
class Append:
    """Appends its name to a list, unless it is empty."""

    name: str
    letters: str

    def run(self, subject: list[str]) -> None:
        subject.extend(self.letters)


STEPS = [(4, Append("first", "ab")), (5, Append("idle", "")), (9, Append("second", "c"))]


def test_steps_run_in_order_and_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    subject: list[str] = []
    run_steps(STEPS, subject, "letters", "".join)
    assert subject == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_level_1_tells_times_and_level_3_what_changed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SARDONYX_DEBUG", "1")
    run_steps(STEPS, [], "letters", "".join)
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "--- steps of letters"
    assert [line.split()[:2] for line in told[1:]] == [["4", "first"], ["5", "idle"], ["9", "second"]]
    assert all(line.endswith(" ms") for line in told[1:])
    monkeypatch.setenv("SARDONYX_DEBUG", "3")
    run_steps(STEPS, [], "letters", "".join)
    told = capsys.readouterr().err.splitlines()
    assert told[:4] == ["--- letters after step 4 (first)", "ab", "--- letters after step 9 (second)", "abc"]


@pytest.mark.parametrize(("given", "last"), [("0", 0), ("2", 2), ("99", 99), ("b", 2), ("", 3)])
def test_the_last_optional_step_by_number_or_name(given: str, last: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARDONYX_STEPS", given)
    assert last_optional(["a", "b", "c"]) == last


def test_a_name_that_no_step_has_is_an_error_unless_more_steps_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARDONYX_STEPS", "d")
    with pytest.raises(ValueError, match="SARDONYX_STEPS is 'd', neither a number nor one of the steps a, b, c"):
        last_optional(["a", "b", "c"])
    assert last_optional(["a", "b", "c"], more_follow=True) == 3
