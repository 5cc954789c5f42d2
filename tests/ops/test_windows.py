"""Sizes and borders of windows: against counting, for fixed sizes and formulas; what does not fit is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Symbol, evaluate, symbol
from sardonyx.ops.windows import Window, windows

AXIS = st.fixed_dictionaries(
    {
        "n": st.integers(1, 12),
        "size": st.integers(1, 4),
        "stride": st.integers(1, 3),
        "dilation": st.integers(1, 3),
        "lo": st.integers(0, 2),
        "hi": st.integers(0, 2),
    }
)


def starts(axis: dict[str, int], ceil_mode: bool) -> int:
    """How many windows there are, by trying: each begins before the data end; without ceil_mode it ends within the border."""
    reach = (axis["size"] - 1) * axis["dilation"] + 1
    data_end, end = axis["lo"] + axis["n"], axis["lo"] + axis["n"] + axis["hi"]
    if not ceil_mode:
        return sum(1 for o in range(end) if o * axis["stride"] + reach <= end)
    count = 1  # another one follows where this one leaves something uncovered
    while (count - 1) * axis["stride"] + reach < end and count * axis["stride"] < data_end:
        count += 1
    return count


def one(axis: dict[str, int], ceil_mode: int = 0) -> Window:
    (w,) = windows([axis["n"]], [axis["size"]], [axis["stride"]], [axis["dilation"]], [axis["lo"], axis["hi"]], ceil_mode=ceil_mode)
    return w


def fits(axis: dict[str, int]) -> bool:
    return axis["n"] + axis["lo"] + axis["hi"] >= (axis["size"] - 1) * axis["dilation"] + 1


@given(AXIS, st.booleans())
def test_number_of_windows(axis: dict[str, int], ceil_mode: bool) -> None:
    if not fits(axis):
        return
    w = one(axis, int(ceil_mode))
    assert w.out == starts(axis, ceil_mode)


@given(AXIS, st.booleans())
def test_elements_inside(axis: dict[str, int], ceil_mode: bool) -> None:
    if not fits(axis):
        return
    w = one(axis, int(ceil_mode))
    assert isinstance(w.out, int)
    for o in range(w.out):
        places = [o * w.stride + r * w.dilation - axis["lo"] for r in range(axis["size"])]
        assert w.inside(o, 0, 0) == sum(0 <= p < axis["n"] for p in places)


@given(AXIS, st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
def test_formulas_give_the_same(axis: dict[str, int], auto_pad: str) -> None:
    reach = (axis["size"] - 1) * axis["dilation"] + 1
    pads = [0, 0] if auto_pad != "NOTSET" else [axis["lo"], axis["hi"]]
    if not auto_pad.startswith("SAME") and axis["n"] + sum(pads) < reach:
        return
    rest = [axis["size"]], [axis["stride"]], [axis["dilation"]], pads, auto_pad
    (fixed,), (formula,) = windows([axis["n"]], *rest), windows([symbol("n")], *rest)
    sizes = {Symbol("n"): axis["n"]}
    for name in ("lo", "hi", "out"):
        assert evaluate(getattr(formula, name), sizes.__getitem__) == getattr(fixed, name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([4], [5]), "does not fit"),
        (([4], [2], [0]), "strides"),
        (([4], [2], [1, 1]), "strides"),
        (([4], [2], [1], [1], [1]), "pads"),
        (([4], [2], [1], [1], [-1, 0]), "pads"),
        (([4, 4], [2]), "axes"),
        (([4], [2], [1], [1], [0, 0], "SAME"), "auto_pad"),
    ],
)
def test_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(Fail, match=message):
        windows(*arguments)  # type: ignore[arg-type]
