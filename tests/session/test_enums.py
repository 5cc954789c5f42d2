"""Enumerations: every member that onnxruntime's has, with its number."""

from __future__ import annotations

import onnxruntime as ort
import pytest

import sardonyx as sx


@pytest.mark.parametrize("name", ["ExecutionMode", "ExecutionOrder", "GraphOptimizationLevel"])
def test_members_and_numbers(name: str) -> None:
    theirs = {k: int(v) for k, v in getattr(ort, name).__members__.items()}
    assert {m.name: int(m) for m in getattr(sx, name)} == theirs
