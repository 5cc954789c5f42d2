"""Sessions with a device that owns its memory: how many copies each form of graph needs, exactly, and what is shared."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import sardonyx as sx
from sardonyx.base.errors import Fail, InvalidArgument
from sardonyx.runtime.arrays import Array
from tests.providers.counting import CountingProvider, OtherProvider
from tests.session.models import model

CPU = "CPUExecutionProvider"
X = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)
DEVICE, OTHER = CountingProvider.device, OtherProvider.device


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Both providers are there, and nothing is left on their devices at the end."""
    for provider in (CountingProvider, OtherProvider):
        sx.register_execution_provider(provider.name, provider)
    yield
    for provider in (CountingProvider, OtherProvider):
        sx.unregister_execution_provider(provider.name)
    gc.collect()
    assert DEVICE.held() == OTHER.held() == 0


def on_device(text: str, operators: str, *others: Any) -> sx.InferenceSession:
    options = sx.SessionOptions()
    options.graph_optimization_level = sx.GraphOptimizationLevel.ORT_DISABLE_ALL
    return sx.InferenceSession(model(text), options, [(CountingProvider.name, {"operators": operators}), *others])


def feeds(session: sx.InferenceSession) -> dict[str, Array]:
    return {argument.name: X + k for k, argument in enumerate(session.get_inputs())}


SHAPES = [
    ("one part", "Relu", "{ y = Relu (x) }", {"in": 1, "out": 1}),
    ("neighbours", "Relu,Exp", "{ a = Relu (x) y = Exp (a) }", {"in": 1, "out": 1}),
    ("a sandwich", "Relu", "{ a = Relu (x) b = Neg (a) y = Relu (b) }", {"in": 2, "out": 2}),
    ("the CPU alone", "Exp", "{ y = Relu (x) }", {}),
    ("the CPU in the middle keeps nothing", "Relu", "{ a = Neg (x) b = Relu (a) y = Neg (b) }", {"in": 1, "out": 1}),
    (
        "a value that waits on the device",
        "Relu,Exp,Add",
        "{ a = Relu (x) b = Exp (a) c = Neg (a) y = Add (b, c) }",
        {"in": 2, "out": 2},
    ),
    ("an input that a later part reads again", "Relu,Add", "{ a = Relu (x) b = Neg (a) y = Add (b, x) }", {"in": 2, "out": 2}),
    ("a weight that both read", "Add", "<float w = {1}> { a = Add (x, w) b = Mul (a, w) y = Add (b, w) }", {"in": 2, "out": 2}),
    ("a part that is compiled when it runs", "Relu,Exp", "{ a = Relu (x) b = Squeeze (a) y = Exp (b) }", {"in": 2, "out": 2}),
    ("a branch that is not needed", "Relu,Exp", "{ y = Relu (x) unread = Exp (x) }", {"in": 1, "out": 1}),
]


@pytest.mark.parametrize(("operators", "body", "copies"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES])
def test_copies_of_each_form(operators: str, body: str, copies: dict[str, int]) -> None:
    """In each run the same, and results as on the CPU."""
    text = f"g (float[n,3] x) => (float[n,3] y) {body}"
    session = on_device(text, operators)
    expected = sx.InferenceSession(model(text)).run(None, {"x": X})
    for _ in range(3):
        with DEVICE.counted() as counts:
            found = session.run(None, {"x": X})
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
        assert counts == copies
        assert DEVICE.held() == 0, "a run leaves nothing on the device"


def test_an_input_of_both_is_copied_once() -> None:
    session = on_device("g (float[n,3] x) => (float[n,3] y, float[n,3] z) { y = Relu (x) z = Neg (x) }", "Relu")
    with DEVICE.counted() as counts:
        y, z = session.run(None, {"x": X})
    assert counts == {"in": 1, "out": 1}
    np.testing.assert_array_equal((y, z), (np.maximum(X, 0), -X))


def test_an_output_that_the_cpu_reads_too_is_copied_once() -> None:
    session = on_device("g (float[n,3] x) => (float[n,3] y, float[n,3] z) { y = Relu (x) z = Neg (y) }", "Relu")
    with DEVICE.counted() as counts:
        session.run(None, {"x": X})
    assert counts == {"in": 1, "out": 1}
    with DEVICE.counted() as counts:
        session.run(["z"], {"x": X})
    assert counts == {"in": 1, "out": 1}


