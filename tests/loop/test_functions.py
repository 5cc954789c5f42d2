"""The functions' expansions: errors in ulps against a wider type, and IEEE's special cases."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
import pytest

from sardonyx.base.dtypes import bf16, f16, f32, from_numpy, i64
from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import Symbol, value
from sardonyx.loop.functions import EXPANSIONS, expand
from sardonyx.loop.nodes import FUNCTIONS, Buffer, Cast, Element, Load, Op, walk
from sardonyx.loop.values import constant
from tests.loop.evaluation import Array, compute, operations, sample, ulps, worst

LIMIT = {np.float32: 2.0, np.float64: 4.0}
FLOATS = [np.float32, np.float64]

# name: (numpy's function, ranges to sample densely)
NUMPY: dict[str, tuple[Callable[..., Array], list[tuple[float, float]]]] = {
    "exp": (np.exp, [(-110, 90), (-750, 711), (-1, 1)]),
    "expm1": (np.expm1, [(-110, 90), (-750, 711), (-1, 1), (-1e-3, 1e-3)]),
    "sinh": (np.sinh, [(-90, 90), (-711, 711), (-2, 2)]),
    "cosh": (np.cosh, [(-90, 90), (-711, 711), (-2, 2)]),
    "tanh": (np.tanh, [(-25, 25), (-5, 5), (-1, 1)]),
    "log": (np.log, [(0, 2), (0.5, 2), (0.99, 1.01), (0, 1e4)]),
    "log1p": (np.log1p, [(-1, 2), (-0.1, 0.1), (-1.1, 1e4)]),
    "asinh": (np.arcsinh, [(-2, 2), (-1e5, 1e5)]),
    "acosh": (np.arccosh, [(1, 1.001), (0.9, 3), (1, 1e5)]),
    "atanh": (np.arctanh, [(-1, 1), (-1.1, 1.1), (-0.1, 0.1)]),
    "sin": (np.sin, [(-4, 4), (-1000, 1000), (-1e6, 1e6)]),
    "cos": (np.cos, [(-4, 4), (-1000, 1000), (-1e6, 1e6)]),
    "tan": (np.tan, [(-4, 4), (-1000, 1000), (-1e6, 1e6)]),
    "asin": (np.arcsin, [(-1, 1), (0.45, 0.55), (0.99, 1.01)]),
    "acos": (np.arccos, [(-1, 1), (0.45, 0.55), (0.99, 1.01), (-1.01, -0.99)]),
    "atan": (np.arctan, [(-3, 3), (-100, 100), (0.4, 0.43)]),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NUMPY)
def test_error(name: str, dtype: type) -> None:
    reference, ranges = NUMPY[name]
    assert worst(EXPANSIONS[name], reference, sample(dtype, *ranges)) <= LIMIT[dtype]


@pytest.mark.parametrize("dtype", FLOATS)
def test_erf_error(dtype: type) -> None:
    x = np.concatenate([sample(dtype, count=300), *(np.linspace(lo, hi, 1500).astype(dtype) for lo, hi in [(-6, 6), (0.9, 1.1)])])
    want = np.array([float(mpmath.erf(v)) for v in x.astype(np.float64)], np.float64)
    error = ulps(compute(EXPANSIONS["erf"], x), want.astype(np.float64 if dtype is np.float32 else np.longdouble))
    assert error.max() <= LIMIT[dtype]


@pytest.mark.parametrize("dtype", FLOATS)
def test_pow_error(dtype: type) -> None:
    rng = np.random.default_rng(5)
    top = 0.98 * float(np.log(np.finfo(dtype).max))
    x = np.exp(rng.uniform(-top, top, 20000)).astype(dtype)
    y = (rng.uniform(-1.05, 1.05, x.size) * top / np.log(x)).astype(dtype)
    assert worst(EXPANSIONS["pow"], np.power, x, y) <= LIMIT[dtype]
    near = rng.uniform(0.5, 2, x.size).astype(dtype)
    assert worst(EXPANSIONS["pow"], np.power, near, rng.uniform(-top, top, x.size).astype(dtype)) <= LIMIT[dtype]


@pytest.mark.parametrize("dtype", FLOATS)
def test_pow_special_cases(dtype: type) -> None:
    """All pairs of numbers that C99 F.9.4.4 singles out, and large odd and even exponents."""
    odd = 2.0 ** (np.finfo(dtype).nmant + 1) - 1
    one = [0, 0.5, 1, 1.5, 2, 3, odd, odd + 1, 2 * odd, 1e30, np.inf, float(np.finfo(dtype).smallest_subnormal)]
    numbers = np.array([*one, *(-v for v in one), np.nan], dtype)
    x, y = (v.ravel() for v in np.meshgrid(numbers, numbers))
    with np.errstate(all="ignore"):
        want = np.power(x, y)
    got = compute(EXPANSIONS["pow"], x, y)
    exact = ~np.isfinite(want) | (want == 0)
    np.testing.assert_array_equal(got[exact], want[exact])
    np.testing.assert_array_equal(np.signbit(got[~np.isnan(want)]), np.signbit(want[~np.isnan(want)]))
    np.testing.assert_allclose(got[~exact], want[~exact], rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, 0.5, -0.5, -1, -2])
@pytest.mark.parametrize("dtype", FLOATS)
def test_pow_of_a_constant(dtype: type, exponent: float) -> None:
    x = sample(dtype, (-2, 2))
    element = from_numpy(np.dtype(dtype))
    constant_pow = lambda v: EXPANSIONS["pow"](v, constant(exponent, element))  # noqa: E731
    assert worst(constant_pow, lambda v: np.power(v, np.full_like(v, exponent)), x) <= LIMIT[dtype]
    special = np.array([0.0, -0.0, np.inf, -np.inf], dtype)
    with np.errstate(divide="ignore"):
        want = np.power(special, np.full_like(special, exponent))
    got = compute(constant_pow, special)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["expm1", "sinh", "tanh", "erf", "log1p", "asinh", "atanh", "sin", "tan", "asin", "atan"])
def test_odd_near_zero(name: str, dtype: type) -> None:
    """f(-0) is -0, and the least subnormal is its own value."""
    x = np.array([0.0, -0.0, np.finfo(dtype).smallest_subnormal, -np.finfo(dtype).smallest_subnormal], dtype)
    got = compute(EXPANSIONS[name], x)
    want = dtype(2 / np.sqrt(np.pi)) * x if name == "erf" else x
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(x))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_near_multiples_of_half_pi(name: str, dtype: type) -> None:
    """Where the reduction loses most of its bits, up to the largest arguments; against exact reduction."""
    n = np.concatenate([np.arange(1, 200), 2.0 ** np.arange(8, np.finfo(dtype).maxexp - 2, 7)])
    near = (n * (np.pi / 2)).astype(dtype)
    hard = (
        [16367173 * 2.0**72] if dtype is np.float32 else [6381956970095103 * 2.0**797]
    )  # as close as any: Muller 2006, table 11.3
    x = np.concatenate([near, np.nextafter(near, dtype(0)), np.array(hard, dtype)])
    with mpmath.workdps(700):
        wide = np.float64 if dtype is np.float32 else np.longdouble
        want = np.array([wide(mpmath.nstr(getattr(mpmath, name)(mpmath.mpf(float(v))), 30)) for v in x])
    assert ulps(compute(EXPANSIONS[name], x), want).max() <= LIMIT[dtype]


@pytest.mark.parametrize("dtype", FLOATS)
def test_exp_at_its_limits(dtype: type) -> None:
    """The greatest argument that does not overflow, the least with a result above 0, and their neighbours."""
    info = np.finfo(dtype)
    with np.errstate(all="ignore"):
        top = np.log(np.longdouble(info.max)).astype(dtype)
        bottom = np.log(np.longdouble(info.smallest_subnormal) / 2).astype(dtype)
    x = np.concatenate([around(top), around(bottom)])
    got = compute(EXPANSIONS["exp"], x)
    with np.errstate(all="ignore"):
        want = np.exp(x.astype(np.longdouble)).astype(dtype)
    assert np.isinf(want).any()
    assert (want == 0).any()
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
    np.testing.assert_array_equal(got == 0, want == 0)


def around(x: Array) -> Array:
    """x and its two neighbours on each side."""
    up, down = np.nextafter(x, x.dtype.type(np.inf)), np.nextafter(x, x.dtype.type(-np.inf))
    beyond = [np.nextafter(up, x.dtype.type(np.inf)), np.nextafter(down, x.dtype.type(-np.inf))]
    return np.array([down, up, x, *beyond], x.dtype)


def test_every_function_is_expanded() -> None:
    assert set(EXPANSIONS) == FUNCTIONS
    x = Load(Buffer("x", f32), 0)
    for name in FUNCTIONS:
        expr = expand(Op(name, x, x) if name == "pow" else Op(name, x))
        assert FUNCTIONS.isdisjoint(operations(expr))


def test_hot_functions_stay_short() -> None:
    """They stand in the innermost loops."""
    x = Load(Buffer("x", f32), 0)
    counts = {name: len(operations(expand(Op(name, x)))) for name in ("exp", "tanh", "erf", "log")}
    assert counts == {"exp": 18, "tanh": 19, "erf": 28, "log": 25}


def test_expand_reaches_everything() -> None:
    """Nested functions, guards, shared parts; other nodes stay the same objects."""
    x = Load(Buffer("x", f32), 0)
    twice = Op("exp", Op("exp", x))
    assert FUNCTIONS.isdisjoint(operations(expand(Op("add", twice, twice))))
    plain = Op("add", x, Op("sqrt", x))
    assert expand(plain) is plain


def test_expand_reaches_into_offsets() -> None:
    """An index computed from data by a function, inside a quotient."""
    x, n = Buffer("x", f32), Symbol("n")
    index = value(Element(Cast(Op("exp", Load(x, 0)), i64), value(n)))
    expanded = expand(Load(x, (index + 1) // 2 + value(n)))
    assert "exp" not in operations(expanded)
    assert "fma" in operations(expanded)
    assert expanded.symbols == {n}


def test_expand_casts_on_request() -> None:
    x = Load(Buffer("x", f16), 0)
    narrow = Cast(Op("exp", Cast(x, f32)), bf16)
    assert any(isinstance(e, Cast) and e.dtype is bf16 for e in walk(expand(narrow)))
    assert not any(isinstance(e, Cast) and e.dtype is bf16 for e in walk(expand(narrow, lambda a, b: False)))


def test_unsupported_dtype_is_named() -> None:
    with pytest.raises(Unsupported, match="exp of f16"):
        expand(Op("exp", Load(Buffer("x", f16), 0)))
