"""Budgets: loading a model ends, whatever numbers it claims.

    with cancelled_by(word): inside, `check()` raises ModelLoadCanceled once the word is not 0
    with seconds(n):     inside, `check()` raises OverBudget once this thread has worked for longer
    with values(n):      inside, `spend()` raises Unsupported after so many values

Long loops of the stages call these at their heads. Time is the thread's own processor time: a busy machine takes nothing from it.
"""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Iterator, Sequence

from sardonyx.base.errors import Fail, ModelLoadCanceled, Unsupported

LOAD_SECONDS = 10.0
"""Of processor time for a model, and"""
VALUE_SECONDS = 0.05
"""for each value that its nodes give more: many times what they take."""
NODE_VALUES = 20_000
"""Tensor expressions that one node may become."""


class OverBudget(Fail):
    """A model takes more to load than its size gives reason for."""


_deadline: contextvars.ContextVar[float | None] = contextvars.ContextVar("deadline", default=None)
_word: contextvars.ContextVar[Sequence[int] | None] = contextvars.ContextVar("word", default=None)
_values: contextvars.ContextVar[list[int] | None] = contextvars.ContextVar("values", default=None)


def seconds_for(values: int) -> float:
    """What a model whose nodes give so many values may take."""
    return LOAD_SECONDS + VALUE_SECONDS * values


@contextlib.contextmanager
def seconds(most: float) -> Iterator[None]:
    """Inside, this thread may work for so long; within another such budget, no longer than that one allows."""
    own, outer = time.thread_time() + most, _deadline.get()
    token = _deadline.set(own if outer is None else min(own, outer))
    try:
        yield
    finally:
        _deadline.reset(token)


@contextlib.contextmanager
def cancelled_by(word: Sequence[int]) -> Iterator[None]:
    """Inside, loading ends once word[0] is not 0. Another thread may set it."""
    token = _word.set(word)
    try:
        yield
    finally:
        _word.reset(token)


def check(doing: str) -> None:
    """Raises OverBudget, which says what was being done, if the time is over; ModelLoadCanceled if loading is to end."""
    word = _word.get()
    if word is not None and word[0]:
        raise ModelLoadCanceled(f"Loading the model was canceled due to user request while {doing}.")
    deadline = _deadline.get()
    if deadline is not None and time.thread_time() > deadline:
        raise OverBudget(f"Loading the model takes too long: it was ended while {doing}.")


@contextlib.contextmanager
def values(most: int = NODE_VALUES) -> Iterator[None]:
    """Inside, so many values may be made."""
    token = _values.set([most])
    try:
        yield
    finally:
        _values.reset(token)


def spend(count: int = 1) -> None:
    """Takes values off what is left. Raises Unsupported if there are none."""
    left = _values.get()
    if left is not None:
        left[0] -= count
        if left[0] < 0:
            raise Unsupported("a form of so many values")
