"""Questions about the process as a whole."""

from __future__ import annotations

import logging
from importlib import metadata

import pytest

import sardonyx as sx
from sardonyx.base.log import logger


def test_providers_are_those_that_sessions_take() -> None:
    names = sx.get_available_providers()
    assert "CPUExecutionProvider" in names
    assert set(names) <= set(sx.get_all_providers())
    assert sx.get_device() == "CPU"


def test_the_version_is_the_packages() -> None:
    assert sx.get_version_string() == metadata.version("sardonyx") == sx.__version__


@pytest.mark.parametrize(("severity", "level"), [(0, logging.DEBUG), (2, logging.WARNING), (4, logging.CRITICAL)])
def test_severities_are_pythons_levels(severity: int, level: int) -> None:
    before = logger.level
    try:
        sx.set_default_logger_severity(severity)
        assert logger.level == level
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize("severity", [-1, 5])
def test_other_severities_are_refused(severity: int) -> None:
    with pytest.raises(ValueError, match="severity must be from 0 to 4"):
        sx.set_default_logger_severity(severity)
