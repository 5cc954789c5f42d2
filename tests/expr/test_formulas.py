"""Arithmetic on sizes follows the element type: a formula stands for an element only where it gives the very number that running gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto as T
from onnx import helper, numpy_helper

import sardonyx
from sardonyx.base.dtypes import BY_CODE, DType, bf16, f16, f32, f64, i8, i16, i32, i64, u8, u32, u64
from sardonyx.base.errors import Fail, SardonyxError
from sardonyx.base.symbolic import Dim, Symbol, evaluate, symbol, value
from sardonyx.expr import require, scalar
from sardonyx.expr.evaluate import evaluate as compute_now
from sardonyx.expr.formulas import Ratio, Unknown, convert, operate, reduced
from sardonyx.expr.known import known
from sardonyx.expr.tensor import Tensor, compute

N = symbol("n")
SIZES = (
    0,
    1,
    2,
    3,
    5,
    7,
    37,
    127,
    128,
    255,
    256,
    259,
    2047,
    2049,
    65537,
    2**23 + 1,
    2**24 - 1,
    2**24 + 1,
    2**31 - 1,
    2**31,
    2**40 + 3,
)
BINARY = ("add", "sub", "mul", "div", "rem", "mod", "min", "max")
UNARY = ("neg", "abs")
ROUNDING = ("floor", "ceil", "trunc", "rint", "sqrt")
WHOLE = (0, 1, 2, 3, 4, 7, 8, 37, 100)
REAL = (*map(float, WHOLE), 0.5, 0.25, 1.5, 0.7, 1 / 3, -2.0, 3.7, 1e6)
DTYPES = (i8, u8, i16, i32, u32, i64, u64, f16, bf16, f32, f64)


def holds(requirements: list[require.Requirement], n: int) -> bool:
    found = [(r.relation, evaluate(r.dim, lambda s: n)) for r in requirements]
    return all(number == 0 if relation == "zero" else number >= 0 for relation, number in found)


@st.composite
def chains(draw: st.DrawFn) -> Tensor:
    """i64[1]: a size, cast to some element types one after the other, and computed with in each."""
    x = scalar.index(N)
    for _ in range(draw(st.integers(1, 3))):
        x = scalar.cast(x, draw(st.sampled_from(DTYPES)))
        for _ in range(draw(st.integers(0, 3))):
            real = x.dtype.is_float
            fn = draw(st.sampled_from((*BINARY, *UNARY, *(ROUNDING if real else ()))))
            numbers = st.sampled_from(REAL if real else WHOLE)
            if fn in BINARY:
                sides = [x, draw(numbers)]
                x = scalar.apply(fn, *(sides if draw(st.booleans()) else sides[::-1]))
            elif not (fn == "neg" and x.dtype.kind == "uint"):
                x = scalar.apply(fn, x)
    return compute(i64, (1,), lambda _: scalar.cast(x, i64))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.data())
def test_formulas_give_what_running_gives(data: st.DataObject) -> None:
    with require.collect() as requirements:
        made = data.draw(chains())
        numbers = known(made)
    if numbers is None:
        return
    (formula,) = numbers
    for n in SIZES:
        if holds(requirements, n):
            (right,) = compute_now([made], {}, {Symbol("n"): n})
            assert evaluate(formula, lambda s, n=n: n) == right.item(), f"{formula} for n = {n}"  # type: ignore[misc]


# ---- what stays a formula -----------------------------------------------------------------------------------------------


def kept(*steps: Any) -> Dim | Ratio | float | None:
    """What is known of a size after casts (DTypes) and operations (name, number); None if nothing."""
    x = scalar.index(N)
    with require.collect():
        for step in steps:
            x = scalar.cast(x, step) if isinstance(step, DType) else scalar.apply(step[0], x, *step[1:])
        found = known(compute(x.dtype, (1,), lambda _: x))
    return None if found is None else found[0]


def test_what_exporters_compute_sizes_with_stays_a_formula() -> None:
    assert kept(f32, ("mul", 2.0), ("floor",), i64) == 2 * N
    assert kept(f32, ("div", 2.0), ("floor",), i64) == N // 2
    assert kept(f32, ("div", 2.0), ("ceil",), i64) == (N + 1) // 2
    assert kept(f32, ("mul", 0.5), i64) == N // 2
    assert kept(f64, ("div", 3.0), i64) == N // 3
    assert kept(f32, ("div", 2.0), ("mul", 2.0), i64) == N
    assert kept(i32, ("mul", 4), ("div", 2), i64) == 2 * N


def test_what_is_rounded_does_not() -> None:
    assert kept(f32, ("mul", 0.7), i64) is None
    assert kept(f32, ("div", 3.0), ("mul", 3.0), i64) is None  # rounded twice
    assert kept(f32, ("div", 2.0), ("rint",), i64) is None
    assert kept(f16, i64) is None
    assert kept(i8, i64) is None
    assert kept(u32, ("sub", 5), i64) is None


@pytest.mark.parametrize(("dtype", "most"), [(i32, 2**31 - 1), (f32, 2**24 - 1), (f64, 2**53 - 1)])
def test_a_formula_is_required_to_fit(dtype: DType, most: int) -> None:
    with require.collect() as requirements:
        assert known(compute(i64, (1,), lambda _: scalar.cast(scalar.cast(scalar.index(N), dtype), i64))) is not None
    assert holds(requirements, most)
    assert not holds(requirements, most + 1)


def test_the_same_is_required_once() -> None:
    with require.collect() as requirements:
        for _ in range(3):
            known(compute(i64, (1,), lambda _: scalar.cast(scalar.cast(scalar.index(N), i32), i64)))
    assert len(requirements) == 1


def test_counters_of_loops_fit_by_their_range() -> None:
    turn = value(Symbol("t", N))
    with require.collect() as requirements:
        assert convert(turn, i64, i32) == turn
        with pytest.raises(Unknown):
            convert(turn - N, i64, i32)
        with pytest.raises(Unknown):  # so many turns that the counter does not fit
            convert(value(Symbol("t", 2**63 - 1)), i64, f32)
    assert holds(requirements, 2**31)
    assert not holds(requirements, 2**31 + 1)


# ---- numbers ------------------------------------------------------------------------------------------------------------


def test_numbers_wrap_round_and_saturate() -> None:
    assert operate("add", u8, [200, 100]) == 44
    assert operate("mul", i64, [2**62, 4]) == 0
    assert operate("mul", f32, [10.0, np.float32(0.7).item()]) == 7.0
    assert operate("div", i64, [-7, 2]) == -3
    assert operate("div", i32, [7, 0]) == 0
    assert convert(300.0, f32, u8) == 255
    assert convert(2**24 + 1, i64, f32) == 2.0**24


def test_reductions_over_nothing() -> None:
    assert reduced("mul", i64, []) == 1
    assert reduced("add", i64, [N, 2 * N]) == 3 * N


def test_functions_are_computed_when_the_model_runs() -> None:
    with pytest.raises(Unknown):
        operate("exp", f32, [1.0])
    with pytest.raises(Unknown):
        convert(2**70, i64, f32)


# ---- by the user's door -------------------------------------------------------------------------------------------------


def shaped(dtype: int, steps: list[tuple[str, float]], n: Any = "n") -> bytes:
    """x: f32[n] -> f32[k], k made from n by operators on tensors of this type."""
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Cast", ["s"], ["v0"], to=dtype)]
    constants = []
    for i, (name, number) in enumerate(steps):
        inputs = [f"v{i}"]
        if name in ("Add", "Sub", "Mul", "Div", "Mod"):
            array = np.array([number]).astype(BY_CODE[dtype].numpy)
            constants.append(numpy_helper.from_array(array, f"c{i}"))
            inputs.append(f"c{i}")
        nodes.append(helper.make_node(name, inputs, [f"v{i + 1}"]))
    nodes += [helper.make_node("Cast", [f"v{len(steps)}"], ["k"], to=T.INT64), helper.make_node("ConstantOfShape", ["k"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, T.FLOAT, [size]) for name, size in (("x", n), ("y", "k")))
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


CHAINS: dict[int, list[list[tuple[str, float]]]] = {
    T.FLOAT: [
        [("Div", 2), ("Ceil", 0)],
        [("Div", 3), ("Mul", 3)],
        [("Mul", 0.7), ("Floor", 0)],
        [("Div", 2), ("Mul", 2)],
        [("Sqrt", 0)],
    ],
    T.FLOAT16: [[("Mul", 3), ("Add", 1)], [("Div", 3), ("Ceil", 0)]],
    T.DOUBLE: [[("Mul", 0.1), ("Ceil", 0)]],
    T.INT8: [[("Mul", 37), ("Mul", 3)]],
    T.UINT8: [[("Mul", 37)], [("Sub", 10)]],
    T.INT32: [[("Mul", 3), ("Div", 2)], [("Mod", 4)]],
    T.UINT64: [[("Add", 3), ("Div", 2)]],
}


@pytest.mark.parametrize("level", [sardonyx.GraphOptimizationLevel.ORT_DISABLE_ALL, sardonyx.GraphOptimizationLevel.ORT_ENABLE_ALL])
@pytest.mark.parametrize(("dtype", "steps"), [(d, s) for d, found in CHAINS.items() for s in found])
def test_sessions_compute_sizes_in_the_type_of_the_model(
    dtype: int, steps: list[tuple[str, float]], level: sardonyx.GraphOptimizationLevel
) -> None:
    options = sardonyx.SessionOptions()
    options.graph_optimization_level = level
    for declared in ("n", 7):  # computed when the model runs, and when it is loaded
        data = shaped(dtype, steps, declared)
        session = sardonyx.InferenceSession(data, options)
        for n in (7, 259, 2049) if declared == "n" else (7,):
            right = expected(onnx.load_model_from_string(data), n)
            if right < 0:
                with pytest.raises(SardonyxError):
                    session.run(None, {"x": np.zeros(n, np.float32)})
            else:
                assert session.run(None, {"x": np.zeros(n, np.float32)})[0].shape == (right,), f"n = {n}"


def expected(model: onnx.ModelProto, n: int) -> int:
    """k, step by step in numpy, in the model's own type."""
    with np.errstate(all="ignore"):
        cast, *steps, _, _ = model.graph.node[1:]
        constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
        x = np.array([n]).astype(BY_CODE[cast.attribute[0].i].numpy)
        for node in steps:
            x = IN_NUMPY[node.op_type](x, *(constants[name] for name in node.input[1:])).astype(x.dtype)
        return int(x.astype(np.int64)[0])


IN_NUMPY: dict[str, Any] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": lambda a, b: a / b if a.dtype.kind == "f" else a // b,
    "Mod": np.mod,
    "Ceil": np.ceil,
    "Floor": np.floor,
    "Sqrt": np.sqrt,
}


def test_a_size_that_outgrows_the_type_of_a_formula_is_an_error() -> None:
    session = sardonyx.InferenceSession(shaped(T.FLOAT, [("Div", 4096.0), ("Floor", 0)]))
    assert session.run(None, {"x": np.zeros(2**17, np.float32)})[0].shape == (32,)
    with pytest.raises(Fail, match="ConstantOfShape node.*does not fit"):
        session.run(None, {"x": np.zeros(2**24 + 1, np.float32)})
