"""Making a session: what it imports, the thread that compiles meanwhile, and what is left of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import sardonyx
from sardonyx.base.errors import EPFail, Fail
from sardonyx.codegen import compile as code
from sardonyx.providers import cpu
from sardonyx.runtime.cache import Cache
from tests.graph.models import data

TEXT = """g (float[N, 4] x) => (float[N, 3] y)
<float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> { a = MatMul(x, w) b = Softmax(a) y = Relu(b) }"""
X = np.ones((2, 4), np.float32)
RARE = {"sympy", "onnx.reference", "onnx_ir._symbolic_shapes", "sardonyx.graph.reference.interpreter"}


@pytest.fixture(autouse=True)
def nothing_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Cache(None)
    monkeypatch.setattr(cpu, "shared_cache", lambda: nothing)


def expected() -> np.ndarray[Any, Any]:
    return sardonyx.InferenceSession(data(TEXT)).run(None, {"x": X})[0]


def test_what_few_models_need_is_not_imported(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(data(TEXT))
    program = f"import sys, sardonyx; sardonyx.InferenceSession({str(tmp_path / 'model.onnx')!r}); print({RARE} & set(sys.modules))"
    environment = {**os.environ, "SARDONYX_CACHE": "off"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


SYMBOLIC = """g (float[N, 4, H, W] x, int64[K] rows) => (float[N, K, 4] y)
<float[4, 1, 2, 2] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 8, 7, 6, 5, 4, 3, 2}, int64[3] folded = {0, 4, -1}> {
    pooled = Conv<group = 4, strides = [2, 2]>(x, w) flat = Reshape(pooled, folded) turned = Transpose<perm = [0, 2, 1]>(flat)
    product = MatMul(turned, flat) shares = Softmax(product) some = Gather<axis = 1>(shares, rows) y = MatMul(some, turned) }"""
EMITTED = """
import hashlib, sys, sardonyx
from sardonyx.codegen import compile as code
made, compiled = [], code.compile_text
code.compile_text = lambda text, *rest: (made.append(text), compiled(text, *rest))[1]
sardonyx.InferenceSession(sys.argv[1])
print(len(made), hashlib.sha256(repr(made).encode()).hexdigest())
"""


def test_two_processes_make_the_same_code(tmp_path: Path):
    """Neither addresses of objects nor the seed of Python's hashes decide the code, the order of its parts, or their names."""
    path = tmp_path / "model.onnx"
    path.write_bytes(data(SYMBOLIC))
    said = []
    for seed in ("1", "2"):
        environment = {**os.environ, "SARDONYX_CACHE": "off", "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", EMITTED, str(path)]
        said.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert said[0] == said[1]
    assert int(said[0].split()[0]) > 3


def test_sizes_are_folded_without_the_reference():
    text = """g (float[2, 3, 4] x) => (float[2, 12] y)
    <int64[1] two = {2}, int64[1] six = {6}> { rest = Mul(two, six) shape = Concat<axis = 0>(two, rest) y = Reshape(x, shape) }"""
    made = sardonyx.InferenceSession(data(text))
    assert made.run(None, {"x": np.zeros((2, 3, 4), np.float32)})[0].shape == (2, 12)


@pytest.mark.parametrize(
    ("error", "arrives"), [(RuntimeError, Fail), (MemoryError, Fail), (KeyboardInterrupt, KeyboardInterrupt), (EPFail, EPFail)]
)
def test_an_error_while_compiling_arrives(error: type[Exception], arrives: type[Exception], monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> bytes:
        raise error("told by the other thread")

    expected()  # the team is there
    monkeypatch.setattr(code, "compile_text", fail)
    before = set(threading.enumerate())
    with pytest.raises(arrives, match="told by the other thread") as caught:
        sardonyx.InferenceSession(data(TEXT))
    assert arrives is error or isinstance(caught.value.__cause__, error)
    assert set(threading.enumerate()) == before


def test_no_thread_is_left():
    made = expected()
    before = set(threading.enumerate())
    assert np.array_equal(expected(), made)
    assert set(threading.enumerate()) == before


def test_several_at_once():
    right, results = expected(), []
    threads = [threading.Thread(target=lambda: results.append(expected())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.array_equal(found, right) for found in results)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_forked_while_another_thread_compiles(monkeypatch: pytest.MonkeyPatch):
    right = expected()
    inside, compile_text = threading.Event(), code.compile_text

    def announced(*arguments: Any) -> bytes:
        inside.set()
        return compile_text(*arguments)

    monkeypatch.setattr(code, "compile_text", announced)
    maker = threading.Thread(target=expected)
    maker.start()
    inside.wait(30)
    child = os.fork()
    if child == 0:
        monkeypatch.undo()  # the other thread may have held the event's lock at the fork
        same = np.array_equal(expected(), right)
        os._exit(0 if same else 1)
    _, status = os.waitpid(child, 0)
    maker.join()
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_large_weight_that_is_an_output_and_one_that_nobody_reads(tmp_path: Path):
    numbers = np.arange(40_000, dtype=np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, ["n"])],
        [onnx.helper.make_tensor_value_info(name, 1, None) for name in ("y", "w")],
        [onnx.numpy_helper.from_array(numbers, name) for name in ("w", "unread")],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    y, w = sardonyx.InferenceSession(tmp_path / "m.onnx").run(None, {"x": X[0]})
    np.testing.assert_array_equal(y, -X[0])
    np.testing.assert_array_equal(w, numbers)


def test_one_model_in_two_sessions() -> None:
    """Sizes that data decide have the same names in both, and are not the same."""
    text = """g (uint64[9, n] x, int64[1] shape) => (uint64[k] y) <int64[1] zero = {0}> { a = Reshape(x, shape)  y = Gather(a, zero) }"""
    sessions = [sardonyx.InferenceSession(data(text)) for _ in range(3)]
    x = np.arange(99, dtype=np.uint64).reshape(9, 11)
    for session in sessions:
        assert session.run(None, {"x": x, "shape": np.array([-1])})[0].tolist() == [0]


def test_inner_names_that_programs_read(tmp_path: Path) -> None:
    """Of onnxruntime's sessions; Optimum takes the model's folder from one."""
    path = tmp_path / "m.onnx"
    path.write_bytes(data(TEXT))
    for source in (path, str(path), data(TEXT)):
        session = sardonyx.InferenceSession(source)
        assert session._model_path == (None if isinstance(source, bytes) else str(path))
        assert session._model_bytes == (source if isinstance(source, bytes) else None)
        assert session._sess.get_inputs() == session._inputs_meta
        assert [output.name for output in session._outputs_meta] == ["y"]
        assert session._sess_options is session.get_session_options()
