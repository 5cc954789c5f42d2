"""fuzz/three_arithmetics.py: what is known of a value, and what counts as a difference from it."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from fuzz.three_arithmetics import Evaluated, Known, Undetermined, allowed, complaint, exact
from sardonyx.base.dtypes import DType, f16, f32, f64, i64

X = np.array([0.1, -2.5, 3.0], np.float32)


def run(operator: str, *inputs: Known, dtype: DType | None = f32, **attributes: object) -> Known:
    names = [f"x{k}" for k in range(len(inputs))]
    evaluated = Evaluated(helper.make_node(operator, names, ["y"], **attributes), {"": 21}, {})
    return evaluated(inputs, [dtype], np.random.default_rng(0))[0]


def test_a_rounded_result_lies_beside_the_wide_one() -> None:
    known = run("Exp", exact(X))
    assert not known.is_exact
    assert known.native.dtype == np.float32
    assert known.wide.dtype == np.float64
    np.testing.assert_array_equal(known.wide, np.exp(X.astype(np.float64)))
    assert 0 < allowed(known) < 1e-3
    assert complaint(np.exp(X), known) == ""
    assert complaint(known.wide.astype(np.float32) * np.float32(1 + 1e-3), known)


def test_errors_add_up_along_a_chain() -> None:
    known = exact(X)
    reached = []
    for _ in range(6):
        known = run("Sin", known)
        reached.append(allowed(known) / np.abs(known.wide).max())
    assert reached[-1] > reached[0]


def test_integers_are_exact() -> None:
    known = run("Cast", exact(np.array([7.0, -3.0], np.float32)), dtype=i64, to=TensorProto.INT64)
    assert known.is_exact
    assert complaint(np.array([7, -3]), known) == ""
    assert "at [1]" in complaint(np.array([7, -2]), known)
    assert complaint(np.array([7, -3], np.int32), known)
    assert complaint(np.array([[7, -3]]), known)
    assert complaint(None, known)


def test_arithmetic_that_ieee_fixes_stays_exact() -> None:
    """10 times 0.7 is 7 in f32, and less in f64: a floor of it may decide a size, and is known."""
    product = run("Mul", exact(np.array([10], np.float32)), exact(np.array([0.7], np.float32)))
    assert product.is_exact
    assert run("Floor", product).native.tolist() == [7]


def test_what_rounding_decides_is_not_determined() -> None:
    sine = run("Sin", exact(np.linspace(0.1, 1, 50, dtype=np.float32)))
    three = run("Sub", run("Add", sine, exact(np.full(50, 3, np.float32))), sine)
    assert run("Floor", run("Add", three, exact(np.full(50, 0.5, np.float32)))).native.tolist() == [3] * 50
    with pytest.raises(Undetermined):
        run("Floor", three)


def test_what_is_too_ill_conditioned_is_not_determined() -> None:
    x = run("Sin", exact(X))
    y = run("Add", x, exact(np.full(3, 1e-9, np.float32)))
    with pytest.raises(Undetermined):
        run("Sub", y, run("Sin", exact(X)))


def test_narrow_floats_are_allowed_their_own_roundings() -> None:
    known = run("Exp", exact(X.astype(np.float16)), dtype=f16)
    assert 1e-3 < allowed(known) < 1
    assert complaint(np.exp(X.astype(np.float16)), known) == ""


def test_nan_and_infinity_stand_where_they_are_expected() -> None:
    known = exact(np.array([np.nan, np.inf, 1.0], np.float32))
    assert complaint(known.native, known) == ""
    assert complaint(np.array([0, np.inf, 1.0], np.float32), known)
    assert complaint(np.array([np.nan, -np.inf, 1.0], np.float32), known)


def test_a_body_reads_values_around_it_and_is_widened_too() -> None:
    """Loop(2) { s' = s + w }, w: f32 captured, twice in f64 in the wide world."""
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["s", "w"], ["t"])]
    inputs = [value("i", 7, []), value("go", 9, []), value("s", 1, [3])]
    body = helper.make_graph(nodes, "body", inputs, [value("on", 9, []), value("t", 1, [3])])
    node = Evaluated(helper.make_node("Loop", ["trips", "", "x0"], ["y"], body=body), {"": 21}, {})
    assert node.inputs == ("trips", "", "x0", "w")
    w = exact(np.array([0.1, 0.2, 0.3], np.float32))
    known = node([exact(np.array(2)), None, exact(X), w], [f32], np.random.default_rng(0))[0]
    np.testing.assert_array_equal(known.wide, X.astype(np.float64) + 2 * w.wide)
    assert complaint(X + w.native + w.native, known) == ""


