"""The logger for warnings: Python's `sardonyx`, which prints nothing unless the program configures logging."""

from __future__ import annotations

import logging

logger = logging.getLogger("sardonyx")
logger.addHandler(logging.NullHandler())
