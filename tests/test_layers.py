"""Each layer imports only those before it, anywhere in its files; the first ones need no more than numpy."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx import TensorProto, helper

PACKAGE = Path(__file__).parents[1] / "src" / "sardonyx"
LAYERS = (
    *("base", "host", "runtime", "loop", "expr", "ops", "graph", "lower", "codegen", "providers", "session"),
    *("inspection", "tools", "capi", "backend", "datasets", "dropin", "cli"),
)
LIGHT = ("base", "host", "runtime")
ALLOWED = {"base": {"numpy", "msgspec", "ml_dtypes"}, "host": {"numpy", "msgspec"}, "runtime": {"numpy", "msgspec"}}


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(layer: str) -> list[Path]:
    return [PACKAGE / f"{layer}.py"] if (PACKAGE / f"{layer}.py").exists() else sorted((PACKAGE / layer).rglob("*.py"))


def test_every_folder_is_a_layer() -> None:
    there = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert there - {"__init__", "__pycache__"} == set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_those_before_it(layer: str) -> None:
    before = {*LAYERS[: LAYERS.index(layer) + 1]}
    for path in files(layer):
        for name in imported(path):
            home, _, inside = name.partition(".")
            other = inside.split(".")[0]
            assert home != "sardonyx" or other not in LAYERS or other in before, f"{path} imports {name}"


def test_onnx_ir_is_imported_by_way_of_graph() -> None:
    """Whose first import of it is the cheap one."""
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] != "graph":
            assert not {name for name in imported(path) if name.split(".")[0] == "onnx_ir"}, path


@pytest.mark.parametrize("layer", LIGHT)
def test_light_layers_need_little(layer: str) -> None:
    for path in files(layer):
        foreign = {name.split(".")[0] for name in imported(path)} - sys.stdlib_module_names - {"sardonyx"}
        assert foreign <= ALLOWED[layer], f"{path} imports {foreign - ALLOWED[layer]}"


HEAVY = {"onnx", "onnx_ir", "llvmlite", "ml_dtypes", "typer", "pathlib", "logging", "email", "concurrent.futures"}
"""What the runtime does not import: a process whose session comes from the cache would pay for it."""


def test_the_runtime_runs_without_the_compiler() -> None:
    modules = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files("runtime")]
    code = f"import sys, {', '.join(modules)}; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


UNUSED = {
    *("onnx.compose", "onnx.gen_proto", "onnx.parser", "onnx.printer", "onnx.reference", "onnx.serialization", "onnx.utils"),
    *("google.protobuf.json_format", "google.protobuf.text_format", "google.protobuf.internal.python_message"),
    *("importlib.metadata", "email", "argparse", "asyncio", "sympy", "onnxruntime", "typer", "PIL", "http", "unittest"),
    *("numpy.testing", "numpy.f2py", "numpy.fft", "numpy.polynomial", "numpy.random", "numpy.ma", "multiprocessing"),
    *("sardonyx.graph.reference", "sardonyx.inspection", "sardonyx.backend", "sardonyx.ops.math"),
    *("sardonyx.ops.contrib", "sardonyx.session.devices"),
}
"""Modules that a process which compiles and runs a small model of floats does not need."""

ONE_NODE = """
import gc, sys
import numpy as np
import sardonyx
from onnx_model import model
collections = sum(entry["collections"] for entry in gc.get_stats())
sardonyx.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": np.ones((3, 4), np.float32)})
print(*sorted(sys.modules))
print(sum(entry["collections"] for entry in gc.get_stats()) - collections)
"""


def test_a_small_model_imports_little(tmp_path: Path) -> None:
    """Each of these imports would be paid by every process that compiles; garbage collections during imports too."""
    shape = (
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 4]),
    )
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "one", [shape[0]], [shape[1]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "onnx_model.py").write_text(f"model = {model.SerializeToString()!r}")
    environment = os.environ | {"SARDONYX_CACHE": "off", "PYTHONPATH": f"{PACKAGE.parent}{os.pathsep}{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", ONE_NODE], capture_output=True, text=True, check=True, env=environment)
    modules, collections = done.stdout.splitlines()
    assert "llvmlite.binding" in modules.split()
    assert sorted(UNUSED & set(modules.split())) == []
    assert int(collections) < 20
