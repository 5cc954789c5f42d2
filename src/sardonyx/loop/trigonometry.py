"""sin, cos, tan and their inverses in basic operations: straight-line code for f32 and f64, for arguments of any size.

|x| is reduced in integers, after Payne and Hanek (1983). With x = m 2^e, only the bits of m 2^e (2 / pi) of weight 2 and
below matter, and three words of 2 / pi determine them. These words are selected by e; the selection is built of selects
between constants. The polynomials are minimax fits (Remez exchange with 45 digits, coefficients rounded one after the other),
highest power first.
"""

from __future__ import annotations

import math

from msgspec import Struct

from sardonyx.base.dtypes import DType, f32, f64, i32, i64, u32, u64
from sardonyx.loop.exponentials import odd_polynomial
from sardonyx.loop.floats import INFINITY, NAN, format_of, ordered_sum, two_product
from sardonyx.loop.values import Value, constant, fma, horner, op, where

# the first 1280 fraction bits of 2 / pi
TWO_OVER_PI = (
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921cfe1deb1cb129a73e"
    "e88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b7"
    "4f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6babf0cfbc209af4361d"
)


class Trigonometry(Struct, frozen=True):
    """Constants: `word` and `integer` are the unsigned and signed integers of the float's width; half_pi is pi / 2 as a sum
    of two floats.

    Polynomials on [0, pi / 4]: sin, tan as x + x^3 P(x^2), cos as 1 - x^2 / 2 + x^4 P(x^2). asin on [0, 1 / 2] and atan on
    [0, tan(pi / 8)] have the form of sin.
    """

    word: DType
    integer: DType
    half_pi: tuple[float, float]
    sin: tuple[float, ...]
    cos: tuple[float, ...]
    tan: tuple[float, ...]
    asin: tuple[float, ...]
    atan: tuple[float, ...]


TABLE = {
    f32: Trigonometry(
        *(u32, i32, (1.5707964, -4.371139e-08)),
        sin=(-0.00019518285, 0.008332189, -0.16666655),
        cos=(2.4432327e-05, -0.001388731, 0.041666646),
        tan=(0.004372725, 9.820984e-05, 0.010827458, 0.021286206, 0.054058913, 0.13332675, 0.3333335),
        asin=(0.042166412, 0.024180774, 0.045469772, 0.074953064, 0.16666752),
        atan=(-0.0608996, 0.105991445, -0.1424439, 0.19998528, -0.33333316),
    ),
    f64: Trigonometry(
        *(u64, i64, (1.5707963267948966, 6.123233995736766e-17)),
        sin=(
            *(1.5895433214897693e-10, -2.5050734388180636e-08, 2.7557313538509084e-06),
            *(-0.0001984126982935852, 0.00833333333332184, -0.1666666666666663),
        ),
        cos=(
            *(-1.1358732904537269e-11, 2.087570511695694e-09, -2.755731421530909e-07),
            *(2.48015872889975e-05, -0.0013888888888873338, 0.041666666666666595),
        ),
        tan=(
            *(9.705948699096964e-06, -2.385422289669376e-05, 4.7785115294886855e-05, -2.460935226057114e-05),
            *(6.640669653941434e-05, 8.401028598602833e-05, 0.0002435728066454544, 0.0005889152245637966),
            *(0.001456035245328533, 0.003592102359404794, 0.008863237776949452, 0.021869488408665254),
            *(0.05396825397254081, 0.13333333333326075, 0.33333333333333376),
        ),
        asin=(
            *(0.031934174148892845, -0.01625559005783252, 0.01954782407617692, 0.006520985810324878),
            *(0.012170789259496674, 0.013885001444621752, 0.017359727769328648, 0.022371756575103107),
            *(0.030381959196132048, 0.04464285682696029, 0.07500000000338573, 0.16666666666665403),
        ),
        atan=(
            *(-0.017906300674231046, 0.03806362717865641, -0.05039264306417023, 0.05847879691492718),
            *(-0.06663102676319592, 0.07692060095466982, -0.09090897751722299, 0.11111110783318388),
            *(-0.14285714280196754, 0.19999999999953655, -0.333333333333332),
        ),
    ),
}


