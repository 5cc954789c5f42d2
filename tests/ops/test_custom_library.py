"""ops/custom_library.py: shared libraries of operators, built with cc where one is there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sardonyx as sx
from sardonyx.base.errors import Fail
from sardonyx.ops import custom_library
from tests.ops.test_custom import X, custom, model, no_operators, run

__all__ = ["no_operators"]

ROOT = Path(__file__).parents[2]
SCALED = (ROOT / "examples" / "custom_library" / "scaled.c").read_text()
COMPILER = shutil.which("cc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no cc")


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(custom_library, "_loaded", {})
    return iter(())  # type: ignore[return-value]


def built(folder: Path, source: str, name: str = "scaled.so") -> Path:
    (folder / "scaled.c").write_text(source)
    include = Path(sx.__file__).parent / "include"
    assert COMPILER is not None
    strict = ("-Wall", "-Wextra", "-Werror") if source == SCALED else ()
    command = [COMPILER, "-shared", "-fPIC", *strict, f"-I{include}", "-o", str(folder / name), str(folder / "scaled.c")]
    subprocess.run(command, check=True)
    return folder / name


def register(path: Path) -> None:
    sx.SessionOptions().register_custom_ops_library(str(path))


def scaled(**attributes: Any) -> Any:
    node = custom(**attributes)
    node.op_type = "Scaled"
    return model(node)


@needs_compiler
@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "ReferenceExecutionProvider"])
def test_the_example(tmp_path: Path, provider: str) -> None:
    path = built(tmp_path, SCALED)
    register(path)
    register(path)  # a second time nothing happens
    np.testing.assert_array_equal(run(scaled(factor=3.0), (provider,))[0], 3 * X)
    np.testing.assert_array_equal(run(scaled(), (provider,), x=X[:1, ::-1].astype(np.float32))[0], 2 * X[:1, ::-1])
    assert run(scaled(), (provider,), x=X[:0])[0].shape == (0, 3)


@needs_compiler
def test_a_function_that_fails_says_why(tmp_path: Path) -> None:
    register(built(tmp_path, SCALED.replace("x->type != 1", "x->rank == 2")))
    with pytest.raises(Fail, match=r"mine.*Scaled returned 1: elements of type 1 are not floats"):
        run(scaled())


@needs_compiler
@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("{SARDONYX_OPERATORS_VERSION, 1, operators}", "{2, 1, operators}", "has version 2 of the interface, not 1"),
        ("{SARDONYX_OPERATORS_VERSION, 1, operators}", "{1, 1u << 31, operators}", "describes 2147483648 operators"),
        ("{SARDONYX_OPERATORS_VERSION, 1, operators}", "{1, 1, 0}", "describes 1 operators"),
        ("return &library", "return 0", "returned NULL"),
        ("my.domain::Scaled", "Scaled", "needs a domain of its own"),
        ("my.domain::Scaled", "com.microsoft::FastGelu", "of this package"),
        ("shape, compute}", "shape, 0}", "no shape or compute"),
        ('"factor:float"', '"factor"', "an attribute 'factor'"),
        ("1, 1, 1, ", "1, -1, 1, ", "has version 1, -1 inputs"),
    ],
)
def test_descriptions_that_are_wrong(tmp_path: Path, old: str, new: str, text: str) -> None:
    source = SCALED.replace(old, new)
    assert source != SCALED
    with pytest.raises(Fail, match="Failed to load library") as caught:
        register(built(tmp_path, source))
    assert text in str(caught.value)


@needs_compiler
@pytest.mark.parametrize("line", ["y->rank = 65", "y->rank = -1", "y->type = 99", "y->type = 8", "y->sizes[0] = -1"])
def test_shapes_that_are_none(tmp_path: Path, line: str) -> None:
    register(built(tmp_path, SCALED.replace("    memcpy(y", f"    {line};\n    if (0) memcpy(y")))
    with pytest.raises(Fail, match=r"mine.*gave an output of type"):
        run(scaled())


@needs_compiler
def test_files_that_are_refused_before_their_code_runs(tmp_path: Path) -> None:
    runs = "__attribute__((constructor)) static void run(void) { __builtin_trap(); }\n"
    foreign = built(tmp_path, runs + "void *RegisterCustomOps(void *options, void *api) { return 0; }", "foreign.so")
    nothing = built(tmp_path, runs, "nothing.so")
    whole = built(tmp_path, SCALED).read_bytes()
    damaged = {
        "cut.so": (whole[: len(whole) // 2], "damaged"),
        "short.so": (whole[:30], "too short"),
        "other.so": (whole[:18] + b"\x28\x00" + whole[20:], "for another processor"),
        "text.so": (b"not a library", "invalid ELF header"),
        "empty.so": (b"", "is empty"),
    }
    for name, (data, _) in damaged.items():
        (tmp_path / name).write_bytes(data)
    told = {name: text for name, (_, text) in damaged.items()}
    told |= {
        foreign.name: "ONNX Runtime's interface",
        nothing.name: "has no function sardonyx_operators",
        "none.so": "No such file",
    }
    for name, text in told.items():
        with pytest.raises(Fail, match="Failed to load library") as caught:
            register(tmp_path / name)
        assert text in str(caught.value)
        assert name in str(caught.value)
