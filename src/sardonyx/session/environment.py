"""Functions about the whole process: providers, versions, logging, telemetry."""

from __future__ import annotations

import logging
import operator
import platform
from collections.abc import Callable
from importlib import metadata

from sardonyx.base.log import logger
from sardonyx.providers import registry

Callback = Callable[[int, str, str, str, str], None]

# Severities 0 (verbose) to 4 (fatal), as Python's logging has them.
_SEVERITIES = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


def get_available_providers() -> list[str]:
    """Return the providers that sessions can use here, in order of preference: this package's, registered ones, and those of
    installed packages.
    """
    return registry.names()


def get_all_providers() -> list[str]:
    """Return the names of all providers of ONNX Runtime, those of this installation last."""
    return list(dict.fromkeys([*registry.ELSEWHERE, *registry.names()]))


def get_device() -> str:
    """Return the device that models run on by default."""
    return "CPU"


def get_version_string() -> str:
    """Return the package's version."""
    return metadata.version("sardonyx")


def set_default_logger_severity(severity: int) -> None:
    """Log only messages of at least this severity, from 0 (verbose) to 4 (fatal). Raises ValueError for other numbers.

    Messages go to Python's logger `sardonyx`, which prints nothing unless the program configures logging.
    """
    if severity not in range(len(_SEVERITIES)):
        raise ValueError(f"severity must be from 0 to {len(_SEVERITIES) - 1}, not {severity}")
    logger.setLevel(_SEVERITIES[severity])


def set_default_logger_verbosity(verbosity: int) -> None:
    """Do nothing: messages have severities, but no verbosity. Raises TypeError unless the argument is an int."""
    operator.index(verbosity)


class _CallbackHandler(logging.Handler):
    """A logging handler that passes messages to a user's function."""

    def __init__(self, callback: Callback) -> None:
        super().__init__()
        self._callback = callback

    def emit(self, record: logging.LogRecord) -> None:
        severity = max((s for s, level in enumerate(_SEVERITIES) if level <= record.levelno), default=0)
        try:
            self._callback(severity, record.name, "", f"{record.filename}:{record.lineno}", record.getMessage())
        except Exception:
            self.handleError(record)


def set_default_logger_callback(callback: Callback | None, severity: int = 2) -> None:
    """Call a function for each message of at least this severity, as (severity, category, logid, code_location, message).

    None removes the function. Raises TypeError for an object that can't be called, ValueError for an unknown severity.
    """
    if callback is not None and not callable(callback):
        raise TypeError("callback must be callable or None")
    if severity not in range(len(_SEVERITIES)):
        raise ValueError(f"severity must be from 0 to {len(_SEVERITIES) - 1}, not {severity}")
    for handler in [handler for handler in logger.handlers if isinstance(handler, _CallbackHandler)]:
        logger.removeHandler(handler)
    if callback is not None:
        set_default_logger_severity(severity)
        logger.addHandler(_CallbackHandler(callback))


def enable_telemetry_events() -> None:
    """Do nothing: no telemetry is ever sent."""


def disable_telemetry_events() -> None:
    """Do nothing: no telemetry is ever sent."""


def preload_dlls(cuda: bool = True, cudnn: bool = True, msvc: bool = True, directory: str | None = None) -> None:
    """Do nothing: no native library is needed."""


def has_collective_ops() -> bool:
    """Return False: models run in one process."""
    return False


def get_build_info() -> str:
    """Describe the build, in ONNX Runtime's format."""
    return f"ORT Build Info: sardonyx={get_version_string()}, python={platform.python_version()}, build type=Release"


def print_debug_info() -> None:
    """Print the versions of this package, of Python and of the libraries in use."""
    print(f"sardonyx version: {get_version_string()}")
    print("platform:", platform.platform())
    print("\nPython package, version and location:")
    for name in ("numpy", "onnx", "onnx-ir", "llvmlite", "ml_dtypes"):
        try:
            print(f"{name}=={metadata.version(name)}")
        except metadata.PackageNotFoundError:
            print(f"{name} not installed")