def test_f64_is_rounded_although_nothing_is_wider() -> None:
    """Sums in another order are right too, and what follows from them; what is only moved, or short, stays exact."""
    a, b = np.random.default_rng(0).normal(3, 2, (2, 30, 30))
    product = run("MatMul", exact(a), exact(b), dtype=f64)
    assert not product.is_exact
    other = (a[:, ::-1, None] * b[None, ::-1]).sum(1)
    assert complaint(np.sin(other), run("Sin", product, dtype=f64)) == ""
    assert complaint(np.sin(other * (1 + 1e-11)), run("Sin", product, dtype=f64))
    assert run("Transpose", exact(a), dtype=f64).is_exact
    assert run("MatMul", exact(np.round(a)), exact(np.round(b)), dtype=f64).is_exact


@pytest.mark.parametrize("version", [18, 21])
@pytest.mark.parametrize("inside", [False, True])
def test_f64_that_onnx_lets_compute_in_f32(version: int, inside: bool) -> None:
    """GroupNormalization of opset 21, but not of 18, may keep its sums in f32: better is right too."""
    x = np.random.default_rng(0).normal(3, 2, (2, 4, 5))
    ones = np.ones(2 if version == 18 else 4)
    normal = helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)
    body = helper.make_graph([normal], "body", [], [helper.make_tensor_value_info("y", 11, None)])
    node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body) if inside else normal
    evaluated = Evaluated(node, {"": version}, {"y": f64})
    given = {"c": np.array(True), "x": x, "s": ones, "b": 0 * ones}
    known = evaluated([exact(given[name]) for name in evaluated.inputs], [f64], np.random.default_rng(0))[0]
    groups = x.reshape(2, 2, 10)
    right = ((groups - groups.mean(2, keepdims=True)) / np.sqrt(groups.var(2, keepdims=True) + float(np.float32(1e-5)))).reshape(
        x.shape
    )
    assert complaint(right, known) == ""
    assert complaint(right + 1e-4, known)


@pytest.mark.parametrize("index", [0, -1])
def test_an_index_outside_an_axis_is_open_where_nothing_is_taken(index: int) -> None:
    nothing, where = exact(np.zeros((0, 2, 0), np.float32)), exact(np.array(index))
    with pytest.raises(Undetermined):
        run("Gather", nothing, where, axis=2)
    assert run("Gather", nothing, where, axis=1).native.shape == (0, 0)


def test_rows_of_no_iteration_are_open() -> None:
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Abs", ["w"], ["row"])]
    body = helper.make_graph(nodes, "body", [value("i", 7, []), value("go", 9, [])], [value("on", 9, []), value("row", 1, None)])
    node = Evaluated(helper.make_node("Loop", ["trips", ""], ["y"], body=body), {"": 21}, {})
    with pytest.raises(Undetermined):
        node([exact(np.array(0)), None, exact(X)], [f32], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("operator", "x"),
    [
        ("ReduceL2", np.array([2**31 - 1, 3], np.int32)),  # its square wraps
        ("ReduceLogSum", np.array([2**31 - 1, 2], np.int32)),  # the sum does
        ("ReduceLogSum", np.array([3, -3], np.int64)),  # the logarithm of 0
        ("ReduceLogSum", np.array([-3], np.int64)),
    ],
    ids=str,
)
def test_integers_that_floats_leave_open(operator: str, x: np.ndarray) -> None:
    with pytest.raises(Undetermined):
        run(operator, exact(x), dtype=i64)
    assert run(operator, exact(np.array([3, 4], x.dtype)), dtype=i64).native.tolist() == [5 if operator == "ReduceL2" else 1]
