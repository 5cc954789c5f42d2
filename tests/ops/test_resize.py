"""Resize where onnx.reference is no help: exact ties, the length that scales give, old modes."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest

from sardonyx.base.errors import SardonyxError
from tests.ops.harness import reference, run

ROUND = {
    "round_prefer_ceil": lambda x: floor(x + Fraction(1, 2)),
    "round_prefer_floor": lambda x: ceil(x - Fraction(1, 2)),
    "floor": floor,
    "ceil": ceil,
}
PLACE = {
    "half_pixel": lambda i, n, m: (i + Fraction(1, 2)) * Fraction(n, m) - Fraction(1, 2),
    "pytorch_half_pixel": lambda i, n, m: (i + Fraction(1, 2)) * Fraction(n, m) - Fraction(1, 2) if m > 1 else 0,
    "asymmetric": lambda i, n, m: i * Fraction(n, m),
    "align_corners": lambda i, n, m: Fraction(i * (n - 1), max(m - 1, 1)),
}


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("mode", ROUND)
@pytest.mark.parametrize("transformation", PLACE)
def test_nearest_of_known_sizes_is_exact(transformation: str, mode: str, symbolic: bool) -> None:
    attributes = {"coordinate_transformation_mode": transformation, "nearest_mode": mode}
    for n in (1, 7, 20):
        x = np.arange(n, dtype=np.float32)[None, None, None]
        for m in (1, 3, 6, 8, 12, 30, 50):
            picks = [min(max(ROUND[mode](PLACE[transformation](i, n, m)), 0), n - 1) for i in range(m)]
            (got,) = run("Resize", [x, None, None, np.array([1, 1, 1, m])], attributes, known=[3], symbolic=symbolic)
            np.testing.assert_array_equal(got.ravel(), picks, err_msg=f"{n} to {m}")


@pytest.mark.parametrize(("n", "scale"), [(9, 1.7), (4, 2.3), (5, 1.01), (3, 3.0)])
def test_corners_stay_corners_where_a_scale_makes_the_axis_longer(n: int, scale: float) -> None:
    x = np.arange(n, dtype=np.float32)[None, None]
    attributes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    (got,) = run("Resize", [x, None, np.array([1, 1, scale], np.float32)], attributes)
    np.testing.assert_allclose(got[0, 0], np.linspace(0, n - 1, int(np.float32(n) * np.float32(scale))), 1e-5, 1e-6)


@pytest.mark.parametrize("scale", [0.5, 2.0, 1.5])
def test_tensorflows_half_pixel(scale: float) -> None:
    x = np.arange(9, dtype=np.float32)[None, None]
    attributes = {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"}
    (got,) = run("Resize", [x, None, np.array([1, 1, scale], np.float32)], attributes, version=13)
    np.testing.assert_array_equal(got.ravel(), np.minimum((np.arange(int(9 * scale)) + 0.5) / scale, 8).astype(int))


@pytest.mark.parametrize("attributes", [{"coordinate_transformation_mode": "centre"}, {"nearest_mode": "up"}, {"mode": "lanczos"}])
def test_what_cannot_run_is_refused_when_the_session_is_made(attributes: dict[str, str]) -> None:
    with pytest.raises(SardonyxError, match=next(iter(attributes.values()))):
        run("Resize", [np.ones((1, 1, 4), np.float32), None, np.array([1, 1, 2], np.float32)], attributes, known=[2])


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("transformation", ["half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"])
def test_doubles_are_weighted_by_doubles(transformation: str, symbolic: bool) -> None:
    x = np.random.default_rng(0).standard_normal((1, 1, 7, 17))
    attributes = {"coordinate_transformation_mode": transformation, "mode": "linear"}
    for given in ([x, None, np.array([1, 1, 3, 2], np.float32)], [x, None, None, np.array([1, 1, 9, 23])]):
        (got,) = run("Resize", given, attributes, known=[len(given) - 1], symbolic=symbolic)
        np.testing.assert_allclose(got, reference("Resize", given, attributes)[0], rtol=0, atol=1e-13)


def test_cubic_weights_of_doubles() -> None:
    """With a = -1/2 parabolas are met between the points (onnx.reference rounds these weights to f32)."""
    x = np.arange(20.0) ** 2
    attributes = {"mode": "cubic", "cubic_coeff_a": -0.5}
    (got,) = run("Resize", [x[None, None, None], None, None, np.array([1, 1, 1, 51])], attributes, known=[3])
    places = (np.arange(51) + 0.5) * 20 / 51 - 0.5
    inside = (places >= 1) & (places <= 18)
    np.testing.assert_allclose(got[0, 0, 0, inside], places[inside] ** 2, rtol=1e-13)
