"""Short programs for ONNX Runtime, as users write them: `python short_programs.py` prints what each finds, as JSON.

Run by whatever `onnxruntime` is: see `test_short_programs.py`.
"""

import json
import logging
import os
import queue
import sys
import tempfile
import threading
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import onnxruntime as ort

RELU = "g (float[n,3] x) => (float[n,3] y) { y = Relu (x) }"
TWO = "g (float[n,3] a, float[n,3] b) => (float[n,3] s, float[n,3] p) { s = Add (a, b) p = Mul (a, b) }"
WEIGHT = "g (float[n,3] x) => (float[n,2] y) <float[3,2] w = {1,2,3,4,5,6}> { y = MatMul (x, w) }"
CACHE = "g (float[1,t] past, float[1,1] new) => (float[1,u] present) { present = Concat <axis=1> (past, new) }"
TEXTS = "g (string[n] x) => (string[n] y, int64[n] z) { y = Identity (x) n = Shape (x) z = Expand (one, n) }".replace(
    "=> (string[n] y, int64[n] z) {", "=> (string[n] y, int64[n] z) <int64[1] one = {1}> {"
)
X = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)


def model(text: str) -> bytes:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}').SerializeToString()


def session(text: str, **options) -> ort.InferenceSession:
    return ort.InferenceSession(model(text), providers=["CPUExecutionProvider"], **options)


def caught(function, *arguments) -> list:
    """The class of what is raised, and where it can be caught from."""
    try:
        function(*arguments)
    except Exception as error:
        public = hasattr(ort.capi.onnxruntime_pybind11_state, type(error).__name__)
        return [type(error).__name__, public or isinstance(error, (ValueError, RuntimeError, TypeError, AttributeError))]
    return ["nothing", True]


def first_steps():
    made = session(RELU)
    name = made.get_inputs()[0].name
    return [made.run([made.get_outputs()[0].name], {name: X})[0], made.run(None, {name: X}), made.run([], {name: X})]


def ports():
    made = session(TWO)
    return [[(a.name, a.type, a.shape) for a in args] for args in (made.get_inputs(), made.get_outputs())]


def metadata():
    proto = onnx.load_from_string(model(RELU))
    proto.producer_name, proto.doc_string, proto.model_version, proto.domain = "me", "what it is", 7, "a.b"
    proto.metadata_props.add(key="classes", value="cat,dog")
    meta = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).get_modelmeta()
    return [meta.producer_name, meta.description, meta.version, meta.domain, meta.graph_name, meta.custom_metadata_map]


def options_of_every_kind():
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made = ort.InferenceSession(model(RELU), options, providers=["CPUExecutionProvider"])
    told = made.get_session_options()
    return [made.run(None, {"x": X})[0], told.intra_op_num_threads, str(told.execution_mode), str(told.graph_optimization_level)]


def texts_of_enums():
    levels = [ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, ort.ExecutionMode.ORT_PARALLEL, ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR]
    return [[str(level), repr(level), f"{level}", level.name, int(level)] for level in levels]


def config_entries():
    options, run = ort.SessionOptions(), ort.RunOptions()
    options.add_session_config_entry("a.b", "1")
    run.add_run_config_entry("c.d", "2")
    return [
        options.get_session_config_entry("a.b"),
        run.get_run_config_entry("c.d"),
        caught(options.get_session_config_entry, "none"),
    ]


