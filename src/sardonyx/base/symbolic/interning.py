"""One object for each thing: what is equal is the same object, as long as somebody holds it.

Python compares and hashes such objects by their addresses, without calling a function of theirs. They never change once they are made.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Hashable
from typing import Any, Protocol, TypeVar


class Interned(Protocol):
    def make(self, *parts: Any) -> None: ...


T = TypeVar("T", bound=Interned)


class Reference(weakref.ref[Any]):
    """A weak reference that knows its key in a table."""

    __slots__ = ("key",)
    key: Hashable


class WeakTable:
    """A dictionary from keys to objects. An object leaves it when nobody else holds it.

    The dictionary is a `weakref.WeakValueDictionary`'s, which also removes what is gone. It is read and filled directly: that takes
    one Python call for each insertion instead of four, and none for a lookup.
    """

    def __init__(self) -> None:
        self._whole: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
        self.references: dict[Any, weakref.ref[Any]] = self._whole.data  # type: ignore[attr-defined]
        self._remove = self._whole._remove  # type: ignore[attr-defined]  # does nothing once the dictionary is gone

    def put(self, key: Hashable, found: object) -> None:
        """Enter an object under its key, in place of one that is gone."""
        reference = Reference(found, self._remove)
        reference.key = key
        self.references[key] = reference


_found = WeakTable()
_references = _found.references
_making = threading.RLock()
if hasattr(os, "register_at_fork"):  # a child would find the lock of another thread closed for good
    os.register_at_fork(before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release)


def the(kind: type[T], identity: Hashable, *parts: Any) -> T:
    """The object of this class and identity. If there is none, it is made: its method `make` gets the parts.

    An identity holds numbers, words and the addresses of objects that the new one keeps alive. If it held the objects, what they refer to
    would be kept for good whenever the new one is among it.
    """
    key = (kind, identity)
    reference = _references.get(key)
    found = reference() if reference is not None else None
    if found is None:
        with _making:  # two threads must not make the same object twice
            reference = _references.get(key)
            found = reference() if reference is not None else None
            if found is None:
                found = object.__new__(kind)
                found.make(*parts)
                _found.put(key, found)
    return found
