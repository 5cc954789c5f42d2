"""Heaps for kernels: positions in an array, the one that comes last in the wanted order at the root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sardonyx.base.dtypes import boolean, i64
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.loop.builder import Array, KernelBuilder, as_index, trusted
from sardonyx.loop.values import Value

Before = Callable[[Value, Value], Value]
"""Does item p come before item q? No two items are equal. It may emit statements."""


@dataclass(frozen=True, slots=True)
class Heap:
    """`size` items, i64, the k-th at array[place(k)]; emits the loops that keep them in order."""

    builder: KernelBuilder
    array: Array
    place: Callable[[Dim], Dim]
    size: Dim
    before: Before

    def item(self, k: Value) -> Value:
        return self.array[self.offset(k)]

    def offset(self, k: Value) -> Dim:
        return self.place(trusted(k, self.size))

    def sift_down(self, start: Value, size: Value) -> None:
        """Moves the item at `start` down to where no item under it comes after it, among the first `size`."""
        b = self.builder
        hole = b.local(i64, start)
        moving = b.let(self.item(start))
        going = b.local(boolean, True)
        with b.while_(going.value & (hole.value * 2 + 1 < size)):
            child = b.local(i64, hole.value * 2 + 1)
            with b.if_(child.value + 1 < size):
                right_is_later = self.before(self.item(child.value), self.item(child.value + 1))
                with b.if_(right_is_later):
                    child.add(1)
            later = b.let(self.item(child.value))
            is_later = self.before(moving, later)
            with b.if_(is_later):
                self.array[self.offset(hole.value)] = later
                hole.set(child.value)
            with b.else_():
                going.set(False)
        self.array[self.offset(hole.value)] = moving

    def build(self) -> None:
        """Makes a heap of items in any order."""
        half = self.size // 2
        with self.builder.loop("start", half) as i:
            self.sift_down(as_index(half - 1 - i), as_index(self.size))

    def replace_root(self, item: Value) -> None:
        """The root goes, the item comes in."""
        self.array[self.place(0)] = item
        self.sift_down(Value(scalar.index(0)), as_index(self.size))

    def sort(self) -> None:
        """Puts a heap's items in order."""
        b = self.builder
        with b.loop("sorted", self.size - 1) as i:
            last = self.size - 1 - i
            root = b.let(self.array[self.place(0)])
            self.array[self.place(0)] = self.array[self.place(last)]
            self.array[self.place(last)] = root
            self.sift_down(Value(scalar.index(0)), as_index(last))


def larger(a: Value, b: Value) -> Value:
    """a > b, a NaN being larger than any number."""
    if not a.dtype.is_float:
        return a > b
    return (a > b) | ((a != a) & (b == b))


def comparable(x: Value) -> Value:
    """x in the dtype that comparisons run in."""
    return x.cast(scalar.wide(x.dtype))
