"""Budgets that end the loading of a model, whatever sizes the model claims.

    with cancelled_by(word): inside, `check()` raises ModelLoadCanceled once the word is not 0
    with seconds(n):     inside, `check()` raises OverBudget once this thread has used more than n seconds
    with values(n):      inside, `spend()` raises Unsupported after n values

Long loops call `check` or `spend` in each iteration; inner functions, whose calls take microseconds, call `work`. Time is the
thread's own processor time, so a busy machine does not shorten it.
"""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Iterator, Sequence

from sardonyx.base.errors import Fail, ModelLoadCanceled, Unsupported

LOAD_SECONDS = 10.0
"""Seconds of processor time that loading any model may take."""
VALUE_SECONDS = 0.05
"""Further seconds for each output of a node: many times what is needed."""
NODE_VALUES = 20_000
"""Tensor expressions that one node may become."""
UNITS_PER_CHECK = 4096
"""Units of work between two looks at the clock: some milliseconds."""


class OverBudget(Fail):
    """Loading the model takes more time or memory than its size justifies."""


_deadline: contextvars.ContextVar[float | None] = contextvars.ContextVar("deadline", default=None)
_word: contextvars.ContextVar[Sequence[int] | None] = contextvars.ContextVar("word", default=None)
_values: contextvars.ContextVar[list[int] | None] = contextvars.ContextVar("values", default=None)


def seconds_for(values: int) -> float:
    """Return the seconds that loading a model may take, from the number of its nodes' outputs."""
    return LOAD_SECONDS + VALUE_SECONDS * values


@contextlib.contextmanager
def seconds(most: float) -> Iterator[None]:
    """Limit the time that this thread may take inside; an enclosing limit still applies."""
    own, outer = time.thread_time() + most, _deadline.get()
    token = _deadline.set(own if outer is None else min(own, outer))
    try:
        yield
    finally:
        _deadline.reset(token)


@contextlib.contextmanager
def cancelled_by(word: Sequence[int]) -> Iterator[None]:
    """End loading once word[0] is not 0. Another thread may set it."""
    token = _word.set(word)
    try:
        yield
    finally:
        _word.reset(token)


_units_left = UNITS_PER_CHECK


def work(units: int, doing: str) -> None:
    """Count units of work, of about a microsecond each, and `check` after every few thousand.

    All threads share one count, because it only decides how often the clock is looked at.
    """
    global _units_left
    _units_left -= units
    if _units_left < 0:
        _units_left = UNITS_PER_CHECK
        check(doing)


def check(doing: str) -> None:
    """Raise OverBudget, which says what was being done, if the time is used up, and ModelLoadCanceled if loading was
    cancelled."""
    word = _word.get()
    if word is not None and word[0]:
        raise ModelLoadCanceled(f"Loading the model was canceled due to user request while {doing}.")
    deadline = _deadline.get()
    if deadline is not None and time.thread_time() > deadline:
        raise OverBudget(f"Loading the model takes too long: it was ended while {doing}.")


@contextlib.contextmanager
def values(most: int = NODE_VALUES) -> Iterator[None]:
    """Limit the number of values that may be made inside."""
    token = _values.set([most])
    try:
        yield
    finally:
        _values.reset(token)


def spend(count: int = 1) -> None:
    """Count values against the limit. Raises Unsupported if it is exceeded."""
    left = _values.get()
    if left is not None:
        left[0] -= count
        if left[0] < 0:
            raise Unsupported("it becomes too many tensor expressions")
