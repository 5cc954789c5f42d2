"""A cache for tests of kept sessions, which all other tests do without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sardonyx.runtime.cache import Cache
from sardonyx.session import session_cache
from sardonyx.session.session_parts import Request, SessionParts


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    found = Cache(tmp_path / "cache")
    monkeypatch.setattr(session_cache, "shared_cache", lambda: found)
    return found


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """The requests that were built, rather than found."""
    seen: list[Request] = []
    build = session_cache.build

    def counted(request: Request, trace: Any = None) -> SessionParts:
        seen.append(request)
        return build(request, trace)

    monkeypatch.setattr(session_cache, "build", counted)
    return seen
