"""Which ONNX node is being made into tensors."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from sardonyx.base.errors import blame


class Origin(str):
    """The name of a node, by which kernels and profiles are known. full: what it is called in errors: its operator and its name."""

    full: str

    def __new__(cls, name: str = "", operator: str = "") -> Origin:
        made = super().__new__(cls, name)
        made.full = f"{operator} node '{name}'" if operator else name
        return made


NOWHERE = Origin()
_origin: contextvars.ContextVar[Origin] = contextvars.ContextVar("origin", default=NOWHERE)


@contextlib.contextmanager
def origin(name: str, operator: str = "") -> Iterator[None]:
    """Tensors made, and requirements stated, inside carry this ONNX node's name. So does an exception that passes by, as a note."""
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
    """The ONNX node whose tensors are being made."""
    return _origin.get()
