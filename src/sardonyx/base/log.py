"""Where warnings go: Python's logger `sardonyx`, which prints nothing unless the program sets up logging."""

from __future__ import annotations

import logging

logger = logging.getLogger("sardonyx")
logger.addHandler(logging.NullHandler())
