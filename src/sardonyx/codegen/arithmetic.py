"""LLVM instructions for each operation of the loop IR, on one element or on a vector of lanes.

    emit(builder, fn, dtype, args)      looks the operation up in a table: for integers (signed or unsigned), floats or bools
    combine(builder, fn, dtype, a, b)   one step of a reduction, which starts from neutral(...)

Only instructions with defined results are emitted: division by zero and shifts by too many bits are selected around. A target
is assumed to have only what its feature row says: without rounding instructions floor, ceil, trunc and rint are computed by
additions, and without fma the product is computed in twice the precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from sardonyx.base.dtypes import DType
from sardonyx.base.errors import Unsupported
from sardonyx.codegen.llvm_types import F32, F64, I32, FunctionBuilder, Value, element_of, lanes_of, register_type, vector_type
from sardonyx.codegen.remainder import float_remainder

Rule = Callable[[FunctionBuilder, DType, Value, Value], Value]
PREDICATES = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def emit(w: FunctionBuilder, fn: str, dtype: DType, args: tuple[Value, ...]) -> Value:
    """Emit fn of args, which all have `dtype` (the loop IR's dtype, which tells signed from unsigned). Raises Unsupported if no
    rule covers it.
    """
    if dtype.is_float and dtype.bits < 32:
        raise Unsupported(f"no instruction computes {fn} of {dtype}: cast it to f32")
    args = w.alike(*args)
    if len(args) == 1:
        return _unary(w, fn, dtype, args[0])
    if fn == "fma":
        return fused(w, dtype, *args)
    x, y = args
    if fn in PREDICATES:
        return compare(w, fn, dtype, x, y)
    if dtype.kind == "bool":
        fn = {"min": "and", "max": "or", "add": "or", "mul": "and"}.get(fn, fn)
    rule = (FLOAT if dtype.is_float else BITS if dtype.kind == "bool" else INTEGER).get(fn)
    if rule is None:
        raise Unsupported(f"no rule computes {fn} of {dtype}")
    return wrapped(w, dtype, rule(w, dtype, x, y))


def wrapped(w: FunctionBuilder, dtype: DType, v: Value) -> Value:
    """Wrap an i8 that a sum or product has left to the value of a 4- or 2-bit integer; other dtypes are returned unchanged."""
    return narrow(w, v, dtype) if dtype.is_integer and dtype.bits < 8 else v


def narrow(w: FunctionBuilder, v: Value, dtype: DType) -> Value:
    """Take the low bits of an i8 as the value of a 4- or 2-bit integer: sign-extended or zero-extended."""
    if dtype.kind == "uint":
        return w.b.and_(v, constant(w, v, (1 << dtype.bits) - 1))
    shift = constant(w, v, 8 - dtype.bits)
    return w.b.ashr(w.b.shl(v, shift), shift)


def constant(w: FunctionBuilder, like: Value, number: float | int) -> Value:
    """Return a constant of the type of `like`, the same in each lane."""
    return w.const(like.type, number)


def compare(w: FunctionBuilder, fn: str, dtype: DType, x: Value, y: Value) -> Value:
    """Compare two values of `dtype`. For floats, ne is unordered (True for NaN), every other predicate is ordered (False for
    NaN).
    """
    b = w.b
    if dtype.is_float:
        if fn == "ne":
            return b.fcmp_unordered("!=", x, y)
        return b.fcmp_ordered(PREDICATES[fn], x, y)
    return (b.icmp_signed if dtype.kind == "int" else b.icmp_unsigned)(PREDICATES[fn], x, y)


# ---- one argument ---------------------------------------------------------------------------------------------------------


def _unary(w: FunctionBuilder, fn: str, dtype: DType, x: Value) -> Value:
    b = w.b
    if fn == "not":
        return wrapped(w, dtype, b.not_(x)) if not dtype.is_float else _refuse(fn, dtype)
    if dtype.is_float:
        if fn == "neg":
            return b.fneg(x)
        if fn in ("abs", "sqrt"):
            return w.elementwise("fabs" if fn == "abs" else "sqrt", x)
        return rounded(w, fn, x) if fn in ROUNDINGS else _refuse(fn, dtype)
    if fn == "neg":
        return wrapped(w, dtype, b.sub(w.zero(x.type), x))
    if fn == "abs":
        if dtype.kind != "int":
            return x
        negative = b.icmp_signed("<", x, w.zero(x.type))
        return wrapped(w, dtype, b.select(negative, b.sub(w.zero(x.type), x), x))
    return x if fn in ROUNDINGS else _refuse(fn, dtype)


def _refuse(fn: str, dtype: DType) -> Value:
    raise Unsupported(f"no rule computes {fn} of {dtype}")


ROUNDINGS = ("rint", "floor", "ceil", "trunc")
"""Operations that `rounded` computes; integers are left unchanged by them."""


def rounded(w: FunctionBuilder, fn: str, x: Value) -> Value:
    """Emit rint, floor, ceil or trunc of a float; the sign of a zero result is that of x.

    Without rounding instructions, adding and subtracting 2^23 (f32) or 2^52 (f64) rounds |x| to the nearest integer, which is
    then corrected by 1.
    """
    b = w.b
    if w.target.rounding:
        return w.elementwise("nearbyint" if fn == "rint" else fn, x)
    magnitude = w.elementwise("fabs", x)
    magic = constant(w, x, 2.0**23 if element_of(x.type) == F32 else 2.0**52)
    nearest = b.fsub(b.fadd(magnitude, magic), magic)  # of |x|; the sign is restored below
    one = constant(w, x, 1.0)
    if fn == "trunc":
        nearest = b.select(b.fcmp_ordered(">", nearest, magnitude), b.fsub(nearest, one), nearest)
    whole = w.elementwise("copysign", nearest, x)
    if fn in ("floor", "ceil"):
        over, step = (">", b.fsub) if fn == "floor" else ("<", b.fadd)
        whole = w.elementwise("copysign", b.select(b.fcmp_ordered(over, whole, x), step(whole, one), whole), x)
    return b.select(b.fcmp_ordered("<", magnitude, magic), whole, x)


# ---- fused multiply-add ---------------------------------------------------------------------------------------------------


def fused(w: FunctionBuilder, dtype: DType, x: Value, y: Value, z: Value) -> Value:
    """Emit x y + z, rounded once where the target has fma.

    Without fma, f32 is computed in f64, where the product is exact (the result is rounded twice, a difference of at most 2^-29
    ulp). f64 adds the product's rounding error back (within 1 ulp; if the product overflows, the result is infinite whatever z
    is).
    """
    b = w.b
    if not dtype.is_float:
        _refuse("fma", dtype)
    if w.target.fma:
        return w.elementwise("fma", x, y, z)
    if dtype.bits == 32:
        wide = vector_type(F64, lanes_of(x))
        x, y, z = (b.fpext(v, wide) for v in (x, y, z))
        return b.fptrunc(b.fadd(b.fmul(x, y), z), vector_type(F32, lanes_of(x)))
    return _fused_f64(w, x, y, z)


def _fused_f64(w: FunctionBuilder, x: Value, y: Value, z: Value) -> Value:
    """Emit x y + z of f64 by Dekker's exact product and Knuth's exact sum; if splitting x or y overflows, the plain product and
    sum.
    """
    b = w.b
    (xh, xl), (yh, yl) = _halves(w, x), _halves(w, y)
    product = b.fmul(x, y)
    error = b.fadd(b.fadd(b.fsub(b.fmul(xh, yh), product), b.fmul(xh, yl)), b.fmul(xl, yh))
    error = b.fadd(error, b.fmul(xl, yl))
    total = b.fadd(product, z)
    back = b.fsub(total, product)
    lost = b.fadd(b.fsub(product, b.fsub(total, back)), b.fsub(z, back))
    exact = b.fadd(total, b.fadd(error, lost))
    return b.select(b.fcmp_ordered("==", exact, exact), exact, total)


def _halves(w: FunctionBuilder, x: Value) -> tuple[Value, Value]:
    """Split x into a sum of two numbers of 26 bits each (Veltkamp)."""
    b = w.b
    scaled = b.fmul(x, constant(w, x, 134217729.0))  # 2^27 + 1
    high = b.fsub(scaled, b.fsub(scaled, x))
    return high, b.fsub(x, high)


# ---- two arguments --------------------------------------------------------------------------------------------------------


def _extreme(order: str, name: str) -> Rule:
    """Return the rule for min or max: of floats the result is NaN if either operand is; which of 0 and -0 is chosen is
    unspecified, as in numpy.
    """

    def rule(w: FunctionBuilder, dtype: DType, x: Value, y: Value) -> Value:
        if dtype.is_float:  # y first: the second operand, a running total, has the shorter latency
            return w.elementwise(name, y, x, flags=("nsz",))
        return w.b.select((w.b.icmp_signed if dtype.kind == "int" else w.b.icmp_unsigned)(order, x, y), x, y)

    return rule


def _divide(w: FunctionBuilder, dtype: DType, x: Value, y: Value) -> Value:
    return _quotient(w, dtype, x, y, w.b.sdiv, w.b.udiv, w.zero(x.type))


def _remainder(w: FunctionBuilder, dtype: DType, x: Value, y: Value) -> Value:
    return _quotient(w, dtype, x, y, w.b.srem, w.b.urem, w.zero(x.type))


def _quotient(
    w: FunctionBuilder, dtype: DType, x: Value, y: Value, signed: Callable[..., Value], unsigned: Callable[..., Value], zero: Value
) -> Value:
    """Emit x / y or x rem y of integers with defined results: dividing by 0 gives 0; MIN / -1 is MIN and its remainder 0."""
    b = w.b
    one = constant(w, x, 1)
    by_zero = b.icmp_unsigned("==", y, zero)
    if dtype.kind == "uint":
        return b.select(by_zero, zero, unsigned(x, b.select(by_zero, one, y)))
    negated = b.icmp_signed("==", y, constant(w, y, -1))
    safe = b.select(b.or_(by_zero, negated), one, y)
    by_minus_one = b.sub(zero, x) if signed == b.sdiv else zero
    return b.select(by_zero, zero, b.select(negated, by_minus_one, signed(x, safe)))


def _modulo(w: FunctionBuilder, dtype: DType, x: Value, y: Value) -> Value:
    """Emit the remainder of integers with the sign of the divisor."""
    b, zero = w.b, w.zero(x.type)
    rest = _remainder(w, dtype, x, y)
    if dtype.kind == "uint":
        return rest
    differs = b.icmp_signed("<", b.xor(rest, y), zero)
    return b.select(b.and_(differs, b.icmp_signed("!=", rest, zero)), b.add(rest, y), rest)


def _float_remainder(w: FunctionBuilder, dtype: DType, x: Value, y: Value) -> Value:
    return float_remainder(w, x, y)


def _float_modulo(w: FunctionBuilder, dtype: DType, x: Value, y: Value) -> Value:
    """Emit fmod corrected to the sign of the divisor; a zero remainder takes the divisor's sign."""
    b = w.b
    zero = w.zero(x.type)
    rest = float_remainder(w, x, y)
    differs = b.xor(b.fcmp_ordered("<", rest, zero), b.fcmp_ordered("<", y, zero))
    nonzero = b.fcmp_ordered("!=", rest, zero)
    moved = b.select(b.and_(differs, nonzero), b.fadd(rest, y), rest)
    return b.select(b.fcmp_ordered("==", rest, zero), w.elementwise("copysign", zero, y), moved)


