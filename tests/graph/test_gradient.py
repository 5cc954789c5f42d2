"""Gradient nodes, against differences of the model's own outputs: every rule, sizes known and not, other values, second derivatives."""

import numpy as np
import onnx.parser
import pytest

from sardonyx import InferenceSession
from sardonyx.base import errors
from sardonyx.base.errors import Fail
from sardonyx.graph.derivatives import RULES

STEP = 1e-5
FORMS = {
    # a, b: what is differentiated by; shapes
    "Add": ("y = Add(a, b)", (2, 3), (3,)),
    "Sub": ("y = Sub(a, b)", (2, 1), (4, 2, 3)),
    "Mul": ("y = Mul(a, b)", (2, 1), (1, 3)),
    "Div": ("y = Div(a, b)", (2, 3), (2, 1)),
    "Sum": ("y = Sum(a, b, a)", (2, 3), (3,)),
    "Pow": ("p = Abs(a) y = Pow(p, b)", (2, 3), (3,)),
    "Neg": ("y0 = Neg(a) y = Mul(y0, b)", (2, 3), ()),
    "Identity": ("y0 = Identity(a) y = Mul(y0, b)", (2, 3), (3,)),
    "Exp": ("y0 = Exp(a) y = Mul(y0, b)", (2, 3), (3,)),
    "Log": ("p = Abs(a) y0 = Log(p) y = Mul(y0, b)", (2, 3), (3,)),
    "Sqrt": ("p = Abs(a) y0 = Sqrt(p) y = Mul(y0, b)", (2, 3), (3,)),
    "Reciprocal": ("y0 = Reciprocal(a) y = Mul(y0, b)", (2, 3), (3,)),
    "Sin": ("y0 = Sin(a) y = Mul(y0, b)", (2, 3), (3,)),
    "Cos": ("y0 = Cos(a) y = Mul(y0, b)", (2, 3), (3,)),
    "Tanh": ("y0 = Tanh(a) y = Mul(y0, b)", (2, 3), (3,)),
    "Sigmoid": ("y0 = Sigmoid(a) y = Mul(y0, b)", (2, 3), (3,)),
    "Softplus": ("y0 = Softplus(a) y = Mul(y0, b)", (2, 3), (3,)),
    "Erf": ("y0 = Erf(a) y = Mul(y0, b)", (2, 3), (3,)),
    "Abs": ("y0 = Abs(a) y = Mul(y0, b)", (2, 3), (3,)),
    "Relu": ("y0 = Relu(a) y = Mul(y0, b)", (2, 3), (3,)),
    "Softmax": ("y0 = Softmax<axis = 0>(a) y = Mul(y0, b)", (2, 3), (3,)),
    "MatMul": ("y0 = MatMul(a, b) y = Mul(y0, y0)", (4, 2, 3), (3, 5)),
    "MatMul, batched": ("y0 = MatMul(a, b) y = Mul(y0, y0)", (2, 3), (4, 3, 5)),
    "MatMul, row": ("y0 = MatMul(a, b) y = Mul(y0, y0)", (3,), (4, 3, 5)),
    "MatMul, column": ("y0 = MatMul(a, b) y = Mul(y0, y0)", (4, 2, 3), (3,)),
    "MatMul, vectors": ("y0 = MatMul(a, b) y = Mul(y0, y0)", (3,), (3,)),
    "Gemm": ("y0 = Gemm<alpha = 0.5>(a, b) y = Mul(y0, y0)", (2, 3), (3, 4)),
    "Gemm, transA": ("y0 = Gemm<alpha = 0.5, transA = 1>(a, b) y = Mul(y0, y0)", (3, 2), (3, 4)),
    "Gemm, transB": ("y0 = Gemm<transB = 1>(a, b) y = Mul(y0, y0)", (2, 3), (4, 3)),
    "Gemm, both": ("y0 = Gemm<transA = 1, transB = 1>(a, b) y = Mul(y0, y0)", (3, 2), (4, 3)),
    "Gemm, bias": ("y0 = Gemm<beta = 0.5>(a, a, b) y = Mul(y0, y0)", (3, 3), (3,)),
    "Transpose": ("y0 = Transpose<perm = [2, 0, 1]>(a) y = Mul(y0, b)", (2, 3, 4), (4, 2, 3)),
    "Transpose, whole": ("y0 = Transpose(a) y = Mul(y0, b)", (2, 3), (3, 2)),
    "Reshape": ("s = Constant<value = int64[2] {3, 2}>() y0 = Reshape(a, s) y = Mul(y0, b)", (2, 3), (3, 2)),
    "Flatten": ("y0 = Flatten(a) y = Mul(y0, b)", (2, 3, 2), (6,)),
    "Squeeze": ("s = Constant<value = int64[1] {1}>() y0 = Squeeze(a, s) y = Mul(y0, b)", (2, 1, 3), (2, 3)),
    "Unsqueeze": ("s = Constant<value = int64[1] {1}>() y0 = Unsqueeze(a, s) y = Mul(y0, b)", (2, 3), (2, 5, 3)),
    "Expand": ("s = Constant<value = int64[3] {4, 2, 3}>() y0 = Expand(a, s) y = Mul(y0, b)", (2, 1), (4, 2, 3)),
    "ReduceSum": ("s = Constant<value = int64[1] {-1}>() y0 = ReduceSum<keepdims = 0>(a, s) y = Mul(y0, b)", (2, 3), (2,)),
    "ReduceSum, all": ("y0 = ReduceSum(a) y = Mul(y0, b)", (2, 3), (3,)),
    "ReduceSum, none": ("y0 = ReduceSum<noop_with_empty_axes = 1>(a) y = Mul(y0, b)", (2, 3), (3,)),
    "ReduceMean": ("s = Constant<value = int64[2] {0, 2}>() y0 = ReduceMean(a, s) y = Mul(y0, b)", (2, 3, 4), (3, 4)),
    "Where": ("c = Greater(a, b) y0 = Where(c, a, b) y = Mul(y0, y0)", (2, 3), (3,)),
    "Cast": ("y0 = Cast<to = 11>(a) y = Mul(y0, b)", (2, 3), (3,)),
    "constant": ("r = Sign(a) y0 = Mul(r, a) y = Mul(y0, b)", (2, 3), (3,)),
    "used twice": ("u = Mul(a, b) v = Tanh(u) w = Mul(u, v) y = Add(w, a)", (2, 3), (3,)),
}


