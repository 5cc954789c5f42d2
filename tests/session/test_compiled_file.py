"""Compiled files: the same bits as from the model, what opens them and what doesn't, damage at every place."""

from __future__ import annotations

import pickle
import platform
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sardonyx as sx
from sardonyx.base.errors import Fail, InvalidArgument, NoSuchFile
from sardonyx.base.errors import NotImplemented as NotImplementedHere
from sardonyx.codegen.features import TARGETS
from sardonyx.codegen.needs import needs_of
from sardonyx.runtime.processor import Needs, processor, unmet
from sardonyx.session import compiled_file
from sardonyx.session.compiled_file import write
from tests.session.models import model

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.onnx"
X = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
PRODUCT = """g (float[n,4] x) => (float[n,3] y, float[n,3] z)
    <float[4,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> { a = MatMul(x, w) y = Relu(a) b = Add(y, y) z = Exp(b) }"""
MODELS = {
    "a product": PRODUCT,
    "sizes that data decide": "g (float[n,4] x) => (int64[2,m] y) { y = NonZero(x) }",
    "a loop": """g (float[n,4] x) => (float[n,4] y) <int64 three = {3}, bool yes = {1}> {
        y = Loop (three, yes, x) <body = b (int64 i, bool c, float[n,4] t) => (bool d, float[n,4] u) { d = Identity(c) u = Add(t, x) }>
    }""",
    "random numbers": "g (float[n,4] x) => (float[n,4] y) { r = RandomNormalLike<seed = 3.0>(x) y = Add(x, r) }",
    "a default and a constant output": "g (float[n,4] x, float[4] w) => (float[n,4] y, float[4] w) <float[4] w = {1, 2, 3, 4}> { y = Mul(x, w) }",
    "no constants": "g (float[n,4] x) => (float[n,4] y) { y = Abs(x) }",
}


def allowed(**attributes: Any) -> sx.SessionOptions:
    options = sx.SessionOptions()
    options.add_session_config_entry("session.allow_machine_code", "1")
    for name, value in attributes.items():
        setattr(options, name, value)
    return options


def compiled(source: bytes | Path, folder: Path, target: str = "") -> Path:
    options = sx.SessionOptions()
    if target:
        options.add_session_config_entry("session.target", target)
    sx.ModelCompiler(options, source).compile_to_file(folder / "model.sdx")
    return folder / "model.sdx"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(model(PRODUCT), tmp_path_factory.mktemp("product"))


