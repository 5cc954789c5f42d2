"""exp, expm1, sinh, cosh, tanh and erf in basic operations: straight-line code for f32 and f64.

The polynomials are minimax fits (Remez exchange with 45 digits, coefficients rounded one after the other), highest power
first.
"""

from __future__ import annotations

import math

from msgspec import Struct

from sardonyx.base.dtypes import f32, f64
from sardonyx.loop.floats import format_of, power_of_two
from sardonyx.loop.values import Value, fma, horner, op, where


class Exponential(Struct, frozen=True):
    """Constants of exp: e^x is 0 below `low`, and e^x / 2 overflows at `high`.

    ln 2 = ln2_high + ln2_low, where n * ln2_high is exact for every n = x / ln 2. e^r = polynomial(r) for |r| <= ln 2 / 2.
    """

    low: float
    high: float
    ln2_high: float
    ln2_low: float
    polynomial: tuple[float, ...]


EXP = {
    f32: Exponential(
        *(-104.0, 90.0, 0.693359375, -2.12194440e-4),  # ln 2 in parts: Cephes, expf.c
        (0.0013827237, 0.008368687, 0.0416682, 0.16666521, 0.49999994, 1.0, 1.0),  # 2^-28.2
    ),
    f64: Exponential(
        *(-746.0, 711.0, 6.93147180369123816490e-01, 1.90821492927058770002e-10),  # ln 2 in parts: fdlibm, e_exp.c
        (
            *(2.5002748473931165e-08, 2.7630074784810335e-07, 2.7557571080881742e-06, 2.4801493543997207e-05),
            *(0.00019841269535588466, 0.0013888888943322803, 0.00833333333347183, 0.041666666666530024),
            *(0.16666666666666474, 0.5000000000000011, 1.0, 1.0),  # 2^-57.8
        ),
    ),
}


def reduced(x: Value, offset: int) -> tuple[Value, Value]:
    """Return (n + offset as the low bits of an integer, r) with x = n ln 2 + r, |r| <= ln 2 / 2."""
    k, form = EXP[x.dtype], format_of(x)
    shifted = fma(x, math.log2(math.e), form.rounder + offset)
    n = shifted - (form.rounder + offset)
    return shifted.bits(form.integer), fma(n, -k.ln2_low, fma(n, -k.ln2_high, x))


def exp(x: Value) -> Value:
    """Compute e^x. 2^n is multiplied in two steps, so that subnormal results are rounded once and only true overflows
    overflow."""
    return scaled_exp(x, 0)


def scaled_exp(x: Value, shift: int) -> Value:
    """Compute e^x 2^shift."""
    k, form = EXP[x.dtype], format_of(x)
    x = op("min", op("max", x, k.low), k.high)
    n, r = reduced(x, 2 * form.bias + shift)
    half = n >> 1
    return horner(r, k.polynomial) * power_of_two(half, x.dtype) * power_of_two(n - half, x.dtype)


def expm1(x: Value) -> Value:
    """Compute e^x - 1 = 2 (2^(n - 1) q + (2^(n - 1) - 1/2)) with q = e^r - 1. For n = 0 only q is rounded. For tiny x the
    result is x."""
    k, form = EXP[x.dtype], format_of(x)
    bounded = op("min", op("max", x, -0.7 * (form.fraction + 3)), k.high - 1)
    n, r = reduced(bounded, form.bias - 1)
    scale = power_of_two(n, x.dtype)
    q = fma(r * r, horner(r, k.polynomial[:-2]), r)
    return where(abs(x) < 0.25 * 2.0**-form.fraction, x, fma(scale, q, scale - 0.5) * 2)


SINH = {
    f32: (0.00020373335, 0.008330271, 0.16666716),  # 2^-25.3
    f64: (
        *(7.776595667980046e-13, 1.6056659278505284e-10, 2.5052130997733678e-08, 2.7557319106760467e-06),
        *(0.00019841269841593405, 0.008333333333332912, 0.16666666666666669),  # 2^-61.8
    ),
}


def sinh(x: Value) -> Value:
    """Compute x + x^3 P(x^2) for |x| < 1, else (e^|x| - e^-|x|) / 2 with the sign of x."""
    half = scaled_exp(abs(x), -1)
    large = op("copysign", half - 0.25 / half, x)
    return where(abs(x) < 1, odd_polynomial(x, SINH[x.dtype]), large)


