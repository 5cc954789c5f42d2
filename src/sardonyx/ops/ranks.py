"""What operators take for granted about the number of axes, and of elements, of their inputs."""

from __future__ import annotations

from sardonyx.base.errors import Fail
from sardonyx.expr import require
from sardonyx.expr.tensor import Tensor


def require_ranks(text: str, *given: tuple[Tensor | None, int]) -> None:
    """Raises Fail unless each tensor (None: it is left out) has so many axes. text: the message, with a field {} for each shape."""
    if any(t is not None and t.rank != rank for t, rank in given):
        raise Fail(f"[ShapeInferenceError] {text.format(*('none' if t is None else shown(t) for t, _ in given))}")


def require_rank_from(text: str, x: Tensor, least: int) -> None:
    """Raises Fail unless x has so many axes, or more. text: the message, with a field {} for its shape."""
    if x.rank < least:
        raise Fail(f"[ShapeInferenceError] {text.format(shown(x))}")


def shown(t: Tensor) -> str:
    return require.shown("{}", [t.shape])
