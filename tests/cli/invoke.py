"""Calls the command line as a user does."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from sardonyx.cli import app

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.onnx"
PICTURE = Path(__file__).parents[2] / "examples" / "digits" / "pictures" / "7.png"
COMMANDS = ["run", "bench", "profile", "verify", "inspect", "describe", "compile"]
"""Commands that take a model and nothing else."""


def call(*arguments: object) -> Result:
    """In a terminal so wide that no path is broken into lines."""
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "400"}, catch_exceptions=False)
