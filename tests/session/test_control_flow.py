"""If, Loop and Scan with bodies of which a device runs parts: results, exact numbers of copies, and who runs what."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import sardonyx as sx
from sardonyx.base.errors import Fail, InvalidArgument
from sardonyx.runtime.arrays import Array
from tests.providers.counting import CountingProvider
from tests.session.models import model

CPU, DEVICE = "CPUExecutionProvider", CountingProvider.device
X = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)
FEEDS = {"x": X, "c": np.array(True), "n": np.array(3), "s": X + 1}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    sx.register_execution_provider(CountingProvider.name, CountingProvider)
    yield
    sx.unregister_execution_provider(CountingProvider.name)
    gc.collect()
    assert DEVICE.held() == 0


IF = """g (float[n,3] x, bool c) => (float[n,3] y) {
    y = If (c) <then_branch = t () => (float[n,3] p) { p = Relu (x) }, else_branch = e () => (float[n,3] q) { q = Neg (x) }>
}"""
LOOP = """g (float[n,3] x, float[n,3] s, int64 n) => (float[n,3] y) <bool yes = {1}> {
    y = Loop (n, yes, s) <body = b (int64 i, bool going, float[n,3] t) => (bool more, float[n,3] u) {
        more = Identity (going) %s
    }>
}"""
STEP = LOOP % "a = Add (t, x) u = Relu (a)"
NESTED = (
    LOOP
    % """positive = Less (i, two)
    u = If (positive) <then_branch = p () => (float[n,3] v) { v = Add (t, x) }, else_branch = q () => (float[n,3] w) { w = Neg (t) }>"""
)
NESTED = NESTED.replace("yes = {1}", "yes = {1}, int64 two = {2}")
DATA = """g (float[n,3] x, float[n,3] s) => (float[n,3] y) <bool yes = {1}, float most = {10}> {
    y = Loop (, yes, s) <body = b (int64 i, bool going, float[n,3] t) => (bool more, float[n,3] u) {
        u = Add (t, x) total = ReduceSum <keepdims = 0> (u) size = Abs (total) more = Less (size, most)
    }>
}"""
ROWS = """g (float[n,3] x, float[3] s) => (float[3] last, float[n,3] y) {
    last, y = Scan <num_scan_inputs = 1, body = b (float[3] t, float[3] row) => (float[3] u, float[3] out) {
        u = Add (t, row) out = Relu (u)
    }> (s, x)
}"""
AROUND = """g (float[n,3] x, float[n,3] s, int64 n) => (float[n,3] y) <bool yes = {1}> {
    r = Relu (x)
    z = Loop (n, yes, r) <body = b (int64 i, bool going, float[n,3] t) => (bool more, float[n,3] u) {
        more = Identity (going) u = Add (t, r)
    }>
    y = Relu (z)
}"""
INITIAL = (
    LOOP.replace("n, yes, s)", "n, yes, zero)").replace("yes = {1}", "yes = {1}, float[1,3] zero = {0, 0, 0}") % "u = Add (t, x)"
)

CASES: list[tuple[str, str, str, dict[str, Array], dict[str, int]]] = [
    ("If on the device", IF, "Relu", {}, {"in": 1, "out": 1}),
    ("If on the CPU", IF, "Relu", {"c": np.array(False)}, {}),
    ("carried and captured values stay", STEP, "Add,Relu", {}, {"in": 2, "out": 1}),
    ("as long as the loop runs", STEP, "Add,Relu", {"n": np.array(9)}, {"in": 2, "out": 1}),
    ("no iteration", STEP, "Add,Relu", {"n": np.array(0)}, {}),
    ("the body is divided", STEP, "Add", {}, {"in": 4, "out": 3}),
    ("the CPU reads what is captured", STEP, "Relu", {}, {"in": 3, "out": 3}),
    ("If inside of Loop, two times of three on the device", NESTED, "Add", {}, {"in": 2, "out": 1}),
    ("the device decides when to end, after five iterations", DATA, "Add,ReduceSum,Abs,Less", {}, {"in": 2, "out": 6}),
    ("rows of a Scan", ROWS, "Add,Relu", {"s": X[0]}, {"in": 3, "out": 3}),
    ("the device before, inside and after", AROUND, "Relu,Add", {}, {"in": 1, "out": 1}),
    ("a first value that is a constant", INITIAL, "Add", {"n": np.array(2)}, {"in": 1, "out": 1}),
]


def fitting(text: str, given: dict[str, Array]) -> dict[str, Any]:
    names = [argument.name for argument in sx.InferenceSession(model(text)).get_inputs()]
    return {name: {**FEEDS, **given}[name] for name in names}


def divided(text: str, operators: str) -> sx.InferenceSession:
    return sx.InferenceSession(model(text), providers=[(CountingProvider.name, {"operators": operators})])


@pytest.mark.parametrize(("text", "operators", "given", "copies"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_copies_of_each_form(text: str, operators: str, given: dict[str, Array], copies: dict[str, int]) -> None:
    feed = fitting(text, given)
    session, plain = divided(text, operators), sx.InferenceSession(model(text))
    session.run(None, feed)  # constants reach the device in the first run
    for _ in range(2):
        with DEVICE.counted() as counts:
            found = session.run(None, feed)
        for mine, right in zip(found, plain.run(None, feed), strict=True):
            np.testing.assert_allclose(mine, right, rtol=1e-6)
        assert counts == copies


def test_a_constant_is_copied_to_the_device_once() -> None:
    session, feed = divided(INITIAL, "Add"), fitting(INITIAL, {})
    with DEVICE.counted() as counts:
        session.run(None, feed)
    assert counts == {"in": 2, "out": 1}
    session.close()


def test_who_runs_what() -> None:
    session = divided(NESTED, "Add")
    found = [(part.ep_name, [node.op_type for node in part.nodes]) for part in session.get_provider_graph_assignment_info()]
    assert (CountingProvider.name, ["Loop"]) == found[0]
    here, there = CPU, CountingProvider.name
    assert sorted(found[1:]) == [(here, ["Identity", "Less"]), (here, ["Neg"]), (there, ["Add"]), (there, ["If"])]
    assert "Loop '" in session.describe()
    assert "interpreted on the device counting:0" in session.describe()


def test_a_node_whose_bodies_nobody_else_wants_is_compiled_whole() -> None:
    session = divided(STEP, "Exp")
    assert [part.ep_name for part in session.get_provider_graph_assignment_info()] == [CPU]
    session = sx.InferenceSession(model(STEP), providers=[CPU, (CountingProvider.name, {"operators": "Add,Relu"})])
    assert [part.ep_name for part in session.get_provider_graph_assignment_info()] == [CPU]


@pytest.mark.parametrize("text", [IF.replace("Relu (x)", "Identity (x)").replace("Neg", "Relu"), STEP])
def test_results_are_the_callers(text: str) -> None:
    """Also where a branch or a loop without iterations returns what it was given, in any memory."""
    feed = {**fitting(text, {"n": np.array(0)})}
    session = divided(text, "Relu")
    source = "x" if "If" in text else "s"
    for value in (feed[source].copy(), sx.OrtValue.ortvalue_from_numpy(feed[source], "counting", 0)):
        fed = {**feed, source: value}
        (y,) = session.run(None, fed)
        np.testing.assert_array_equal(y, feed[source])
        y[...] = 7
        np.testing.assert_array_equal(np.asarray(value), feed[source])


def test_values_on_the_device_enter_and_leave_loops() -> None:
    session = divided(STEP, "Add,Relu")
    binding = session.io_binding()
    for name in ("x", "s"):
        binding.bind_ortvalue_input(name, sx.OrtValue.ortvalue_from_numpy(FEEDS[name], "counting", 0))
    binding.bind_cpu_input("n", FEEDS["n"])
    binding.bind_output("y", "counting")
    with DEVICE.counted() as counts:
        session.run_with_iobinding(binding)
    assert counts == {}
    expected = sx.InferenceSession(model(STEP)).run(None, fitting(STEP, {}))[0]
    np.testing.assert_allclose(binding.get_outputs()[0].numpy(), expected, rtol=1e-6)


def test_bodies_that_are_refused_and_bodies_that_fail() -> None:
    session = sx.InferenceSession(model(STEP), providers=[(CountingProvider.name, {"operators": "Add,Relu", "refuse": "Relu"})])
    names = {part.ep_name for part in session.get_provider_graph_assignment_info()}
    assert names == {CPU, CountingProvider.name}, "the loop is divided, but its nodes are compiled"
    np.testing.assert_allclose(
        session.run(None, fitting(STEP, {}))[0], divided(STEP, "Add,Relu").run(None, fitting(STEP, {}))[0], rtol=1e-6
    )
    options = sx.RunOptions()
    options.terminate = True
    with pytest.raises(Fail, match="terminate flag"):
        divided(STEP, "Add").run(None, fitting(STEP, {}), options)
    with pytest.raises((Fail, InvalidArgument), match="Loop node"):
        divided(STEP, "Add,Relu").run(None, {**fitting(STEP, {}), "s": np.zeros((5, 3), np.float32)})
    options = sx.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    with pytest.raises(Fail, match="disabled by the user. Nodes: Relu"):
        sx.InferenceSession(model(STEP), options, [(CountingProvider.name, {"operators": "Add,Identity"})])
