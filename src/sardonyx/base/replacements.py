"""Tensors and files that a user supplies in place of a model's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Array: TypeAlias = "npt.NDArray[Any]"
Bytes: TypeAlias = "npt.NDArray[np.uint8]"


class Replacements:
    """What a user supplies in place of a model's own data.

    initializers: arrays by the initializers' names. external: arrays for initializers that the model stores in external
    files. files: contents of the external files by name; None to open the files themselves.
    """

    __slots__ = ("external", "files", "initializers")

    def __init__(self, initializers: Mapping[str, Array], external: Mapping[str, Array], files: Mapping[str, Bytes] | None) -> None:
        self.initializers, self.external, self.files = initializers, external, files


NOTHING = Replacements({}, {}, None)
