"""Equal atoms are one object as long as somebody holds it."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from sardonyx.base.dtypes import boolean, i64
from sardonyx.base.symbolic import Alias, Atom, Defined, Derived, Dim, Int, Symbol, minimum, symbol, value
from sardonyx.base.symbolic.interning import WeakTable, the
from sardonyx.codegen.guards import Guarded
from sardonyx.expr.known import DataSymbol
from sardonyx.expr.tensor import input_tensor
from sardonyx.loop.nodes import Const, Element


def sum_of(n: Dim) -> Int:
    found = n * 2 + 1
    assert isinstance(found, Int)
    return found


NUMBER, YES = Const(7, i64), Const(True, boolean)
DATA = input_tensor("t", i64, (2,))
MAKERS: dict[str, tuple[Callable[[Dim], Atom], ...]] = {
    "symbol": (lambda n: Symbol("interned"), lambda n: Symbol("interned", 4), lambda n: Symbol("interned", n)),
    "derived": (lambda n: Derived("//", n, 3), lambda n: Derived("%", n, 3), lambda n: Derived("//", n + 1, 3)),
    "defined": (lambda n: Defined(sum_of(n)), lambda n: Defined(sum_of(n + 1))),
    "alias": (lambda n: Alias(sum_of(n)), lambda n: Alias(sum_of(n + 1))),
    "element": (lambda n: Element(NUMBER, n), lambda n: Element(NUMBER, n, 1), lambda n: Element(NUMBER, n + 1)),
    "guarded": (lambda n: Guarded(NUMBER, n, 0, YES), lambda n: Guarded(NUMBER, n, 1, YES)),
    "data": (lambda n: DataSymbol(DATA, 0), lambda n: DataSymbol(DATA, 1)),
}


@pytest.mark.parametrize("makers", MAKERS.values(), ids=MAKERS)
def test_equal_atoms_are_one_object_and_others_are_not(makers: tuple[Callable[[Dim], Atom], ...]) -> None:
    n = symbol("interned size")
    made = [make(n) for make in makers]
    assert all(make(n) is atom for make, atom in zip(makers, made, strict=True))
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("makers", MAKERS.values(), ids=MAKERS)
def test_they_are_let_go_when_nobody_holds_them(makers: tuple[Callable[[Dim], Atom], ...]) -> None:
    made = weakref.ref(makers[-1](symbol("interned and let go")))
    gc.collect()
    assert made() is None


def test_what_refers_to_itself_is_let_go() -> None:
    """A tensor keeps the sizes that its elements are, a loop over such a size its extent."""
    tensor = input_tensor("cycle", i64, (1,))
    loop = Symbol("loop over data", minimum(value(DataSymbol(tensor, 0)), 5))
    tensor.known = [loop]  # type: ignore[assignment]
    gone = weakref.ref(loop)
    del tensor, loop
    gc.collect()
    assert gone() is None


class Slow:
    """Takes so long to be made that another thread asks for it meanwhile."""

    def make(self) -> None:
        time.sleep(0.02)


def test_threads_make_one_object() -> None:
    barrier, found = threading.Barrier(4), list[Slow]()

    def make() -> None:
        barrier.wait()
        found.append(the(Slow, "made at once"))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


class Thing:
    """Can be referred to weakly."""


def test_a_table_lets_go_of_objects_and_of_their_keys() -> None:
    table, key, thing = WeakTable(), Thing(), Thing()
    gone = weakref.ref(key)
    table.put(key, thing)
    assert table.references[key]() is thing
    del key, thing
    assert not table.references
    assert gone() is None


def test_an_object_that_took_the_place_of_one_that_is_gone_stays() -> None:
    table, second = WeakTable(), Thing()
    first = Thing()
    table.put("key", first)
    table.put("key", second)
    del first
    assert table.references["key"]() is second
