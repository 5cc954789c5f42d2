"""Sessions kept as a whole: what is found again, what is not, and that a kept one can't be told from one that was just built."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import sardonyx as sx
from sardonyx.base.errors import Fail, InvalidArgument, InvalidProtobuf, NoSuchFile
from sardonyx.graph.load import load
from sardonyx.graph.ort_writer import write_ort
from sardonyx.providers import registry
from sardonyx.runtime.cache import Cache
from sardonyx.runtime.caches import Caches
from sardonyx.session import session_cache
from sardonyx.session.session_parts import Request, SessionParts
from tests.graph.models import proto

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits" / "digits.onnx"
X = np.arange(8, dtype=np.float32).reshape(2, 4)
FEEDS = {"x": X}
MODEL = """g (float[N, 4] x) => (float[N, 3] y, float[N, 3] z)
<float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> { a = MatMul(x, w) y = Relu(a) b = Add(y, y) z = Exp(b) }"""
HOST = "g (float[N] x) => (float[M] y) { s = SequenceConstruct(x, x) y = ConcatFromSequence<axis = 0>(s) }"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    source = proto(MODEL)
    source.metadata_props.add(key="author", value="é")
    source.producer_name, source.doc_string, source.model_version = "test", "a model", 3
    path.write_bytes(source.SerializeToString())
    return path


def entries(cache: Cache, kind: str = "") -> list[Path]:
    return sorted(path for path in Path(cache.folder or "").glob(f"{kind}*") if not path.name.startswith("object"))


def entry(cache: Cache, kind: str) -> Path:
    (path,) = entries(cache, kind)
    return path


def twice(source: Any, **options: Any) -> tuple[sx.InferenceSession, sx.InferenceSession]:
    return sx.InferenceSession(source, **options), sx.InferenceSession(source, **options)


# ---- the same session -------------------------------------------------------------------------------------------------------


def test_a_kept_session_can_not_be_told_from_a_built_one(cache: Cache, builds: list[Request], model: Path):
    cold, warm = twice(model)
    assert len(builds) == 1
    for ask in ("get_inputs", "get_outputs", "get_overridable_initializers", "get_modelmeta", "get_providers", "describe"):
        assert getattr(warm, ask)() == getattr(cold, ask)(), ask
    assert warm.get_provider_graph_assignment_info() == cold.get_provider_graph_assignment_info()
    assert warm.get_modelmeta().custom_metadata_map == {"author": "é"}
    for size in (1, 2, 7):
        feeds = {"x": np.random.default_rng(size).normal(size=(size, 4)).astype(np.float32)}
        for a, b in zip(cold.run(None, feeds), warm.run(None, feeds), strict=True):
            np.testing.assert_array_equal(a, b)
            assert b.flags.writeable
            assert b.flags.owndata


@pytest.mark.parametrize("feeds", [{}, {"x": X[0]}, {"x": X[:, :3]}, {"x": X.astype(np.float64)}, {"x": X, "y": X}, {"x": "text"}])
def test_wrong_feeds_get_the_same_errors(cache: Cache, model: Path, feeds: dict[str, Any]):
    texts = []
    for session in twice(model):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            session.run(None, feeds)
        texts.append((type(caught.value), str(caught.value)))
    assert texts[0] == texts[1]


def test_inner_values_and_named_outputs(cache: Cache, builds: list[Request], model: Path):
    cold, warm = twice(model)
    for names in (["z"], ["z", "y"], ["a"], ["y", "b", "w"]):
        for a, b in zip(cold.run(names, FEEDS), warm.run(names, FEEDS), strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(InvalidArgument, match="Invalid output name:nothing"):
        warm.run(["nothing"], FEEDS)


def test_a_model_given_as_bytes(cache: Cache, builds: list[Request], model: Path):
    cold, warm = twice(model.read_bytes())
    from_file = sx.InferenceSession(model)
    assert len(builds) == 1
    np.testing.assert_array_equal(cold.run(None, FEEDS)[0], warm.run(None, FEEDS)[0])
    np.testing.assert_array_equal(cold.run(None, FEEDS)[0], from_file.run(None, FEEDS)[0])


def test_defaults_and_constants_that_are_outputs(cache: Cache, builds: list[Request]):
    text = """g (float[2] x, float[2] d, int64[2] n) => (float[2] y, float[2] c, int64[2] n, float[2] x)
    <float[2] d = {3, 4}, float[2] c = {5, 6}, int64[2] n = {7, 8}> { y = Add(x, d) }"""
    cold, warm = twice(proto(text).SerializeToString())
    assert len(builds) == 1
    assert warm.get_overridable_initializers() == cold.get_overridable_initializers()
    x = np.array([1, 2], np.float32)
    for feeds in ({"x": x}, {"x": x, "d": x}, {"x": x, "n": np.array([1, 1])}):
        for a, b in zip(cold.run(None, feeds), warm.run(None, feeds), strict=True):
            np.testing.assert_array_equal(a, b)
    given = warm.run(["c"], {"x": x})[0]
    given[:] = 0
    np.testing.assert_array_equal(warm.run(["c"], {"x": x})[0], [5, 6])


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N] x) => (float[N] y) { y = Identity(x) }",
        "g (bfloat16[N] x) => (bfloat16[N] y) { y = Neg(x) }",
        "g (float[N, M] x) => (int64[2, K] y) { y = NonZero(x) }",
        "g (float[N] x) => (float[0] y) <float[0] y = {}> { z = Neg(x) }",
    ],
)
def test_other_models(cache: Cache, builds: list[Request], text: str):
    cold, warm = twice(proto(text).SerializeToString())
    assert len(builds) == 1
    spec = cold._feeds.inputs[0]
    assert warm._feeds.inputs == cold._feeds.inputs
    feeds = {"x": np.ones((2,) * len(spec.sizes or ()), spec.dtype)}
    for a, b in zip(cold.run(None, feeds), warm.run(None, feeds), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype is b.dtype


def test_closing_pickling_and_new_providers(cache: Cache, builds: list[Request], model: Path):
    cold, warm = twice(model)
    again = pickle.loads(pickle.dumps(warm))
    again.set_providers(["CPUExecutionProvider"])
    again.set_providers()
    np.testing.assert_array_equal(again.run(None, FEEDS)[0], cold.run(None, FEEDS)[0])
    assert len(builds) == 2  # the second asks for the provider by name
    warm.close()
    with pytest.raises(InvalidArgument, match="closed"):
        warm.run(None, FEEDS)


def test_a_forked_child_runs_it(cache: Cache, model: Path):
    warm = twice(model)[1]
    expected = warm.run(None, FEEDS)[0]
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, warm.run(None, FEEDS)[0].tobytes())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1000) == expected.tobytes()
    os.close(reader)
    os.close(writer)


def test_threads_are_not_part_of_the_key(cache: Cache, builds: list[Request], model: Path):
    for threads in (1, 2):
        options = sx.SessionOptions()
        options.intra_op_num_threads = threads
        session = sx.InferenceSession(model, options)
        assert session._built.program.steps[0].executable.threads == threads
    assert len(builds) == 1


# ---- misses -----------------------------------------------------------------------------------------------------------------


def changed(name: str) -> Any:
    options = sx.SessionOptions()
    if name == "level":
        options.graph_optimization_level = sx.GraphOptimizationLevel.ORT_DISABLE_ALL
    elif name == "dimension":
        options.add_free_dimension_override_by_name("N", 2)
    elif name == "denormals":
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
    elif name == "target":
        options.add_session_config_entry("session.target", "sse2")
    elif name == "pass":
        options.add_session_config_entry("optimization.disable_specified_optimizers", "constant_folding")
    elif name == "forbidden":
        options.add_session_config_entry("session.disable_reference_fallback", "1")
    return options


@pytest.mark.parametrize("name", ["level", "dimension", "denormals", "target", "pass", "forbidden"])
def test_other_options_are_another_session(cache: Cache, builds: list[Request], model: Path, name: str):
    for _ in range(2):
        sx.InferenceSession(model)
        sx.InferenceSession(model, changed(name))
    assert len(builds) == 2


def test_other_content_is_another_session(cache: Cache, builds: list[Request], model: Path):
    twice(model)
    model.write_bytes(proto(MODEL.replace("{1, 2", "{2, 2")).SerializeToString())
    cold, warm = twice(model)
    assert len(builds) == 2
    assert warm.run(None, FEEDS)[0][1, 0] == cold.run(None, FEEDS)[0][1, 0] == 140


@pytest.mark.parametrize("name", ["processor", "installed"])
def test_another_processor_or_version_is_another_session(
    cache: Cache, builds: list[Request], model: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    sx.InferenceSession(model)
    for value in ("another", None):
        monkeypatch.setattr(session_cache, name, lambda value=value: value)
        sx.InferenceSession(model)
    assert len(builds) == 3
    assert len(entries(cache, "session")) == 2


def test_other_caches_are_another_session(cache: Cache, builds: list[Request], model: Path, monkeypatch: pytest.MonkeyPatch):
    sx.InferenceSession(model)
    monkeypatch.setattr(session_cache, "caches", lambda: Caches(l2=12345))
    sx.InferenceSession(model)
    assert len(builds) == 2


@pytest.mark.parametrize("variable", ["SARDONYX_DEBUG", "SARDONYX_DUMP", "SARDONYX_PASSES", "SARDONYX_STEPS"])
def test_the_dial_means_the_ordinary_way(
    cache: Cache, builds: list[Request], model: Path, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sx.InferenceSession(model)
    monkeypatch.setenv(variable, {"SARDONYX_DUMP": str(tmp_path / "dump"), "SARDONYX_PASSES": "fold"}.get(variable, "1"))
    sx.InferenceSession(model)
    assert len(builds) == 2


def test_what_is_not_kept(cache: Cache, builds: list[Request], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    profiled, saving, off = sx.SessionOptions(), sx.SessionOptions(), sx.SessionOptions()
    profiled.enable_profiling = True
    profiled.profile_file_prefix = str(tmp_path / "profile")
    saving.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    off.add_session_config_entry("session.disable_cache", "1")
    for options in (profiled, saving, off):
        twice(model, sess_options=options)
    assert len(builds) == 6
    assert (tmp_path / "optimised.onnx").exists()
    assert entries(cache) == []
    monkeypatch.setattr(session_cache, "shared_cache", lambda: Cache.from_environment({"SARDONYX_CACHE": "off"}))
    twice(model)
    assert len(builds) == 8


HOSTED = {
    "sequences": (HOST, {"x": X[0]}),
    "strings": (
        """g (string[N] s, float[N] x) => (int64[N] p, float[N] y) { p = ai.onnx.ml.LabelEncoder <keys_strings = ["a", "b"],
        values_int64s = [3, 4], default_int64 = 9> (s) y = Neg(x) }""",
        {"s": np.array(["b", "?"], object), "x": X[0, :2]},
    ),
    "the reference": (
        'g (string[N] s) => (string[M] t) { t = StringNormalizer<case_change_action = "LOWER">(s) }',
        {"s": np.array(["AB", "c"], object)},
    ),
}


@pytest.mark.parametrize("name", HOSTED)
def test_a_session_with_parts_in_python_is_kept(cache: Cache, builds: list[Request], name: str):
    text, feeds = HOSTED[name]
    cold, warm = twice(proto(text).SerializeToString())
    assert len(builds) == 1
    assert warm.get_provider_graph_assignment_info() == cold.get_provider_graph_assignment_info()
    for _ in range(2):
        for a, b in zip(cold.run(None, feeds), warm.run(None, feeds), strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(InvalidArgument):
        warm.run(None, feeds | {"s": X[0]} if "s" in feeds else {"x": X})


SQUEEZED = "g (float[N, M] x) => (float y) { n = Neg(x) s = Squeeze(n) y = Exp(s) }"


def test_programs_that_runs_bring_about_are_kept(cache: Cache, builds: list[Request]):
    """Each new form is compiled once, whoever runs it first; a kept session makes forms that are not there from the model."""
    source = proto(SQUEEZED).SerializeToString()

    def run(session: sx.InferenceSession, *shape: int) -> None:
        x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        (found,) = session.run(None, {"x": x})
        assert found.shape == np.squeeze(x).shape
        np.testing.assert_allclose(found, np.exp(-np.squeeze(x)), rtol=1e-6)

    cold = sx.InferenceSession(source)
    run(cold, 3, 1)
    run(cold, 1, 4)
    warm = sx.InferenceSession(source)
    for shape in ((5, 1), (1, 2), (7, 1)):
        run(warm, *shape)
    assert len(builds) == 1
    assert len(entries(cache, "variant")) == 2
    run(warm, 2, 3)  # a form that is new: the model is built again
    run(warm, 1, 1)
    assert len(builds) == 2
    third = sx.InferenceSession(source)
    for shape in ((1, 1), (4, 4), (3, 1), (1, 3)):
        run(third, *shape)
    assert len(builds) == 2
    assert len(entries(cache, "variant")) == 4
    assert {part.ep_name for part in third.get_provider_graph_assignment_info()} == {"CPUExecutionProvider"}


def test_damaged_programs_of_runs_are_compiled_again(cache: Cache, builds: list[Request]):
    source = proto(SQUEEZED).SerializeToString()
    x = {"x": np.ones((3, 1), np.float32)}
    (wanted,) = sx.InferenceSession(source).run(None, x)
    for damaged in (b"", b"nonsense"):
        entry(cache, "variant").write_bytes(damaged)
        np.testing.assert_array_equal(sx.InferenceSession(source).run(None, x)[0], wanted)
    assert len(builds) == 3


def test_a_model_that_has_changed_makes_no_further_programs(cache: Cache, tmp_path: Path):
    model = tmp_path / "model.onnx"
    model.write_bytes(proto(SQUEEZED).SerializeToString())
    sx.InferenceSession(model).run(None, {"x": np.ones((3, 1), np.float32)})
    warm = sx.InferenceSession(model)
    model.write_bytes(proto(MODEL).SerializeToString())
    assert warm.run(None, {"x": np.ones((5, 1), np.float32)})[0].shape == (5,)
    with pytest.raises(Fail, match="its model has changed"):
        warm.run(None, {"x": np.ones((5, 2), np.float32)})


def test_bodies_that_are_compiled_on_their_own(cache: Cache, builds: list[Request]):
    """A Loop whose body has sizes that depend on the iteration: a kept session makes it again when it is first run."""
    text = """g (float[N] x, int64 k) => (float[K] y) <bool go = {1}, int64[1] z = {0}> { y = Loop(k, go, x) <body = b (int64 i, bool c, float[M] s)
    => (bool d, float[L] t) { d = Identity(c) t = Concat<axis = 0>(s, s) }> }"""
    cold, warm = twice(proto(text).SerializeToString())
    assert len(builds) == 1
    for times in (0, 1, 3):
        feeds = {"x": X[0], "k": np.array(times)}
        for session in (cold, warm):
            np.testing.assert_array_equal(session.run(None, feeds)[0], np.tile(X[0], 2**times))
    assert len(builds) <= 2


def test_a_kept_session_with_host_steps_imports_no_compiler(tmp_path: Path):
    model = tmp_path / "model.onnx"
    model.write_bytes(proto(HOSTED["strings"][0]).SerializeToString())
    code = f"""import sys, numpy, sardonyx
