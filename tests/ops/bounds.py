"""What the bounds of a Slice mean."""

from __future__ import annotations


def places(n: int, start: int, end: int, step: int) -> list[int]:
    """The elements that the standard's text names: both bounds are clamped, to [0, n - 1] and [-1, n - 1] backwards."""
    start, end = (bound + n if bound < 0 else bound for bound in (start, end))
    if step > 0:
        return list(range(min(max(start, 0), n), min(max(end, 0), n), step))
    return list(range(min(max(start, 0), n - 1), min(max(end, -1), n - 1), step))
