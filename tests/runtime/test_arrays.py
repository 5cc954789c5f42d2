"""Addresses read from array objects are numpy's own; quick checks say what slow ones would."""

import numpy as np
import pytest

from sardonyx.runtime import arrays
from sardonyx.runtime.arrays import address_of, quick_check

WHOLE = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


class Derived(np.ndarray):
    """A subclass, whose objects may be larger."""


@pytest.mark.parametrize(
    "array",
    [
        WHOLE,
        WHOLE[1:, 2:],
        WHOLE[::-1],
        WHOLE.T,
        np.zeros(0),
        np.zeros((), np.int8),
        np.frombuffer(b"sixteen bytes ..", np.uint8),
        WHOLE.view(Derived),
        np.ones((1 << 20,), bool),
    ],
    ids=lambda a: f"{type(a).__name__}{list(a.shape)}",
)
def test_addresses_are_numpys(array: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    assert address_of(array) == array.ctypes.data
    monkeypatch.setattr(arrays, "_PLACE", None)
    assert address_of(array) == array.ctypes.data


def test_the_place_is_found_here() -> None:
    assert arrays._PLACE is not None


@pytest.mark.parametrize(("sizes", "shape", "fits"), [
    ([], (), True),
    ([None, 3], (7, 3), True),
    ([None, 3], (7, 4), False),
    ([2, 3], (2, 3), True),
    ([2, 3], (2, 3, 1), False),
    ([None], (5,), True),
    ([None], (), False),
])  # fmt: skip
def test_a_quick_check(sizes: list[int | None], shape: tuple[int, ...], fits: bool) -> None:
    rank, pick, wanted = quick_check(sizes)
    assert (len(shape) == rank and (pick is None or pick(shape) == wanted)) == fits
