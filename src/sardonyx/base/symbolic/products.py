"""Products of sizes: numbers of elements and strides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sardonyx.base.symbolic.names import short
from sardonyx.base.symbolic.polynomials import Dim


def product(values: Iterable[Dim]) -> Dim:
    """Multiply. A long product of sizes gets a short name: a tensor of 64 axes with sums for sizes would have 2^64 terms.

    It is the same name for the same values in the same order.
    """
    out: Dim = 1
    for v in values:
        out = short(out * v)
    return out


def strides(shape: Sequence[Dim], order: Sequence[int] | None = None) -> list[Dim]:
    """Return the strides, in elements, of a dense buffer whose axes lie in `order`, outermost first (the axes' own order by default).

    Axes without elements count as if they had one, so that each loop over a part of such a buffer moves the address.
    """
    out: list[Dim] = [0] * len(shape)
    step: Dim = 1
    for axis in reversed(order if order is not None else range(len(shape))):
        out[axis] = step
        step = step if shape[axis] == 0 else short(step * shape[axis])
    return out
