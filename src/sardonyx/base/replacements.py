"""Tensors and files that a user gives in place of a model's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Array: TypeAlias = "npt.NDArray[Any]"
Bytes: TypeAlias = "npt.NDArray[np.uint8]"


class Replacements:
    """initializers: arrays by the initializers' names. external: the same, of those that the model keeps in other files.
    files: contents by the names of those files; None: they are opened."""

    __slots__ = ("external", "files", "initializers")

    def __init__(self, initializers: Mapping[str, Array], external: Mapping[str, Array], files: Mapping[str, Bytes] | None) -> None:
        self.initializers, self.external, self.files = initializers, external, files


NOTHING = Replacements({}, {}, None)
