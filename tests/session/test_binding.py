"""IOBinding: nothing is copied, what doesn't fit is told, and results are those of `run`."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import sardonyx as sx
from sardonyx.runtime.arrays import Array
from sardonyx.runtime.execution import Program
from sardonyx.session.binding import overlapping
from tests.session.models import model, relu

X = np.array([[1, -2, 3], [4, 5, -6]], np.float32)
TWO = "g (float[n,3] x) => (float[n,3] y, float[n,3] z) { y = Relu (x) z = Neg (x) }"
PRODUCT = "g (float[n,n] x) => (float[n,n] y) { y = MatMul (x, x) }"
DATA_DECIDES = "g (float[n] x) => (int64[1,m] y) { y = NonZero (x) }"
INSIDE = "g (float[n,3] x) => (float[n,3] x2, float[n,3] y) { x2 = Identity (x) y = Relu (x) }"


def bound(session: Any, x: Array = X) -> Any:
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    return binding


def test_outputs_are_written_where_they_are_bound() -> None:
    """Whether a run is the first of its shape, like the one before, or of another shape."""
    session = sx.InferenceSession(relu())
    for rows in (2, 2, 2, 5, 5, 2):
        x = np.random.default_rng(rows).standard_normal((rows, 3), np.float32)
        out = np.full((rows, 3), np.nan, np.float32)
        binding = bound(session, x)
        binding.bind_output("y", "cpu", 0, np.float32, [rows, 3], out.ctypes.data)
        session.run_with_iobinding(binding)
        np.testing.assert_array_equal(out, np.maximum(x, 0))
        assert [value.data_ptr() for value in binding.get_outputs()] == [out.ctypes.data]


def test_no_output_is_copied_or_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled code gets the array's address: no other memory is asked for."""
    session = sx.InferenceSession(relu())
    value = sx.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32)
    binding = bound(session)
    binding.bind_ortvalue_output("y", value)
    seen: list[Any] = []
    run, replay = Program.run, Program.replay

    def watched(which: Any) -> Any:
        def call(self: Program, *arguments: Any) -> Any:
            made = which(self, *arguments)
            if made is not None:
                seen.append([array.ctypes.data for array in made])
            return made

        return call

    monkeypatch.setattr(Program, "run", watched(run))
    monkeypatch.setattr(Program, "replay", watched(replay))
    for _ in range(3):
        session.run_with_iobinding(binding)
    assert seen == [[value.data_ptr()]] * 3


def test_inputs_are_read_where_they_are() -> None:
    session = sx.InferenceSession(relu())
    x = X.copy()
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, [2, 3], x.ctypes.data)
    binding.bind_output("y")
    for factor in (1, 2):
        x[...] = X * factor
        session.run_with_iobinding(binding)
        np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], np.maximum(X * factor, 0))


@pytest.mark.parametrize("onnx_type", [1, np.float32, "float32", np.dtype("float32")])
def test_types_of_elements(onnx_type: Any) -> None:
    session = sx.InferenceSession(relu())
    out = np.zeros((2, 3), np.float32)
    binding = bound(session)
    binding.bind_output("y", "cpu", 0, onnx_type, (2, 3), out.ctypes.data)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(out, np.maximum(X, 0))


def test_the_order_is_that_of_binding() -> None:
    for runtime in (ort, sx):
        session = runtime.InferenceSession(model(TWO))
        binding = bound(session)
        for name in ("z", "y", "z"):
            binding.bind_output(name)
        session.run_with_iobinding(binding)
        assert [value.numpy()[0].tolist() for value in binding.get_outputs()] == [[-1, 2, -3], [1, 0, 3]]


@pytest.mark.parametrize("text", [PRODUCT, INSIDE])
def test_memory_that_overlaps_an_input(text: str) -> None:
    """The output is what it would be elsewhere, although computing it in place would overwrite what is read."""
    x = np.random.default_rng(0).standard_normal((3, 3), np.float32)
    session = sx.InferenceSession(model(text))
    expected = session.run(["y"], {"x": x})[0]
    memory = np.zeros(15, np.float32)
    for start in (0, 3):
        memory[:9] = x.reshape(-1)
        source, target = memory[:9].reshape(3, 3), memory[start : start + 9].reshape(3, 3)
        binding = bound(session, source)
        binding.bind_ortvalue_output("y", sx.OrtValue.ortvalue_from_numpy(target))
        session.run_with_iobinding(binding)
        np.testing.assert_array_equal(target, expected)


def test_two_outputs_in_one_memory() -> None:
    """The later one is there, whole."""
    session = sx.InferenceSession(model(TWO))
    value = sx.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32)
    binding = bound(session)
    binding.bind_ortvalue_output("y", value)
    binding.bind_ortvalue_output("z", value)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(value.numpy(), -X)


