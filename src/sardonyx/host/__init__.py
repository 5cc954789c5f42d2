"""Operators of strings, sequences, optionals and maps, which run in Python between compiled parts.

They need only numpy, so that a session from the cache runs them without importing the compiler, onnx or the reference.
"""

from __future__ import annotations

from sardonyx.host import casts, custom, labels, movement, sequences, text
from sardonyx.host.table import Function, Prepare

__all__ = ["Function", "Prepare", "custom", "find"]

TABLES = (
    ("", casts.TABLE),
    ("", movement.TABLE),
    ("", sequences.TABLE),
    ("ai.onnx.ml", labels.TABLE),
    ("com.microsoft", text.TABLE),
)


def find(domain: str, name: str, since: int) -> Prepare | None:
    """Return what prepares the operator, a custom one too, in the form introduced by version `since` of its domain; None if it doesn't run on the
    host.
    """
    found = [entry for home, table in TABLES if home == domain for entry in table.get(name, ()) if entry[0] <= since]
    if found:
        return max(found, key=lambda entry: entry[0])[1]
    operator = custom.find(domain, name, since)
    return custom.preparation(operator) if operator is not None else None
