"""Casts that change nothing are taken out, those that round, wrap or cut off stay."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto as T

from sardonyx.base import dtypes
from sardonyx.base.dtypes import BY_CODE, DType
from sardonyx.graph.passes.cast_elimination import eliminate_casts, holds
from tests.graph.passes.harness import Array, after, operators, reals

X = {"x": reals(4) * 300}


def test_a_cast_to_the_type_that_it_has() -> None:
    found = after(eliminate_casts, f"g (float[4] x) => (float[4] y) {{ a = Cast <to = {T.FLOAT}> (x) y = Relu(a) }}", X)
    assert operators(found) == ["Relu"]


def test_there_and_back_by_a_wider_type() -> None:
    text = f"g (float[4] x) => (float[4] y) {{ a = Cast <to = {T.DOUBLE}> (x) b = Cast <to = {T.FLOAT}> (a) y = Relu(b) }}"
    found = after(eliminate_casts, text, X)
    assert [n.op_type for n in found.graph if n.outputs[0].uses() or n.outputs[0].is_graph_output()] == ["Relu"]


@pytest.mark.parametrize("middle", [T.INT8, T.INT32, T.FLOAT16, T.BFLOAT16, T.BOOL])
def test_there_and_back_by_a_type_that_holds_less(middle: int) -> None:
    text = f"g (float[4] x) => (float[4] y) {{ a = Cast <to = {middle}> (x) b = Cast <to = {T.FLOAT}> (a) y = Relu(b) }}"
    assert operators(after(eliminate_casts, text, {"x": np.array([0.3, 1.7, -2.5, 100.25], np.float32)})) == [
        "Cast",
        "Cast",
        "Relu",
    ]


def test_a_cast_by_way_of_a_wider_type() -> None:
    text = f"g (float16[4] x) => (double[4] y) {{ a = Cast <to = {T.FLOAT}> (x) y = Cast <to = {T.DOUBLE}> (a) }}"
    found = after(eliminate_casts, text, {"x": reals(4).astype(np.float16)})
    assert next(n for n in found.graph if n.outputs[0].name == "y").inputs[0] is found.graph.inputs[0]


NUMBERS = [d for d in BY_CODE.values() if d.is_number and d.bits >= 8 and d.kind != "complex"]


def extremes(dtype: DType) -> Array:
    """The least, the largest and the finest numbers of a type, and some beside them."""
    if dtype.kind == "bool":
        return np.array([False, True])
    if dtype.is_float:
        info = ml_dtypes.finfo(dtype.numpy)  # type: ignore[no-untyped-call]
        some = [info.max, info.min, info.smallest_normal, info.smallest_subnormal, 1 + info.eps, 3]
        return np.array(some).astype(dtype.numpy)
    limits = np.iinfo(dtype.numpy)
    return np.array([limits.max, limits.max - 1, limits.min, limits.min + 1, 0, 1], dtype.numpy)


@pytest.mark.parametrize("narrow", NUMBERS, ids=str)
def test_a_type_that_is_said_to_hold_another_does(narrow: DType) -> None:
    for wide in NUMBERS:
        if holds(ir.DataType(narrow.code), wide.code):
            numbers = extremes(narrow)
            np.testing.assert_array_equal(numbers.astype(wide.numpy).astype(narrow.numpy), numbers, err_msg=str(wide))


INTEGERS = [d for d in BY_CODE.values() if d.kind in ("int", "uint", "bool")]
FLOATS = {dtypes.f16: 11, dtypes.bf16: 8, dtypes.f32: 24, dtypes.f64: 53}


def span(d: DType) -> tuple[int, int]:
    """The least and the largest number."""
    if d.kind == "bool":
        return 0, 1
    return (-(1 << d.bits - 1), (1 << d.bits - 1) - 1) if d.kind == "int" else (0, (1 << d.bits) - 1)


@pytest.mark.parametrize("a", INTEGERS, ids=str)
def test_which_integers_hold_which(a: DType) -> None:
    """Every number of one is one of the other; a bool holds nothing else; floats hold what their significands hold."""
    for b in INTEGERS:
        inside = span(b)[0] <= span(a)[0] and span(a)[1] <= span(b)[1] and (b.kind != "bool" or a is b)
        assert holds(ir.DataType(a.code), b.code) == inside or a is b, f"{a} in {b}"
    for b, bits in FLOATS.items():
        assert holds(ir.DataType(a.code), b.code) == (span(a)[1] < 1 << bits), f"{a} in {b}"
        assert not holds(ir.DataType(b.code), a.code)


def test_which_floats_hold_which() -> None:
    wider = {("f16", "f32"), ("f16", "f64"), ("bf16", "f32"), ("bf16", "f64"), ("f32", "f64")}
    for a in FLOATS:
        for b in FLOATS:
            assert holds(ir.DataType(a.code), b.code) == ((a.name, b.name) in wider) or a is b