def cosh(x: Value) -> Value:
    half = scaled_exp(abs(x), -1)
    return half + 0.25 / half


def odd_polynomial(x: Value, coefficients: tuple[float, ...]) -> Value:
    """Compute x + x^3 P(x^2)."""
    square = x * x
    return fma(x * square, horner(square, coefficients), x)


def tanh(x: Value) -> Value:
    """Compute -E / (E + 2) with E = e^(-2 |x|) - 1, reduced as in `expm1`; the factor -2 is folded into the constants."""
    k, form = EXP[x.dtype], format_of(x)
    bounded = op("min", abs(x), 0.35 * (form.fraction + 3))
    shifted = fma(bounded, -2 * math.log2(math.e), form.rounder + form.bias)
    n = shifted - (form.rounder + form.bias)
    r = fma(n, math.log(2) / 2, bounded)
    scale = power_of_two(shifted.bits(form.integer), x.dtype)
    twisted = [c * (-2.0) ** power for power, c in enumerate(reversed(k.polynomial))][:1:-1]
    q = fma(r * r, horner(r, twisted), r * -2)
    return op("copysign", fma(scale, q, scale - 1) / fma(scale, q, scale + 1), x)


class ErrorFunction(Struct, frozen=True):
    """Constants of erf: erf(x) = x + x low(x^2) for |x| < border, then 1 - 2^high(x) up to `one`, where it rounds to 1.

    2^r = exp2(r) for |r| <= 1/2.
    """

    border: float
    one: float
    low: tuple[float, ...]
    high: tuple[float, ...]
    exp2: tuple[float, ...]


ERF = {
    f32: ErrorFunction(
        *(0.95, 4.0),
        (-0.00058621096, 0.0049675177, -0.02674887, 0.11281321, -0.37612446, 0.12837914),
        (0.00027761077, -0.0043403892, 0.031865683, -0.14952129, -0.91974273, -1.6266025, -0.00035306064),
        (0.0013276472, 0.009675541, 0.055507133, 0.2402212, 0.693147, 1.0),
    ),
    f64: ErrorFunction(
        *(1.0, 5.93),
        (
            *(-7.594092690548484e-10, 1.3610138700229376e-08, -1.6182659813389808e-07, 1.6444001129346474e-06),
            *(-1.4924455504285083e-05, 0.0001205528007071117, -0.0008548325474080266, 0.005223977596574592),
            *(-0.02686617064194706, 0.11283791670936917, -0.37612638903183343, 0.12837916709551256),
        ),
        (
            *(-7.1366409865870405e-12, 2.9604246779698015e-10, -5.6942852806087535e-09, 6.717811270848238e-08),
            *(-5.401280382235983e-07, 3.089929727083626e-06, -1.2541559616406055e-05, 3.304959571709222e-05),
            *(-2.9558614764109943e-05, -0.00019418357130492118, 0.0011107525061461753, -0.002762796214515553),
            *(0.0005911149121189778, 0.027397997755925087, -0.14817026488908844, -0.9184824092259821),
            *(-1.6278997484595437, -7.205911138663828e-07),
        ),
        (
            *(4.438823364236393e-10, 7.073239459499165e-09, 1.0178160300211237e-07, 1.3215438803949714e-06),
            *(1.5252733633442713e-05, 0.0001540353044908651, 0.0013333558146546682, 0.00961812910760158),
            *(0.05550410866482172, 0.24022650695910108, 0.6931471805599453, 1.0),
        ),
    ),
}


def erf(x: Value) -> Value:
    """Compute both formulas and select one; 1 - erfc is used only where erfc is small."""
    k, form = ERF[x.dtype], format_of(x)
    magnitude = abs(x)
    low = fma(x, horner(x * x, k.low), x)
    power = horner(op("min", magnitude, k.one), k.high)
    shifted = power + (form.rounder + form.bias)
    r = power - (shifted - (form.rounder + form.bias))
    erfc = horner(r, k.exp2) * power_of_two(shifted.bits(form.integer), x.dtype)
    return where(magnitude < k.border, low, op("copysign", 1 - erfc, x))