def test_an_input_that_the_device_reads_from_the_cpu() -> None:
    """Each port has its own memory: sizes of int64 stay where they are."""
    text = "g (float[n,3] x, int64[2] s) => (float[a,b] y) { r = Relu (x) y = Reshape (r, s) }"
    with DEVICE.counted() as counts:
        (y,) = on_device(text, "Relu,Reshape").run(None, {"x": X, "s": np.array([3, 2])})
    assert counts == {"in": 1, "out": 1}
    assert y.shape == (3, 2)


def test_two_devices_meet_in_the_memory_of_the_cpu() -> None:
    text = "g (float[n,3] x) => (float[n,3] y) { a = Relu (x) y = Exp (a) }"
    session = on_device(text, "Relu", (OtherProvider.name, {"operators": "Exp"}))
    with DEVICE.counted() as here, OTHER.counted() as there:
        session.run(None, {"x": X})
    assert here == there == {"in": 1, "out": 1}


# ---- values that stay on the device -----------------------------------------------------------------------------------------

STEP = "g (float[n,3] x, float[n,3] s) => (float[n,3] t) { a = Relu (x) t = Add (a, s) }"


def test_values_stay_on_the_device_from_run_to_run() -> None:
    session = on_device(STEP, "Relu,Add")
    x, state = (sx.OrtValue.ortvalue_from_numpy(array, "counting", 0) for array in (X, np.zeros_like(X)))
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_output("t", "counting")
    with DEVICE.counted() as counts:
        for _ in range(3):
            binding.bind_ortvalue_input("s", state)
            session.run_with_iobinding(binding)
            (state,) = binding.get_outputs()
    assert counts == {}
    assert (state.device_name(), state.shape(), state.data_type()) == ("counting", [2, 3], "tensor(float)")
    with DEVICE.counted() as counts:
        np.testing.assert_array_equal(state.numpy(), 3 * np.maximum(X, 0))
        np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], 3 * np.maximum(X, 0))
    assert counts == {"out": 2}
    binding.synchronize_inputs()
    binding.synchronize_outputs()
    assert DEVICE.counts["synchronize"] == 2


def test_outputs_are_written_where_they_are_bound_on_the_device() -> None:
    session = on_device(STEP, "Relu,Add")
    out = sx.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32, "counting", 0)
    binding = session.io_binding()
    for name in ("x", "s"):
        binding.bind_cpu_input(name, X)
    binding.bind_ortvalue_output("t", out)
    with DEVICE.counted() as counts:
        session.run_with_iobinding(binding)
    assert counts == {"in": 2}
    assert [value.data_ptr() for value in binding.get_outputs()] == [out.data_ptr()]
    np.testing.assert_array_equal(out.numpy(), np.maximum(X, 0) + X)


def test_memory_at_addresses_of_the_device() -> None:
    session = on_device(STEP, "Relu,Add")
    x, out = (sx.OrtValue.ortvalue_from_numpy(array, "counting", 0) for array in (X, np.zeros_like(X)))
    binding = session.io_binding()
    binding.bind_input("x", "counting", 0, np.float32, [2, 3], x.data_ptr())
    binding.bind_input("s", "counting", 0, np.float32, [2, 3], x.data_ptr())
    binding.bind_output("t", "counting", 0, np.float32, [2, 3], out.data_ptr())
    with DEVICE.counted() as counts:
        session.run_with_iobinding(binding)
    assert counts == {}
    np.testing.assert_array_equal(out.numpy(), np.maximum(X, 0) + X)
    for address in (0, out.data_ptr() + 4):
        with pytest.raises(RuntimeError, match="nothing is allocated at 0x"):
            binding.bind_output("t", "counting", 0, np.float32, [2, 3], address)
    with pytest.raises(RuntimeError, match=r"shape.Size\(\) must >=0"):
        binding.bind_input("x", "counting", 0, np.float32, [2, -3], x.data_ptr())


