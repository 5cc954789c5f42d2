"""Warnings go to Python's logger and are silent until a program sets up logging."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import logging
{setup}
from sardonyx.base.log import logger
logger.warning("careful")
"""


def output(setup: str) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(setup=setup)], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def test_nothing_is_printed_unless_asked() -> None:
    assert output("") == ("", "")


def test_a_program_that_sets_up_logging_sees_warnings() -> None:
    assert output("logging.basicConfig()") == ("", "WARNING:sardonyx:careful\n")
