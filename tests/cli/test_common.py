"""What commands share: feeds from files of every kind, and errors that list the inputs that the model takes."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import sardonyx
from tests.cli.invoke import DIGITS, PICTURE, call
from tests.inspection.models import CHAIN, save


def test_inputs_from_npy_npz_and_png_files(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((3, 1, 8, 8), np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "one.npz", x)
    np.savez(tmp_path / "named.npz", pictures=x)
    expected = sardonyx.InferenceSession(DIGITS).run(None, {"pictures": x})[0]
    for given in (tmp_path / "x.npy", f"pictures={tmp_path / 'one.npz'}", tmp_path / "named.npz"):
        assert call("run", DIGITS, "--input", given, "--save", tmp_path / "out.npz").exit_code == 0
        assert np.array_equal(np.load(tmp_path / "out.npz")["probabilities"], expected)
    assert call("run", DIGITS, "--input", PICTURE, "--save", tmp_path / "out.npz").exit_code == 0
    assert np.load(tmp_path / "out.npz")["probabilities"].shape == (1, 10)


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("there is none.npy", lambda path: None, "No such file"),
        ("broken.png", lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40), "is no image that can be read"),
        ("cut.png", lambda path: path.write_bytes(PICTURE.read_bytes()[:60]), "is no image that can be read"),
        ("text.npy", lambda path: path.write_text("1 2 3"), "holds no array that numpy can read"),
        ("text.npz", lambda path: path.write_text("1 2 3"), "is not an .npz file"),
        ("objects.npy", lambda path: np.save(path, np.array([{}], object)), "holds no array that numpy can read"),
        ("pipe.npy", os.mkfifo, "is not a regular file"),
        ("pipe.png", os.mkfifo, "is not a regular file"),
        ("shape.npy", lambda path: np.save(path, np.zeros((1, 8), np.float32)), "Invalid rank for input: pictures"),
        ("sizes.npy", lambda path: np.save(path, np.zeros((1, 1, 9, 8), np.float32)), "Got invalid dimensions for input: pictures"),
        ("doubles.npy", lambda path: np.save(path, np.zeros((1, 1, 8, 8))), "Unexpected input data type"),
    ],
)
def test_files_that_are_no_input(name: str, write: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    done = call("run", DIGITS, "--input", tmp_path / name)
    assert done.exit_code == 2
    assert reason in done.stderr
    assert "The model's inputs are:\n  pictures: tensor(float)['batch', 1, 8, 8]" in done.stderr
    assert done.stdout == ""


def test_an_input_that_the_model_does_not_have() -> None:
    done = call("run", DIGITS, "--input", "picture=x.npy")
    assert done.exit_code == 2
    assert "the model has no input 'picture'; there are pictures" in done.stderr


def test_files_with_an_equals_sign_and_names_without_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a=b.npy", np.zeros((1, 1, 8, 8), np.float32))
    assert call("run", DIGITS, "--input", tmp_path / "a=b.npy").exit_code == 0
    done = call("run", DIGITS, "--input", "pictures=")
    assert done.exit_code == 2
    assert "no file is given for input 'pictures': write pictures=FILE" in done.stderr


def test_an_image_for_an_input_that_is_none(tmp_path: Path) -> None:
    for shape, reason in (("[n]", "which is no image's"), ("[n,7,8,8]", "has 7 channels")):
        text = f'<ir_version: 10, opset_import: ["" : 21]> g (float{shape} x) => (float{shape} y) {{ y = Relu (x) }}'
        (tmp_path / "m.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
        done = call("run", tmp_path / "m.onnx", "--input", f"x={PICTURE}")
        assert done.exit_code == 2
        assert reason in done.stderr


def test_an_image_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_pillow(name: str, *rest: object, **named: object) -> object:
        if name.split(".")[0] == "PIL":
            raise ImportError(name)
        return real(name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_pillow)
    done = call("run", DIGITS, "--input", PICTURE)
    assert done.exit_code == 2
    assert "needs pillow: `pip install pillow`" in done.stderr


@pytest.mark.parametrize("command", ["verify", "run", "profile"])
def test_inputs_that_the_model_refuses(command: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "feeds.npz", x=np.zeros(3, np.float32))
    done = call(command, save(tmp_path, CHAIN), "--feeds", tmp_path / "feeds.npz")
    assert done.exit_code == 2
    assert "Invalid rank for input: x" in done.stderr


@pytest.mark.parametrize("option", [("run", "--save"), ("profile", "--html"), ("profile", "--trace"), ("optimize", "")])
def test_outputs_that_can_not_be_written(option: tuple[str, str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in ((tmp_path / "pipe", "is not a regular file"), (tmp_path / "no" / "x", "there is no folder")):
        done = call(option[0], DIGITS, *filter(None, option[1:]), path)
        assert done.exit_code == 2
        assert reason in done.stderr


def test_a_reader_that_has_seen_enough_gets_no_error() -> None:
    code = "from sardonyx.cli import app; app()"
    command = f"{sys.executable} -c '{code}' inspect {DIGITS} --nodes | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_json_is_all_that_is_printed() -> None:
    for command in ("run", "inspect", "verify", "bench", "profile", "compile"):
        assert json.loads(call(command, DIGITS, "--json").stdout)
