"""Texts of a model, made safe to print to a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Write characters that a terminal would obey, such as escapes, as Python writes them."""
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
