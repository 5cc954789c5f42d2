"""Names of dimensions, which are hints as in ONNX Runtime: two axes with one name may have different sizes unless an operator
forbids it.

Usually the sizes are equal, and code that may rely on it is faster. So a session is compiled as if equal names meant equal
sizes; for inputs that contradict this, it is compiled again with an independent size for each axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sardonyx.session.metadata import NodeArg

Axis = tuple[int, int]  # (input, axis)


def shared_names(inputs: Sequence[NodeArg]) -> list[tuple[Axis, Axis]]:
    """Return pairs of axes of inputs that have one name: the first such axis, with each later one."""
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
    """Have the axes of every pair the same size? arrays: the inputs, whose ranks have been checked."""
    return all(arrays[a].shape[i] == arrays[b].shape[j] for (a, i), (b, j) in pairs)
