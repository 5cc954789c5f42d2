"""Element types agree with ONNX's numbers and with numpy's types."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest

from sardonyx.base import dtypes
from sardonyx.base.dtypes import ALL, BY_CODE, BY_NAME, FLOATS, INTEGERS, NARROW_FLOATS, DType, from_numpy, of_code
from sardonyx.base.errors import Fail

NUMBERS = [d for d in ALL if d.is_number]


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_codes_and_names_are_onnx_own(dtype: DType) -> None:
    onnx_name = onnx.TensorProto.DataType.Name(dtype.code)
    assert onnx_name.lower() == dtype.onnx_name
    assert onnx.helper.tensor_dtype_to_np_dtype(dtype.code) == dtype.numpy


def test_every_type_of_onnx_is_here() -> None:
    """But for the floats of six bits, which came after the others."""
    missing = {"UNDEFINED", "FLOAT6E2M3", "FLOAT6E3M2"}
    codes = {code for name, code in onnx.TensorProto.DataType.items() if name not in missing}
    assert set(BY_CODE) == codes
    assert len(ALL) == len(codes) == len(BY_NAME)


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_found_again(dtype: DType) -> None:
    assert from_numpy(dtype.numpy) is dtype
    assert BY_CODE[dtype.code] is dtype
    assert BY_NAME[dtype.name] is dtype
    assert repr(dtype) == dtype.name


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_width_and_kind(dtype: DType) -> None:
    """Types narrower than a byte are kept one element a byte."""
    assert dtype.itemsize == dtype.numpy.itemsize == max(dtype.bits // 8, 1)
    if dtype.is_float:
        assert ml_dtypes.finfo(dtype.numpy).bits == dtype.bits
    elif dtype.is_integer:
        info = ml_dtypes.iinfo(dtype.numpy)
        assert (info.min < 0) == (dtype.kind == "int")
        assert int(info.max) - int(info.min) == 2**dtype.bits - 1
    else:
        assert dtype is dtypes.boolean


def test_groups() -> None:
    assert all(d.is_float for d in (*FLOATS, *NARROW_FLOATS))
    assert all(d.is_integer and d.bits >= 8 for d in INTEGERS)
    grouped = {*FLOATS, *NARROW_FLOATS, *INTEGERS, dtypes.boolean, dtypes.i4, dtypes.u4, dtypes.i2, dtypes.u2}
    assert grouped == set(NUMBERS)
    assert not any(d.is_number for d in (dtypes.string, dtypes.c64, dtypes.c128))


@pytest.mark.parametrize("text", ["U3", "S3", "O"])
def test_text_is_string(text: str) -> None:
    assert from_numpy(np.dtype(text)) is dtypes.string


@pytest.mark.parametrize("other", ["datetime64[s]", "V4"])
def test_no_name_for_other_types(other: str) -> None:
    with pytest.raises(TypeError, match="no ONNX element type"):
        from_numpy(np.dtype(other))


def test_numbers_that_an_attribute_names() -> None:
    assert [of_code(d.code) for d in NUMBERS] == NUMBERS
    for code in (0, -1, 99, dtypes.string.code):
        with pytest.raises(Fail, match="no numbers of type"):
            of_code(code)
