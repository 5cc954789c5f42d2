"""Arithmetic on sizes in every dtype, and nodes that take a computed size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import helper

from fuzz.drawing.builder import TYPES, Builder, Rejected, Value

MOST = 24  # the largest size that may be computed
FLOATS = ("f32", "f32", "f64", "f16", "bf16")
INTEGERS = ("i32", "i32", "i8", "u8", "i16", "u32", "u64")


def size(g: Builder) -> Value:
    """Return a number that depends on a size or on data, or is constant: i64[] or i64[1], not negative and not large for any feeds."""
    found = [v for v in g.visible() if is_size(v)]
    if found and g.chance(0.3):
        return g.among(found)
    x = start(g)
    for _ in range(g.either(0, 1, 1, 2, 3)):
        x = computed(g, x)
    if not is_size(x):
        bound = g.constant(np.full((), MOST // 2), "i64")
        x = (
            g.out("Mod", g.out("Abs", x), bound)
            if g.chance(0.5)
            else g.out("Max", g.out("Min", x, bound), g.constant(np.zeros(()), "i64"))
        )
    if not is_size(x):
        raise Rejected("not a size")
    return x


def is_size(v: Value) -> bool:
    return v.dtype.name == "i64" and all(x.size == 1 and x.ndim < 2 and 0 <= x.reshape(-1)[0] <= MOST for x in v.arrays)


def start(g: Builder) -> Value:
    """Return i64[] or i64[1]: the size of an axis, a number of elements, an element of integers, or a constant."""
    kind = g.below(10)
    if kind < 5:
        x = g.number(1)
        axis = g.below(x.rank)
        if g.chance(0.3):
            return g.out("Shape", x, start=axis, end=axis + 1)
        shape = g.out("Shape", x)
        if g.chance(0.3):
            return g.out("Slice", shape, g.integers(axis), g.integers(axis + 1), g.integers(0))
        return g.out("Gather", shape, g.constant(np.array(axis if g.chance(0.7) else axis - x.rank, np.int64)), axis=0)
    if kind < 6:
        return g.out("Size", g.number())
    if kind < 8:
        x = g.pick(lambda v: v.dtype.is_integer and v.least > 0 and all(k.is_exact for k in v.known))
        one = g.out("Gather", g.out("Reshape", x, g.integers(-1)), g.integers(g.either(0, -1)))
        return one if one.dtype.name == "i64" else g.out("Cast", one, to=TYPES["i64"].code)
    if kind < 9:
        x = g.exact(1)
        counted = g.out(
            "Cast",
            g.out("Not", g.out("Equal", x, x)) if x.is_float and g.chance(0.2) else g.out("Cast", x, to=TYPES["bool"].code),
            to=TYPES["i64"].code,
        )
        return g.out("ReduceSum", counted, keepdims=0)
    return g.constant(np.full(g.either((), (1,)), g.below(8)), "i64")


def computed(g: Builder, x: Value) -> Value:
    """Apply one operation, in a random dtype: floats of all precisions, integers that wrap around, comparisons."""
    kind = g.below(10)
    if kind < 4:
        return in_floats(g, x, g.either(*FLOATS))
    if kind < 6:
        return in_integers(g, x, g.either(*INTEGERS))
    if kind < 9:
        return in_integers(g, x, "i64")
    compared = g.out(g.either("Greater", "Less", "Equal"), x, g.constant(np.array(g.below(9), np.int64)))
    return g.out("Where", compared, *g.random.sample([x, g.constant(np.array(g.below(6), np.int64))], 2))


def in_floats(g: Builder, x: Value, dtype: str) -> Value:
    y = g.out("Cast", x, to=TYPES[dtype].code)
    for _ in range(g.either(1, 1, 2)):
        factor = g.constant(np.array(g.either(0.5, 0.7, 2.0, 3.0, 1.5, 0.1, 0.33)), dtype)
        y = g.out(g.either("Mul", "Div", "Add", "Sub"), y, factor)
    if g.chance(0.2):
        y = g.out("Sqrt", g.out("Abs", y))
    if g.chance(0.7):
        y = g.out(g.either("Floor", "Ceil", "Round"), y)
    limit = 120 if dtype != "f64" else 1000
    if not y.is_finite or any((np.abs(k.wide) > limit).any() for k in y.known) or not all(k.is_exact for k in y.known):
        raise Rejected("rounding decides, or too large")
    return g.out("Cast", y, to=TYPES["i64"].code)


def in_integers(g: Builder, x: Value, dtype: str) -> Value:
    y = x if dtype == "i64" else g.out("Cast", x, to=TYPES[dtype].code)
    name = g.either("Mul", "Div", "Add", "Sub", "Mod", "Neg", "Abs", "Max", "Min")
    if name in ("Neg", "Abs"):
        y = g.out(name, y)
    else:
        number = g.either(2, 3, 4, 5, 7) if name in ("Div", "Mod") else g.either(1, 2, 3, 8, 37)
        sign = g.either(1, 1, 1, -1) if not dtype.startswith("u") else 1
        y = g.out(name, y, g.constant(np.array(sign * number), dtype))
    return y if dtype == "i64" else g.out("Cast", y, to=TYPES["i64"].code)


# ---- what takes a size --------------------------------------------------------------------------------------------------------


def as_vector(g: Builder, x: Value) -> Value:
    return x if x.rank == 1 else g.out("Unsqueeze", x, g.integers(0)) if g.chance(0.5) else g.out("Reshape", x, g.integers(1))


def as_scalar(g: Builder, x: Value) -> Value:
    return x if x.rank == 0 else g.out("Squeeze", x) if g.chance(0.5) else g.out("Reshape", x, g.constant(np.zeros(0), "i64"))


def vector(g: Builder) -> Value:
    """Return i64[r] of sizes."""
    parts = [as_vector(g, size(g)) for _ in range(g.either(1, 1, 2, 2, 3))]
    return g.out("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]


def filled(g: Builder) -> None:
    number = np.array([g.either(0, 1, 3)]).astype(TYPES[g.either("f32", "f32", "i64", "bool")].numpy)
    g.out(
        "ConstantOfShape",
        vector(g),
        value=helper.make_tensor("value", TYPES[name_of(number)].code, [1], number.tobytes(), raw=True),
    )


def name_of(array: np.ndarray) -> str:  # type: ignore[type-arg]
    return next(name for name, dtype in TYPES.items() if dtype.onnx_name not in ("string",) and dtype.numpy == array.dtype)


def counted(g: Builder) -> None:
    dtype = g.either("i64", "i64", "i32", "f32")
    end = as_scalar(g, size(g))
    start, step = g.constant(np.zeros(()), "i64"), g.constant(np.ones(()), "i64")
    if g.chance(0.3):
        start, end, step = end, start, g.constant(np.array(-g.either(1, 2)), "i64")
    ends = [v if dtype == "i64" else g.out("Cast", v, to=TYPES[dtype].code) for v in (start, end, step)]
    g.out("Range", *ends)


def expanded(g: Builder) -> None:
    x = g.pick(lambda v: any(all(s[a] == 1 for s in v.shapes) for a in range(v.rank)) or v.rank == 0)
    axes = [as_vector(g, size(g)) if all(s[a] == 1 for s in x.shapes) else g.integers(1) for a in range(x.rank)]
    more = [as_vector(g, size(g))] if g.chance(0.3) or not axes else []
    parts = [*more, *axes]
    g.out("Expand", x, g.out("Concat", *parts, axis=0) if len(parts) > 1 else parts[0])


def reshaped(g: Builder) -> None:
    x = g.pick(lambda v: v.rank > 0)
    n = as_vector(g, size(g))
    if any(int(b.reshape(-1)[0]) == 0 or a.size % int(b.reshape(-1)[0]) for a, b in zip(x.arrays, n.arrays, strict=True)):
        raise Rejected("does not divide")
    parts = [n, g.integers(-1)]
    g.random.shuffle(parts)
    g.out("Reshape", x, g.out("Concat", *parts, axis=0))


def like_another(g: Builder) -> None:
    """Add a value in the shape of another, or in its own with one axis more or fewer, as exporters write it."""
    x = g.pick(lambda v: v.rank > 0)
    shape = g.out("Shape", x)
    kind = g.below(3)
    if kind == 0:
        g.out("Reshape", x, g.out("Concat", g.out("ReduceProd", shape, keepdims=1), g.integers(1), axis=0))
    elif kind == 1:
        first = g.out("Slice", shape, g.integers(0), g.integers(-1))
        g.out("Reshape", x, g.out("Concat", first, g.integers(1, -1), axis=0))
    else:
        other = g.pick(lambda v: v.rank <= x.rank)
        g.out("Expand", other, shape)


def sliced(g: Builder) -> None:
    x = g.number(1)
    n = as_vector(g, size(g))
    axis = g.integers(g.below(x.rank))
    kind = g.below(4)
    if kind == 0:
        g.out("Slice", x, g.integers(0), n, axis)
    elif kind == 1:
        g.out("Slice", x, n, g.integers(np.iinfo(np.int64).max), axis)
    elif kind == 2:
        g.out("Slice", x, g.out("Neg", n), g.integers(np.iinfo(np.int64).max), axis)
    else:
        g.out("Slice", x, n, g.out("Add", n, g.integers(g.either(1, 2))), axis)


def repeated(g: Builder) -> None:
    x = g.number(1)
    parts = [as_vector(g, size(g)) if g.chance(0.5) else g.integers(1) for _ in range(x.rank)]
    g.out("Tile", x, g.out("Concat", *parts, axis=0) if len(parts) > 1 else parts[0])


def padded(g: Builder) -> None:
    x = g.float(1, 2)
    n = as_vector(g, size(g))
    parts = [n if g.chance(0.5) else g.integers(g.either(0, 1)) for _ in range(2 * x.rank)]
    g.out("Pad", x, g.out("Concat", *parts, axis=0))


def largest(g: Builder) -> None:
    x = g.pick(lambda v: v.rank > 0 and v.is_number and all(k.is_exact for k in v.known))
    axis = g.below(x.rank)
    extent = g.out("Shape", x, start=axis, end=axis + 1)
    g.node("TopK", x, g.out("Min", as_vector(g, size(g)), extent), outputs=2, axis=axis, largest=g.either(0, 1))


def split(g: Builder) -> None:
    x = g.number(1)
    axis = g.below(x.rank)
    extent = g.out("Shape", x, start=axis, end=axis + 1)
    first = g.out("Min", as_vector(g, size(g)), extent)
    g.node("Split", x, g.out("Concat", first, g.out("Sub", extent, first), axis=0), outputs=2, axis=axis)


def taken(g: Builder) -> None:
    x = g.number(1)
    axis = g.below(x.rank)
    extent = g.out("Shape", x, start=axis, end=axis + 1)
    n = g.out("Mod", as_vector(g, size(g)), extent) if all(s[axis] for s in x.shapes) else size(g)
    g.out("Gather", x, n, axis=axis)


def classes(g: Builder) -> None:
    depth = size(g)
    indices = g.pick(lambda v: v.dtype.name in ("i64", "i32") and v.rank > 0)
    g.out("OneHot", indices, depth, g.constant(np.array([0, 1], g.either(np.float32, np.int64))), axis=g.either(-1, 0))


def triangle(g: Builder) -> None:
    g.out(
        "Trilu",
        g.number(2),
        as_scalar(g, size(g)) if g.chance(0.6) else g.constant(np.array(g.below(7) - 3), "i64"),
        upper=g.either(0, 1),
    )


Add = Callable[[Builder], None]
FAMILY: tuple[tuple[int, Add], ...] = (
    (2, filled), (2, counted), (2, expanded), (2, reshaped), (2, like_another), (4, sliced), (1, repeated), (2, padded), (1, largest),
    (2, split), (2, taken), (1, classes), (1, triangle),
)  # fmt: skip
