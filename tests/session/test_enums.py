"""Enumerations: every member that onnxruntime's has, with its number and its texts."""

from __future__ import annotations

import onnxruntime as ort
import pytest

import sardonyx as sx

NAMES = [
    *("ExecutionMode", "ExecutionOrder", "GraphOptimizationLevel", "OrtAllocatorType", "OrtCompileApiFlags", "OrtDeviceMemoryType"),
    *("OrtDeviceVendorId", "OrtExecutionProviderDevicePolicy", "OrtHardwareDeviceType", "OrtMemType", "OrtMemoryInfoDeviceType"),
    "OrtSparseFormat",
]


@pytest.mark.parametrize("name", NAMES)
def test_members_and_numbers(name: str) -> None:
    theirs = {k: int(v) for k, v in getattr(ort, name).__members__.items()}
    assert {k: int(v) for k, v in getattr(sx, name).__members__.items()} == theirs


@pytest.mark.parametrize("name", NAMES)
def test_texts(name: str) -> None:
    for ours, theirs in zip(getattr(sx, name).__members__.values(), getattr(ort, name).__members__.values(), strict=True):
        assert (str(ours), f"{ours}", repr(ours), ours.name) == (str(theirs), f"{theirs}", repr(theirs), theirs.name)
