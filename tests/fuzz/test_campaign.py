"""fuzz/campaign.py: campaigns resume, add up, and keep what they find."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.campaign import Campaign, State, main, totals
from fuzz.child_process import Limits
from tests.fuzz.toy import Toy

SHORT = Limits(processor=0.5, clock=1.0)


def campaign(folder: Path, *words: str, seed: int = 0) -> Campaign:
    return Campaign(Toy(*words), seed, folder, SHORT)


def test_executions_add_up(tmp_path: Path) -> None:
    with campaign(tmp_path, "fine", "other") as first:
        assert first.run(7, jobs=2) == []
    with campaign(tmp_path, "fine", "other") as second:
        assert second.run(5) == []
    assert second.state.executions == 12
    assert second.state.next == 12
    assert second.state.done == []
    assert sum(second.state.labels.values()) == 12
    assert State.read(second.path) == second.state
    assert "12 executions" in totals(Toy(), tmp_path)


def test_what_an_execution_does_depends_on_seed_and_number(tmp_path: Path) -> None:
    with campaign(tmp_path, "fine") as one, campaign(tmp_path, "fine", seed=1) as two:
        assert one.made(3) == one.made(3)
        assert len({one.made(3), one.made(4), two.made(3)}) == 3


def test_a_campaign_runs_once_at_a_time(tmp_path: Path) -> None:
    with campaign(tmp_path), campaign(tmp_path, seed=1), pytest.raises(BlockingIOError), campaign(tmp_path):
        pass


def test_a_finding_is_kept_small_and_counted(tmp_path: Path) -> None:
    with campaign(tmp_path, "wrong") as found:
        assert found.run(5) == ["a finding"]
    assert found.state.findings["a finding"].count == 5
    assert found.state.findings["a finding"].kept == [0, 1, 2]
    assert (tmp_path / "toy-0-0.onnx").read_bytes() == b"wrong "
    assert (tmp_path / "toy-0-1.onnx").read_bytes() == found.made(1)
    assert (tmp_path / "toy-0-0.txt").read_text() == "a finding\n\ndetails\n"
    assert "FOUND: a finding (5)" in totals(Toy(), tmp_path)


def test_a_finding_whose_inputs_pass_is_mended(tmp_path: Path) -> None:
    with campaign(tmp_path, "wrong") as found:
        found.run(2)
        assert found.again() == ["a finding"]
        for path in tmp_path.glob("*.onnx"):
            path.write_bytes(b"fine")
        assert found.again() == []
    assert State.read(found.path).mended == {"a finding": 2}


def test_other_children_go_on_while_one_hangs(tmp_path: Path) -> None:
    with campaign(tmp_path, "sleep", "fine", "fine", "fine", "signal") as both:
        assert set(both.run(12, jobs=3)) == {"hang: outside the package", "SIGSEGV: outside the package"}
    assert both.state.executions == 12


def test_time_ends_a_campaign(tmp_path: Path) -> None:
    with campaign(tmp_path, "fine") as timed:
        timed.run(None, seconds=0.3)
    assert timed.state.executions > 0
    assert 0.3 < timed.state.seconds < 10


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ["--state", str(tmp_path), "--executions", "3", "--jobs", "1"]
    assert main(Toy("fine"), told) == 0
    assert main(Toy("wrong"), [*told, "--seed", "1"]) == 1
    assert main(Toy(), ["--state", str(tmp_path), "--report"]) == 0
    assert "6 executions" in capsys.readouterr().out
    assert main(Toy(), ["--state", str(tmp_path), "--seed", "1", "--again"]) == 1
    assert main(Toy(), ["--replay", str(tmp_path / "toy-1-0.onnx")]) == 1