@pytest.mark.parametrize("text", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("threads", [1, 2])
def test_it_computes_the_same_bits(text: str, threads: int, tmp_path: Path) -> None:
    path = compiled(model(text), tmp_path)
    for source in (path, str(path), path.read_bytes()):
        sx.set_seed(1)
        from_model = sx.InferenceSession(model(text))
        first = from_model.run(None, {"x": X})
        sx.set_seed(1)
        session = sx.InferenceSession(source, allowed(intra_op_num_threads=threads))
        for mine, right in zip(session.run(None, {"x": X}), first, strict=True):
            np.testing.assert_array_equal(mine, right)
        for kind in ("inputs", "outputs", "overridable_initializers"):
            mine, right = ([(a.name, a.type, a.shape) for a in getattr(s, f"get_{kind}")()] for s in (session, from_model))
            assert mine == right


@pytest.mark.parametrize("target", ["avx512", "avx2", "sse2", "neon"])
def test_it_is_for_the_processor_that_was_asked_for(target: str, tmp_path: Path) -> None:
    if unmet(needs_of(TARGETS[target])):
        with pytest.raises(Fail, match=f"Code for the target {target} can't run here"):
            compiled(DIGITS, tmp_path, target)
        return
    path = compiled(DIGITS, tmp_path, target)
    x = np.zeros((2, 1, 8, 8), np.float32)
    name = sx.InferenceSession(DIGITS).get_inputs()[0].name
    mine, right = (s.run(None, {name: x})[0] for s in (sx.InferenceSession(path, allowed()), sx.InferenceSession(DIGITS)))
    np.testing.assert_allclose(mine, right, rtol=1e-5, atol=1e-5)


def test_it_starts_without_the_model_and_the_compiler(product: Path) -> None:
    code = f"""
import sys, numpy as np, sardonyx as sx
options = sx.SessionOptions()
options.add_session_config_entry("session.allow_machine_code", "1")
session = sx.InferenceSession({str(product)!r}, options)
print(session.run(["y"], {{"x": np.ones((1, 4), np.float32)}})[0].tolist())
assert not {{"onnx", "onnx_ir", "llvmlite", "sardonyx.graph", "sardonyx.codegen", "sardonyx.lower"}} & sys.modules.keys()
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "[[22.0, 26.0, 30.0]]"


def test_no_session_opens_it_unasked(product: Path) -> None:
    for source in (product, product.read_bytes()):
        with pytest.raises(InvalidArgument, match="trusted like a shared library"):
            sx.InferenceSession(source)


def test_an_onnx_file_of_that_name_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.sdx"
    path.write_bytes(model(PRODUCT))
    with pytest.raises(Fail, match="it is not a compiled file"):
        sx.InferenceSession(path, allowed())
    with pytest.raises(NoSuchFile):
        sx.InferenceSession(tmp_path / "none.sdx", allowed())


def test_damage_is_found_wherever_it_is(product: Path) -> None:
    """One bit changed in each part of the file, and the file cut at each part."""
    data = product.read_bytes()
    used = len(data) - 16  # the last array ends with zeros up to a cache line
    for at in (*range(0, 64, 3), *range(64, used, max(1, used // 97))):
        damaged = bytearray(data)
        damaged[at] ^= 4
        if bytes(damaged[:8]) == data[:8]:
            with pytest.raises(Fail, match="can't be loaded"):
                sx.InferenceSession(bytes(damaged), allowed())
        product.with_name("cut.sdx").write_bytes(data[:at])
        with pytest.raises(Fail, match="can't be loaded"):
            sx.InferenceSession(product.with_name("cut.sdx"), allowed())


NEEDS = {
    "is for Linux on riscv64": Needs("riscv64", "Linux"),
    "is for Plan9 on": Needs(platform.machine(), "Plan9"),
    "features that this processor lacks: warp_drive": Needs(platform.machine(), platform.system(), ("warp_drive",)),
    "for the processor on which it was compiled": Needs(platform.machine(), platform.system(), (), "another one"),
}


@pytest.mark.parametrize(("reason", "needs"), NEEDS.items(), ids=NEEDS)
def test_code_for_another_machine_is_refused(reason: str, needs: Needs, tmp_path: Path) -> None:
    write(sx.InferenceSession(model(PRODUCT))._built, needs, tmp_path / "model.sdx")
    with pytest.raises(Fail, match=reason):
        sx.InferenceSession(tmp_path / "model.sdx", allowed())


def test_code_for_this_processor_alone_is_opened(tmp_path: Path) -> None:
    write(
        sx.InferenceSession(model(PRODUCT))._built,
        Needs(platform.machine(), platform.system(), (), processor() or ""),
        tmp_path / "m.sdx",
    )
    assert sx.InferenceSession(tmp_path / "m.sdx", allowed()).run(["y"], {"x": X})[0].shape == (5, 3)


def test_other_versions_are_refused(product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(product.read_bytes())
    struct.pack_into("<I", data, 8, 999)
    with pytest.raises(Fail, match="version 999, not 1: compile the model again"):
        sx.InferenceSession(bytes(data), allowed())
    monkeypatch.setattr(compiled_file.sardonyx, "__version__", "99.0")
    with pytest.raises(Fail, match=r"of Sardonyx, and this is 99\.0"):
        sx.InferenceSession(product, allowed())


IN_PYTHON = {
    "StringNormalizer": 'g (string[n] x) => (string[m] y) { y = StringNormalizer<case_change_action = "UPPER">(x) }',
    "SplitToSequence": "g (float[n,4] x) => (float[m,4] y) { s = SplitToSequence(x) y = ConcatFromSequence<axis = 0>(s) }",
    "Reshape": "g (float[n,4] x, int64[k] s) => (y) { y = Reshape(x, s) }",  # its rank is known when it runs
}


@pytest.mark.parametrize(("operator", "text"), IN_PYTHON.items(), ids=IN_PYTHON)
def test_nodes_in_python_are_named(operator: str, text: str, tmp_path: Path) -> None:
    before = tmp_path / "model.sdx"
    before.write_bytes(b"before")
    with pytest.raises(NotImplementedHere, match=f"these nodes run in Python: .*{operator} '"):
        compiled(model(text), tmp_path)
    assert before.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["model.sdx"]


def test_what_only_a_model_can_give(product: Path, tmp_path: Path) -> None:
    def fixed(options: sx.SessionOptions) -> None:
        options.add_free_dimension_override_by_name("n", 3)

    def replaced(options: sx.SessionOptions) -> None:
        options.add_initializer("w", sx.OrtValue.ortvalue_from_numpy(np.zeros((4, 3), np.float32)))

    asked = {
        "profiled": lambda options: setattr(options, "enable_profiling", True),
        "no optimised model": lambda options: setattr(options, "optimized_model_filepath", str(tmp_path / "m.onnx")),
        "initializers can't be replaced": replaced,
        "dimensions were fixed": fixed,
    }
    for reason, ask in asked.items():
        options = allowed(profile_file_prefix=str(tmp_path / "trace"))
        ask(options)
        with pytest.raises(InvalidArgument, match=reason):
            sx.InferenceSession(product, options)
    with pytest.raises(InvalidArgument, match="no other outputs: a"):
        sx.InferenceSession(product, allowed()).run(["a"], {"x": X})


def test_axes_of_one_name_must_agree(tmp_path: Path) -> None:
    session = sx.InferenceSession(
        compiled(model("g (float[n] x, float[n] z) => (float[n] y) { y = Add(x, z) }"), tmp_path), allowed()
    )
    assert session.run(None, {"x": X[0], "z": X[1]})[0].tolist() == (X[0] + X[1]).tolist()
    with pytest.raises(InvalidArgument, match="axes with one name must have the same size"):
        session.run(None, {"x": X[0], "z": X[1, :1]})


def test_the_session_goes_on_as_others_do(product: Path) -> None:
    session = pickle.loads(pickle.dumps(sx.InferenceSession(product, allowed())))
    (right,) = sx.InferenceSession(model(PRODUCT)).run(["z"], {"x": X})
    binding, out = session.io_binding(), np.empty((5, 3), np.float32)
    binding.bind_cpu_input("x", X)
    binding.bind_output("z", "cpu", 0, np.float32, out.shape, out.ctypes.data)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(out, right)
    with pytest.raises(InvalidArgument, match="x"):
        session.run(None, {"x": X[:, :2]})
    session.close()
    with pytest.raises(InvalidArgument, match="closed"):
        session.run(None, {"x": X})


@pytest.mark.parametrize("remote", [False, True])
def test_a_file_is_mapped_or_read(remote: bool, product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network file system a mapped file might vanish while it is in use."""
    monkeypatch.setattr(compiled_file, "is_remote", lambda device: remote)
    files, real = [], compiled_file.mmap.mmap

    def recorded(file: int, *arguments: Any, **options: Any) -> Any:
        files.extend([] if file == -1 else [file])  # -1: memory without a file
        return real(file, *arguments, **options)

    monkeypatch.setattr(compiled_file.mmap, "mmap", recorded)
    session = sx.InferenceSession(product, allowed())
    assert (not files) == remote
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], sx.InferenceSession(model(PRODUCT)).run(None, {"x": X})[0])
