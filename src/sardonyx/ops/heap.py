"""Binary heaps for operators that are written as kernels: TopK, Unique, NonMaxSuppression.

A heap holds positions of elements in an array. Its root is the position that comes last in the desired order.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from sardonyx.base.dtypes import boolean, i64
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.loop.builder import Array, KernelBuilder, trusted
from sardonyx.loop.values import Value, constant

Before = Callable[[Value, Value], Value]
"""Function that emits code for: does item p come before item q? No two items may be equal."""


class Heap(Struct, frozen=True):
    """Binary heap of i64 items inside an array. Its methods emit the loops that maintain it.

    size: the number of items at first, i64; most: an upper bound of it, known when the kernel is built.
    place: maps item k to its position in the array. before: the order.
    """

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
        """Move the item at `start` down until no child comes after it, in a heap of `size` items."""
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
        """Turn items in any order into a heap."""
        b = self.builder
        start = b.local(i64, self.size >> 1)
        with b.while_(start.value > 0):
            start.add(-1)
            self.sift_down(b.let(start.value), self.size)

    def replace_root(self, item: Value) -> None:
        """Replace the root by the item and restore the heap."""
        self.array[self.place(0)] = item
        self.sift_down(ZERO, self.size)

    def pop(self, size: Value) -> Value:
        """Remove the root of a heap of `size` items and return it; the heap then has size - 1 items."""
        root = self.builder.let(self.array[self.place(0)])
        self.array[self.place(0)] = self.item(size - 1)
        self.sift_down(ZERO, size - 1)
        return root

    def sort(self) -> None:
        """Sort a heap's items in place: take the root out and store it behind the remaining items, until one item remains."""
        b = self.builder
        left = b.local(i64, self.size)
        with b.while_(left.value > 1):
            size = b.let(left.value)
            root = self.pop(size)
            self.array[self.offset(size - 1)] = root
            left.add(-1)


ZERO = constant(0, i64)


def larger(a: Value, b: Value) -> Value:
    """Return a > b, where NaN counts as larger than any number."""
    if not a.dtype.is_float:
        return a > b
    return (a > b) | ((a != a) & (b == b))


def comparable(x: Value) -> Value:
    """Cast x to the dtype that comparisons are computed in."""
    return x.cast(scalar.wide(x.dtype))
