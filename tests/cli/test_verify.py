"""`sardonyx verify`: what agrees, what differs first, and beside ONNX Runtime."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.cli.invoke import DIGITS, call
from tests.inspection.faulty import becomes, install
from tests.inspection.models import CHAIN, save

LEVELS = ["disabled", "basic", "extended", "layout", "all"]


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


def test_verify_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, becomes("n2", "Sigmoid"))
    done = call("verify", save(tmp_path, CHAIN), "--level", "basic", "--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["agrees"]) == (1, False)
    assert found["levels"][0]["difference"] == {"value": "c", "operator": "Relu", "node": "n2"}


def test_verify_against_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path, CHAIN)
    done = call("verify", path, "--against", "onnxruntime", "--level", "all")
    assert done.exit_code == 0
    assert "1 outputs agree with onnxruntime" in done.stdout
    install(monkeypatch, becomes("n3", "Sub"))
    done = call("verify", path, "--against", "onnxruntime", "--level", "all")
    assert done.exit_code == 1
    assert "largest error" in done.stdout
    found = json.loads(call("verify", path, "--against", "onnxruntime", "--level", "all", "--json").stdout)
    assert (found["agrees"], len(found["levels"][0]["differ"])) == (False, 1)


def test_verify_against_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = call("verify", DIGITS, "--against", "tvm")
    assert done.exit_code == 2
    assert "there is nothing called 'tvm' to compare with: choose onnxruntime" in done.stderr
    text = '<ir_version: 10, opset_import: ["" : 27]> g (bfloat16[2] x) => (bfloat16[2] y) { y = Gelu (x) }'
    (tmp_path / "m.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    done = call("verify", tmp_path / "m.onnx", "--against", "onnxruntime")
    assert done.exit_code == 2
    assert "onnxruntime can't run the model" in done.stderr
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    done = call("verify", DIGITS, "--against", "onnxruntime")
    assert done.exit_code == 2
    assert "onnxruntime is not installed: `pip install onnxruntime`" in done.stderr


def test_verify_with_custom_operators_of_a_file(tmp_path: Path) -> None:
    """In a process of its own, because the file registers operators for the process."""
    operators = "from sardonyx import custom_op\n@custom_op('my.domain::Twice')\ndef twice(x):\n    return x + x\n"
    (tmp_path / "ops.py").write_text(operators)
    imports = '<ir_version: 10, opset_import: ["" : 21, "my.domain" : 1]>'
    text = f"{imports} g (float[2] x) => (float[2] y) {{ t = my.domain.Twice(x)\n y = Relu(t) }}"
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    command = [
        sys.executable,
        "-c",
        "from sardonyx.cli import app; app()",
        "--operators",
        str(tmp_path / "ops.py"),
        "verify",
        str(tmp_path / "m.onnx"),
    ]
    done = subprocess.run([*command, "--level", "all"], capture_output=True, text=True, check=False)
    assert (done.returncode, "2 values agree" in done.stdout) == (0, True), done.stderr


def test_operators_that_cannot_be_registered(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1 // 0")
    for name, reason in (
        ("bad.py", "bad.py raised ZeroDivisionError"),
        ("none.py", "none.py"),
        ("none.so", "Failed to load library"),
    ):
        done = call("--operators", tmp_path / name, "verify", DIGITS)
        assert done.exit_code == 2
        assert reason in done.stderr
