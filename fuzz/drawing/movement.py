"""Nodes that move elements: views, diagonals, gathers, scatters, joins."""

from __future__ import annotations

import numpy as np

from fuzz.drawing.builder import Builder, Rejected, Value

MOST_INT = np.iinfo(np.int64).max


def fixed(v: Value, axis: int) -> int:
    """Return the size of an axis if it is equal for all feeds. Raises Rejected."""
    sizes = {shape[axis] for shape in v.shapes}
    if len(sizes) > 1:
        raise Rejected("a size that depends on the feeds")
    return sizes.pop()


def transpose(g: Builder) -> None:
    x = g.pick(lambda v: v.rank >= 2)
    order = list(range(x.rank))
    g.random.shuffle(order)
    if g.chance(0.2):
        g.out("Transpose", x)
    else:
        g.out("Transpose", x, perm=order)


def reshape(g: Builder) -> None:
    x = g.pick(lambda v: True)
    axes = [0] * x.rank
    kind = g.below(4)
    if kind == 0:
        target = [-1]
    elif kind == 1 and x.rank >= 2:
        k = g.below(x.rank - 1)
        target = axes[:k] + [-1] + [fixed(x, a) for a in range(k + 2, x.rank)]
    elif kind == 2:
        target = [*axes, 1]
    else:
        split = g.either(2, 3, 4)
        target = [split, -1]
    g.out("Reshape", x, g.integers(*target))


def flatten(g: Builder) -> None:
    x = g.pick(lambda v: v.rank >= 1)
    g.out("Flatten", x, axis=g.below(2 * x.rank + 1) - x.rank)


def squeeze(g: Builder) -> None:
    x = g.pick(lambda v: any(all(s[a] == 1 for s in v.shapes) for a in range(v.rank)))
    axes = [a for a in range(x.rank) if all(s[a] == 1 for s in x.shapes)]
    if g.chance(0.3):
        g.out("Squeeze", x)
    else:
        g.out("Squeeze", x, g.integers(g.among(axes) - g.either(0, x.rank)))


def unsqueeze(g: Builder) -> None:
    x = g.pick(lambda v: v.rank < 4)
    count = g.either(1, 1, 2)
    axes = g.random.sample(range(x.rank + count), count)
    g.out("Unsqueeze", x, g.integers(*(a - g.either(0, x.rank + count) for a in axes)))


def slices(g: Builder) -> None:
    """Add a Slice with constant bounds: beyond the ends, counted from the end, with steps in either direction."""
    x = g.pick(lambda v: v.rank >= 1)
    count = 1 + g.below(x.rank)
    axes = g.random.sample(range(x.rank), count)
    numbers = (-MOST_INT - 1, -9, -3, -2, -1, 0, 0, 1, 2, 3, 5, 40, MOST_INT)
    starts, ends = ([g.among(numbers) for _ in axes] for _ in range(2))
    steps = [g.either(1, 1, 2, 3, -1, -1, -2, -3, MOST_INT, -MOST_INT) for _ in axes]
    parts = [g.integers(*starts), g.integers(*ends), g.integers(*(a - g.either(0, x.rank) for a in axes)), g.integers(*steps)]
    g.out("Slice", x, *parts)


def reverse(g: Builder) -> None:
    x = g.pick(lambda v: v.rank >= 1)
    g.out("Slice", x, g.integers(-1), g.integers(-MOST_INT - 1), g.integers(g.below(x.rank)), g.integers(g.either(-1, -1, -2)))


def pads(g: Builder) -> None:
    x = g.number(1)
    mode = g.either("constant", "constant", "edge", "reflect", "wrap")
    numbers = (-1, 0, 0, 1, 2, 3) if mode == "constant" else (0, 0, 1, 2)
    amounts = [g.among(numbers) for _ in range(2 * x.rank)]
    cut = [min(low, 0) + min(high, 0) for low, high in zip(amounts, amounts[x.rank :], strict=False)]
    if any(n + c < 0 for shape in x.shapes for n, c in zip(shape, cut, strict=True)):
        raise Rejected("more cut off than there is")
    value = g.constant(np.array(g.either(0, 1, 3)), x.dtype.name) if mode == "constant" and g.chance(0.5) else None
    g.out("Pad", x, g.integers(*amounts), value, mode=mode)


