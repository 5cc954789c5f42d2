"""Groups take the integers that they represent exactly."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.dtypes import DType, i8, i16, i32, u8, u16
from sardonyx.loop.groups import PAIRS, QUADS, fits

INTEGERS = (i8, u8, i16, u16, i32)


@pytest.mark.parametrize("source", INTEGERS, ids=str)
@pytest.mark.parametrize("target", INTEGERS, ids=str)
def test_a_dtype_fits_where_its_extremes_do(source: DType, target: DType) -> None:
    small, large = np.iinfo(source.numpy), np.iinfo(target.numpy)
    assert fits(source, target) == (large.min <= small.min and small.max <= large.max)


def test_what_a_group_holds() -> None:
    assert QUADS.holds(u8, i8)
    assert not QUADS.holds(i8, i8)
    assert not QUADS.holds(u8, u8)
    assert all(PAIRS.holds(a, b) for a in (i8, u8) for b in (i8, u8))
    assert not PAIRS.holds(u16, i8)