def _shift(w: FunctionBuilder, dtype: DType, x: Value, y: Value, left: bool) -> Value:
    """Shift x by y. A shift by the width or more, or by a negative amount (read as unsigned), gives 0."""
    b, zero = w.b, w.zero(x.type)
    inside = b.icmp_unsigned("<", y, constant(w, y, 8 * dtype.itemsize))
    move = b.shl if left else b.lshr if dtype.kind == "uint" else b.ashr
    return b.select(inside, move(x, b.select(inside, y, zero)), zero)


def _plain(name: str) -> Rule:
    """Return the rule for an operation that is one instruction."""

    def rule(w: FunctionBuilder, dtype: DType, x: Value, y: Value) -> Value:
        return getattr(w.b, name)(x, y)

    return rule


def _copysign(w: FunctionBuilder, dtype: DType, x: Value, y: Value) -> Value:
    return w.elementwise("copysign", x, y)


BITS: dict[str, Rule] = {"and": _plain("and_"), "or": _plain("or_"), "xor": _plain("xor")}
INTEGER: dict[str, Rule] = {
    **BITS,
    "add": _plain("add"),
    "sub": _plain("sub"),
    "mul": _plain("mul"),
    "div": _divide,
    "rem": _remainder,
    "mod": _modulo,
    "min": _extreme("<", "minimum"),
    "max": _extreme(">", "maximum"),
    "shl": lambda w, dtype, x, y: _shift(w, dtype, x, y, left=True),
    "shr": lambda w, dtype, x, y: _shift(w, dtype, x, y, left=False),
}
FLOAT: dict[str, Rule] = {
    "add": _plain("fadd"),
    "sub": _plain("fsub"),
    "mul": _plain("fmul"),
    "div": _plain("fdiv"),
    "rem": _float_remainder,
    "mod": _float_modulo,
    "min": _extreme("<", "minimum"),
    "max": _extreme(">", "maximum"),
    "copysign": _copysign,
}


