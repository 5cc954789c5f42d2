"""Axes, steps and borders that only data name: the compiled model, run with one set after the other, equals numpy."""

import itertools

import numpy as np
import onnx
import onnx.parser
import pytest

from sardonyx import InferenceSession
from sardonyx.base.errors import Fail
from sardonyx.session.options import SessionOptions
from tests.ops.bounds import places

X = np.random.default_rng(0).standard_normal((2, 1, 4, 3)).astype(np.float32)


def session(op: str, inputs: dict[str, np.ndarray], **attributes: object) -> InferenceSession:
    """A model of one node over X and i64 inputs of the given shapes, no node of it on the reference provider."""
    names = ["x", *inputs]
    node = onnx.helper.make_node(op, [n if n != "none" else "" for n in names], ["y"], **attributes)
    values = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [*X.shape[:2], "n", 3])]
    values += [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.INT64, a.shape) for n, a in inputs.items() if n != "none"]
    graph = onnx.helper.make_graph([node], "g", values, [onnx.ValueInfoProto(name="y")])
    options = SessionOptions()
    options.add_session_config_entry("session.disable_reference_fallback", "1")
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    return InferenceSession(model.SerializeToString(), options)


def run(s: InferenceSession, **inputs: object) -> np.ndarray:
    return s.run(None, {"x": X, **{n: np.array(v, np.int64) for n, v in inputs.items()}})[0]


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize(("op", "meaning"), [("ReduceSum", np.sum), ("ReduceMax", np.max), ("ReduceMean", np.mean)])
def test_reductions(op, meaning, keepdims):
    s = session(op, {"axes": np.zeros(2)}, keepdims=keepdims)
    for axes in itertools.permutations(range(-4, 4), 2):
        if axes[0] % 4 != axes[1] % 4:
            expected = meaning(X, axis=axes, keepdims=bool(keepdims))
            got = run(s, axes=axes)
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_squeeze_and_unsqueeze():
    remove, insert = session("Squeeze", {"axes": np.zeros(1)}), session("Unsqueeze", {"axes": np.zeros(2)})
    for axis in (1, -3):
        np.testing.assert_array_equal(run(remove, axes=[axis]), X.squeeze(axis))
    for axes in ((0, 1), (5, 0), (-1, 2), (-6, -2), (3, 4)):
        np.testing.assert_array_equal(run(insert, axes=axes), np.expand_dims(X, axes))


def test_slices():
    s = session("Slice", {n: np.zeros(2) for n in ("starts", "ends", "axes", "steps")})
    rng = np.random.default_rng(1)
    for _ in range(200):
        axes = rng.permutation(4)[:2]
        starts, ends = rng.integers(-6, 7, (2, 2))
        steps = rng.choice([-3, -2, -1, 1, 2, 3], 2)
        expected = X
        for a, *bounds in zip(axes, starts, ends, steps, strict=True):
            expected = expected.take(places(X.shape[a], *map(int, bounds)), a)
        got = run(s, starts=starts, ends=ends, axes=axes - 4 * rng.integers(0, 2, 2), steps=steps)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("limit", [2**31 - 1, 2**63 - 1])
def test_slices_to_the_end(limit):
    s = session("Slice", {n: np.zeros(1) for n in ("starts", "ends", "axes", "steps")})
    np.testing.assert_array_equal(run(s, starts=[1], ends=[limit], axes=[2], steps=[2]), X[:, :, 1::2])
    np.testing.assert_array_equal(run(s, starts=[limit], ends=[-limit], axes=[-2], steps=[-1]), X[:, :, ::-1])


@pytest.mark.parametrize("step", [2**63 - 1, -(2**63) + 1, 2**62])
def test_steps_as_long_as_64_bits(step):
    node = onnx.helper.make_node("Slice", ["x", "starts", "ends", "axes", "steps"], ["y"])
    bounds = {"starts": [1], "ends": [9 if step > 0 else -9], "axes": [2], "steps": [step]}
    constants = [onnx.numpy_helper.from_array(np.array(v, np.int64), n) for n, v in bounds.items()]
    values = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [*X.shape[:2], "n", 3])]
    graph = onnx.helper.make_graph([node], "g", values, [onnx.ValueInfoProto(name="y")], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    np.testing.assert_array_equal(InferenceSession(model.SerializeToString()).run(None, {"x": X})[0], X[:, :, 1:2])


@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_borders(mode):
    s = session("Pad", {"pads": np.zeros(4), "none": np.zeros(0), "axes": np.zeros(2)}, mode=mode)
    for axes, pads in (((0, 2), (1, 2, 0, 3)), ((-1, 0), (2, 0, 1, 1)), ((3, 2), (0, 1, 0, 0))):
        widths = [(0, 0)] * 4
        for i, a in enumerate(axes):
            widths[a] = pads[i], pads[i + 2]
        np.testing.assert_array_equal(run(s, pads=pads, axes=axes), np.pad(X, widths, mode=mode))


@pytest.mark.parametrize("axes", [(4, 0), (0, -5), (1, 1), (1, -3)])
def test_wrong_axes_are_errors(axes):
    s = session("ReduceSum", {"axes": np.zeros(2)})
    with pytest.raises(Fail, match="axis"):
        run(s, axes=axes)
    np.testing.assert_allclose(run(s, axes=(0, 1)), X.sum((0, 1), keepdims=True), rtol=1e-5)  # the session goes on


def test_wrong_squeeze_and_step_are_errors():
    with pytest.raises(Fail, match="squeeze"):
        run(session("Squeeze", {"axes": np.zeros(1)}), axes=[0])
    with pytest.raises(Fail, match="step of 0"):
        run(
            session("Slice", {n: np.zeros(1) for n in ("starts", "ends", "axes", "steps")}),
            starts=[0],
            ends=[1],
            axes=[0],
            steps=[0],
        )


@pytest.mark.parametrize("noop", [0, 1])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions_over_as_many_axes_as_data_say(keepdims, noop):
    """The axes are the places of ones in a vector: none, some or all of them."""
    text = f"""<ir_version: 10, opset_import: ["": 21]> m (float[a, b, c] x, int64[r] chosen) => (float y) {{
        places = NonZero(chosen) row = Constant<value = int64[1] {{-1}}>() axes = Reshape(places, row)
        y = ReduceSum<keepdims = {keepdims}, noop_with_empty_axes = {noop}>(x, axes) }}"""
    s = InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    x = X.reshape(X.shape[0], -1, X.shape[-1])
    for chosen in itertools.product((0, 1), repeat=3):
        axes = tuple(np.flatnonzero(chosen)) or (() if noop else None)
        (got,) = s.run(None, {"x": x, "chosen": np.array(chosen)})
        expected = np.sum(x, axes, keepdims=bool(keepdims))
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
