"""Track which ONNX node is being turned into tensors."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from sardonyx.base.errors import blame


class Origin(str):
    """The name of a node, used by kernels and profiles. full: its operator and name, used in error messages."""

    full: str

    def __new__(cls, name: str = "", operator: str = "") -> Origin:
        made = super().__new__(cls, name)
        made.full = f"{operator} node '{name}'" if operator else name
        return made


NOWHERE = Origin()
_origin: contextvars.ContextVar[Origin] = contextvars.ContextVar("origin", default=NOWHERE)


@contextlib.contextmanager
def origin(name: str, operator: str = "") -> Iterator[None]:
    """Attach this ONNX node to the tensors made and requirements stated inside, and as a note to exceptions raised inside."""
    node = Origin(name, operator)
    token = _origin.set(node)
    try:
        yield
    except Exception as error:
        blame(error, node.full)
        raise
    finally:
        _origin.reset(token)


def current_origin() -> Origin:
    """Return the ONNX node whose tensors are being made."""
    return _origin.get()
