"""Files that are written completely or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `path` when it is complete; after an error, `path` is what it was. Raises OSError."""
    folder, name = os.path.split(os.path.abspath(path))
    aside = os.path.join(folder, f".{name}.{os.urandom(8).hex()}")
    with open(aside, "xb") as file:
        try:
            yield file
            file.flush()
            os.replace(aside, os.path.join(folder, name))
        except BaseException:
            os.unlink(aside)
            raise
