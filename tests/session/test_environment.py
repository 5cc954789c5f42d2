"""Questions about the process as a whole."""

from __future__ import annotations

import logging
from importlib import metadata
from typing import Any

import onnxruntime as ort
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


def test_every_provider_of_onnxruntime_has_a_name() -> None:
    theirs = [name for name in ort.get_all_providers() if name != "CPUExecutionProvider"]
    assert sx.get_all_providers() == [*theirs, *sx.get_available_providers()]


def test_messages_go_to_a_function() -> None:
    seen: list[tuple[Any, ...]] = []
    before = logger.level
    try:
        sx.set_default_logger_callback(lambda *what: seen.append(what), 1)
        logger.info("one %d", 1)
        logger.debug("two")
        logger.error("three")
        sx.set_default_logger_callback(None)
        logger.error("four")
    finally:
        sx.set_default_logger_callback(None)
        logger.setLevel(before)
    assert [(severity, category, text) for severity, category, _, _, text in seen] == [
        (1, "sardonyx", "one 1"),
        (3, "sardonyx", "three"),
    ]
    with pytest.raises(TypeError):
        sx.set_default_logger_callback(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="severity"):
        sx.set_default_logger_callback(print, 9)


def test_switches_without_effect(capsys: pytest.CaptureFixture[str]) -> None:
    sx.enable_telemetry_events()
    sx.disable_telemetry_events()
    sx.preload_dlls(cuda=True, cudnn=True, msvc=True, directory=None)
    sx.set_default_logger_verbosity(0)
    assert not sx.has_collective_ops()
    assert sx.get_build_info().startswith("ORT Build Info: ")
    sx.print_debug_info()
    assert "numpy==" in capsys.readouterr().out
