"""Heaps for kernels: positions in an array, the one that comes last in the wanted order at the root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sardonyx.base.dtypes import boolean, i64
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.loop.builder import Array, KernelBuilder, trusted
from sardonyx.loop.values import Value, constant

Before = Callable[[Value, Value], Value]
"""Does item p come before item q? No two items are equal. It may emit statements."""


@dataclass(frozen=True, slots=True)
class Heap:
    """The first `size` (i64) of at most `most` items, i64, the k-th at array[place(k)]; emits the loops that keep them in order."""

    builder: KernelBuilder
    array: Array
    place: Callable[[Dim], Dim]
    size: Value
    most: Dim
    before: Before

    def item(self, k: Value) -> Value:
        return self.array[self.offset(k)]

    def offset(self, k: Value) -> Dim:
        return self.place(trusted(k, self.most))

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
        b = self.builder
        start = b.local(i64, self.size >> 1)
        with b.while_(start.value > 0):
            start.add(-1)
            self.sift_down(b.let(start.value), self.size)

    def replace_root(self, item: Value) -> None:
        """The root goes, the item comes in."""
        self.array[self.place(0)] = item
        self.sift_down(ZERO, self.size)

    def pop(self, size: Value) -> Value:
        """Takes the root out of a heap of `size` items, which is one item smaller then."""
        root = self.builder.let(self.array[self.place(0)])
        self.array[self.place(0)] = self.item(size - 1)
        self.sift_down(ZERO, size - 1)
        return root

    def sort(self) -> None:
        """Puts a heap's items in order: the roots, one after the other, go to the end."""
        b = self.builder
        left = b.local(i64, self.size)
        with b.while_(left.value > 1):
            size = b.let(left.value)
            root = self.pop(size)
            self.array[self.offset(size - 1)] = root
            left.add(-1)


ZERO = constant(0, i64)


def larger(a: Value, b: Value) -> Value:
    """a > b, a NaN being larger than any number."""
    if not a.dtype.is_float:
        return a > b
    return (a > b) | ((a != a) & (b == b))


def comparable(x: Value) -> Value:
    """x in the dtype that comparisons run in."""
    return x.cast(scalar.wide(x.dtype))
