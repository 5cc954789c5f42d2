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

_found: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()
_making = threading.RLock()
if hasattr(os, "register_at_fork"):  # a child would find the lock of another thread closed for good
    os.register_at_fork(before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release)


def the(kind: type[T], identity: Hashable, *parts: Any) -> T:
    """The object of this class and identity. If there is none, it is made: its method `make` gets the parts.

    An identity holds numbers, words and the addresses of objects that the new one keeps alive. If it held the objects, what they refer to
    would be kept for good whenever the new one is among it.
    """
    key = (kind, identity)
    found = _found.get(key)
    if found is None:
        with _making:  # two threads must not make the same object twice
            found = _found.get(key)
            if found is None:
                found = object.__new__(kind)
                found.make(*parts)
                _found[key] = found
    return found
