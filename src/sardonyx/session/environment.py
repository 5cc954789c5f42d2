"""Questions about, and settings of, the process as a whole."""

from __future__ import annotations

import logging
from importlib import metadata

from sardonyx.base.log import logger
from sardonyx.providers import registry

# Severities 0 (verbose) to 4 (fatal), as Python's logging has them.
_SEVERITIES = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


def get_available_providers() -> list[str]:
    """The providers that sessions can use here, in the order in which they are tried."""
    return registry.names()


def get_all_providers() -> list[str]:
    """The providers that there are anywhere."""
    return registry.names()


def get_device() -> str:
    """What models run on unless told otherwise."""
    return "CPU"


def get_version_string() -> str:
    """The package's version."""
    return metadata.version("sardonyx")


def set_default_logger_severity(severity: int) -> None:
    """Messages below this severity (0 verbose to 4 fatal) are not logged. Raises ValueError for other numbers.

    Messages go to Python's logger `sardonyx`, which prints nothing unless the program sets up logging.
    """
    if severity not in range(len(_SEVERITIES)):
        raise ValueError(f"severity must be from 0 to {len(_SEVERITIES) - 1}, not {severity}")
    logger.setLevel(_SEVERITIES[severity])