def numbers(shape, seed):
    """Some below and some above 0, none close to it."""
    draw = np.random.default_rng(seed)
    return draw.uniform(0.4, 1.4, shape) * np.where(draw.random(shape) < 0.4, -1, 1)


def declared(name, shape, symbolic):
    """double[...] name, with sizes or names of sizes"""
    sizes = ", ".join(f"{name}{i}" if symbolic else str(n) for i, n in enumerate(shape))
    return f"double[{sizes}] {name}" if shape else f"double {name}"


def session(inputs, outputs, nodes, opset=18):
    text = f'<ir_version: 8, opset_import: ["": {opset}, "ai.onnx.preview.training": 1]> m ({inputs}) => ({outputs}) {{ {nodes} }}'
    return InferenceSession(onnx.parser.parse_model(text).SerializeToString())


def gradient_node(results, inputs, xs=("a", "b"), y="y", extra=""):
    names = ", ".join(f'"{x}"' for x in xs)
    return f'{results} = ai.onnx.preview.training.Gradient <xs = [{names}], y = "{y}"{extra}> ({inputs})'


def differences(function, x):
    """The gradient of the sum of a function's result, by central differences."""
    out = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[i] = STEP
        out[i] = (function(x + step).sum() - function(x - step).sum()) / (2 * STEP)
    return out


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_what_differences_tend_to(form, symbolic):
    nodes, *shapes = FORMS[form]
    a, b = (numbers(shape, seed) for seed, shape in enumerate(shapes))
    inputs = ", ".join(declared(name, x.shape, symbolic) for name, x in zip("ab", (a, b), strict=True))
    made = session(inputs, "double y, double da, double db", f"{nodes} {gradient_node('da, db', 'a, b')}")
    y = lambda a, b: made.run(["y"], {"a": a, "b": b})[0]  # noqa: E731
    da, db = made.run(["da", "db"], {"a": a, "b": b})
    np.testing.assert_allclose(da, differences(lambda x: y(x, b), a), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(db, differences(lambda x: y(a, x), b), rtol=1e-6, atol=1e-8)
    assert (da.shape, db.shape) == (a.shape, b.shape)


def test_every_rule_has_a_form():
    assert RULES.keys() <= {form.partition(",")[0] for form in FORMS}


def test_at_other_values_than_those_that_are_named():
    """The model computes y at a; the gradient is taken at c."""
    node = gradient_node("d", "c, b", ("a",), extra=', zs = ["b"]')
    made = session("double[2] a, double[2] b, double[2] c", "double y, double d", f"u = Mul(a, a) y = Mul(u, b) {node}")
    y, d = made.run(None, {"a": np.array([1.0, 2]), "b": np.array([3.0, 5]), "c": np.array([7.0, 11])})
    np.testing.assert_array_equal(y, [3, 20])
    np.testing.assert_array_equal(d, [42, 110])


def test_by_a_value_that_nodes_compute():
    made = session("double[2] a", "double d", f"h = Exp(a) y = Mul(h, h) {gradient_node('d', 'h', ('h',))}")
    a = np.array([0.5, 1])
    np.testing.assert_allclose(made.run(None, {"a": a})[0], 2 * np.exp(a), rtol=1e-12)


def test_second_derivatives_and_outputs_that_are_left_out():
    second = gradient_node('"", dd', "b, a", ("b", "a"), y="d")
    made = session(
        "double[2] a, double[2] b",
        "double dd",
        f"u = Tanh(a) y = Mul(u, b) {gradient_node('d', 'a, b')} {second}".replace('""', ""),
    )
    a, b = np.array([0.5, 1]), np.array([2.0, 3])
    (dd,) = made.run(None, {"a": a, "b": b})
    np.testing.assert_allclose(dd, b * -2 * np.tanh(a) * (1 - np.tanh(a) ** 2), rtol=1e-12)


def test_of_what_y_does_not_depend_on_the_gradient_is_zero():
    made = session("double[2] a, double[3] b", "double da, double db", f"y = Exp(a) {gradient_node('da, db', 'a, b')}")
    np.testing.assert_array_equal(made.run(["db"], {"a": np.zeros(2), "b": np.ones(3)})[0], np.zeros(3))


@pytest.mark.parametrize("opset", [9, 12])
def test_axes_are_attributes_in_old_opsets(opset):
    nodes = f"y = Mul(a, b) {gradient_node('da, db', 'a, b')}"
    made = session("double[2, 3] a, double[3] b", "double da, double db", nodes, opset)
    a, b = numbers((2, 3), 0), numbers((3,), 1)
    da, db = made.run(None, {"a": a, "b": b})
    np.testing.assert_allclose(da, np.broadcast_to(b, (2, 3)))
    np.testing.assert_allclose(db, a.sum(0))


def test_what_has_no_derivative_is_refused_by_name():
    with pytest.raises(errors.NotImplemented, match="there is no derivative of CumSum node"):
        session(
            "double[2] a", "double d", f"k = Constant<value = int64 {{0}}>() y = CumSum(a, k) {gradient_node('d', 'a', ('a',))}"
        )


def test_nonsense_is_refused():
    with pytest.raises(Fail, match="there is no value z"):
        session("double[2] a", "double d", f"y = Exp(a) {gradient_node('d', 'a', ('z',))}")
    with pytest.raises(Fail, match="2 inputs for 1 xs"):
        session("double[2] a", "double d", f"y = Exp(a) {gradient_node('d', 'a, a', ('a',))}")
    with pytest.raises(Fail, match="from its own outputs"):
        session("double[2] a", "double d", f"y = Mul(a, d) {gradient_node('d', 'a', ('a',))}")
