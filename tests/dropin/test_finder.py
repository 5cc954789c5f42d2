"""`import onnxruntime` gives this package: in a process of its own, whether ONNX Runtime is installed or not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = """
import importlib.metadata, importlib.util, sys
import onnxruntime as ort
import onnxruntime
assert ort.__version__ == importlib.metadata.version("onnxruntime") == ort.get_version_string() == ort.version == "1.32.0"
assert tuple(map(int, ort.__version__.split(".")[:2])) >= (1, 20)
assert importlib.metadata.distribution("onnxruntime").metadata["Name"] == "onnxruntime"
assert "onnxruntime" in importlib.metadata.packages_distributions()
assert importlib.util.find_spec("onnxruntime") is not None
assert any(d.metadata["Name"] == "onnxruntime" for d in importlib.metadata.distributions())

import sardonyx
assert ort.InferenceSession is sardonyx.InferenceSession
from onnxruntime import InferenceSession, OrtValue, SessionOptions, get_available_providers
from onnxruntime import *
from onnxruntime.capi import _pybind_state as C
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, NoSuchFile, RuntimeException
from onnxruntime.capi.onnxruntime_inference_collection import InferenceSession as Inner, Session, check_and_normalize_provider_args
assert ort.capi._pybind_state.OrtValue is C.OrtValue is OrtValue and Inner is InferenceSession
assert ort.capi.onnxruntime_pybind11_state.InvalidArgument is InvalidArgument
import onnxruntime.backend as backend
from onnxruntime.backend.backend import OnnxRuntimeBackend
from onnxruntime.datasets import get_example
assert backend.supports_device("CPU")
assert sys.modules["onnxruntime.datasets"].get_example is get_example
assert get_example("mul_1.onnx").endswith("mul_1.onnx")
for name in ("session", "nothing", "graph.load", "capi.nothing"):
    try:
        importlib.import_module("onnxruntime." + name)
    except ModuleNotFoundError as error:
        assert "onnxruntime" in str(error)
    else:
        raise AssertionError(name)
try:
    InferenceSession("/none.onnx")
except NoSuchFile as error:
    print(error)
"""
WITHOUT = """
import sys
sys.path[:] = [path for path in sys.path if not path.endswith("site-packages")] + [sys.argv[1]]
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "sardonyx.dropin", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


def test_names_and_versions() -> None:
    done = run("-c", NAMES)
    assert done.returncode == 0, done.stderr
    assert "NO_SUCHFILE : Load model from /none.onnx failed" in done.stdout


def without_onnxruntime(folder: Path, code: str) -> str:
    """Write a program that finds all packages that are installed in `folder`, but for ONNX Runtime. -> its path"""
    import numpy

    packages = Path(numpy.__file__).parents[1]
    for entry in packages.iterdir():
        if not entry.name.startswith("onnxruntime"):
            (folder / entry.name).symlink_to(entry)
    (folder / "program.py").write_text(WITHOUT + code)
    return str(folder / "program.py")


def test_onnxruntime_need_not_be_installed(tmp_path: Path) -> None:
    code = NAMES + "\nassert importlib.util.find_spec('onnxruntime.quantization') is None"
    done = run(without_onnxruntime(tmp_path, code), str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_scripts_modules_and_arguments(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("word = 'beside'")
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, beside, onnxruntime; print(__name__, sys.argv[1:], beside.word, onnxruntime.__version__, __file__)"
    )
    expected = "__main__ ['a', '-m', 'b'] beside 1.32.0 " + str(program)
    assert run(str(program), "a", "-m", "b").stdout.strip() == expected
    assert (
        run("-m", "program", "a", "-m", "b", PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}").stdout.strip() == expected
    )
    done = run("-c", "import sys, onnxruntime; print(sys.argv); sys.exit(7)", "x")
    assert (done.stdout.strip(), done.returncode) == ("['-c', 'x']", 7)


@pytest.mark.parametrize(("arguments", "text"), [((), "usage"), (("-m",), "needs an argument"), (("/none.py",), "can't open file")])
def test_arguments_that_name_no_program(arguments: tuple[str, ...], text: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert text in done.stderr


CHILDREN = """
import concurrent.futures, multiprocessing, os, subprocess, sys
import onnxruntime as ort

def child(_):
    from importlib.metadata import version
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail
    return ort.InferenceSession.__module__, version("onnxruntime"), Fail.__module__

if __name__ == "__main__":
    for method in ("spawn", "fork", "forkserver"):
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            print(*pool.map(child, [0]))
    code = "import onnxruntime as o, importlib.metadata as m; print(o.InferenceSession.__module__, m.version('onnxruntime'))"
    print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    print("folder", os.environ["PYTHONPATH"].split(os.pathsep)[0])
"""


def test_processes_that_a_program_starts(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(CHILDREN)
    done = run(str(tmp_path / "program.py"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("('sardonyx.session.inference_session', '1.32.0', 'sardonyx.base.errors')") == 3
    assert "sardonyx.session.inference_session 1.32.0" in done.stdout
    folder = done.stdout.split("folder ")[1].strip()
    assert "sardonyx-dropin-" in folder
    assert not Path(folder).exists(), "nothing is left behind"


def test_errors_of_programs_are_theirs() -> None:
    done = run("-c", "import onnxruntime; 1 / 0")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


INSTALL = """
import sardonyx.dropin
sardonyx.dropin.install()
sardonyx.dropin.install()
import onnxruntime, sys
assert onnxruntime.InferenceSession.__module__.startswith("sardonyx")
assert sum(type(finder).__module__.startswith("sardonyx") for finder in sys.meta_path) == 1
sardonyx.dropin.uninstall()
import onnxruntime
assert not onnxruntime.InferenceSession.__module__.startswith("sardonyx")
try:
    sardonyx.dropin.install()
except RuntimeError as error:
    print(error)
"""


def test_install_and_uninstall() -> None:
    done = subprocess.run([sys.executable, "-c", INSTALL], capture_output=True, text=True, check=False)
    assert "has been imported already" in done.stdout, done.stderr


def test_parts_of_an_installed_onnxruntime_work_with_this_package() -> None:
    code = "from onnxruntime.tools import make_dynamic_shape_fixed as m; import onnxruntime; print(m.__name__, onnxruntime.SessionOptions.__module__)"
    done = run("-c", code)
    assert done.stdout.split() == ["onnxruntime.tools.make_dynamic_shape_fixed", "sardonyx.session.options"], done.stderr


TOOLS = """
import onnxruntime.tools.convert_onnx_models_to_ort as m
from onnxruntime.tools import convert_onnx_models_to_ort as again
import sardonyx.tools.convert_onnx_models_to_ort as ours
assert m is again is ours
"""


def test_tools_that_this_package_has(tmp_path: Path) -> None:
    """They come from here, whether ONNX Runtime is installed or not."""
    done = run("-c", TOOLS)
    assert done.returncode == 0, done.stderr
    done = run(without_onnxruntime(tmp_path, TOOLS), str(tmp_path))
    assert done.returncode == 0, done.stderr
