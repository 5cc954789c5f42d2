"""Checks of how many axes an operator's inputs have."""

from __future__ import annotations

from sardonyx.base.errors import Fail
from sardonyx.expr import require
from sardonyx.expr.tensor import Tensor


def require_ranks(text: str, *given: tuple[Tensor | None, int]) -> None:
    """Require that each tensor has its number of axes; absent ones (None) pass. Raises Fail.

    text: the message, with a field {} for each shape.
    """
    if any(t is not None and t.rank != rank for t, rank in given):
        raise Fail(f"[ShapeInferenceError] {text.format(*('none' if t is None else shown(t) for t, _ in given))}")


def require_rank_from(text: str, x: Tensor, least: int) -> None:
    """Require that x has at least this many axes. Raises Fail.

    text: the message, with a field {} for the shape.
    """
    if x.rank < least:
        raise Fail(f"[ShapeInferenceError] {text.format(shown(x))}")


def shown(t: Tensor) -> str:
    """Return the shape as errors show it."""
    return require.shown("{}", [t.shape])
