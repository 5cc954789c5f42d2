"""Tensors and files that a user gives for the model's; cancelled loads; options that a model holds; adapters; ModelCompiler."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import sardonyx as sx
from sardonyx.base import budget
from sardonyx.base.errors import Fail, InvalidArgument, ModelLoadCanceled
from sardonyx.base.errors import NotImplemented as NotImplementedHere
from sardonyx.runtime.execution import Program
from tests.session.models import model

ADD = "g (float[n,3] x) => (float[n,3] y) <float[3] w = {1,2,3}> { y = Add (x, w) }"
X = np.ones((1, 3), np.float32)
GIVEN = np.array([10, 20, 30], np.float32)


def external(offset: int = 4) -> bytes:
    """The same, the initializer in a file that isn't there."""
    proto = onnx.load_from_string(model(ADD))
    tensor = proto.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", str(offset)), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    return proto.SerializeToString()


def value(runtime: Any, array: Any = GIVEN) -> Any:
    return runtime.OrtValue.ortvalue_from_numpy(array)


def run(runtime: Any, data: bytes, how: str, *given: Any) -> Any:
    options = runtime.SessionOptions()
    getattr(options, how)(*given)
    return runtime.InferenceSession(data, options).run(None, {"x": X})[0].tolist()


@pytest.mark.parametrize("runtime", [ort, sx])
def test_initializers(runtime: Any) -> None:
    assert run(runtime, model(ADD), "add_initializer", "w", value(runtime)) == [[11, 21, 31]]
    assert run(runtime, model(ADD), "add_initializer", "other", value(runtime)) == [[2, 3, 4]]
    assert run(runtime, external(), "add_external_initializers", ["w"], [value(runtime)]) == [[11, 21, 31]]
    buffer = np.arange(4, dtype=np.float32).tobytes()
    for kind in (bytes, bytearray, memoryview):
        assert run(runtime, external(), "add_external_initializers_from_files_in_memory", ["w.bin"], [kind(buffer)], [16]) == [
            [2, 3, 4]
        ]


@pytest.mark.parametrize("runtime", [ort, sx])
@pytest.mark.parametrize(
    ("data", "how", "make", "text"),
    [
        (
            external(),
            "add_external_initializers",
            lambda v: (["w", "q"], [v, v]),
            "Failed to find existing initializer with name q",
        ),
        (model(ADD), "add_external_initializers", lambda v: (["w"], [v]), "Trying to replace non-external initializer"),
        (external(), "add_external_initializers_from_files_in_memory", lambda _: (["w.bin"], [bytes(8)], [8]), "w.*"),
        (
            external(),
            "add_external_initializers_from_files_in_memory",
            lambda _: (["v.bin"], [bytes(16)], [16]),
            "w.bin not found from",
        ),
    ],
)
def test_initializers_that_do_not_fit(runtime: Any, data: bytes, how: str, make: Any, text: str) -> None:
    with pytest.raises(Exception, match=text) as caught:
        run(runtime, data, how, *make(value(runtime)))
    assert type(caught.value).__name__ == "Fail"


@pytest.mark.parametrize("runtime", [ort, sx])
@pytest.mark.parametrize("array", [np.zeros(4, np.float32), np.zeros(3)])
def test_other_shapes_and_types(runtime: Any, array: Any) -> None:
    with pytest.raises(Exception, match="Replacement tensor's d.* match"):
        run(runtime, external(), "add_external_initializers", ["w"], [value(runtime, array)])


@pytest.mark.parametrize("array", [np.zeros(4, np.float32), np.zeros(3)])
def test_add_initializer_checks_them_too(array: Any) -> None:
    """onnxruntime takes the memory for what the model says."""
    with pytest.raises(Fail, match="Replacement tensor's d.* match"):
        run(sx, model(ADD), "add_initializer", "w", value(sx, array))


@pytest.mark.parametrize("runtime", [ort, sx])
def test_refusals_of_options(runtime: Any) -> None:
    options = runtime.SessionOptions()
    options.add_initializer("w", value(runtime))
    for how, given in (
        ("add_initializer", ("w", value(runtime))),
        ("add_initializer", ("v", GIVEN)),
        ("add_external_initializers", (["w"], [])),
        ("add_external_initializers_from_files_in_memory", (["w"], [b"x"], [])),
    ):
        with pytest.raises(RuntimeError):
            getattr(options, how)(*given)
    with pytest.raises(TypeError):
        options.add_external_initializers_from_files_in_memory(["w"], [3], [4])


def test_a_buffer_that_is_shorter_than_told() -> None:
    with pytest.raises(RuntimeError, match="has 4 bytes, not 5"):
        sx.SessionOptions().add_external_initializers_from_files_in_memory(["w"], [b"abcd"], [5])


def test_numbers_that_are_not_aligned_in_their_buffer() -> None:
    buffer = b"\0" + GIVEN.tobytes()
    assert run(sx, external(1), "add_external_initializers_from_files_in_memory", ["w.bin"], [buffer], [13]) == [[11, 21, 31]]


