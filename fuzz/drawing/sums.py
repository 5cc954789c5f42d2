"""Reductions, normalisations, products, windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fuzz.drawing.builder import Builder, Rejected, Value
from fuzz.drawing.movement import fixed

REDUCTIONS = (
    "ReduceSum",
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSumExp",
    "ReduceLogSum",
)
EQUATIONS = ("ij,jk->ik", "ij,kj->ik", "bij,bjk->bik", "ij,j->i", "i,j->ij", "ij->ji", "ij->", "ij,ij->i", "bij,bkj->bik", "ijk->kij",
             "...ij,...jk->...ik", "i,i->", "iij->ij", "ij,jk,kl->il", "bhid,bhjd->bhij", "ii->i", "ij,jj->ij", "ij,i->j")  # fmt: skip


def reduction(g: Builder) -> None:
    x = g.number()
    name = g.either(*REDUCTIONS)
    if name == "ReduceLogSum":
        x = g.out("Add", g.out("Abs", x), g.constant(np.ones(()), x.dtype.name))
    count = g.below(x.rank + 1)
    axes = g.random.sample(range(x.rank), count)
    chosen = g.integers(*(a - g.either(0, x.rank) for a in axes)) if axes or g.chance(0.3) else None
    keep = g.either(0, 1)
    if g.model.opset >= 18 or name == "ReduceSum":
        g.out(name, x, chosen, keepdims=keep, noop_with_empty_axes=g.either(0, 0, 1))
    elif axes:
        g.out(name, x, axes=axes, keepdims=keep)


def softmax(g: Builder) -> None:
    x = g.float(1)
    g.out(g.either("Softmax", "Softmax", "LogSoftmax", "Hardmax"), x, axis=g.below(2 * x.rank) - x.rank)


def last_axes(g: Builder, x: Value, axis: int) -> Value:
    """Add a leaf with the sizes of x from an axis on."""
    return g.leaf([fixed(x, a) for a in range(axis, x.rank)], x.dtype)


def normalisation(g: Builder) -> None:
    x = g.float(2)
    kind = g.below(6)
    channels = [fixed(x, 1)] if kind in (2, 3, 4) else []
    if kind == 0:
        axis = g.either(-1, -1, x.rank - 2)
        scale = last_axes(g, x, axis % x.rank)
        g.out("LayerNormalization", x, scale, last_axes(g, x, axis % x.rank) if g.chance(0.6) else None, axis=axis)
    elif kind == 1:
        mean = g.reduced("ReduceMean", x, [-1])
        apart = g.out("Sub", x, mean)
        spread = g.reduced("ReduceMean", g.out("Mul", apart, apart), [-1])
        root = g.out("Sqrt", g.out("Add", spread, g.constant(np.full((), 1e-2), x.dtype.name)))
        g.out("Div", apart, root)
    elif kind == 2:
        parts = [g.leaf(channels, x.dtype) for _ in range(3)]
        spread = g.constant(np.abs(g.numbers().standard_normal(channels)) + 0.5, x.dtype.name)
        g.out("BatchNormalization", x, *parts, spread)
    elif kind == 3:
        g.out("InstanceNormalization", x, *(g.leaf(channels, x.dtype) for _ in range(2)), epsilon=0.1)
    elif kind == 4 and g.model.opset >= 21:
        groups = g.among([n for n in (1, 2, 3, 4) if channels[0] % n == 0])
        g.out("GroupNormalization", x, *(g.leaf(channels, x.dtype) for _ in range(2)), num_groups=groups, epsilon=0.1)
    else:
        g.out("LpNormalization", g.out("Add", x, g.constant(np.full((), 9), x.dtype.name)), axis=g.below(x.rank), p=g.either(1, 2))


# ---- products ----------------------------------------------------------------------------------------------------------------


def matmul(g: Builder) -> None:
    x = g.pick(lambda v: v.rank >= 1 and v.is_number)
    if g.chance(0.4):
        inner = [s[-1] for s in x.shapes]
        y = g.pick(lambda v: v.dtype is x.dtype and v.rank >= 1 and [s[-2 if v.rank > 1 else 0] for s in v.shapes] == inner)
    else:
        columns = g.either(1, 2, 3, 5, 8, 16, 17, 33)
        rows = g.like(x, [*(1 for _ in range(x.rank - 1)), None])
        y = weight(g, rows, columns)
    g.out("MatMul", x, y)


def weight(g: Builder, rows: Value, columns: int) -> Value:
    """Add a weight [k, columns] for a value whose last axis has k elements."""
    sizes = {s[-1] for s in rows.shapes}
    if len(sizes) == 1:
        return g.leaf([sizes.pop(), columns], rows.dtype)
    column = g.out("Reshape", rows, g.integers(-1, 1))
    return g.out("Mul", column, g.leaf([1, columns], rows.dtype))


def gemm(g: Builder) -> None:
    x = g.pick(lambda v: v.rank == 2 and v.is_number)
    turned, other = g.either(0, 0, 1), g.either(0, 1)
    k, columns = fixed(x, 0 if turned else 1), g.either(1, 3, 4, 16, 19)
    y = g.leaf([columns, k] if other else [k, columns], x.dtype)
    c = g.leaf(g.either([columns], [1, columns], [1], []), x.dtype) if g.chance(0.6) else None
    g.out(
        "Gemm",
        x,
        y,
        c,
        transA=turned,
        transB=other,
        alpha=g.either(1.0, 1.0, 0.5 if x.is_float else 2.0),
        beta=g.either(1.0, 1.0, 2.0),
    )


def einsum(g: Builder) -> None:
    """Add an Einsum over existing values, else over leaves for all operands but the first."""
    equation = g.either(*EQUATIONS)
    terms = equation.split("->")[0].split(",")
    x = g.float(len(terms[0].replace("...", "")), len(terms[0].replace("...", "")) + (1 if "..." in terms[0] else 0))
    before = [fixed(x, a) for a in range(x.rank - len(terms[0].replace("...", "")))] if "..." in equation else []
    operands = [x]
    for term in terms[1:]:
        letters = term.replace("...", "")
        if g.chance(0.4):
            operands.append(of_rank(g, x, len(letters) + len(before) * ("..." in term)))
        else:
            known = dict(zip(reversed(terms[0].replace("...", "")), reversed(range(x.rank)), strict=False))
            own = [fixed(x, known[c]) if c in known else g.either(1, 2, 3, 4) for c in letters]
            operands.append(g.leaf([*before, *own] if "..." in term else own, x.dtype))
    g.out("Einsum", *operands, equation=equation)


def of_rank(g: Builder, like: Value, rank: int) -> Value:
    return g.pick(lambda v: v.dtype is like.dtype and v.rank == rank)


def attention(g: Builder) -> None:
    """Add softmax(q k^T) v, sometimes with a mask."""
    q = g.float(2, 4)
    k = g.pick(lambda v: v.dtype is q.dtype and v.rank == q.rank and v.shapes == q.shapes)
    order = [*range(q.rank - 2), q.rank - 1, q.rank - 2]
    scores = g.out("MatMul", q, g.out("Transpose", k, perm=order))
    if g.chance(0.4):
        scores = g.out("Add", scores, g.like(scores, [*(1 for _ in range(q.rank - 1)), None]))
    g.out("MatMul", g.out("Softmax", scores, axis=-1), k)


def integer_product(g: Builder) -> None:
    x = g.pick(lambda v: v.rank >= 2 and v.dtype.name in ("u8", "i8"))
    y = g.leaf([fixed(x, x.rank - 1), g.either(1, 3, 8)], x.dtype)
    zero = g.constant(np.array(g.either(0, 2)), x.dtype.name) if g.chance(0.5) else None
    g.out("MatMulInteger", x, y, zero)


# ---- windows -----------------------------------------------------------------------------------------------------------------


def image(g: Builder) -> Value:
    """Return floats [batch, channels, d...]: an existing value, or a leaf."""
    if g.chance(0.6):
        return g.float(3, 4)
    spatial = [g.either("n", "m", 5, 6, 8, 9, 12) for _ in range(g.either(1, 2, 2))]
    x = g.leaf([g.either(1, 2, "k"), g.either(1, 2, 3, 4, 6), *spatial], g.pick(lambda v: v.is_float).dtype)
    return g.out("Identity", x)


def window(g: Builder, axes: int, dilated: bool) -> dict[str, object]:
    out: dict[str, object] = {"strides": [g.either(1, 1, 2, 3) for _ in range(axes)]}
    if dilated and g.chance(0.3):
        out["dilations"] = [g.either(1, 2) for _ in range(axes)]
    if g.chance(0.2):
        out["auto_pad"] = g.either("SAME_UPPER", "SAME_LOWER", "VALID")
    elif g.chance(0.7):
        out["pads"] = [g.either(0, 1, 1, 2) for _ in range(2 * axes)]
    return out


def conv(g: Builder) -> None:
    x = image(g)
    channels, axes = fixed(x, 1), x.rank - 2
    groups = g.among([n for n in (1, 1, 1, 2, 3, channels) if n and channels % n == 0] or [1])
    outputs = groups * g.either(1, 2, 3, 8)
    kernel = [g.either(1, 2, 3, 3, 5) for _ in range(axes)] if g.chance(0.6) else [3] * axes
    w = g.leaf([outputs, channels // groups, *kernel], x.dtype)
    bias = g.leaf([outputs], x.dtype) if g.chance(0.5) else None
    form = window(g, axes, dilated=True)
    if not all(window_fits(shape[2:], kernel, form) for shape in x.shapes):
        raise Rejected("a window larger than its image, which onnxruntime refuses as well, and onnx.reference does not always")
    g.out("Conv", x, w, bias, group=groups, **form)


def window_fits(sizes: Sequence[int], kernel: Sequence[int], form: Mapping[str, Any]) -> bool:
    """Return whether a window lies inside the padded image, along each axis."""
    if str(form.get("auto_pad", "")).startswith("SAME"):
        return True
    axes = len(sizes)
    pads, dilations = form.get("pads", [0] * 2 * axes), form.get("dilations", [1] * axes)
    return all(n + pads[i] + pads[i + axes] > (kernel[i] - 1) * dilations[i] for i, n in enumerate(sizes))


def conv_transpose(g: Builder) -> None:
    x = image(g)
    channels, axes = fixed(x, 1), x.rank - 2
    if any(n == 0 for shape in x.shapes for n in shape[2:]):
        raise Rejected("no elements to begin with: (0 - 1) strides are no length")
    w = g.leaf([channels, g.either(1, 2, 3), *(g.either(1, 2, 3) for _ in range(axes))], x.dtype)
    g.out("ConvTranspose", x, w, strides=[g.either(1, 2) for _ in range(axes)], pads=[g.either(0, 0, 1) for _ in range(2 * axes)])


def pool(g: Builder) -> None:
    x = image(g)
    axes = x.rank - 2
    name = g.either("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool")
    if name.startswith("Global"):
        g.out(name, x)
        return
    more: dict[str, object] = {"count_include_pad": g.either(0, 1)} if name == "AveragePool" else {}
    if g.chance(0.3) and name != "LpPool":
        more["ceil_mode"] = 1
    form = window(g, axes, dilated=name == "MaxPool")
    kernel = [g.either(2, 3, 3) for _ in range(axes)]
    if any(p >= kernel[k % axes] for k, p in enumerate(form.get("pads", []))):  # type: ignore[arg-type, misc]
        raise Rejected("padding as large as the window")
    g.out(name, x, kernel_shape=kernel, **form, **more)


FAMILY = (
    (6, reduction), (2, softmax), (3, normalisation), (4, matmul), (2, gemm), (4, einsum), (1, attention), (1, integer_product), (3, conv),
    (1, conv_transpose), (2, pool),
)  # fmt: skip
