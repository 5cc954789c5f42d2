"""The remainder of floats is exact: subnormals, the largest numbers, quotients of any size, NaN and infinity."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from sardonyx import InferenceSession, SessionOptions

TEXT = '<ir_version: 10, opset_import: ["" : 21]> g ({t}[n] x, {t}[n] y) => ({t}[n] z) {{ z = Mod <fmod = 1> (x, y) }}'


def session(name: str, target: str) -> InferenceSession:
    options = SessionOptions()
    options.add_session_config_entry("session.target", target)
    options.add_session_config_entry("session.disable_reference_fallback", "1")
    return InferenceSession(onnx.parser.parse_model(TEXT.format(t=name)).SerializeToString(), options)


def numbers(dtype: type[np.floating]) -> np.ndarray:  # type: ignore[type-arg]
    """Edges of the range, numbers beside them, and some of each size."""
    info = np.finfo(dtype)
    edges = [
        0.0,
        info.smallest_subnormal,
        3 * info.smallest_subnormal,
        info.tiny,
        info.max,
        1.0,
        1.5,
        2.0,
        3.0,
        0.1,
        np.inf,
        np.nan,
    ]
    wide = np.random.default_rng(0)
    exponents = wide.integers(info.minexp - 20, info.maxexp - 1, 60)
    drawn = np.ldexp(wide.uniform(1, 2, 60), exponents)
    found = np.array([*edges, *drawn, *np.nextafter(np.array(edges[3:9], dtype), dtype(0))], dtype)
    return np.concatenate([found, -found])


@pytest.mark.parametrize("target", ["host", "sse2"])
@pytest.mark.parametrize(("name", "dtype"), [("float", np.float32), ("double", np.float64)])
def test_all_pairs(name: str, dtype: type[np.floating], target: str) -> None:  # type: ignore[type-arg]
    """Bit by bit what C's fmod gives, the sign of a zero too."""
    x, y = (a.reshape(-1) for a in np.meshgrid(numbers(dtype), numbers(dtype)))
    with np.errstate(all="ignore"):
        expected = np.fmod(x, y)
    (got,) = session(name, target).run(None, {"x": x, "y": y})
    np.testing.assert_array_equal(got, expected)
    ordinary = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[ordinary]), np.signbit(expected[ordinary]))
