import numpy as np
import pytest

from benchmarks.agreement import difference, identical, least_variation, worst


def _f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_difference_is_relative_to_the_largest_output() -> None:
    assert difference(_f32(1, 10), _f32(2, 10)) == pytest.approx(0.1)
    assert difference(_f32(), _f32()) == 0
    assert difference(_f32(0.5), _f32(0)) == 0.5


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (_f32(1), _f32(1, 2)),
        (_f32(1), np.array([1.0])),
        (_f32(np.nan, 1), _f32(1, 1)),
        (_f32(1, 1), _f32(np.inf, 1)),
        (_f32(-np.inf), _f32(np.inf)),
    ],
)
def test_other_shapes_dtypes_and_infinities_differ_without_bound(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert difference(ours, theirs) == np.inf


def test_equal_infinities_and_nans_agree() -> None:
    assert difference(_f32(np.nan, np.inf, 1), _f32(np.nan, np.inf, 1)) == 0


def test_worst_takes_all_outputs() -> None:
    assert worst([_f32(1), _f32(3)], [_f32(1), _f32(2)]) == 0.5
    assert worst([_f32(1)], [_f32(1), _f32(2)]) == np.inf


def test_variation_ignores_labels() -> None:
    label = np.array([3])
    assert least_variation([label, _f32(1), _f32(4)], [label, _f32(2), _f32(5)]) == pytest.approx(0.2)


def test_identical_compares_bits() -> None:
    assert identical([_f32(np.nan)], [_f32(np.nan)])
    assert not identical([_f32(0.0)], [_f32(-0.0)])
    assert not identical([_f32(1)], [_f32(1), _f32(1)])