def test_an_output_over_an_input_is_computed_elsewhere_on_the_device() -> None:
    session = on_device(STEP, "Relu,Add")
    x = sx.OrtValue.ortvalue_from_numpy(X, "counting", 0)
    binding = session.io_binding()
    for name in ("x", "s"):
        binding.bind_ortvalue_input(name, x)
    binding.bind_ortvalue_output("t", x)
    with DEVICE.counted() as counts:
        session.run_with_iobinding(binding)
    assert counts == {"within": 1}
    np.testing.assert_array_equal(x.numpy(), np.maximum(X, 0) + X)


def test_outputs_of_the_cpu_that_are_bound_on_the_device() -> None:
    session = on_device("g (float[n,3] x) => (float[n,3] y, float[n,3] z) { y = Relu (x) z = Neg (y) }", "Relu")
    binding = session.io_binding()
    binding.bind_cpu_input("x", X)
    binding.bind_output("y")
    binding.bind_output("z", "counting")
    with DEVICE.counted() as counts:
        session.run_with_iobinding(binding)
    assert counts == {"in": 2, "out": 1}
    assert [value.device_name() for value in binding.get_outputs()] == ["cpu", "counting"]
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu(), [np.maximum(X, 0), -np.maximum(X, 0)])


def test_feeding_what_is_on_a_device() -> None:
    """To `run` and its relatives, whose outputs are the CPU's, and to sessions that have no device."""
    value = sx.OrtValue.ortvalue_from_numpy(X, "counting", 0)
    text = "g (float[n,3] x) => (float[n,3] y) { y = Relu (x) }"
    session = on_device(text, "Relu")
    for run in (session.run, session.run_with_ort_values):
        with DEVICE.counted() as counts:
            (y,) = run(None, {"x": value})
        assert counts == {"out": 1}
        np.testing.assert_array_equal(y if isinstance(y, np.ndarray) else y.numpy(), np.maximum(X, 0))
    other = sx.OrtValue.ortvalue_from_numpy(X, "other", 1)
    with DEVICE.counted() as counts, OTHER.counted() as there:
        session.run(None, {"x": other})
    assert (counts, there) == ({"in": 1, "out": 1}, {"out": 1})
    plain = sx.InferenceSession(model(text))
    for _ in range(2):
        with DEVICE.counted() as counts:
            np.testing.assert_array_equal(plain.run(None, {"x": value})[0], np.maximum(X, 0))
        assert counts == {"out": 1}


def test_a_session_without_devices_may_leave_its_outputs_on_one() -> None:
    session = sx.InferenceSession(model(STEP))
    value = sx.OrtValue.ortvalue_from_numpy(X, "counting", 0)
    target = sx.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32, "counting", 0)
    for bind in (lambda b: b.bind_output("t", "counting"), lambda b: b.bind_ortvalue_output("t", target)):
        binding = session.io_binding()
        binding.bind_cpu_input("x", X)
        binding.bind_ortvalue_input("s", value)
        bind(binding)
        with DEVICE.counted() as counts:
            session.run_with_iobinding(binding)
        assert counts == {"in": 1, "out": 1}
        np.testing.assert_array_equal(binding.get_outputs()[0].numpy(), np.maximum(X, 0) + X)


def test_where_each_output_goes() -> None:
    session = on_device(STEP, "Relu,Add")
    value = sx.OrtValue.ortvalue_from_numpy(X, "counting", 0)
    for device, copies in (("cpu", {"out": 1}), ("counting", {})):
        vector = type(session.io_binding().get_outputs_as_ortvaluevector())()
        with DEVICE.counted() as counts:
            session.run_with_ortvaluevector(None, ["x", "s"], [value, value], ["t"], vector, [sx.OrtDevice.make(device, 0)])
        assert counts == copies
        assert vector[0].device_name() == device
        np.testing.assert_array_equal(vector[0].numpy(), np.maximum(X, 0) + X)