# ---- reductions -----------------------------------------------------------------------------------------------------------


def neutral(w: FunctionBuilder, fn: str, dtype: DType, lanes: int | None) -> Value:
    """Return the neutral element of a reduction: 0 for add, 1 for mul, the greatest value for min, the least for max, all bits for
    and.
    """
    t = vector_type(register_type(dtype), lanes)
    return w.const(t, neutral_number(fn, dtype))


def neutral_number(fn: str, dtype: DType) -> float | int | bool:
    if fn in ("min", "max"):
        if dtype.is_float:
            return math.inf if fn == "min" else -math.inf
        if dtype.kind == "bool":
            return fn == "min"
        low, high = (-(1 << dtype.bits - 1), (1 << dtype.bits - 1) - 1) if dtype.kind == "int" else (0, (1 << dtype.bits) - 1)
        return high if fn == "min" else low
    if dtype.kind == "bool":
        return fn in ("and", "mul")
    number = {"add": 0, "mul": 1, "and": -1, "or": 0, "xor": 0}[fn]
    return float(number) if dtype.is_float else number


def combine(w: FunctionBuilder, fn: str, dtype: DType, total: Value, v: Value, mask: Value | None) -> Value:
    """Emit fn(total, v) in a vector loop that accumulates. Lanes where the mask is false keep their total."""
    if mask is not None:
        lanes = lanes_of(mask)
        assert lanes is not None
        v = w.b.select(mask, w.splat(v, lanes), neutral(w, fn, dtype, lanes))
    return accumulate(w, fn, dtype, total, v)


def accumulate(w: FunctionBuilder, fn: str, dtype: DType, total: Value, v: Value) -> Value:
    """Emit fn(total, v) in as many lanes as total has; v itself if total is still the neutral element."""
    lanes = lanes_of(total)
    if total is neutral(w, fn, dtype, lanes):
        return v if lanes is None else w.splat(v, lanes)
    return emit(w, fn, dtype, (total, v))


def across_lanes(w: FunctionBuilder, fn: str, dtype: DType, v: Value) -> Value:
    """Reduce the lanes of v to one value: combine both halves, then both quarters, and so on."""
    w = w
    lanes = lanes_of(v)
    assert lanes is not None
    while lanes > 2:
        lanes //= 2
        v = emit(w, fn, dtype, (w.permute(v, range(lanes)), w.permute(v, range(lanes, 2 * lanes))))
    first, second = (w.b.extract_element(v, w.const(I32, i)) for i in (0, 1))
    return emit(w, fn, dtype, (first, second))