def gpu_first():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        made = ort.InferenceSession(model(RELU), providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    return [made.get_providers(), str(seen[0].message).split(".")[0], seen[0].category.__name__, made.run(None, {"x": X})[0]]


def provider_with_options():
    made = ort.InferenceSession(model(RELU), providers=[("CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})])
    return [made.get_providers(), "CPUExecutionProvider" in ort.get_available_providers(), ort.get_device()]


def best_provider():
    wanted = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in ort.get_available_providers()]
    known = ort.get_all_providers()
    return [wanted, "CUDAExecutionProvider" in known, "TensorrtExecutionProvider" in known]


def wrong_feeds():
    made = session(TWO)
    feeds = [{"a": X}, {"a": X, "b": X, "c": X}, {"a": X, "b": X.astype(np.float64)}, {"a": X, "b": X[0]}, {"a": X, "b": X[:, :2]}]
    return [caught(made.run, None, feed) for feed in feeds] + [caught(made.run, ["q"], {"a": X, "b": X})]


def wrong_models():
    return [caught(ort.InferenceSession, source) for source in ("/none.onnx", b"garbage", b"", 3, None)]


def errors_by_name():
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument, InvalidProtobuf, NoSuchFile

    found = []
    for kind, source in ((NoSuchFile, "/none.onnx"), (InvalidProtobuf, b"garbage"), (InvalidArgument, b"")):
        try:
            ort.InferenceSession(source, providers=["CPUExecutionProvider"])
        except kind as error:
            found.append(str(error).split(":")[:3])
    return found


def values_in_and_out():
    value = ort.OrtValue.ortvalue_from_numpy(X)
    made = session(RELU).run_with_ort_values(["y"], {"x": value})[0]
    return [
        made.numpy(),
        made.shape(),
        made.data_type(),
        made.element_type(),
        made.device_name(),
        value.data_ptr() == X.ctypes.data,
    ]


def binding_to_memory():
    made, out = session(WEIGHT), np.empty((2, 2), np.float32)
    binding = made.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, X.shape, X.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, out.shape, out.ctypes.data)
    for _ in range(3):
        made.run_with_iobinding(binding)
    return [out, binding.get_outputs()[0].data_ptr() == out.ctypes.data]


def binding_of_values():
    made = session(WEIGHT)
    x, y = ort.OrtValue.ortvalue_from_numpy(X.copy()), ort.OrtValue.ortvalue_from_shape_and_type([2, 2], np.float32)
    binding = made.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output("y", y)
    found = []
    for factor in (1, 2):
        x.update_inplace(X * factor)
        made.run_with_iobinding(binding)
        found.append(y.numpy().copy())
    return found


def binding_of_growing_outputs():
    """As a decoder's cache grows: the output of one step is the input of the next."""
    made, past = session(CACHE), ort.OrtValue.ortvalue_from_numpy(np.zeros((1, 0), np.float32))
    for step in range(5):
        binding = made.io_binding()
        binding.bind_ortvalue_input("past", past)
        binding.bind_cpu_input("new", np.full((1, 1), step, np.float32))
        binding.bind_output("present", "cpu")
        made.run_with_iobinding(binding)
        past = binding.get_outputs()[0]
    return [past.numpy(), binding.copy_outputs_to_cpu()[0]]


def exchange_by_dlpack():
    value = ort.OrtValue.from_dlpack(X.copy())
    made = session(RELU).run_with_ort_values(None, {"x": value})[0]
    return [np.from_dlpack(made), list(made.__dlpack_device__()), np.asarray(made).dtype.name]


def runs_on_other_threads():
    made, answers = session(RELU), queue.Queue()
    made.run_async(None, {"x": X}, lambda outputs, data, error: answers.put([outputs[0].tolist(), data, error]), "token")
    outputs, data, error = answers.get(timeout=60)
    return [outputs, data, error]


def threads_share_a_session():
    made = session(WEIGHT)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda k: made.run(None, {"x": X * k})[0], range(32)))
    return [all(np.allclose(out, found[1] * k) for k, out in enumerate(found)), found[1]]


def a_run_that_is_ended():
    options = ort.RunOptions()
    options.terminate = True
    return caught(session(RELU).run, None, {"x": X}, options)


def a_fixed_dimension():
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_name("n", 2)
    made = ort.InferenceSession(model(RELU), options, providers=["CPUExecutionProvider"])
    return [made.get_inputs()[0].shape, caught(made.run, None, {"x": X[:1]})]


def weights_of_the_users():
    options, weight = ort.SessionOptions(), ort.OrtValue.ortvalue_from_numpy(np.ones((3, 2), np.float32))
    options.add_initializer("w", weight)
    return [ort.InferenceSession(model(WEIGHT), options).run(None, {"x": X})[0] for _ in range(2)]


def a_model_in_a_file():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a model.onnx"
        path.write_bytes(model(WEIGHT))
        return [ort.InferenceSession(source).run(None, {"x": X})[0] for source in (path, str(path))]