def sin(x: Value) -> Value:
    quadrant, r, _ = reduced(x)
    sine, cosine = near_zero(r)
    found = where((quadrant & 1) != 0, cosine, sine)
    return finite(x, flipped(flipped(found, quadrant >> 1), sign_of(x)))


def cos(x: Value) -> Value:
    quadrant, r, _ = reduced(x)
    sine, cosine = near_zero(r)
    found = where((quadrant & 1) != 0, sine, cosine)
    return finite(x, flipped(found, (quadrant + 1) >> 1))


def tan(x: Value) -> Value:
    quadrant, r, rest = reduced(x)
    cubic = r * (r * r) * horner(r * r, TABLE[x.dtype].tan)
    rough = r + cubic
    tangent, low = ordered_sum(r, cubic + fma(rough * rough, rest, rest))  # tan' = 1 + tan^2
    cotangent = 1 / tangent
    lost = fma(-cotangent, tangent, 1) - cotangent * low
    found = where((quadrant & 1) != 0, -fma(cotangent, lost, cotangent), tangent)
    return finite(x, flipped(found, sign_of(x)))


def near_zero(r: Value) -> tuple[Value, Value]:
    """Return (sin, cos) for |r| <= pi / 4."""
    k = TABLE[r.dtype]
    square = r * r
    cosine = fma(square, fma(square, horner(square, k.cos), -0.5), 1)
    return odd_polynomial(r, k.sin), cosine


def finite(x: Value, inner: Value) -> Value:
    """Return `inner` for finite x, else NaN."""
    return where(abs(x) < INFINITY, inner, NAN)


def sign_of(x: Value) -> Value:
    """Return 1 for negative numbers and -0, else 0."""
    return x.bits(TABLE[x.dtype].word) >> (x.dtype.bits - 1)


def flipped(x: Value, negative: Value) -> Value:
    """Return -x where the lowest bit of `negative`, an integer of equal width, is 1; else x."""
    return (x.bits(negative.dtype) ^ (negative << (x.dtype.bits - 1))).bits(x.dtype)


# ---- reduction ----------------------------------------------------------------------------------------------------------


def reduced(x: Value) -> tuple[Value, Value, Value]:
    """Return (q, r, rest) with |x| = q pi / 2 + r + rest and |r| <= pi / 4; q is modulo 4."""
    k, form, width = TABLE[x.dtype], format_of(x), x.dtype.bits
    a = abs(x)
    bits = a.bits(k.word)
    exponent = (bits >> form.fraction) - (form.bias + form.fraction)
    mantissa = (bits & ((1 << form.fraction) - 1)) | (1 << form.fraction)
    high, low = product_modulo_4(mantissa, window(exponent + (width - 2)))
    quadrant = (high + (1 << (width - 3))) >> (width - 2)
    r, rest = fraction(high - (quadrant << (width - 2)), low, x.dtype)
    small = a < math.pi / 4
    zero = constant(0, x.dtype)
    return where(small, constant(0, k.word), quadrant), where(small, a, r), where(small, zero, rest)


def window(start: Value) -> list[Value]:
    """Select three words of 2 / pi from bit `start` on; a word of zeros precedes the first bit."""
    width = start.dtype.bits
    digits = width // 4
    words = [0, *(int(TWO_OVER_PI[i : i + digits], 16) for i in range(0, len(TWO_OVER_PI), digits))]
    needed, step = 4, 4 if width == 32 else 16  # words to keep at the end, and the highest bit of the word's number
    found = [constant(w, start.dtype) for w in words]
    while step:
        chosen = ((start >> (width.bit_length() - 1)) & step) != 0
        last = len(found) - 1  # words beyond the last are never selected
        found = [where(chosen, found[min(i + step, last)], found[i]) for i in range(min(needed + step - 1, len(found)))]
        step //= 2
    shift = start & (width - 1)
    return [(found[i] << shift) | (found[i + 1] >> (width - shift)) for i in range(3)]


