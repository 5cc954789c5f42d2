"""Keys of random numbers, as expressions over an input that the runtime feeds (runtime.draws) and the counters of enclosing
loops."""

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
"""The input that supplies random state, shared by all programs."""

_iterations: contextvars.ContextVar[tuple[Dim, ...]] = contextvars.ContextVar("iterations", default=())


@contextlib.contextmanager
def iteration(t: Dim) -> Iterator[None]:
    """Let random numbers drawn inside differ from iteration to iteration of the loop with counter t."""
    token = _iterations.set((*_iterations.get(), t))
    try:
        yield
    finally:
        _iterations.reset(token)


def key(own: int, seeded: bool) -> Expr:
    """Return the u32 key of a node in this run and in the present iteration of its loops.

    own: the node's number. seeded: True for a node with a seed of its own, whose key depends on the count of runs but not on
    `set_seed`.
    """
    found = scalar.apply("xor", at(state, (0 if seeded else 1,)), own)
    for t in _iterations.get():
        found = scalar.mul(scalar.add(found, scalar.cast(scalar.index(t), u32)), ODD)
    return found


ODD = 0x9E3779B1
