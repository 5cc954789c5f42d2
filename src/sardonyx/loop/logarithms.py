"""log, log1p, asinh, acosh, atanh and pow in basic operations: straight-line code for f32 and f64.

The polynomials are minimax fits (Remez exchange with 45 digits, coefficients rounded one after the other), highest power
first.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from msgspec import Struct

from sardonyx.base.dtypes import f32, f64
from sardonyx.loop.exponentials import ERF, EXP
from sardonyx.loop.floats import INFINITY, NAN, format_of, ordered_sum, power_of_two, two_product, two_sum
from sardonyx.loop.nodes import Const
from sardonyx.loop.values import Value, constant, fma, horner, op, where

LOG_F32 = (  # log(1 + f) = f - f^2 / 2 + f^3 P(f) on [sqrt(1/2) - 1, sqrt(2) - 1], 2^-29.8
    *(0.06772323, -0.116721645, 0.11875664, -0.12406302, 0.14221331),
    *(-0.16667902, 0.2000203, -0.25000015, 0.33333313),
)
LOG_F64 = (  # log((1 + s) / (1 - s)) = 2 s + s z P(z) with z = s^2, s = f / (2 + f), 2^-59.5
    *(0.1479585994616073, 0.15314064508091943, 0.18183563545559372, 0.22222198593908232),
    *(0.28571428742110966, 0.3999999999941642, 0.6666666666666734),
)


def log(x: Value) -> Value:
    return log_cases(x, positive_log(x))


def log_cases(x: Value, inner: Value) -> Value:
    """Return `inner` for 0 < x < infinity, else the value that IEEE 754 defines for log."""
    finite = where(x < INFINITY, inner, x)
    return where(x <= 0, where(x == 0, constant(-INFINITY, x.dtype), NAN), finite)


def positive_log(x: Value, shift: Value | None = None) -> Value:
    """Compute log(x 2^shift) for 0 < x < infinity."""
    k = EXP[x.dtype]
    n, f = significand(x)
    n = n if shift is None else n + shift
    if x.dtype is f32:
        low = f * f * fma(f, horner(f, LOG_F32), -0.5)
    else:
        s = f / (f + 2)
        half = f * f * 0.5
        low = fma(s, fma(s * s, horner(s * s, LOG_F64), half), -half)
    return fma(n, k.ln2_high, f + fma(n, k.ln2_low, low))


def significand(x: Value) -> tuple[Value, Value]:
    """Return floats (n, f) with x = 2^n (1 + f), f in [sqrt(1/2) - 1, sqrt(2) - 1), for 0 < x < infinity."""
    form = format_of(x)
    tiny = x < form.smallest
    bits = where(tiny, x * 2.0**form.fraction, x).bits(form.integer)
    n = bits - root_half_bits(form.fraction, form.bias) >> form.fraction
    m = (bits - (n << form.fraction)).bits(x.dtype)
    return n.cast(x.dtype) - where(tiny, constant(form.fraction, x.dtype), 0), m - 1


def root_half_bits(fraction: int, bias: int) -> int:
    """Return the bits of sqrt(1/2)."""
    return (bias - 1 << fraction) + int((math.sqrt(0.5) * 2 - 1) * 2.0**fraction)


def log1p(x: Value) -> Value:
    inner = op("copysign", log_in_parts(*two_sum(constant(1, x.dtype), x)), x)
    finite = where(x < INFINITY, inner, x)
    return where(x <= -1, where(x == -1, constant(-INFINITY, x.dtype), NAN), finite)


def one_plus(high: Value, low: Value) -> tuple[Value, Value]:
    """Return 1 + high + low as an unevaluated sum of two floats."""
    total, lost = two_sum(constant(1, high.dtype), high)
    return total, lost + low


def log_in_parts(high: Value, low: Value, shift: Value | None = None) -> Value:
    """Compute log((high + low) 2^shift) for a positive finite sum with a small low part."""
    return positive_log(high, shift) + low / high


def log_or_doubled(high: Value, low: Value, large: Value, x: Value) -> Value:
    """Compute log(high + low), but log(2 x) where `large` is true."""
    zero = constant(0, x.dtype)
    return log_in_parts(where(large, x, high), where(large, zero, low), where(large, constant(1, x.dtype), zero))


def asinh(x: Value) -> Value:
    """Compute log(1 + a + a^2 / (1 + sqrt(1 + a^2))) with a = |x|, or log(2 a) where 1 is negligible beside a^2; with the
    sign of x."""
    a = abs(x)
    square = a * a
    parts = one_plus(*two_sum(a, square / (op("sqrt", square + 1) + 1)))
    inner = log_or_doubled(*parts, a > 2.0 ** (format_of(x).fraction // 2 + 3), a)
    return op("copysign", where(a < INFINITY, inner, a), x)


def acosh(x: Value) -> Value:
    """Compute log(1 + t + sqrt(t (t + 2))) with t = x - 1, or log(2 x) where 1 is negligible beside x^2."""
    t = x - 1
    square = fma(t, t, t * 2)
    root = op("sqrt", square)
    lost = fma(-root, root, square) / fma(root, 2, format_of(x).smallest)
    high, low = two_sum(root, t)
    inner = log_or_doubled(*one_plus(high, low + lost), x > 2.0 ** (format_of(x).fraction // 2 + 3), x)
    return where(x < 1, constant(NAN, x.dtype), where(x < INFINITY, inner, x))


def atanh(x: Value) -> Value:
    """Compute log(1 + 2 a / (1 - a)) / 2 with a = |x|, the quotient as a sum of two floats; with the sign of x."""
    a = abs(x)
    rest = 1 - a
    lost = (1 - rest) - a
    high = a * 2 / rest
    product, error = two_product(high, rest)
    low = ((a * 2 - product) - error - high * lost) / rest
    inner = op("copysign", log_in_parts(*one_plus(high, low)) * 0.5, x)
    return where(a < 1, inner, where(a == 1, op("copysign", constant(INFINITY, x.dtype), x), NAN))


# ---- pow ----------------------------------------------------------------------------------------------------------------


class Power(Struct, frozen=True):
    """Constants of pow: atanh(s) = s (1 + z (1/3 + z P(z))) with z = s^2, and 2^r = exp2(r) for |r| <= 1/2.

    scale, third: 2 / ln 2 and 1/3 as sums of two floats. limit: beyond 2^limit and below 2^-limit everything over- or
    underflows.
    """

    limit: float
    scale: tuple[float, float]
    third: tuple[float, float]
    atanh: tuple[float, ...]
    exp2: tuple[float, ...]


POW = {
    f32: Power(
        *(160.0, (2.88539, 3.851926e-08), (0.33333334, -9.934108e-09)),
        (0.117098175, 0.14273545, 0.20000076),  # 2^-36.8
        (0.0001537489, 0.0013388997, 0.009618262, 0.05550364, 0.2402265, 0.6931472, 1.0),  # 2^-28.1
    ),
    f64: Power(
        *(1200.0, (2.8853900817779268, 4.0710547481862066e-17), (0.3333333333333333, 1.850371707708594e-17)),
        (
            *(0.06598217858596853, 0.06628403670069027, 0.07693378861138311, 0.09090892180039023),
            *(0.11111111259991478, 0.14285714285049694, 0.20000000000001128),  # 2^-66.3
        ),
        ERF[f64].exp2,
    ),
}


def log2_in_parts(x: Value) -> tuple[Value, Value]:
    """Compute log2(x) for 0 < x < infinity as a sum of two floats, with a relative error of about 2^-33 (f32) or 2^-66 (f64)."""
    k = POW[x.dtype]
    n, f = significand(x)
    divisor, lost = ordered_sum(constant(2, x.dtype), f)
    reciprocal = 1 / divisor
    s = f * reciprocal
    product, error = two_product(s, divisor)
    s_low = ((f - product) - error - s * lost) * reciprocal
    z, z_low = two_product(s, s)
    z_low = fma(s * 2, s_low, z_low)
    p, p_low = ordered_sum(constant(k.third[0], x.dtype), z * horner(z, k.atanh))
    w, w_low = two_product(z, p)
    w_low = fma(z, p_low + k.third[1], fma(z_low, p, w_low))
    v, v_low = two_product(s, w)
    v_low = fma(s, w_low, fma(s_low, w, v_low)) + s_low
    high, low = ordered_sum(s, v)
    log, log_low = two_product(high, constant(k.scale[0], x.dtype))
    log_low = fma(high, k.scale[1], fma(low + v_low, k.scale[0], log_low))
    total, rest = ordered_sum(n, log)
    return total, rest + log_low


def power_of_magnitude(x: Value, y: Value) -> Value:
    """Compute |x|^y, for 0 and infinities too; NaN where y log2 |x| is 0 times infinity."""
    k, form = POW[x.dtype], format_of(x)
    a = abs(x)
    high, low = log2_in_parts(a)
    high = where(a == 0, constant(-INFINITY, x.dtype), where(a < INFINITY, high, a))
    product, error = two_product(y, high)
    inside = abs(product) < k.limit
    error = where(inside, fma(y, low, error), 0)
    product = op("min", op("max", product, -k.limit), k.limit)
    offset = form.rounder + 2 * form.bias
    shifted = product + offset
    r = (product - (shifted - offset)) + error
    field = shifted.bits(form.integer)
    half = field >> 1
    return horner(r, k.exp2) * power_of_two(half, x.dtype) * power_of_two(field - half, x.dtype)


def square_root(x: Value) -> Value:
    """Compute pow(x, 0.5), which differs from sqrt at -0 and -infinity."""
    return where(x == -INFINITY, constant(INFINITY, x.dtype), op("sqrt", x + 0))


SIMPLE_POWERS: dict[float, Callable[[Value], Value]] = {
    0.0: lambda x: constant(1, x.dtype),
    1.0: lambda x: x,
    2.0: lambda x: x * x,
    3.0: lambda x: x * x * x,
    4.0: lambda x: (x * x) * (x * x),
    0.5: square_root,
    -0.5: lambda x: 1 / square_root(x),
    -1.0: lambda x: 1 / x,
    -2.0: lambda x: (1 / x) * (1 / x),
}


def pow(x: Value, y: Value) -> Value:  # noqa: A001
    """Compute x^y with the special cases of C99's annex F.9.4.4. For some constant y, products or a root suffice."""
    simple = SIMPLE_POWERS.get(y.expr.value) if isinstance(y.expr, Const) else None
    if simple is not None:
        return simple(x)
    half = y * 0.5
    whole = op("trunc", y) == y
    odd = whole & (op("trunc", half) != half)
    magnitude = where((abs(x) == 1) & (y == y), constant(1, x.dtype), power_of_magnitude(x, y))
    signed = where(odd, op("copysign", magnitude, x), magnitude)
    real = where((x < 0) & (x > -INFINITY) & ~whole, constant(NAN, x.dtype), signed)
    return where((x == 1) | (y == 0), constant(1, x.dtype), real)