session = sardonyx.InferenceSession({str(model)!r})
session.run(None, {{"s": numpy.array(["b"]), "x": numpy.ones(1, numpy.float32)}})
print({{"onnx", "onnx_ir", "llvmlite"}} & set(sys.modules))"""
    environment = {**os.environ, "SARDONYX_CACHE": str(tmp_path / "cache")}
    for last in ("{'onnx_ir', 'onnx', 'llvmlite'}", "set()"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert eval(done.stdout) == eval(last)


def test_a_model_that_is_not_there(cache: Cache, tmp_path: Path):
    for _ in range(2):
        with pytest.raises(NoSuchFile, match="File doesn't exist"):
            sx.InferenceSession(tmp_path / "nothing.onnx")
    with pytest.raises(Fail, match="null byte"):
        sx.InferenceSession("null\0byte")


def test_pipes_and_devices_are_refused_at_once(cache: Cache, tmp_path: Path):
    """Also while nobody writes to them."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", "/dev/zero", "/dev/null"):
        with pytest.raises(Fail, match="not a regular file"):
            sx.InferenceSession(path)


def test_a_model_that_changes_while_it_is_built_is_not_kept(cache: Cache, model: Path, monkeypatch: pytest.MonkeyPatch):
    build = session_cache.build

    def changing(request: Request, trace: Any = None) -> SessionParts:
        made = build(request, trace)
        model.write_bytes(proto(MODEL.replace("{1, 2", "{2, 2")).SerializeToString())
        return made

    monkeypatch.setattr(session_cache, "build", changing)
    sx.InferenceSession(model)
    assert entries(cache) == []


