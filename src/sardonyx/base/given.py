"""Tensors and files that a user gives in place of a model's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """initializers: arrays by the initializers' names. external: the same, of those that the model keeps in other files.
    files: contents by the names of those files; None: they are opened."""

    initializers: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    external: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    files: Mapping[str, npt.NDArray[np.uint8]] | None = None


NOTHING = Given()