def concat(g: Builder) -> None:
    x = g.pick(lambda v: v.rank >= 1)
    axis = g.below(x.rank)

    def fits(v: Value) -> bool:
        pairs = zip(v.shapes, x.shapes, strict=True)
        return (
            v.dtype is x.dtype and v.rank == x.rank and all(a[:axis] + a[axis + 1 :] == b[:axis] + b[axis + 1 :] for a, b in pairs)
        )

    parts = [g.pick(fits) for _ in range(g.either(1, 2, 2, 3))]
    parts.insert(g.below(len(parts) + 1), x)
    g.out("Concat", *parts, axis=axis - g.either(0, x.rank))


def split(g: Builder) -> None:
    x = g.pick(lambda v: v.rank >= 1)
    axis = g.below(x.rank)
    count = g.either(2, 3)
    if g.chance(0.5) and g.model.opset >= 18:
        if any((count - 1) * -(-shape[axis] // count) > shape[axis] for shape in x.shapes):
            raise Rejected("a last part below zero")
        g.node("Split", x, outputs=count, axis=axis, num_outputs=count)
    else:
        total = fixed(x, axis)
        cut = g.below(total + 1)
        g.node("Split", x, g.integers(cut, total - cut), outputs=2, axis=axis)


def tile(g: Builder) -> None:
    x = g.pick(lambda v: v.rank >= 1)
    g.out("Tile", x, g.integers(*(g.either(0, 1, 1, 2, 3) for _ in range(x.rank))))


def blocks(g: Builder) -> None:
    """Add DepthToSpace or SpaceToDepth with blocks of 2 x 2. numpy also divides empty tensors into blocks, the standard only
    divisible ones.
    """
    x = g.float(4, 4)
    if g.chance(0.5):
        if any(shape[1] % 4 for shape in x.shapes):
            raise Rejected("channels in blocks of 4")
        g.out("DepthToSpace", x, blocksize=2, mode=g.either("DCR", "CRD"))
    else:
        if any(n % 2 for shape in x.shapes for n in shape[2:]):
            raise Rejected("sizes in blocks of 2")
        g.out("SpaceToDepth", x, blocksize=2)


# ---- diagonals ---------------------------------------------------------------------------------------------------------------


def square(g: Builder) -> Value:
    """Return a value whose last two axes have one size: an existing one, or a product of a value with itself."""
    found = [v for v in g.visible() if v.rank >= 2 and v.is_float and all(s[-1] == s[-2] for s in v.shapes)]
    if found and g.chance(0.6):
        return g.among(found)
    x = g.float(1, 3)
    if x.rank == 1:
        column = g.out("Unsqueeze", x, g.integers(1))
        return g.out(g.either("Add", "Mul", "Sub"), x, column)
    order = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    return g.out("MatMul", x, g.out("Transpose", x, perm=order))


def diagonal(g: Builder) -> None:
    """Add the diagonal of a matrix, in one of the ways in which exporters write it."""
    x = square(g)
    if g.chance(0.5):
        x = g.out(g.either("Tanh", "Relu", "Neg", "Sigmoid"), x)
    kind = g.below(4)
    letters = "abc"[: x.rank - 2]
    if kind == 0:
        g.out("Einsum", x, equation=f"{letters}ii->{letters}i" if g.chance(0.7) else f"{letters}ii->{letters}")
    elif kind == 1 and x.rank == 2:
        extent = g.out("Squeeze", g.out("Shape", x, start=0, end=1))
        places = g.out(
            "Unsqueeze", g.out("Range", g.constant(np.zeros(()), "i64"), extent, g.constant(np.ones(()), "i64")), g.integers(1)
        )
        g.out("GatherND", x, g.out("Concat", places, places, axis=1))
    elif kind == 2:
        extent = g.out("Squeeze", g.out("Shape", x, start=x.rank - 1))
        places = g.out("Range", g.constant(np.zeros(()), "i64"), extent, g.constant(np.ones(()), "i64"))
        mask = g.out(g.either("Equal", "GreaterOrEqual", "Less"), places, g.out("Unsqueeze", places, g.integers(1)))
        kept = g.out("Where", mask, x, g.constant(np.zeros(()), x.dtype.name))
        if g.chance(0.6):
            g.out("ReduceSum", kept, g.integers(-1), keepdims=g.either(0, 1))
    elif x.rank == 2:
        g.out("Mul", x, g.out("EyeLike", x, k=g.either(0, 0, 1, -1)))
    else:
        g.out("Trilu", x, upper=g.either(0, 1))
    if g.chance(0.5):
        g.out(g.either("Sin", "Abs"), x)


# ---- by data -----------------------------------------------------------------------------------------------------------------


def places(g: Builder, extent: int, shape: tuple[int, ...], dtype: str = "") -> Value:
    """Return indices in the range of a size, counted from either end."""
    if extent == 0 and int(np.prod(shape)):
        raise Rejected("no place")
    low = -extent if g.chance(0.4) else 0
    return g.constant(g.numbers().integers(low, max(extent, 1), shape), dtype or g.either("i64", "i64", "i32"))


def least(x: Value, axis: int) -> int:
    return min(shape[axis] for shape in x.shapes)


def gather(g: Builder) -> None:
    x = g.pick(lambda v: v.rank >= 1)
    axis = g.below(x.rank)
    if g.chance(0.3):
        indices = g.pick(
            lambda v: (
                v.dtype.name in ("i64", "i32")
                and all(((-n <= a) & (a < n)).all() for a, n in zip(v.arrays, (s[axis] for s in x.shapes), strict=True))
            )
        )
    else:
        indices = places(g, least(x, axis), g.either((), (1,), (2,), (3,), (2, 2), (0,)))
    g.out("Gather", x, indices, axis=axis - g.either(0, x.rank))


def gather_elements(g: Builder) -> None:
    x = g.pick(lambda v: v.rank >= 1)
    axis = g.below(x.rank)
    shape = tuple(g.either(2, 3) if a == axis else max(1, least(x, a)) for a in range(x.rank))
    g.out("GatherElements", x, places(g, least(x, axis), shape), axis=axis)


def gather_nd(g: Builder) -> None:
    x = g.pick(lambda v: v.rank >= 1)
    depth = 1 + g.below(x.rank)
    columns = [g.numbers().integers(0, max(least(x, a), 1), g.either((2,), (3,), (1,))) for a in range(depth)]
    rows = min(len(c) for c in columns)
    g.out("GatherND", x, g.constant(np.stack([c[:rows] for c in columns], 1), "i64"))


def scatter(g: Builder) -> None:
    x = g.number(1)
    axis = g.below(x.rank)
    count = g.either(1, 2, 3)
    if least(x, axis) == 0:
        raise Rejected("no place")
    reduction = g.either("none", "add", "mul", "max", "min")
    shape = tuple(count if a == axis else max(1, least(x, a)) for a in range(x.rank))
    if reduction == "none":
        count = min(count, least(x, axis))
        shape = tuple(count if a == axis else n for a, n in enumerate(shape))
        order = g.numbers().permutation(least(x, axis))[:count].reshape([-1 if a == axis else 1 for a in range(x.rank)])
        indices = g.constant(np.broadcast_to(order, shape), "i64")
    else:
        indices = places(g, least(x, axis), shape)
    updates = g.leaf(list(shape), x.dtype)
    g.out("ScatterElements", x, indices, updates, axis=axis, reduction=reduction)


def scatter_nd(g: Builder) -> None:
    x = g.number(1)
    rest = [fixed(x, a) for a in range(1, x.rank)]
    if least(x, 0) == 0:
        raise Rejected("no place")
    rows = g.numbers().permutation(least(x, 0))[: g.either(1, 2, 3)]
    updates = g.leaf([len(rows), *rest], x.dtype)
    g.out("ScatterND", x, g.constant(rows[:, None], "i64"), updates, reduction=g.either("none", "none", "add"))


def nonzero(g: Builder) -> None:
    found = g.out("NonZero", g.exact(1))
    if g.chance(0.6):
        g.out("Transpose", found)


def compress(g: Builder) -> None:
    x = g.pick(lambda v: v.rank >= 1)
    flags = g.pick(lambda v: v.dtype.name == "bool" and v.rank == 1)
    axis = g.below(x.rank)
    if g.chance(0.7):
        g.out("Compress", x, flags, axis=axis)
    else:
        g.out("Compress", x, flags)


def extremes(g: Builder) -> None:
    x = g.pick(lambda v: v.rank > 0 and v.is_number and all(k.is_exact for k in v.known))
    axis = g.below(x.rank)
    if g.chance(0.5):
        count = g.integers(g.below(least(x, axis) + 1))
        g.node("TopK", x, count, outputs=2, axis=axis - g.either(0, x.rank), largest=g.either(0, 1))
    else:
        g.out(g.either("ArgMax", "ArgMin"), x, axis=axis, keepdims=g.either(0, 1), select_last_index=g.either(0, 1))


def unique(g: Builder) -> None:
    x = g.pick(lambda v: v.rank > 0 and v.is_number and all(k.is_exact for k in v.known))
    outputs = g.either(1, 4)
    if g.chance(0.4):
        g.node("Unique", x, outputs=outputs, axis=g.below(x.rank), sorted=1)
    else:
        g.node("Unique", x, outputs=outputs, sorted=g.either(0, 1) if outputs > 1 else 1)  # onnx.reference sorts a single output


def running(g: Builder) -> None:
    x = g.number(1)
    axis = g.constant(np.array(g.below(x.rank) - g.either(0, x.rank)), g.either("i64", "i32"))
    g.out("CumSum", x, axis, exclusive=g.either(0, 0, 1), reverse=g.either(0, 0, 1))


def reverse_sequences(g: Builder) -> None:
    x = g.pick(lambda v: v.rank >= 2)
    lengths = g.constant(g.numbers().integers(0, least(x, 0) + 1, fixed(x, 1)), "i64")
    g.out("ReverseSequence", x, lengths, batch_axis=1, time_axis=0)


def resize(g: Builder) -> None:
    x = g.float(3, 4)
    transform = g.either("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel")
    factors = (1.0, 2.0) if transform == "align_corners" else (0.5, 1.0, 2.0, 1.5)  # no two agree on corners of a part of a pixel
    scales = [1.0, 1.0] + [g.either(*factors) for _ in range(x.rank - 2)]
    mode = g.either("nearest", "nearest", "linear")
    rounding = g.either("floor", "round_prefer_floor", "ceil")
    scale = g.constant(np.array(scales, np.float32))
    g.out("Resize", x, None, scale, mode=mode, coordinate_transformation_mode=transform, nearest_mode=rounding)


FAMILY = (
    (3, transpose), (3, reshape), (1, flatten), (1, squeeze), (2, unsqueeze), (3, slices), (1, reverse), (2, pads), (3, concat), (2, split),
    (1, tile), (1, blocks), (4, diagonal), (3, gather), (1, gather_elements), (1, gather_nd), (2, scatter), (1, scatter_nd), (1, nonzero),
    (1, compress), (2, extremes), (1, unique), (2, running), (1, reverse_sequences), (1, resize),
)  # fmt: skip
