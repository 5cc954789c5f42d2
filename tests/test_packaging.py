"""The wheel, and what is true of the package as a whole: public names, what is imported when, no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import sardonyx

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits" / "digits.onnx"
BUILD = "import setuptools.build_meta, sys; print(setuptools.build_meta.build_wheel(sys.argv[1]))"
RUN = """
import sys, numpy, sardonyx
assert sardonyx.__file__.startswith(sys.argv[1]), sardonyx.__file__
session = sardonyx.InferenceSession(sys.argv[2])
print(session.run(None, {"pictures": numpy.zeros((1, 1, 8, 8), numpy.float32)})[0].shape)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    done = subprocess.run([sys.executable, "-c", BUILD, folder], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


def test_the_wheel_is_pure_python_and_complete(wheel: Path) -> None:
    assert wheel.name == f"sardonyx-{sardonyx.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    modules = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    data = {
        "sardonyx/include/sardonyx_operators.h",
        "sardonyx/py.typed",
        "sardonyx/inspection/profile_page.html",
        *(f"sardonyx/datasets/{name}.onnx" for name in ("logreg_iris", "mul_1", "sigmoid")),
    }
    metadata = f"sardonyx-{sardonyx.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(metadata)} == modules | data
    assert metadata + "licenses/LICENSE" in names


def test_the_wheel_runs_a_model(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "SARDONYX_CACHE": "off"}
    command = [sys.executable, "-P", "-c", RUN, tmp_path, DIGITS]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("(1, 10)\n", "")


def test_every_folder_of_modules_is_a_package() -> None:
    for path in (ROOT / "src" / "sardonyx").rglob("*.py"):
        assert (path.parent / "__init__.py").exists(), path


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == sardonyx.__version__ == sardonyx.get_version_string()


def test_public_names_are_there() -> None:
    assert sorted(sardonyx.__all__) == sardonyx.__all__
    for name in sardonyx.__all__:
        assert getattr(sardonyx, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Session'"):
        sardonyx.Session  # noqa: B018


def test_import_is_light() -> None:
    """Importing the package loads neither the compiler's libraries nor numpy."""
    heavy = "{'numpy', 'onnx', 'onnx_ir', 'llvmlite', 'typer'}"
    code = f"import sys, sardonyx; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_nothing_opens_a_socket() -> None:
    code = """
import socket, sys
def refuse(*_, **__):
    raise AssertionError("a socket was opened")
socket.socket.__init__ = refuse
import numpy, sardonyx
sardonyx.InferenceSession(sys.argv[1]).run(None, {"pictures": numpy.zeros((1, 1, 8, 8), numpy.float32)})
"""
    subprocess.run([sys.executable, "-c", code, DIGITS], check=True)