def test_another_provider_of_the_same_name_is_another_session(
    cache: Cache, builds: list[Request], model: Path, monkeypatch: pytest.MonkeyPatch
):
    sx.InferenceSession(model)
    monkeypatch.setitem(registry.FACTORIES, registry.CPU, registry.FACTORIES[registry.REFERENCE])
    twice(model)
    assert len(builds) == 2


# ---- files beside the model -------------------------------------------------------------------------------------------------


@pytest.fixture
def beside(model: Path) -> Path:
    """The model with its weight in a file of its own, in a folder of its own."""
    folder = model.parent / "m"
    folder.mkdir()
    source = onnx.load(model)
    for tensor in source.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    onnx.save_model(source, folder / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return folder / "model.onnx"


def test_files_beside_the_model_count(cache: Cache, builds: list[Request], beside: Path):
    cold, warm = twice(beside)
    assert len(builds) == 1
    np.testing.assert_array_equal(cold.run(None, FEEDS)[0], warm.run(None, FEEDS)[0])
    weights = beside.with_name("w.bin")
    content = weights.read_bytes()
    weights.write_bytes(np.float32(2).tobytes() + content[4:])
    assert sx.InferenceSession(beside).run(None, FEEDS)[0][1, 0] == 140
    assert len(builds) == 2
    weights.write_bytes(content)
    np.testing.assert_array_equal(sx.InferenceSession(beside).run(None, FEEDS)[0], cold.run(None, FEEDS)[0])
    assert len(builds) == 2


def replaced_by_link(path: Path) -> None:
    path.rename(path.parent.parent / "secret")
    path.symlink_to(path.parent.parent / "secret")


def replaced_by_hard_link(path: Path) -> None:
    path.rename(path.parent.parent / "secret")
    os.link(path.parent.parent / "secret", path)


@pytest.mark.parametrize("change", [replaced_by_link, replaced_by_hard_link, Path.unlink])
def test_files_beside_the_model_are_opened_under_the_same_checks(cache: Cache, beside: Path, change: Any):
    twice(beside)
    change(beside.with_name("w.bin"))
    with pytest.raises(Fail, match="External data of initializer 'w' cannot be used"):
        sx.InferenceSession(beside)


@pytest.mark.parametrize("listed", [b"[]", b"{", b'["../../secret"]', b'["/etc/passwd"]', b"[1]", b'["w.bin", "w.bin"]'])
def test_a_list_of_files_is_not_trusted(cache: Cache, builds: list[Request], beside: Path, listed: bytes):
    twice(beside)
    key = session_cache.request_key(builds[0], cache)
    assert key is not None
    cache.put("files", key, listed)
    sx.InferenceSession(beside)
    assert len(builds) == 2


# ---- damage -----------------------------------------------------------------------------------------------------------------


def bad_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def lengthened(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(4096))


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def made_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize("kind", ["session", "weights"])
@pytest.mark.parametrize("damage", [bad_byte, cut, emptied, lengthened, zeroed, made_a_link, Path.unlink])
def test_damaged_entries_are_built_anew(cache: Cache, builds: list[Request], model: Path, kind: str, damage: Any):
    first = sx.InferenceSession(model)
    damage(entry(cache, kind))
    second, third = twice(model)
    assert len(builds) == 2
    for session in (second, third):
        np.testing.assert_array_equal(session.run(None, FEEDS)[0], first.run(None, FEEDS)[0])


@pytest.mark.parametrize("data", [b"", b"garbage" * 9, struct.pack("<Q", 200_000) + b"[" * 200_000, struct.pack("<Q", 2) + b"{}"])
def test_an_entry_that_is_no_session_is_built_anew(cache: Cache, builds: list[Request], model: Path, data: bytes):
    sx.InferenceSession(model)
    key = session_cache.request_key(builds[0], cache)
    assert key is not None
    cache.put("session", key, data)
    twice(model)
    assert len(builds) == 2


def test_a_read_only_cache_is_read(cache: Cache, builds: list[Request], model: Path, monkeypatch: pytest.MonkeyPatch):
    cold = sx.InferenceSession(model)
    original = os.open

    def refuse(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, "Read-only file system")
        return original(path, flags, *arguments, **options)

    def refuse_all(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "utime", refuse_all)
    warm = sx.InferenceSession(model)
    other = sx.InferenceSession(model, changed("level"))
    assert len(builds) == 2
    for session in (warm, other):
        np.testing.assert_array_equal(session.run(None, FEEDS)[0], cold.run(None, FEEDS)[0])


def test_a_kept_session_outlives_its_entry(cache: Cache, model: Path):
    warm = twice(model)[1]
    expected = warm.run(None, FEEDS)[0]
    for path in entries(cache):
        path.unlink()
    np.testing.assert_array_equal(warm.run(None, FEEDS)[0], expected)


def test_a_cache_that_can_not_be_written(tmp_path: Path, builds: list[Request], model: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setattr(session_cache, "shared_cache", lambda: Cache(tmp_path / "cache"))
    cold, warm = twice(model)
    assert len(builds) == 2
    np.testing.assert_array_equal(cold.run(None, FEEDS)[0], warm.run(None, FEEDS)[0])


def test_a_cache_too_small_for_the_weights(tmp_path: Path, builds: list[Request], model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session_cache, "shared_cache", lambda: Cache(tmp_path / "cache", capacity=100))
    twice(model)
    assert len(builds) == 2


# ---- processes --------------------------------------------------------------------------------------------------------------

WARM = """
import sys, numpy, sardonyx
session = sardonyx.InferenceSession(sys.argv[1])
session.run(None, {"pictures": numpy.zeros((1, 1, 8, 8), numpy.float32)})
print(sorted({"onnx", "onnx_ir", "llvmlite", "sympy", "typer", "ml_dtypes", "google"} & set(sys.modules)))
"""


def test_a_warm_start_imports_no_compiler(tmp_path: Path):
    environment = {**os.environ, "SARDONYX_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", WARM, DIGITS]
    for expected in ("['google', 'llvmlite', 'ml_dtypes', 'onnx', 'onnx_ir']\n", "[]\n"):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == expected


def start(folder: Path, source: Path, answers: Any) -> None:
    cache = Cache(folder)
    session_cache.shared_cache = lambda: cache  # type: ignore[assignment]
    for _ in range(3):
        answers.put(sx.InferenceSession(source).run(None, FEEDS)[0].tolist())


def test_processes_that_start_at_once(tmp_path: Path, cache: Cache, model: Path):
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    children = [context.Process(target=start, args=(tmp_path / "cache", model, answers)) for _ in range(3)]
    for child in children:
        child.start()
    found = [answers.get(timeout=120) for _ in range(9)]
    for child in children:
        child.join(60)
    expected = sx.InferenceSession(model).run(None, FEEDS)[0].tolist()
    assert found == [expected] * 9


# ---- what decides besides the bytes -------------------------------------------------------------------------------------------


def test_the_format_of_a_file_decides(cache: Cache, model: Path, tmp_path: Path):
    """The same bytes under another name, or with another option, are another request."""
    data = write_ort(load(model))
    for name in ("m.ort", "m.onnx"):
        (tmp_path / name).write_bytes(data)
    sx.InferenceSession(tmp_path / "m.ort")
    sx.InferenceSession(data)
    assert entries(cache, session_cache.KIND)
    plain = sx.SessionOptions()
    plain.add_session_config_entry("session.load_model_format", "ONNX")
    for source, options in ((tmp_path / "m.onnx", None), (tmp_path / "m.ort", plain), (data, plain)):
        with pytest.raises(InvalidProtobuf):
            sx.InferenceSession(source, options)


@pytest.mark.parametrize("tensors", [False, True])
def test_custom_operators_are_not_kept(cache: Cache, builds: list[Request], tensors: bool):
    """What is registered under the name now is what runs."""
    source = proto("g (float[N] x) => (float[N] y) { y = Add(x, x) }")
    source.opset_import.append(onnx.helper.make_opsetid("my.domain", 1))
    source.graph.node[0].domain = "my.domain"
    for name, expected in (("Add", np.add), ("Sub", np.subtract)):
        sx.custom_op("my.domain::Add")(expression(name) if tensors else arrays(expected))
        try:
            for session in twice(source.SerializeToString()):
                np.testing.assert_array_equal(session.run(None, {"x": X[0]})[0], expected(X[0], X[0]))
        finally:
            sx.unregister_custom_op("my.domain::Add")
    assert len(builds) == 4
    assert not entries(cache, session_cache.KIND)


def arrays(compute: Any) -> Any:
    return lambda a, b: compute(a, b)


def expression(name: str) -> Any:
    def combined(a: sx.Tensor, b: sx.Tensor) -> sx.Tensor:
        return getattr(sx.operators, name)(a, b)

    return combined
