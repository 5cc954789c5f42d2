"""The command line, as a user meets it: what is printed, exit status, nothing half-written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner, Result

import sardonyx
from sardonyx.cli import app
from tests.inspection.faulty import becomes, install
from tests.inspection.models import CHAIN, save

DIGITS = Path(__file__).parents[1] / "examples" / "digits" / "digits.onnx"
LEVELS = ["disabled", "basic", "extended", "layout", "all"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("sardonyx")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == sardonyx.__version__


def test_verify_agrees_on_the_digit_classifier() -> None:
    done = call("verify", DIGITS)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "sizes: batch=2"
    assert [line.split()[0] for line in lines if "values agree" in line] == LEVELS


def test_verify_takes_size_level_and_seed(tmp_path: Path) -> None:
    done = call("verify", save(tmp_path, CHAIN), "--size", "batch=5", "--level", "all", "--seed", "3")
    assert done.exit_code == 0
    assert done.stdout.startswith("sizes: batch=5\nall       4 values agree")


def test_verify_names_the_first_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, becomes("n2", "Sigmoid"))
    np.savez(tmp_path / "feeds.npz", x=np.full((1, 3), -2, np.float32))
    done = call("verify", save(tmp_path, CHAIN), "--feeds", tmp_path / "feeds.npz", "--level", "basic")
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "basic     differs",
        "  first value    c: float32[1, 3]",
        "  node           Relu 'n2' of b: float32[1, 3]",
        "  largest error  0.119, allowed 0; largest number 0",
        "  got            0.11920291930437088, not 0.0 at [0, 0]",
    ]


def test_verify_tolerance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, becomes("n3", "Sub"))
    path = save(tmp_path, CHAIN)
    assert call("verify", path).exit_code == 1
    assert call("verify", path, "--tolerance", "3").exit_code == 0


@pytest.mark.parametrize("command", ["verify", "describe", "run"])
def test_a_file_that_is_no_model(command: str, tmp_path: Path) -> None:
    (tmp_path / "garbage.onnx").write_bytes(b"\xff" * 64)
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name, reason in (("none", "File doesn't exist"), ("garbage", "parsing failed"), ("empty", "No graph was found")):
        done = call(command, tmp_path / f"{name}.onnx")
        assert done.exit_code == 2
        assert done.stdout == ""
        assert re.fullmatch(rf"sardonyx: .*{name}\.onnx.*{reason}.*\n", done.stderr)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--size", "batch"], "name=number"),
        (["--size", "width=3"], "no input has a symbolic size 'width'"),
        (["--level", "fast"], "there is no optimisation level 'fast': choose one of disabled, basic"),
        (["--feeds", "nowhere.npz"], "nowhere.npz"),
    ],
)
def test_arguments_that_make_no_sense(arguments: list[str], reason: str) -> None:
    done = call("verify", DIGITS, *arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("sardonyx: ")
    assert reason in done.stderr


def test_inputs_that_the_model_refuses(tmp_path: Path) -> None:
    np.savez(tmp_path / "feeds.npz", x=np.zeros(3, np.float32))
    for command in ("verify", "run"):
        done = call(command, save(tmp_path, CHAIN), "--feeds", tmp_path / "feeds.npz")
        assert done.exit_code == 2
        assert "Invalid rank for input: x" in done.stderr


def test_describe_shows_nests_and_places() -> None:
    done = call("describe", DIGITS)
    assert done.exit_code == 0
    assert "input   pictures: tensor(float)['batch', 1, 8, 8]" in done.stdout
    assert "output  probabilities: tensor(float)['batch', 10]" in done.stdout
    assert "CPUExecutionProvider" in done.stdout
    assert "TILE" in done.stdout


def test_describe_shows_the_loops_of_kernels() -> None:
    every = call("describe", DIGITS, "--loops").stdout
    assert every.startswith(call("describe", DIGITS).stdout.partition("nest ")[0])
    names = re.findall(r"^(k_\w+) of .*\nkernel\(", every, re.MULTILINE)
    assert f" {len(names)} kernels" in every
    for prefix in (names[-1][:10], "/7/"):
        shown = call("describe", DIGITS, "--kernel", prefix).stdout
        assert re.findall(r"^(k_\w+) of", shown, re.MULTILINE) == names[-1:]
        assert "tile " in shown
    done = call("describe", DIGITS, "--kernel", "nothing")
    assert done.exit_code == 2
    assert done.stderr == "sardonyx: neither a kernel nor a node of one has a name that begins with 'nothing'\n"


def test_the_loops_of_a_model_with_steps_on_the_host(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 4]> g (string[n] s, float[n] x) => (float[n] y) {
        t = ai.onnx.ml.LabelEncoder <keys_strings = ["a"], values_floats = [1.0], default_float = 0.0> (s)
        y = Add(x, t)
    }"""
    (tmp_path / "host.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    done = call("describe", tmp_path / "host.onnx", "--loops")
    assert done.exit_code == 0
    assert len(re.findall(r"^kernel\(", done.stdout, re.MULTILINE)) == 1


def test_run_saves_what_the_session_gives(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "feeds.npz", pictures=x)
    done = call("run", DIGITS, "--feeds", tmp_path / "feeds.npz", "--repeat", "2", "--save", tmp_path / "out.npz", "--threads", "1")
    assert done.exit_code == 0
    assert done.stdout.startswith("probabilities: float32[3, 10], from ")
    expected = sardonyx.InferenceSession(DIGITS).run(None, {"pictures": x})[0]
    assert np.array_equal(np.load(tmp_path / "out.npz")["probabilities"], expected)


def test_run_writes_nothing_that_it_can_not_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(file: object, **values: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("disk full")

    (tmp_path / "out.npz").write_bytes(b"before")
    monkeypatch.setattr(np, "savez", broken)
    done = call("run", DIGITS, "--save", tmp_path / "out.npz")
    assert done.exit_code == 2
    assert "disk full" in done.stderr
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("out.npz", b"before")]


def test_info_names_target_threads_and_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path))
    monkeypatch.setenv("SARDONYX_TARGET", "avx2")
    facts = dict(line.split(None, 1) for line in call("info").stdout.splitlines())
    assert facts["target"].startswith("avx2: x86_64")
    assert facts["cache"].startswith(str(tmp_path))
    assert int(facts["threads"]) > 0
    monkeypatch.setenv("SARDONYX_CACHE", "off")
    assert "none: SARDONYX_CACHE is off" in call("info").stdout


def test_info_refuses_a_target_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARDONYX_TARGET", "z80")
    done = call("info")
    assert done.exit_code == 2
    assert "no target z80" in done.stderr
