"""First versions of operators whose form changed later: binary operators that broadcast only on request, Split, Upsample."""

from __future__ import annotations

from collections.abc import Callable

from sardonyx.base.errors import Unsupported
from sardonyx.expr.require import require_same
from sardonyx.expr.tensor import Tensor
from sardonyx.ops import logic, math, movement, resize
from sardonyx.ops.pointwise import view
from sardonyx.ops.record import Op, Rule
from sardonyx.ops.reference import elementwise, images

Binary = Callable[[Tensor, Tensor], Tensor]


def asked(meaning: Binary) -> Binary:
    """Return a binary operator's form before opset 7: b is broadcast only if the attribute `broadcast` is set, with its axes
    aligned to those of a from `axis` on.
    """

    def apply(
        a: Tensor, b: Tensor, axis: int | None = None, broadcast: int = 0, consumed_inputs: list[int] | None = None
    ) -> Tensor:
        if not broadcast:
            require_same(a.shape, b.shape, "shapes {} and {} differ and broadcast is not set", a.shape, b.shape)
        elif axis is not None:
            more = a.rank - axis % a.rank - b.rank
            b = view(b, [*b.shape, *[1] * more], lambda *i: i[: len(i) - more])
        return meaning(a, b)

    return apply


def split_1(
    x: Tensor, lengths: Tensor | None = None, axis: int = 0, split: list[int] | None = None, outputs: int = 1
) -> list[Tensor]:
    """Split of opset 1: x divided along the axis into parts of these sizes, or into equal parts.

    Raises Unsupported if the sizes are an input, because that input may hold floats.
    """
    if lengths is not None:
        raise Unsupported("Split of opset 1 with lengths as an input")
    return movement.split_2(x, axis=axis, split=split, outputs=outputs)


def upsample_1(x: Tensor, height_scale: float, width_scale: float, mode: str = "nearest") -> Tensor:
    """Upsample of opset 1, for images. x: T[n, c, h, w] -> T[n, c, floor(h height_scale), floor(w width_scale)]"""
    return resize.upsample_7(x, [1, 1, height_scale, width_scale], "linear" if mode == "bilinear" else mode)


def binary(name: str, meaning: Binary) -> Op:
    """Make the record of a binary operator before opset 7."""
    own = elementwise.explicit_broadcast(elementwise.BINARY[name])
    return Op(name, since=1, expand=asked(meaning), gradient=Rule.DERIVED, reference=own)


ARITHMETIC = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "And": "and", "Or": "or", "Xor": "xor"}
COMPARISONS = {"Equal": "eq", "Greater": "gt", "Less": "lt"}

OPS = (
    *(binary(name, math.binary(fn)) for name, fn in ARITHMETIC.items()),
    *(binary(name, logic.comparison(fn)) for name, fn in COMPARISONS.items()),
    binary("Pow", math.power),
    Op("Split", since=1, expand=split_1, gradient=Rule.DERIVED, reference=elementwise.split),
    Op("Upsample", since=1, expand=upsample_1, gradient=Rule.DERIVED, reference=images.upsample_1),
)
