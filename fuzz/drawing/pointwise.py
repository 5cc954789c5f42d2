"""Chains of elementwise nodes of all dtypes, with broadcasting, selections and casts."""

from __future__ import annotations

import numpy as np

from fuzz.drawing.builder import RESULTS, TYPES, Builder, Rejected, Value

SMOOTH = ["Relu", "Sigmoid", "Tanh", "Sin", "Cos", "Erf", "Softplus", "LeakyRelu", "Elu", "Selu", "HardSigmoid", "HardSwish", "Gelu", "Mish", "Softsign", "Celu", "ThresholdedRelu", "Shrink", "Abs", "Neg", "Identity", "Swish", "Asinh", "Atan", "Sinh", "Cosh"]  # fmt: skip
STEPPED = ["Floor", "Ceil", "Round", "Sign"]
ARITHMETIC = ["Add", "Sub", "Mul", "Div", "Max", "Min"]
COMPARED = ["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"]


def unary(g: Builder) -> None:
    name = g.either(*SMOOTH)
    g.out(name, g.float() if name == "Shrink" else g.number())


def guarded(g: Builder) -> None:
    """Add a function that is not defined everywhere, of numbers for which it is."""
    x = g.float()
    name = g.either("Exp", "Log", "Sqrt", "Reciprocal", "Asin", "Acos", "Atanh", "Acosh")
    one = g.constant(np.ones(()), x.dtype.name)
    if name == "Exp":
        g.out(name, g.out("Clip", x, None, one))
    elif name in ("Asin", "Acos", "Atanh"):
        half = g.constant(np.full((), 0.75), x.dtype.name)
        g.out(name, g.out("Clip", x, g.out("Neg", half), half))
    else:
        g.out(name, g.out("Add", g.out("Abs", x), one))


def stepped(g: Builder) -> None:
    g.out(g.either(*STEPPED), g.exact())


def clip(g: Builder) -> None:
    x = g.number()
    low, high = sorted((g.below(9) - 4, g.below(9) - 4))
    low = max(low, 0) if x.dtype.kind == "uint" else low
    bounds = [g.constant(np.array(v), x.dtype.name) if g.chance(0.8) else None for v in (low, max(low, high))]
    g.out("Clip", x, *bounds)


def logic(g: Builder) -> None:
    x = g.pick(lambda v: v.dtype.name == "bool")
    if g.chance(0.3):
        g.out("Not", x)
    else:
        g.out(g.either("And", "Or", "Xor"), x, partner(g, x))