def test_sessions_share_the_memory_of_an_initializer(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    make = Program.__init__

    def watched(self: Program, *arguments: Any) -> None:
        make(self, *arguments)
        seen.append([array.ctypes.data for array in self.constants])

    monkeypatch.setattr(Program, "__init__", watched)
    big = np.arange(3, dtype=np.float32)
    options = sx.SessionOptions()
    options.add_initializer("w", value(sx, big))
    for _ in range(2):
        assert sx.InferenceSession(model(ADD), options).run(None, {"x": X})[0].tolist() == [[1, 2, 3]]
    assert seen == [[big.ctypes.data]] * 2


def test_a_load_that_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it begins, and while nodes are imported."""
    options = sx.SessionOptions()
    options.set_load_cancellation_flag(True)
    with pytest.raises(ModelLoadCanceled):
        sx.InferenceSession(model(ADD), options)
    options.set_load_cancellation_flag(False)
    check = budget.check

    def cancels(doing: str) -> None:
        if doing.startswith("importing"):
            options.set_load_cancellation_flag(True)
        check(doing)

    monkeypatch.setattr(budget, "check", cancels)
    with pytest.raises(ModelLoadCanceled, match="while importing"):
        sx.InferenceSession(model(ADD), options)


# ---- providers in options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", [ort, sx])
def test_providers_in_options(runtime: Any) -> None:
    def made(how: str, *given: Any) -> Any:
        options = runtime.SessionOptions()
        assert not options.has_providers()
        getattr(options, how)(*given)
        assert options.has_providers()
        return runtime.InferenceSession(model(ADD), options).get_providers()

    cpu = ["CPUExecutionProvider"]
    assert made("add_provider", cpu[0], {}) == cpu
    assert made("add_provider_for_devices", runtime.get_ep_devices(), {}) == cpu
    assert made("set_provider_selection_policy", runtime.OrtExecutionProviderDevicePolicy.PREFER_CPU) == cpu
    with pytest.raises(RuntimeError, match="Unknown Provider Type: Foo"):
        made("add_provider", "Foo", {})
    with pytest.raises(Exception, match="INVALID_ARGUMENT : Failed to add provider of type 'CUDAExecutionProvider'"):
        made("add_provider", "CUDAExecutionProvider", {})


def test_named_providers_take_precedence() -> None:
    options = sx.SessionOptions()
    options.add_provider("CPUExecutionProvider", {})
    with pytest.warns(UserWarning, match="SessionOptions has already been configured with providers"):
        sx.InferenceSession(model(ADD), options, providers=["ReferenceExecutionProvider"])


def test_a_session_with_providers_in_its_options_is_pickled() -> None:
    options = sx.SessionOptions()
    options.add_provider("CPUExecutionProvider", {"a": "1"})
    again = pickle.loads(pickle.dumps(sx.InferenceSession(model(ADD), options)))
    assert again.get_provider_options() == {"CPUExecutionProvider": {"a": "1"}}


def test_a_provider_asked_for_alone_that_is_not_there() -> None:
    with (
        pytest.warns(UserWarning, match="Specified provider 'CUDAExecutionProvider' is not in available provider names"),
        pytest.raises(InvalidArgument, match="None of the providers that were asked for is here: CUDAExecutionProvider"),
    ):
        sx.InferenceSession(model(ADD), providers=["CUDAExecutionProvider"])


def test_any_keyword_is_accepted() -> None:
    sx.InferenceSession(model(ADD), enable_fallback=0, disabled_optimizers={"ConstantFolding"}, foo=3)


def test_global_threads() -> None:
    from sardonyx.session.options import threads_of

    options = sx.SessionOptions()
    options.intra_op_num_threads = 3
    try:
        sx.set_global_thread_pool_sizes(2, 1)
        assert threads_of(options) == 3
        options.use_per_session_threads = False
        assert threads_of(options) == 2
    finally:
        sx.set_global_thread_pool_sizes()
    with pytest.raises(ValueError, match="can.t be negative"):
        sx.set_global_thread_pool_sizes(-1)


# ---- options in the model ---------------------------------------------------------------------------------------------------


def holding(text: str) -> bytes:
    proto = onnx.load_from_string(model(ADD))
    proto.metadata_props.add(key="ort_config", value=text)
    return proto.SerializeToString()


def test_options_in_the_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = holding('{"session_options": {"intra_op_num_threads": 2, "graph_optimization_level": 1, "other": []}}')
    (tmp_path / "m.onnx").write_bytes(data)
    for source in (data, tmp_path / "m.onnx"):
        options = sx.InferenceSession(source, read_config_from_model=1).get_session_options()
        assert (options.intra_op_num_threads, options.graph_optimization_level) == (2, sx.GraphOptimizationLevel.ORT_ENABLE_BASIC)
    assert sx.InferenceSession(data).get_session_options().intra_op_num_threads == 0
    monkeypatch.setenv("ORT_LOAD_CONFIG_FROM_MODEL", "1")
    assert sx.InferenceSession(data).get_session_options().intra_op_num_threads == 2
    given = sx.SessionOptions()
    assert sx.InferenceSession(data, given).get_session_options().intra_op_num_threads == 0


@pytest.mark.parametrize(
    "text",
    ["{nope", "[]", '{"session_options": {"intra_op_num_threads": "a"}}', '{"session_options": {"graph_optimization_level": 7}}'],
)
def test_options_in_the_model_that_make_no_sense(text: str) -> None:
    with pytest.raises(InvalidArgument, match="The model's ort_config can't be read"):
        sx.InferenceSession(holding(text), read_config_from_model=1)


# ---- adapters ---------------------------------------------------------------------------------------------------------------

LORA = """g (float[n,3] x, float[3,2] a = {1,0,0,1,0,0}) => (float[n,2] y) { y = MatMul (x, a) }"""


@pytest.mark.parametrize(("writer", "reader"), [(sx, ort), (ort, sx), (sx, sx)])
def test_adapters_are_files_that_both_read(writer: Any, reader: Any, tmp_path: Path) -> None:
    given = {"a": np.arange(6, dtype=np.float32).reshape(3, 2), "some name": np.array([1, 2], np.int64), "s": np.array([2.5])}
    adapter = writer.AdapterFormat()
    adapter.set_adapter_version(3)
    adapter.set_model_version(7)
    adapter.set_parameters({name: value(writer, array) for name, array in given.items()})
    adapter.export_adapter(str(tmp_path / "x.onnx_adapter"))
    found = reader.AdapterFormat.read_adapter(str(tmp_path / "x.onnx_adapter"))
    assert (found.get_format_version(), found.get_adapter_version(), found.get_model_version()) == (1, 3, 7)
    got = {name: v.numpy() for name, v in found.get_parameters().items()}
    assert got.keys() == given.keys()
    for name, array in given.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].dtype == array.dtype


def test_runs_use_adapters(tmp_path: Path) -> None:
    adapter = sx.AdapterFormat()
    adapter.set_parameters({"a": value(sx, np.full((3, 2), 2, np.float32)), "unknown": value(sx)})
    adapter.export_adapter(tmp_path / "x")
    loaded = sx.LoraAdapter()
    loaded.Load(str(tmp_path / "x"))
    options = sx.RunOptions()
    options.add_active_adapter(loaded)
    text = LORA.replace(", float[3,2] a = {1,0,0,1,0,0}", ", float[3,2] a")
    session = sx.InferenceSession(model(text))
    assert session.run(None, {"x": X}, options)[0].tolist() == [[6, 6]]


def test_damaged_adapters(tmp_path: Path) -> None:
    adapter = sx.AdapterFormat()
    adapter.set_parameters({"a": value(sx)})
    adapter.export_adapter(tmp_path / "x")
    whole = (tmp_path / "x").read_bytes()
    rng = np.random.default_rng(0)
    for cut in range(len(whole)):
        (tmp_path / "x").write_bytes(whole[:cut])
        with pytest.raises(RuntimeError, match="valid lora parameter format"):
            sx.LoraAdapter().Load(str(tmp_path / "x"))
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        (tmp_path / "x").write_bytes(bytes(damaged))
        with contextlib.suppress(RuntimeError):
            sx.LoraAdapter().Load(str(tmp_path / "x"))
    with pytest.raises(RuntimeError, match="cannot be read"):
        sx.LoraAdapter().Load(str(tmp_path / "none"))


# ---- ModelCompiler ----------------------------------------------------------------------------------------------------------


def test_compiled_models(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model(ADD))
    sx.ModelCompiler(sx.SessionOptions(), path).compile_to_file()
    streamed: list[bytes] = []
    compiler = sx.ModelCompiler(sx.SessionOptions(), model(ADD), graph_optimization_level=sx.GraphOptimizationLevel.ORT_ENABLE_ALL)
    compiler.compile_to_stream(streamed.append)
    for data in ((tmp_path / "m_ctx.onnx").read_bytes(), compiler.compile_to_bytes(), b"".join(streamed)):
        assert ort.InferenceSession(data).run(None, {"x": X})[0].tolist() == [[2, 3, 4]]


def test_refusals_of_the_compiler(tmp_path: Path) -> None:
    options, flags = sx.SessionOptions(), sx.OrtCompileApiFlags
    (tmp_path / "there").write_bytes(b"")
    with pytest.raises(TypeError, match="Unable to load from type"):
        sx.ModelCompiler(options, 3)  # type: ignore[arg-type]
    for empty in ("", b""):
        with pytest.raises(ValueError, match="is empty"):
            sx.ModelCompiler(options, empty)
    with pytest.raises(NotImplementedHere):
        sx.ModelCompiler(options, model(ADD), external_initializers_file_path="w")
    with pytest.raises(InvalidArgument, match="Output model path is required"):
        sx.ModelCompiler(options, model(ADD)).compile_to_file()
    with pytest.raises(Fail, match="exists already"):
        sx.ModelCompiler(options, model(ADD), flags=flags.ERROR_IF_OUTPUT_FILE_EXISTS).compile_to_file(tmp_path / "there")
    with pytest.raises(Fail, match="No nodes were compiled"):
        sx.ModelCompiler(options, model(ADD), flags=flags.ERROR_IF_NO_NODES_COMPILED).compile_to_bytes()