def product_modulo_4(m: Value, words: list[Value]) -> tuple[Value, Value]:
    """Return the two highest words of m times the three words, modulo 4: two bits stand before the point."""
    low = m * words[1]
    total = low + high_product(m, words[2])
    carry = (total < low).cast(m.dtype)
    return m * words[0] + high_product(m, words[1]) + carry, total


def high_product(a: Value, b: Value) -> Value:
    """Return the upper word of a * b."""
    if a.dtype is u32:
        return ((a.cast(u64) * b.cast(u64)) >> 32).cast(u32)
    low = (1 << 32) - 1
    a1, a0, b1, b0 = a >> 32, a & low, b >> 32, b & low
    middle = a1 * b0 + ((a0 * b0) >> 32)
    other = a0 * b1 + (middle & low)
    return a1 * b1 + (middle >> 32) + (other >> 32)


def fraction(high: Value, low: Value, dtype: DType) -> tuple[Value, Value]:
    """Return (high.low) * pi / 2 as a sum of two floats, where high.low is a signed number with two bits before the point."""
    k, width = TABLE[dtype], dtype.bits
    mask = (high.bits(k.integer) >> (width - 1)).bits(k.word)
    whole, rest = (high ^ mask).bits(k.integer), ((low ^ mask) >> 1).bits(k.integer)
    a = whole.cast(dtype)
    b = fma(rest.cast(dtype), 2.0 ** (1 - width), (whole - a.cast(k.integer)).cast(dtype))
    scale, scale_low = (part * 2.0 ** (2 - width) for part in k.half_pi)
    product, error = two_product(a, constant(scale, dtype))
    error = fma(b, scale, fma(a, scale_low, error))
    total = product + error
    return flipped(total, mask), flipped(error - (total - product), mask)


# ---- inverse functions --------------------------------------------------------------------------------------------------


def asin(x: Value) -> Value:
    """Compute asin; for a = |x| > 1 / 2 as pi / 2 - 2 asin(sqrt((1 - a) / 2))."""
    high, low = TABLE[x.dtype].half_pi
    base, rest, large = arcsine(abs(x))
    total, lost = ordered_sum(high, base * -2)
    beyond = total + (lost - fma(rest, 2, -low))
    return op("copysign", where(large, beyond, base + rest), x)


def acos(x: Value) -> Value:
    """Compute 2 asin(sqrt((1 - x) / 2)) for x > 1 / 2, pi minus the value at -x for x < -1 / 2, and pi / 2 - asin(x) between."""
    high, low = TABLE[x.dtype].half_pi
    base, rest, large = arcsine(abs(x))
    found = base + rest
    beyond = where(x > 0, found, high - (found - low)) * 2
    return where(large, beyond, high - (op("copysign", found, x) - low))


def arcsine(a: Value) -> tuple[Value, Value, Value]:
    """Return (b, c, large): b + c is asin(a) or, where `large` (a > 1 / 2), asin(sqrt((1 - a) / 2)). a >= 0."""
    large = a > 0.5
    square = where(large, (1 - a) * 0.5, a * a)
    base = where(large, op("sqrt", square), a)
    return base, base * square * horner(square, TABLE[a.dtype].asin), large


def atan(x: Value) -> Value:
    """Compute atan: for a = |x| from tan(3 pi / 8) on, pi / 2 + atan(-1 / a); from tan(pi / 8) on, pi / 4 + atan((a - 1) / (a
    + 1))."""
    k, a = TABLE[x.dtype], abs(x)
    zero, one = constant(0, x.dtype), constant(1, x.dtype)
    large, middle = a > math.tan(3 * math.pi / 8), a > math.tan(math.pi / 8)
    above = where(large, -one, where(middle, a - 1, a))
    below = where(large, a, where(middle, a + 1, one))
    high, low = (where(large, constant(part, x.dtype), where(middle, constant(part / 2, x.dtype), zero)) for part in k.half_pi)
    t = above / below
    square = t * t
    found = high + (t + fma(t * square, horner(square, k.atan), low))
    return op("copysign", found, x)