def test_which_memory_overlaps() -> None:
    memory = np.zeros(20, np.uint8)
    a, b, c, d = memory[:8], memory[4:12], memory[12:16], memory[16:]
    assert overlapping([a, c], [b]) == {id(a)}
    assert overlapping([b], [a, c]) == {id(b)}
    assert overlapping([a, b, c], []) == {id(a), id(b)}
    assert overlapping([c], [a, b, d]) == set()
    assert overlapping([memory, c], [d]) == {id(memory), id(c)}


def test_inputs_and_constants_that_are_outputs() -> None:
    session = sx.InferenceSession(model(INSIDE))
    value = sx.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32)
    binding = bound(session)
    binding.bind_ortvalue_output("x2", value)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(value.numpy(), X)


def test_an_output_whose_size_data_decide() -> None:
    session = sx.InferenceSession(model(DATA_DECIDES))
    x = np.array([0, 1, 0, 2], np.float32)
    right, wrong = (sx.OrtValue.ortvalue_from_shape_and_type([1, n], np.int64) for n in (2, 3))
    binding = bound(session, x)
    binding.bind_ortvalue_output("y", right)
    session.run_with_iobinding(binding)
    assert right.numpy().tolist() == [[1, 3]]
    binding.bind_ortvalue_output("y", wrong)
    with pytest.raises(RuntimeError, match=r"shape \{1,3\} but the computed output shape for this run is \{1,2\}"):
        session.run_with_iobinding(binding)


WRONG = [
    ([3, 3], np.float32, r"has shape \{3,3\} but the computed output shape for this run is \{2,3\}"),
    ([6], np.float32, "Invalid rank for output: y Got: 1 Expected: 2"),
    ([2, 4], np.float32, "for output: y for the following indices\n index: 1 Got: 4 Expected: 3"),
    ([2, 3], np.float64, r"Unexpected output data type. Actual: \(tensor\(double\)\) , expected: \(tensor\(float\)\)"),
]


@pytest.mark.parametrize(("shape", "dtype", "text"), WRONG)
def test_outputs_that_do_not_fit(shape: list[int], dtype: Any, text: str) -> None:
    for runtime in (ort, sx):
        session = runtime.InferenceSession(relu())
        for _ in range(2):  # the second after a run that was right
            binding = bound(session)
            memory = np.zeros(shape, dtype)
            binding.bind_output("y", "cpu", 0, dtype, shape, memory.ctypes.data)
            with pytest.raises(RuntimeError, match=text):
                session.run_with_iobinding(binding)
            assert not memory.any()
            session.run(None, {"x": X})


OUT = np.zeros((2, 3), np.float32)
REFUSALS: list[tuple[Any, type[Exception], str]] = [
    (lambda b: b.bind_cpu_input("q", X), RuntimeError, "Failed to find NodeArg with name: q in the def list"),
    (lambda b: b.bind_cpu_input("x", [[1.0]]), RuntimeError, "Unable to create OrtValue from the given python object"),
    (lambda b: b.bind_output("y", "xxx"), Exception, "Unsupported device type: xxx"),
    (lambda b: b.bind_output("y", "cpu", 0, None, [2, 3], 1), ValueError, "`element_type` and `shape` are to be provided"),
    (lambda b: b.bind_output("y", "cpu", 0, np.float32, [2, 3], 0), RuntimeError, "Pointer to data memory is not valid"),
    (lambda b: b.bind_output("y", "cpu", 0, np.float32, [2, -3], OUT.ctypes.data), RuntimeError, r"shape.Size\(\) must >=0"),
    (lambda b: b.bind_input("x", "cuda", 0, np.float32, [2, 3], X.ctypes.data), RuntimeError, "Error when binding input"),
    (lambda b: b.bind_input("x", "cpu", 0, np.str_, [2, 3], X.ctypes.data), RuntimeError, "Only binding non-string Tensors"),
]


@pytest.mark.parametrize("runtime", [ort, sx])
@pytest.mark.parametrize(("attempt", "kind", "text"), REFUSALS)
def test_what_onnxruntime_refuses(runtime: Any, attempt: Any, kind: type[Exception], text: str) -> None:
    binding = runtime.InferenceSession(relu()).io_binding()
    with pytest.raises(kind, match=text):
        attempt(binding)


@pytest.mark.parametrize("runtime", [ort, sx])
def test_runs_that_onnxruntime_refuses(runtime: Any) -> None:
    session = runtime.InferenceSession(relu())
    with pytest.raises(RuntimeError, match="At least one output should be requested"):
        session.run_with_iobinding(session.io_binding())
    with pytest.raises(ValueError, match="with the session that created it"):
        runtime.InferenceSession(relu()).run_with_iobinding(session.io_binding())
    binding = bound(session, X.astype(np.float64))
    binding.bind_output("y")
    with pytest.raises(RuntimeError, match=r"Error in execution: Unexpected input data type. Actual: \(tensor\(double\)\)"):
        session.run_with_iobinding(binding)
    binding = bound(session)
    binding.bind_output("zz")
    with pytest.raises(RuntimeError, match="Error in execution: Invalid output name: ?zz"):
        session.run_with_iobinding(binding)