def test_inputs_that_are_outputs_are_copies() -> None:
    """The caller may change what a run returns, and what it fed."""
    text = "g (float[n,3] x) => (float[n,3] x2, float[n,3] y) { x2 = Identity (x) y = Relu (x) }"
    session = sx.InferenceSession(model(text), providers=[(CountingProvider.name, {"operators": "Relu"})])
    value = sx.OrtValue.ortvalue_from_numpy(X, "counting", 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", value)
    for name in ("x2", "y"):
        binding.bind_output(name, "counting")
    session.run_with_iobinding(binding)
    for made in binding.get_outputs():
        assert made.data_ptr() != value.data_ptr()
        made.update_inplace(np.zeros_like(X))
    np.testing.assert_array_equal(value.numpy(), X)
    fed = X.copy()
    session.run(["x2"], {"x": fed})[0][...] = 0
    np.testing.assert_array_equal(fed, X)


# ---- what does not fit ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (X.astype(np.float64), r"Unexpected input data type. Actual: \(tensor\(double\)\) , expected: \(tensor\(float\)\)"),
        (X[0], "Invalid rank for input: x Got: 1 Expected: 2"),
        (X[:, :2], "for input: x for the following indices\n index: 1 Got: 2 Expected: 3"),
    ],
)
def test_inputs_on_the_device_that_do_not_fit(array: Array, text: str) -> None:
    value = sx.OrtValue.ortvalue_from_numpy(array, "counting", 0)
    body = "g (float[n,3] x) => (float[n,3] y) { y = Relu (x) }"
    for session in (on_device(body, "Relu"), sx.InferenceSession(model(body))):
        with pytest.raises(InvalidArgument, match=text):
            session.run(None, {"x": value})


def test_outputs_on_the_device_that_do_not_fit() -> None:
    target = sx.OrtValue.ortvalue_from_shape_and_type([3, 3], np.float32, "counting", 0)
    body = "g (float[n,3] x) => (float[n,3] y) { y = Relu (x) }"
    for session in (on_device(body, "Relu"), sx.InferenceSession(model(body))):
        binding = session.io_binding()
        binding.bind_cpu_input("x", X)
        binding.bind_ortvalue_output("y", target)
        with pytest.raises(RuntimeError, match=r"has shape \{3,3\} but the computed output shape for this run is \{2,3\}"):
            session.run_with_iobinding(binding)


def test_a_full_device(monkeypatch: pytest.MonkeyPatch) -> None:
    session = on_device("g (float[n,3] x) => (float[n,3] y) { y = Relu (x) }", "Relu")
    monkeypatch.setattr(DEVICE, "limit", 40)  # one tensor of 24 bytes fits
    with pytest.raises(Fail, match="MemoryError: 24 bytes more than the device has") as caught:
        session.run(None, {"x": X})
    assert not caught.value.defect
    del caught  # its traceback has the run's values
    gc.collect()
    assert DEVICE.held() == 0
    monkeypatch.undo()
    assert session.run(None, {"x": X})[0].shape == (2, 3)


def test_a_run_may_be_ended_between_the_parts() -> None:
    session = on_device("g (float[n,3] x) => (float[n,3] y) { a = Relu (x) b = Neg (a) y = Relu (b) }", "Relu")
    options = sx.RunOptions()
    options.terminate = True
    with pytest.raises(Fail, match="terminate flag"):
        session.run(None, {"x": X}, options)


def test_nodes_that_the_device_refuses_go_to_the_next_provider() -> None:
    text = "g (float[n,3] x) => (float[n,3] y) { a = Relu (x) y = Exp (a) }"
    first = (CountingProvider.name, {"operators": "Relu,Exp", "refuse": "Exp"})
    session = sx.InferenceSession(model(text), providers=[first, (OtherProvider.name, {"operators": "Exp"}), CPU])
    ran = {part.ep_name: [node.op_type for node in part.nodes] for part in session.get_provider_graph_assignment_info()}
    assert ran == {CPU: ["Relu"], OtherProvider.name: ["Exp"]}
    with OTHER.counted() as counts:
        np.testing.assert_allclose(session.run(None, {"x": X})[0], np.exp(np.maximum(X, 0)), rtol=1e-6)
    assert counts == {"in": 1, "out": 1}


def test_text_does_not_reach_the_device() -> None:
    session = on_device("g (string[n] s, float[n] x) => (string[n] t, float[n] y) { t = Identity (s) y = Relu (x) }", "Relu")
    text, y = session.run(None, {"s": np.array(["a", "b"]), "x": X[0, :2]})
    assert text.tolist() == ["a", "b"]
    assert y.tolist() == [1, 0]