def bits(g: Builder) -> None:
    x = g.pick(lambda v: v.dtype.is_integer)
    name = g.either("BitwiseNot", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift", "Mod")
    if name == "BitwiseNot":
        g.out(name, x)
    elif name == "BitShift":
        places = g.constant(g.numbers().integers(0, x.dtype.bits, ()), x.dtype.name)
        g.out(name, x, places, direction=g.either("LEFT", "RIGHT"))
    elif name == "Mod":
        y = partner(g, x)
        refuse_peers_on_division(g, x, y)
        g.out(name, x, y, fmod=g.either(0, 0, 1))
    else:
        g.out(name, x, partner(g, x))


def arithmetic(g: Builder) -> None:
    x = g.number()
    y = partner(g, x)
    name = g.either(*ARITHMETIC)
    if name == "Div" and x.dtype.is_integer:
        refuse_peers_on_division(g, x, y)
    elif name == "Div":
        y = g.out("Add", g.out("Abs", y), g.constant(np.ones(()), y.dtype.name))
    pair = (x, y) if g.chance(0.6) or name == "Div" else (y, x)
    g.out(name, *pair)


def refuse_peers_on_division(g: Builder, x: Value, y: Value) -> None:
    """Exclude other runtimes if the division crashes them: by zero, or of the smallest integer by -1. numpy and the compiler give 0
    and the integer.
    """
    least = np.iinfo(x.dtype.numpy).min
    if any(
        (b == 0).any() or ((a == least).any() and least < 0 and (b == -1).any()) for a, b in zip(x.arrays, y.arrays, strict=True)
    ):
        g.model.peers = False


def power(g: Builder) -> None:
    x = g.float()
    exponent = g.constant(np.array(g.either(0.0, 1.0, 2.0, 3.0, 0.5, -1.0)), g.either("f32", x.dtype.name))
    g.out("Pow", x if g.chance(0.3) else g.out("Add", g.out("Abs", x), g.constant(np.ones(()), x.dtype.name)), exponent)


def compared(g: Builder) -> None:
    x = g.pick(lambda v: v.is_number and all(k.is_exact for k in v.known)) if g.chance(0.8) else g.number()
    g.out(g.either(*COMPARED), x, partner(g, x))


def chosen(g: Builder) -> None:
    condition = g.pick(lambda v: v.dtype.name == "bool")
    x = g.pick(lambda v: True)
    g.out("Where", condition, x, partner(g, x))


def several(g: Builder) -> None:
    x = g.number()
    parts = [x, partner(g, x)]
    if g.chance(0.5):
        parts.append(partner(g, x))
    g.out(g.either("Sum", "Max", "Min", "Mean"), *parts)


def slope(g: Builder) -> None:
    x = g.float()
    y = partner(g, x)
    if any(np.broadcast_shapes(a, b) != a for a, b in zip(x.shapes, y.shapes, strict=True)):
        raise Rejected("a slope broadcasts one way only")
    g.out("PRelu", x, y)


def tested(g: Builder) -> None:
    g.out(g.either("IsNaN", "IsInf"), g.float())


def cast(g: Builder) -> None:
    """Add a cast between any dtypes; floats become integers only if the integers can hold them, because the standard leaves other
    casts undefined.
    """
    to = TYPES[g.either(*RESULTS)]
    x = g.exact() if to.is_integer or to.name == "bool" else g.pick(lambda v: True)
    if x.is_float and to.is_integer:
        low, high = int(np.iinfo(to.numpy).min), int(np.iinfo(to.numpy).max)
        if not x.is_finite or any(((k.wide < low) | (k.wide > high)).any() for k in x.known):
            raise Rejected("a float that no integer can hold")
    g.out("Cast", x, to=to.code)


def cast_like(g: Builder) -> None:
    x = g.number()
    other = g.pick(lambda v: v.is_float)
    g.out("CastLike", x, other)


def partner(g: Builder, x: Value) -> Value:
    """Return a second operand that broadcasts with the first: a value, or a leaf with axes of size 1 or without some axes."""
    if g.chance(0.65):
        return g.pick(lambda v: v.dtype is x.dtype and broadcasts(v, x))
    missing = g.below(x.rank + 1) if g.chance(0.4) else 0
    shapes = [1 if g.chance(0.35) else None for _ in range(x.rank)]
    held = Value(x.name, x.known, x.depth)
    if missing:
        return leaf_of_the_last_axes(g, held, shapes, missing)
    return g.like(held, shapes)


def leaf_of_the_last_axes(g: Builder, x: Value, sizes: list[int | None], missing: int) -> Value:
    """Add a leaf like x without its first axes."""
    full = g.like(x, sizes)
    axes = g.integers(*range(missing))
    index = [g.integers(*(0 for _ in range(missing))), g.integers(*(1 for _ in range(missing)))]
    return g.out("Squeeze", g.out("Slice", full, *index, axes), axes)


def broadcasts(a: Value, b: Value) -> bool:
    for one, other in zip(a.shapes, b.shapes, strict=True):
        if any(m != n and 1 not in (m, n) for m, n in zip(reversed(one), reversed(other), strict=False)):
            return False
    return True


def quantised(g: Builder) -> None:
    x = g.pick(lambda v: v.dtype.name == "f32")
    scale, zero = (
        g.constant(np.array(g.either(0.25, 0.5, 1.0), np.float32)),
        g.constant(np.array(g.either(0, 3), g.either(np.uint8, np.int8))),
    )
    q = g.out("QuantizeLinear", x, scale, zero)
    if g.chance(0.7):
        g.out("DequantizeLinear", q, scale, zero)


FAMILY = (
    (5, unary), (2, guarded), (1, stepped), (1, clip), (1, logic), (2, bits), (6, arithmetic), (1, power), (2, compared), (2, chosen),
    (1, several), (1, slope), (1, tested), (3, cast), (1, cast_like), (1, quantised),
)  # fmt: skip
