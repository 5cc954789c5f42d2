"""What holds for all tests."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import HealthCheck, settings

from sardonyx.runtime.cache import Cache
from sardonyx.session import session_cache

settings.register_profile("on any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("on any machine")  # a machine that does other things too is no fault of what is tested

if hasattr(os, "register_at_fork"):
    # A forked child collects nothing that its parent made. Freeing a session of onnxruntime there, which another test left in a
    # reference cycle, waits forever for threads that only the parent has.
    os.register_at_fork(after_in_child=gc.freeze)


@pytest.fixture(autouse=True)
def everything_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every graph is verified after each pass, every kernel as it is built."""
    monkeypatch.setenv("SARDONYX_VERIFY", "1")


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions are compiled, so that what is tested is today's compiler; tests of kept sessions have a cache of their own."""
    nothing = Cache(None)
    monkeypatch.setattr(session_cache, "shared_cache", lambda: nothing)
