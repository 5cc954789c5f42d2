"""com.microsoft's quantised operators in random forms, beside the same arithmetic in numpy's doubles and beside onnxruntime.

Zero points that are left out are tried beside numpy alone: onnxruntime's inference takes the type of what comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from sardonyx.base.errors import Fail
from tests.ops import harness

Array = harness.Array
DOMAIN = "com.microsoft"
SEEDS = range(6)


def run(name: str, inputs: Sequence[Array | None], symbolic: bool = True, **attributes: Any) -> Array:
    (got,) = harness.run(name, inputs, attributes, version=1, domain=DOMAIN, symbolic=symbolic)
    return got


def by_onnxruntime(name: str, inputs: Sequence[Array | None], **attributes: Any) -> Array:
    (got,) = harness.onnxruntime_reference(name, inputs, attributes, version=1, domain=DOMAIN)
    return got


class Draw:
    """Random numbers of one seed; even seeds are unsigned."""

    def __init__(self, seed: int) -> None:
        self.by = np.random.default_rng(seed)
        self.dtype: Any = (np.uint8, np.int8)[seed % 2]

    def numbers(self, *shape: int, dtype: Any = None) -> Array:
        limits = np.iinfo(dtype or self.dtype)
        return self.by.integers(limits.min, limits.max + 1, shape).astype(limits.dtype)

    def scale(self, low: float = 0.01, high: float = 0.05) -> Array:
        return np.array(self.by.uniform(low, high), np.float32)

    def tensor(self, *shape: int) -> list[Array]:
        """A quantised tensor, its scale and its zero point."""
        return [self.numbers(*shape), self.scale(), self.numbers()]

    def sizes(self, count: int) -> list[int]:
        return [int(n) for n in self.by.integers(1, 6, count)]


def real(q: Array, scale: Array, zero: Array | None = None) -> Array:
    return (q.astype(np.float64) - (0 if zero is None else zero.astype(np.float64))) * scale.astype(np.float64)


def assert_quantised(got: Array, x: Array, scale: Array, zero: Array) -> None:
    """got is x, a real number, quantised: to the step, and where x is near the middle between two steps to either."""
    assert got.dtype == zero.dtype
    assert got.shape == x.shape
    limits = np.iinfo(zero.dtype)
    exact = x / scale.astype(np.float64) + zero
    low, high = (np.clip(np.rint(exact + move), limits.min, limits.max) for move in (-1e-3, 1e-3))
    assert np.all((got >= low) & (got <= high))


# ---- element by element ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "function"), [("QLinearAdd", np.add), ("QLinearMul", np.multiply)])
def test_two_tensors_broadcast(name: str, function: Callable[..., Array], seed: int) -> None:
    draw = Draw(seed)
    n, m, k = draw.sizes(3)
    shapes = [((n, m, k), (m, 1)), ((n, 1, k), (1, m, k)), ((k,), (n, m, k)), ((), (n, m)), ((0, k), (1, k)), ((n, m), (n, m))]
    a, b = (draw.tensor(*shape) for shape in shapes[seed])
    scale, zero = draw.scale(0.05, 0.1), draw.numbers()
    got = run(name, [*a, *b, scale, zero], symbolic=False)
    assert_quantised(got, function(real(*a), real(*b)), scale, zero)
    theirs = by_onnxruntime(name, [*a, *b, scale, zero])
    assert np.abs(got.astype(int) - theirs.astype(int)).max(initial=0) <= 1


def test_sizes_that_the_model_leaves_open() -> None:
    draw = Draw(1)
    a, b = draw.tensor(3, 4), draw.tensor(3, 4)
    scale, zero = draw.scale(), draw.numbers()
    assert_quantised(run("QLinearAdd", [*a, *b, scale, zero]), real(*a) + real(*b), scale, zero)


@pytest.mark.parametrize("name", ["QLinearAdd", "QLinearMul"])
def test_zero_points_left_out_are_0(name: str) -> None:
    draw = Draw(2)
    (q, s, _), (r, t, _), scale = draw.tensor(3, 4), draw.tensor(4), draw.scale(0.1, 0.2)
    function = np.add if name == "QLinearAdd" else np.multiply
    got = run(name, [q, s, None, r, t, None, scale], symbolic=False)
    assert_quantised(got, function(real(q, s), real(r, t)), scale, np.array(0, np.uint8))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("name", "attributes", "function"),
    [
        ("QLinearSigmoid", {}, sigmoid),
        ("QLinearLeakyRelu", {}, lambda x: np.where(x < 0, x * np.float32(0.01), x)),
        ("QLinearLeakyRelu", {"alpha": 0.4}, lambda x: np.where(x < 0, x * np.float32(0.4), x)),
    ],
)
def test_one_tensor(name: str, attributes: dict[str, Any], function: Callable[[Array], Array], seed: int) -> None:
    draw = Draw(seed)
    x = draw.tensor(*draw.sizes(seed % 4))
    scale, zero = draw.scale(0.004, 0.03), draw.numbers()
    got = run(name, [*x, scale, zero], **attributes)
    assert_quantised(got, function(real(*x)), scale, zero)
    assert np.abs(got.astype(int) - by_onnxruntime(name, [*x, scale, zero], **attributes).astype(int)).max(initial=0) <= 1
    without = run(name, [x[0], x[1], None, scale], **attributes)
    assert_quantised(without, function(real(*x[:2])), scale, np.zeros((), draw.dtype))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("opset", [12, 13])
def test_softmax_of_two_opsets(opset: int, seed: int) -> None:
    """Within a step of onnxruntime, which counts in integers."""
    draw = Draw(seed)
    shape, axis = draw.sizes(3), seed % 3 - (3 if seed > 2 else 0)
    x, scale = draw.tensor(*shape), np.array(1 / 256, np.float32)
    zero = np.array(np.iinfo(draw.dtype).min, draw.dtype)
    got = run("QLinearSoftmax", [*x, scale, zero], opset=opset, axis=axis)
    axes = tuple(range(axis % 3, 3)) if opset < 13 else (axis,)
    e = np.exp(real(*x) - real(*x).max(axis=axes, keepdims=True))
    assert_quantised(got, e / e.sum(axis=axes, keepdims=True), scale, zero)
    theirs = by_onnxruntime("QLinearSoftmax", [*x, scale, zero], opset=opset, axis=axis)
    assert np.abs(got.astype(int) - theirs.astype(int)).max() <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_where(seed: int) -> None:
    draw = Draw(seed)
    n, m = draw.sizes(2)
    condition, x, y = draw.by.random((n, 1)) < 0.5, draw.tensor(n, m), draw.tensor(m)
    scale, zero = draw.scale(), draw.numbers()
    inputs = [condition, *x, *y, scale, zero]
    got = run("QLinearWhere", inputs, symbolic=False)
    assert_quantised(got, np.where(condition, real(*x), real(*y)), scale, zero)
    assert np.abs(got.astype(int) - by_onnxruntime("QLinearWhere", inputs).astype(int)).max() <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_concat_of_one_to_four_tensors(seed: int) -> None:
    draw = Draw(seed)
    n, m = draw.sizes(2)
    parts = [draw.tensor(n, size, m) for size in draw.sizes(1 + seed % 4)]
    scale, zero = draw.scale(), draw.numbers()
    inputs = [scale, zero, *(x for part in parts for x in part)]
    got = run("QLinearConcat", inputs, symbolic=False, axis=(1, -2)[seed % 2])
    assert_quantised(got, np.concatenate([real(*part) for part in parts], 1), scale, zero)
    assert np.abs(got.astype(int) - by_onnxruntime("QLinearConcat", inputs, axis=1).astype(int)).max() <= 1


@pytest.mark.parametrize("count", [2, 4])
def test_concat_of_tensors_without_their_parameters(count: int) -> None:
    draw = Draw(0)
    with pytest.raises(Fail, match="not tensors with scales and zero points"):
        run("QLinearConcat", [draw.scale(), draw.numbers(), *(draw.tensor(2, 3) * 2)[:count]], symbolic=False, axis=0)


# ---- windows --------------------------------------------------------------------------------------------------------------------

FORMS: list[dict[str, Any]] = [
    {"kernel_shape": [2, 3]},
    {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 2, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 4], "auto_pad": "VALID", "strides": [1, 2]},
]


def last(x: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize(("seed", "form"), list(enumerate(FORMS)))
def test_average_pool(seed: int, form: dict[str, Any], channels_last: int) -> None:
    draw = Draw(seed)
    q, *parameters = draw.tensor(2, 3, 7, 6)
    scale, zero = draw.scale(), draw.numbers()
    (y,) = harness.onnxruntime_reference("AveragePool", [real(q, *parameters).astype(np.float32)], form, version=19)
    inputs = [last(q) if channels_last else q, *parameters, scale, zero]
    got = run("QLinearAveragePool", inputs, channels_last=channels_last, **form)
    assert_quantised(got, last(y) if channels_last else y, scale, zero)
    theirs = by_onnxruntime("QLinearAveragePool", inputs, channels_last=channels_last, **form)
    assert np.abs(got.astype(int) - theirs.astype(int)).max() <= 1


@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize("seed", SEEDS)
def test_global_average_pool(seed: int, channels_last: int) -> None:
    draw = Draw(seed)
    x = draw.tensor(2, *draw.sizes(3))
    scale, zero = draw.scale(), draw.numbers()
    got = run("QLinearGlobalAveragePool", [*x, scale, zero], channels_last=channels_last)
    mean = real(*x).mean(axis=(1, 2) if channels_last else (2, 3), keepdims=True)
    assert_quantised(got, mean, scale, zero)
    theirs = by_onnxruntime("QLinearGlobalAveragePool", [*x, scale, zero], channels_last=channels_last)
    assert np.abs(got.astype(int) - theirs.astype(int)).max() <= 1


@pytest.mark.parametrize("form", [f for f in FORMS if "count_include_pad" not in f])
def test_max_pool_with_channels_last(form: dict[str, Any]) -> None:
    x = Draw(3).numbers(2, 3, 7, 6)
    (y,) = harness.onnxruntime_reference("MaxPool", [x], form, version=12)
    np.testing.assert_array_equal(run("NhwcMaxPool", [last(x)], **form), last(y))


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("channels_last", [0, 1])
def test_convolution(channels_last: int, group: int) -> None:
    draw = Draw(0)
    x, w = draw.tensor(2, 4, 6, 5), draw.numbers(6, 4 // group, 3, 2, dtype=np.int8)
    scales, zeros, bias = draw.by.uniform(0.01, 0.03, 6).astype(np.float32), np.zeros(6, np.int8), np.arange(6, dtype=np.int32) * 9
    parameters = [w, scales, zeros, np.array(0.3, np.float32), draw.numbers(), bias]
    attributes = {"group": group, "pads": [1, 0, 0, 1], "strides": [1, 2]}
    (plain,) = harness.onnxruntime_reference("QLinearConv", [*x, *parameters], attributes, version=10)
    q = last(x[0]) if channels_last else x[0]
    got = run("QLinearConv", [q, *x[1:], *parameters], symbolic=False, channels_last=channels_last, **attributes)
    expected = last(plain) if channels_last else plain
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= 1


# ---- products -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_gemm(seed: int) -> None:
    """Transposed or not, quantised or in floats, with parameters for all columns or for each, with and without C."""
    draw = Draw(seed)
    m, k, n = draw.sizes(3)
    a, b = draw.numbers(m, k), draw.numbers(k, n)
    by_column = seed & 2 > 0
    b_scale = draw.by.uniform(0.01, 0.03, n).astype(np.float32) if by_column else draw.scale()
    b_zero = draw.numbers(n) if by_column else draw.numbers()
    c = draw.by.integers(-999, 999, [(n,), (m, 1), (m, n), (1, n)][seed % 4]).astype(np.int32) if seed % 3 else None
    a_scale, a_zero, scale, zero = draw.scale(), draw.numbers(), draw.scale(0.4, 0.9), draw.numbers()
    turned = {"transA": seed % 2, "transB": seed // 4, "alpha": 0.7}
    sums = (a.astype(int) - a_zero) @ (b.astype(int) - b_zero) + (0 if c is None else c)
    exact = sums * a_scale.astype(np.float64) * b_scale * np.float32(0.7)
    operands = [a.T.copy() if seed % 2 else a, a_scale, a_zero, b.T.copy() if seed // 4 else b, b_scale, b_zero, c]
    assert_quantised(run("QGemm", [*operands, scale, zero], symbolic=False, **turned), exact, scale, zero)
    np.testing.assert_allclose(run("QGemm", operands, symbolic=False, **turned), exact, 1e-5)
    theirs = by_onnxruntime("QGemm", operands if c is not None else operands[:-1], **turned)
    np.testing.assert_allclose(theirs, exact, 1e-5)


def test_gemm_with_half_of_the_parameters_of_its_result() -> None:
    draw = Draw(0)
    with pytest.raises(Fail, match="only one of y_scale and y_zero_point"):
        run("QGemm", [*draw.tensor(2, 3), *draw.tensor(3, 4), None, draw.scale()], symbolic=False)


@pytest.mark.parametrize(
    ("a_shape", "b_shape"), [((4, 5), (5, 3)), ((2, 4, 5), (5, 3)), ((2, 1, 5), (2, 5, 3)), ((3, 5), (2, 5, 3)), ((0, 5), (5, 3))]
)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("by_column", [False, True])
def test_products_that_give_floats(a_shape: tuple[int, ...], b_shape: tuple[int, ...], seed: int, by_column: bool) -> None:
    draw = Draw(seed)
    a, b = draw.tensor(*a_shape), draw.numbers(*b_shape, dtype=np.int8)
    columns = [3] if by_column else []
    scale, zero = draw.by.uniform(0.01, 0.03, columns).astype(np.float32), draw.numbers(*columns, dtype=np.int8)
    bias = draw.by.standard_normal(3).astype(np.float32)
    inputs = [a[0], b, a[1], scale, a[2], zero, bias]
    got = run("MatMulIntegerToFloat", inputs, symbolic=False)
    np.testing.assert_allclose(got, real(*a) @ real(b, scale, zero) + bias, 1e-4, 1e-4)
    if b.ndim == 2 or not by_column:  # onnxruntime takes one column of parameters for each matrix of a batch
        np.testing.assert_allclose(got, by_onnxruntime("MatMulIntegerToFloat", inputs), 1e-4, 1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 5), (0, 5)])
def test_product_with_a_matrix_quantised_as_it_comes(dtype: Any, shape: tuple[int, ...]) -> None:
    """As onnxruntime, and to half a step of each of the five terms of the exact product."""
    draw = Draw(0)
    a, b = draw.by.standard_normal(shape).astype(np.float32), draw.numbers(5, 3, dtype=dtype)
    scale, zero, bias = draw.scale(), draw.numbers(dtype=dtype), draw.by.standard_normal(3).astype(np.float32)
    got = run("DynamicQuantizeMatMul", [a, b, scale, zero, bias], symbolic=False)
    exact = a.astype(np.float64) @ real(b, scale, zero) + bias
    step = np.ptp(a) / 255 if a.size else 0
    np.testing.assert_allclose(got, exact, rtol=0, atol=5 * step / 2 * np.abs(real(b, scale, zero)).max() + 1e-5)
    if a.size:
        np.testing.assert_allclose(got, by_onnxruntime("DynamicQuantizeMatMul", [a, b, scale, zero, bias]), 1e-4, 1e-4)


@pytest.mark.parametrize(
    ("a_shape", "b_shape"), [((3, 4), (4, 2)), ((2, 3, 4), (4, 2)), ((4,), (4, 2)), ((3, 4), (4,)), ((3, 0), (0, 2))]
)
def test_product_of_16_bit_integers(a_shape: tuple[int, ...], b_shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(1)
    a, b = (draw.integers(-9999, 9999, shape).astype(np.int16) for shape in (a_shape, b_shape))
    np.testing.assert_array_equal(run("MatMulInteger16", [a, b], symbolic=False), a.astype(np.int32) @ b.astype(np.int32))


# ---- what the model says --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_quantised_along_an_axis_and_back(dtype: Any) -> None:
    draw = Draw(0)
    x = draw.by.standard_normal((3, 4, 2)).astype(np.float32)
    scale, zero = draw.by.uniform(0.02, 0.05, 4).astype(np.float32), draw.numbers(4, dtype=dtype)
    q = run("QuantizeLinear", [x, scale, zero], axis=-2)
    np.testing.assert_array_equal(q, by_onnxruntime("QuantizeLinear", [x, scale, zero], axis=-2))
    back = run("DequantizeLinear", [q, scale, zero], axis=-2)
    np.testing.assert_array_equal(back, by_onnxruntime("DequantizeLinear", [q, scale, zero], axis=-2))


def test_operands_of_two_types_are_refused() -> None:
    unsigned, signed = Draw(0), Draw(1)
    with pytest.raises(Fail, match="bound to different types"):
        run("QLinearAdd", [*unsigned.tensor(3), *signed.tensor(3), unsigned.scale(), unsigned.numbers()])
