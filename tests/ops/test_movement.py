"""Slice, Pad, Split and kin where onnx.reference has nothing to say: unknown sizes, negative borders."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sardonyx.base.dtypes import f32, i64
from sardonyx.base.errors import Fail, InvalidArgument
from sardonyx.base.symbolic import Symbol, symbol
from sardonyx.expr.evaluate import evaluate
from sardonyx.expr.tensor import Tensor, constant, input_tensor
from sardonyx.ops import find, movement
from tests.ops import harness
from tests.ops.bounds import places

X = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
N = symbol("n")


def ints(numbers: Sequence[int]) -> Tensor:
    return constant(np.array(numbers, np.int64))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [[0, -1, 1, 0, 0, -3], [-1, 2, 0, 1, -1, 0]])
def test_negative_pads_cut_off_first(mode: str, pads: list[int]) -> None:
    inputs = [X, np.array(pads, np.int64)]
    expected = harness.onnxruntime_reference("Pad", inputs, {"mode": mode}, version=19)
    harness.assert_same(harness.run("Pad", inputs, {"mode": mode}, known=[1]), expected)


@given(st.integers(0, 6), st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([-3, -2, -1, 1, 2, 3]))
def test_slice_of_an_unknown_size(n: int, start: int, end: int, step: int) -> None:
    x = input_tensor("x", f32, (N,))
    y = movement.slice_(x, ints([start]), ints([end]), ints([0]), ints([step]))
    numbers = np.arange(n, dtype=np.float32)
    expected = (
        numbers[max(start, -n) :: step] if step < 0 and end < -n else numbers[max(start, -n) if step < 0 else start : end : step]
    )
    np.testing.assert_array_equal(evaluate([y], {x: numbers}, {Symbol("n"): n})[0], expected)


@given(st.integers(0, 6), st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([-2, -1, 1, 2]))
def test_slice_between_fed_bounds(n: int, start: int, end: int, step: int) -> None:
    x = input_tensor("x", f32, (n,))
    bounds = [input_tensor(name, i64, (1,)) for name in ("start", "end")]
    y = movement.slice_(x, *bounds, ints([0]), ints([step]))
    numbers = np.arange(n, dtype=np.float32)
    feeds = {x: numbers, bounds[0]: np.array([start]), bounds[1]: np.array([end])}
    first = max(start, -n) if step < 0 else start
    expected = numbers[first::step] if step < 0 and end < -n else numbers[first:end:step]
    np.testing.assert_array_equal(evaluate([y], feeds, {})[0], expected)


def test_slice_to_the_end_keeps_the_formula() -> None:
    x = input_tensor("x", f32, (N, N))
    y = movement.slice_(x, ints([0, -1]), ints([2**63 - 1, -(2**63)]), ints([0, 1]), ints([1, -1]))
    assert y.shape == (N, N)


I64 = (-(2**63), -(2**63) + 1, 2**63 - 1)
BOUNDS = st.one_of(st.integers(-9, 9), st.sampled_from(I64))
STEPS = st.one_of(st.sampled_from([-3, -2, -1, 1, 2, 3]), st.sampled_from(I64))


@given(st.integers(0, 6), BOUNDS, BOUNDS, STEPS)
@example(5, -9, -9, -1)
@example(5, 0, -9, -(2**63))
@example(0, 3, 1, -1)
def test_slices_from_data(n: int, start: int, end: int, step: int) -> None:
    """Bounds and steps of all 64 bits, as data, and what the reference makes of them."""
    x = input_tensor("x", f32, (n,))
    numbers, given = np.arange(n, dtype=np.float32), [np.array([k]) for k in (start, end, 0, step)]
    data = [input_tensor(name, i64, (1,)) for name in ("start", "end", "step")]
    y = movement.slice_(x, *data[:2], ints([0]), data[2])
    wanted = places(n, start, end, step)
    feeds = {x: numbers, **dict(zip(data, [given[0], given[1], given[3]], strict=True))}
    assert evaluate([y], feeds, {})[0].tolist() == wanted
    op = find("", "Slice", 10)
    assert op is not None
    assert op.reference is not None
    assert op.reference(numbers, *given).tolist() == wanted
    fixed = movement.slice_(x, *data[:2], ints([0]), ints([step]))
    assert evaluate([fixed], feeds, {})[0].tolist() == wanted


ANY_NUMBER = (*range(-7, 8), -1, -1, 0, 0, *I64, -(2**31), 2**31 - 1, 2**31, 2**40, -(2**40), 2**62)
ANY_STEP = (1, 1, 2, 3, -1, -2, -3, 7, *I64, 2**40, -(2**40))


@pytest.mark.parametrize("fed", [(), (1, 2), (3,), (4,), (1, 2, 3, 4)], ids=str)
def test_slices_of_slices(fed: tuple[int, ...]) -> None:
    """Numbers of all 64 bits in two slices, one read through the other: what is computed on the way stays within 64 bits.

    fed: which inputs of the second slice a run brings; the others are constants. Sizes are not known.
    """
    drawn = random.Random(f"slices {fed}")
    for _ in range(25):
        first, second = ([[drawn.choice(n) for _ in range(2)] for n in (ANY_NUMBER, ANY_NUMBER, ANY_STEP)] for _ in range(2))
        axes = drawn.choice([[0, 1], [1, 0], [-1, 0], [1, -2]])
        names = ["x", "starts", "ends", "axes", "steps"]
        second = [*second[:2], axes, second[2]]
        one = [onnx.numpy_helper.from_array(np.array(v, np.int64), f"one{k}") for k, v in enumerate([*first[:2], [0, 1], first[2]])]
        two = [onnx.numpy_helper.from_array(np.array(v, np.int64), names[k]) for k, v in enumerate(second, 1)]
        nodes = [
            onnx.helper.make_node("Slice", ["x", *(t.name for t in one)], ["part"]),
            onnx.helper.make_node("Slice", ["part", *names[1:]], ["y"]),
        ]
        inputs = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", "m"])]
        inputs += [onnx.helper.make_tensor_value_info(names[k], onnx.TensorProto.INT64, [2]) for k in fed]
        graph = onnx.helper.make_graph(
            nodes,
            "slices",
            inputs,
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
            [*one, *(t for k, t in enumerate(two, 1) if k not in fed)],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
        session = harness.native_session(model.SerializeToString())
        for shape in ((5, 3), (1, 4), (0, 2)):
            x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
            part = x[np.ix_(*(places(n, *each) for n, each in zip(shape, zip(*first, strict=True), strict=True)))]
            spans = dict(zip((a % 2 for a in axes), zip(second[0], second[1], second[3], strict=True), strict=True))
            wanted = part[np.ix_(*(places(n, *spans[a]) for a, n in enumerate(part.shape)))]
            (got,) = session.run(None, {"x": x, **{names[k]: np.array(second[k - 1]) for k in fed}})
            np.testing.assert_array_equal(got, wanted, err_msg=f"{first} {second} {shape}")


def test_split_must_add_up() -> None:
    with pytest.raises(Fail, match="Split of axis 1"):
        movement.split(constant(X), ints([1, 2]), axis=1)


def test_concat_of_clashing_sizes() -> None:
    with pytest.raises(Fail, match=r"Concat along axis 0 of \[3, 4, 5\] and \[3, 4, 4\]"):
        movement.concat(constant(X), constant(X[:, :, :4]), axis=0)


def test_concat_takes_the_fixed_size() -> None:
    x, y = input_tensor("x", f32, (2, N)), input_tensor("y", f32, (1, 7))
    assert movement.concat(x, y, axis=0).shape == (3, 7)


def test_pads_from_data() -> None:
    x, pads = input_tensor("x", f32, (3, 4, 5)), input_tensor("pads", i64, (6,))
    y = movement.pad(x, pads)
    given_pads = np.array([0, 1, -1, 2, 0, 0])
    expected = np.pad(X[:, :, 1:], ((0, 2), (1, 0), (0, 0)))
    np.testing.assert_array_equal(evaluate([y], {x: X, pads: given_pads}, {})[0], expected)


def test_fed_lengths_are_checked() -> None:
    with pytest.raises(InvalidArgument, match="index 8"):
        harness.run("ReverseSequence", [X, np.array([9, 1, 1, 1])])
