"""Names of sizes. They are hints, as in ONNX Runtime: two axes with one name may differ in size, and nothing but an operator may mind.

Mostly they don't differ, and code that may take them for equal is the faster one. So a session is compiled as if names meant equality; for
feeds that say otherwise it is compiled once more, with a size of its own for each axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sardonyx.session.metadata import NodeArg

Axis = tuple[int, int]  # (input, axis)


def shared_names(inputs: Sequence[NodeArg]) -> list[tuple[Axis, Axis]]:
    """The pairs of axes of inputs that have one name; of more than two the first with each of the others."""
    first: dict[str, Axis] = {}
    found = []
    for number, argument in enumerate(inputs):
        if not argument.type.startswith("tensor("):
            continue
        for axis, size in enumerate(argument.shape):
            if isinstance(size, str):
                before = first.setdefault(size, (number, axis))
                if before != (number, axis):
                    found.append((before, (number, axis)))
    return found


def agree(pairs: Sequence[tuple[Axis, Axis]], arrays: Sequence[Any]) -> bool:
    """Have the axes of all pairs the same size? arrays: of the inputs, with their ranks."""
    return all(arrays[a].shape[i] == arrays[b].shape[j] for (a, i), (b, j) in pairs)
