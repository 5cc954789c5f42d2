"""Where copies of a contraction's operands are computed (see pack and groups)."""

from __future__ import annotations

from sardonyx.lower.values import Value, depends_on


def place_copy(copy: Value, source: Value, reader: Value) -> None:
    """Choose where a copy is computed: when the model is loaded if its source and indices are constant, else inside as few of
    the reader's loops as possible."""
    assert copy.body is not None
    moving = depends_on(copy) - set(copy.variables)
    copy.constant = source.constant and not moving and all(isinstance(n, int) for n in copy.shape)
    needed = [i for i, r in enumerate(reader.region, 1) if r in source.region or r.step in moving]
    copy.region = reader.region[: max(needed, default=0)]


def copy_position(source: Value, reader: Value, share: float) -> float:
    """Return the position of a copy in the program, as an id: just after its source, so that both can share a nest.

    A tensor written in parts, such as a loop's state, is complete only later: its copy comes just before the reader instead.
    share: in [0, 0.5); tells apart copies at one position.
    """
    return reader.id - 0.5 + share if source.place == "WHOLE" else source.id + share
