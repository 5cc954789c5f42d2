"""Asynchronous runs, which a small pool of threads executes."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sardonyx.base.errors import SardonyxError
from sardonyx.runtime.cores import available_cores

Callback = Callable[[list[Any], Any, str], None]

_pools: dict[int, ThreadPoolExecutor] = {}
"""The pool of each process, by process id: a forked child has none of its parent's threads."""


def start(run: Callable[[], list[Any]], callback: Callback, user_data: Any) -> None:
    """Run on another thread, then call `callback(outputs, user_data, "")`, or `callback([], user_data, message)` if the run
    raised.
    """
    pool = _pools.get(os.getpid())
    if pool is None:
        pool = _pools.setdefault(os.getpid(), ThreadPoolExecutor(available_cores(), "sardonyx-async"))
    pool.submit(deliver, run, callback, user_data)


def deliver(run: Callable[[], list[Any]], callback: Callback, user_data: Any) -> None:
    """Run, and hand the result to the callback. Exceptions of the callback go to sys.unraisablehook, since no caller waits for
    them.
    """
    try:
        outputs, error = run(), ""
    except SardonyxError as raised:
        outputs, error = [], raised.detail
    except Exception as raised:
        outputs, error = [], str(raised)
    try:
        callback(outputs, user_data, error)
    except Exception as raised:
        report(raised, callback)


def report(raised: Exception, callback: Callback) -> None:
    """Hand an exception of the callback to sys.unraisablehook."""
    import sys
    from types import SimpleNamespace

    told = SimpleNamespace(
        exc_type=type(raised), exc_value=raised, exc_traceback=raised.__traceback__, err_msg="Exception in", object=callback
    )
    sys.unraisablehook(told)