def test_results_before_a_run_and_after_clearing() -> None:
    session = sx.InferenceSession(relu())
    binding = bound(session)
    binding.bind_output("y")
    assert binding.get_outputs() == []
    session.run_with_iobinding(binding)
    binding.synchronize_inputs()
    binding.synchronize_outputs()
    assert len(binding.get_outputs_as_ortvaluevector()) == 1
    binding.clear_binding_inputs()
    with pytest.raises(RuntimeError, match="Required inputs"):
        session.run_with_iobinding(binding)
    binding.clear_binding_outputs()
    assert binding.get_outputs() == []


def test_results_of_a_run_are_kept_by_who_holds_them() -> None:
    """Outputs that are made anew each time don't overwrite the ones before."""
    session = sx.InferenceSession(relu())
    binding = bound(session)
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    first = binding.get_outputs()[0]
    binding.bind_cpu_input("x", X + 10)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(first.numpy(), np.maximum(X, 0))


def test_read_only_memory() -> None:
    session = sx.InferenceSession(relu())
    fixed = np.zeros((2, 3), np.float32)
    fixed.setflags(write=False)
    binding = bound(session)
    with pytest.raises(RuntimeError, match="output y is bound to is read-only"):
        binding.bind_ortvalue_output("y", sx.OrtValue.ortvalue_from_numpy(fixed))
    with open(__file__, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as page:
        array = np.frombuffer(page, np.uint8)
        with pytest.raises(RuntimeError, match="can't be written"):
            binding.bind_output("y", "cpu", 0, np.float32, [2, 3], array.ctypes.data)
        binding.bind_input("x", "cpu", 0, np.float32, [2, 3], array.ctypes.data)
        del array


def test_freed_memory() -> None:
    session = sx.InferenceSession(relu())
    page = mmap.mmap(-1, mmap.PAGESIZE)
    held = ctypes.c_char.from_buffer(page)
    address = ctypes.addressof(held)
    binding = bound(session)
    binding.bind_output("y", "cpu", 0, np.float32, [2, 3], address)
    session.run_with_iobinding(binding)
    del held
    page.close()
    with pytest.raises(RuntimeError, match="the memory that y is bound to, .* is not there any more"):
        session.run_with_iobinding(binding)
    with pytest.raises(RuntimeError, match="Pointer to data memory is not valid"):
        binding.bind_output("y", "cpu", 0, np.float32, [2, 3], address)


def test_an_address_that_is_not_aligned() -> None:
    memory = np.zeros(64, np.uint8)
    with pytest.raises(RuntimeError, match="no multiple of 4"):
        bound(sx.InferenceSession(relu())).bind_output("y", "cpu", 0, np.float32, [2, 3], memory.ctypes.data + 1)


def test_a_run_that_is_ended() -> None:
    session = sx.InferenceSession(relu())
    binding = bound(session)
    binding.bind_ortvalue_output("y", sx.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32))
    options = sx.RunOptions()
    options.terminate = True
    with pytest.raises(RuntimeError, match="Error in execution: Exiting due to terminate flag"):
        session.run_with_iobinding(binding, options)


def test_the_inner_class() -> None:
    from sardonyx.session.binding import SessionIOBinding

    session = sx.InferenceSession(relu())
    cpu = sx.OrtDevice.make("cpu", 0)
    out = np.zeros((2, 3), np.float32)
    for arguments in ((X,), (cpu, np.float32, [2, 3], X.ctypes.data)):
        binding = SessionIOBinding(session)
        binding.bind_input("x", *arguments)
        binding.bind_output("y", cpu, np.float32, [2, 3], out.ctypes.data)
        session.run_with_iobinding(binding)
        np.testing.assert_array_equal(out, np.maximum(X, 0))


@pytest.mark.parametrize(
    "text",
    [
        "g (float[n,3] x) => (float[m,k] y) { y = Squeeze (x) }",
        "g (float[n,3] x) => (float[n,3] y) <int64[1] big = {2}> { h = Relu (x) c = NonZero (h) s = Shape (c) y = Relu (h) }",
    ],
)
def test_programs_of_other_kinds(text: str) -> None:
    """Those that are compiled when they are run, and those of several parts."""
    x = np.ones((2, 3), np.float32)
    session = sx.InferenceSession(model(text))
    expected = session.run(None, {"x": x})[0]
    value = sx.OrtValue.ortvalue_from_shape_and_type(list(expected.shape), np.float32)
    binding = bound(session, x)
    binding.bind_ortvalue_output("y", value)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(value.numpy(), expected)
