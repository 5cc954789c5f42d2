"""The records of custom operators that are registered now. `ops.custom` puts them here; look-ups see a whole tuple or the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sardonyx.ops.record import Op

GRADIENT = ".gradient"
"""What the name of a custom operator's derivative ends with, which is an operator too; names that users give have no dot."""
_records: dict[tuple[str, str], tuple[Op, ...]] = {}


def find(domain: str, name: str) -> tuple[Op, ...]:
    """Return the records of all versions of a custom operator."""
    return _records.get((domain, name), ())


def put(domain: str, name: str, records: tuple[Op, ...]) -> None:
    """Make these the versions of a custom operator; none: remove it."""
    if records:
        _records[domain, name] = records
    else:
        _records.pop((domain, name), None)


def any_at_all() -> bool:
    """Is there a custom operator?"""
    return bool(_records)