def an_optimised_model_on_disk():
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.optimized_model_filepath = os.path.join(folder, "o.onnx")
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        ort.InferenceSession(model(WEIGHT), options, providers=["CPUExecutionProvider"])
        return ort.InferenceSession(options.optimized_model_filepath).run(None, {"x": X})[0]


def a_profile():
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(folder, "profile")
        made = ort.InferenceSession(model(WEIGHT), options, providers=["CPUExecutionProvider"])
        made.run(None, {"x": X})
        path = made.end_profiling()
        events = json.loads(Path(path).read_text())
        return [path.startswith(options.profile_file_prefix), path.endswith(".json"), any(e["name"] == "model_run" for e in events)]


def texts():
    return [out.tolist() for out in session(TEXTS).run(None, {"x": np.array(["a", "bb", ""])})]


def sequences():
    made = session(
        "g (float[n] a) => (seq(float[n]) s, float[m] c) { s = SequenceConstruct (a, a) c = ConcatFromSequence <axis=0> (s) }"
    )
    out = made.run(None, {"a": np.float32([1, 2])})
    return [type(out[0]).__name__, [part.tolist() for part in out[0]], out[1], made.get_outputs()[0].type]


def sparse_tensors():
    cpu = ort.OrtDevice.make("cpu", 0)
    sparse = ort.SparseTensor.sparse_coo_from_numpy([2, 3], np.float32([5, 7]), np.array([1, 5]), cpu)
    value = ort.OrtValue.ort_value_from_sparse_tensor(sparse)
    return [sparse.dense_shape(), sparse.as_coo_view().indices(), str(sparse.format()), value.is_sparse_tensor(), value.data_type()]


def the_backend():
    import onnxruntime.backend as backend

    return [backend.prepare(model(RELU), "CPU").run(X)[0], backend.run(model(WEIGHT), [X])[0], backend.supports_device("CPU")]


def examples():
    from onnxruntime.datasets import get_example

    made = ort.InferenceSession(get_example("mul_1.onnx"), providers=ort.get_available_providers())
    return made.run(None, {made.get_inputs()[0].name: np.ones((3, 2), np.float32)})[0]


def versions():
    from importlib.metadata import version

    major, minor = map(int, ort.__version__.split(".")[:2])
    return [(major, minor) >= (1, 16), version("onnxruntime") == ort.__version__ == onnxruntime.get_version_string()]


def logging_and_telemetry():
    ort.set_default_logger_severity(3)
    ort.set_default_logger_verbosity(0)
    ort.disable_telemetry_events()
    ort.enable_telemetry_events()
    ort.set_seed(1)
    ort.preload_dlls()
    return [ort.get_build_info().startswith("ORT Build Info"), logging.getLogger().level]


def a_session_of_a_class_of_the_users():
    class Classifier(ort.InferenceSession):
        def __init__(self, path, labels):
            super().__init__(path, providers=["CPUExecutionProvider"])
            self.labels = labels

        def __call__(self, x):
            return [self.labels[i] for i in self.run(None, {"x": x})[0].argmax(1)]

    return Classifier(model(WEIGHT), ["no", "yes"])(X)


def inputs_of_every_form():
    made = session(RELU)
    forms = [X.tolist(), X[:, ::-1], np.asfortranarray(X), X.astype(">f4").astype("<f4"), ort.OrtValue.ortvalue_from_numpy(X)]
    return [made.run(None, {"x": form})[0] for form in forms]


def memory_and_devices():
    device = ort.OrtDevice.make("cpu", 0)
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    arena = ort.OrtArenaCfg(0, -1, -1, -1)
    ort.create_and_register_allocator(memory, arena)
    return [device.device_id(), device.device_type(), memory.name, arena.max_mem]


PROGRAMS = [
    f
    for name, f in list(globals().items())
    if callable(f) and getattr(f, "__module__", "") == __name__ and f.__code__.co_argcount == 0
]


def plain(value):
    """As JSON holds it."""
    if isinstance(value, np.ndarray):
        return [value.dtype.name, list(value.shape), value.tolist()]
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def main():
    found = {}
    for program in PROGRAMS:
        try:
            found[program.__name__] = plain(program())
        except Exception:
            found[program.__name__] = traceback.format_exc()
    assert threading.active_count() > 0
    print(json.dumps(found), file=sys.stdout)


if __name__ == "__main__":
    main()
