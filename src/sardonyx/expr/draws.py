"""What random numbers are drawn by, as expressions: an input that the runtime feeds (runtime.draws), and the iteration of loops around."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from sardonyx.base.dtypes import u32
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.tensor import Tensor, input_tensor
from sardonyx.loop.nodes import Expr
from sardonyx.runtime.draws import STATE

state: Tensor = input_tensor(STATE, u32, (2,))
"""Of all programs."""

_iterations: contextvars.ContextVar[tuple[Dim, ...]] = contextvars.ContextVar("iterations", default=())


@contextlib.contextmanager
def iteration(t: Dim) -> Iterator[None]:
    """Numbers drawn inside differ from iteration to iteration of a loop."""
    token = _iterations.set((*_iterations.get(), t))
    try:
        yield
    finally:
        _iterations.reset(token)


def key(own: int, seeded: bool) -> Expr:
    """u32: of a node in this run, and in this iteration of the loops around. own: the node's. seeded: does its seed alone decide it?"""
    found = scalar.apply("xor", at(state, (0 if seeded else 1,)), own)
    for t in _iterations.get():
        found = scalar.mul(scalar.add(found, scalar.cast(scalar.index(t), u32)), ODD)
    return found


ODD = 0x9E3779B1
