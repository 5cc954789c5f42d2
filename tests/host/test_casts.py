"""Casts from and to strings: all types, beside onnxruntime and numpy, and back again."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx.parser
import onnxruntime as ort
import pytest

import sardonyx as sx
from sardonyx.base.dtypes import BY_NAME, DType, from_numpy
from sardonyx.base.errors import InvalidArgument

INTEGERS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
FLOATS = ("f16", "bf16", "f32", "f64")
REALS = [0, 1, -1.5, 100, 0.1, 9.62, -123456.7, 1e-5, 1e10, 3.14159265358979]


def session(
    source: DType, target: DType, like: bool = False, provider: str = "CPUExecutionProvider"
) -> tuple[bytes, sx.InferenceSession]:
    """y = Cast(x), or CastLike(x, z)"""
    given = f"{source.onnx_name}[n] x" + (f", {target.onnx_name}[k] z" if like else "")
    node = "CastLike(x, z)" if like else f"Cast<to = {target.code}>(x)"
    text = f'<ir_version: 10, opset_import: ["": 21]> g ({given}) => ({target.onnx_name}[n] y) {{ y = {node} }}'
    model = onnx.parser.parse_model(text).SerializeToString()
    made = sx.InferenceSession(model, providers=[provider])
    assert {part.ep_name for part in made.get_provider_graph_assignment_info()} == {provider}
    return model, made


def cast(x: Any, target: str) -> np.ndarray:
    x = np.asarray(x)
    found = session(from_numpy(x.dtype), BY_NAME[target])[1].run(None, {"x": x})[0]
    assert found.dtype == BY_NAME[target].numpy
    assert found.shape == x.shape
    return found


def by_onnxruntime(x: np.ndarray, target: str) -> np.ndarray:
    model, _ = session(from_numpy(x.dtype), BY_NAME[target])
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def strings(*values: str) -> np.ndarray:
    return np.array(values, object)


@pytest.mark.parametrize("name", ["bool", *INTEGERS])
def test_bools_and_integers_are_written_as_onnxruntime_does(name):
    limits = (False, True) if name == "bool" else (np.iinfo(BY_NAME[name].numpy).min, np.iinfo(BY_NAME[name].numpy).max, 0, 7)
    x = np.array(limits, BY_NAME[name].numpy)
    np.testing.assert_array_equal(cast(x, "string"), by_onnxruntime(x, "string"))
    np.testing.assert_array_equal(cast(cast(x, "string"), name), x)


@pytest.mark.parametrize("name", FLOATS)
def test_floats_are_written_so_that_they_are_read_again(name):
    reals = [x for x in REALS if name != "f16" or abs(x) < 1e4]
    x = np.array([*reals, np.nan, np.inf, -np.inf, -0.0]).astype(BY_NAME[name].numpy)
    found = cast(x, "string")
    np.testing.assert_array_equal(cast(found, name).astype(np.float64), x.astype(np.float64))
    assert np.signbit(cast(found, name)[-1])
    assert list(found[-4:-1]) == ["NaN", "INF", "-INF"]
    assert found[2] == "-1.5"


@pytest.mark.parametrize("name", ["u4", "i4"])
def test_narrow_integers(name):
    x = np.arange(8).astype(getattr(ml_dtypes, BY_NAME[name].numpy_name))
    assert list(cast(x, "string")) == [str(i) for i in range(8)]
    np.testing.assert_array_equal(cast(strings("7", "15", "17"), name).astype(np.int64), [7, 15, 1] if name == "u4" else [7, -1, 1])


@pytest.mark.parametrize("name", [n for n in (*INTEGERS, *FLOATS, "bool") if n != "bf16"])
def test_numbers_are_read_as_onnxruntime_does(name):
    x = strings("1", "0", "3", " 5", "+4", "1.0", *(() if name == "bool" or name.startswith("u") else ("-7", "-0")))
    np.testing.assert_array_equal(cast(x, name), by_onnxruntime(x, name))


def test_texts_of_the_standard():
    x = strings("3.14", "1000", "1e-5", "1E8", "+INF", "inf", "-Inf", "nan", "314.15926")
    np.testing.assert_array_equal(cast(x, "f64"), [3.14, 1000, 1e-5, 1e8, np.inf, np.inf, -np.inf, np.nan, 314.15926])
    np.testing.assert_array_equal(cast(strings("100.5", "1e3", "-2.718"), "i32"), [100, 1000, -2])


def test_integers_lose_their_upper_bits():
    np.testing.assert_array_equal(cast(strings("300", "-129"), "i8"), [44, 127])
    np.testing.assert_array_equal(cast(strings("-1", "18446744073709551615"), "u64"), [2**64 - 1] * 2)
    np.testing.assert_array_equal(cast(strings("3000000000"), "i32"), [-1294967296])


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("abc", "f32"),
        ("", "f32"),
        ("1_000", "f64"),
        ("abc", "i64"),
        ("", "bool"),
        ("True", "bool"),
        ("inf", "i32"),
        ("9" * 20, "i64"),
    ],
)
def test_what_is_no_number_is_an_error(text, target):
    with pytest.raises(InvalidArgument, match=r"Cast node.*is not an? (number|integer)"):
        cast(strings("1", text), target)


def test_strings_to_strings_and_none():
    np.testing.assert_array_equal(cast(strings("a", ""), "string"), ["a", ""])
    assert cast(np.zeros(0, object), "f32").shape == (0,)
    assert cast(np.zeros(0, bool), "string").shape == (0,)


def test_cast_like():
    _, to_number = session(BY_NAME["string"], BY_NAME["f32"], like=True)
    np.testing.assert_array_equal(to_number.run(None, {"x": strings("1.5"), "z": np.zeros(2, np.float32)})[0], [1.5])
    _, to_text = session(BY_NAME["bool"], BY_NAME["string"], like=True)
    assert list(to_text.run(None, {"x": np.array([True]), "z": strings("a", "b")})[0]) == ["1"]


def test_constants_are_folded_to_the_same():
    text = '<ir_version: 10, opset_import: ["": 21]> g () => (string[2] y, int64[1] z) <bool[2] x = {1, 0}, string[1] w = {"0"}>'
    model = onnx.parser.parse_model(text + " { y = Cast<to = 8>(x) b = Cast<to = 9>(w) z = Cast<to = 7>(b) }")
    y, z = sx.InferenceSession(model.SerializeToString()).run(None, {})
    assert (list(y), list(z)) == (["1", "0"], [0])


def test_the_reference_writes_and_reads_alike():
    _, to_text = session(BY_NAME["bool"], BY_NAME["string"], provider="ReferenceExecutionProvider")
    _, to_bool = session(BY_NAME["string"], BY_NAME["bool"], provider="ReferenceExecutionProvider")
    assert list(to_text.run(None, {"x": np.array([True, False])})[0]) == ["1", "0"]
    assert list(to_bool.run(None, {"x": strings("0", "1")})[0]) == [False, True]
