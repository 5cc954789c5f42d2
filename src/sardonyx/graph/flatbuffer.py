"""Checked reading of FlatBuffers: every offset is inside the bytes, and the work is in proportion to their number.

table    i32 distance back to its vtable | fields
vtable   u16 bytes of the vtable | u16 bytes of the table | u16 place of each field in the table, 0 if it is absent
string, vector    u32 length | elements; the fields of a table that hold them are u32 distances forward, as are elements
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from flatbuffers import encode, packer
from msgspec import Struct

from sardonyx.base.errors import Fail

Read = TypeVar("Read")
TABLE_WORK = 16  # what visiting a table counts
MOST_REPEATS = 16  # how often each byte may be visited, on average: writers share names, hostile files share whole tables
FREE_WORK = 1 << 16
MOST_DEPTH = 64  # of tables in tables: the limit of FlatBuffers' own verifier, which counts each kind of table
FIRST_FIELD = 4  # bytes of a vtable before its fields


def damaged(reason: str) -> Fail:
    """Return the error for bytes that are not what they should be."""
    return Fail(f"ORT model verification failed: {reason}.")


class Reader(Struct):
    """The bytes of a file, and the work that may still be spent on them."""

    data: bytes
    left: int
    depth: int = 0

    @classmethod
    def of(cls, data: bytes) -> Reader:
        return cls(data, MOST_REPEATS * len(data) + FREE_WORK)

    def number(self, kind: struct.Struct, at: int) -> Any:
        """Return the number at an offset. Raises Fail if it is not inside the bytes."""
        self.require(at, kind.size)
        return encode.Get(kind, self.data, at)

    def require(self, at: int, size: int) -> None:
        """Raise Fail unless `size` bytes at `at` are inside the bytes."""
        if not 0 <= at <= len(self.data) - size:
            raise damaged(f"{size} bytes at {at} are outside the {len(self.data)} bytes of the file")

    def spend(self, work: int) -> None:
        """Count work. Raises Fail if the file refers to its parts so often that reading it would take too long."""
        self.left -= work
        if self.left < 0:
            raise damaged("its tables refer to the same bytes too often")

    def root(self) -> Table:
        return Table(self, self.number(packer.uoffset, 0))

    def follow(self, at: int) -> int:
        """Return the place to which the offset at `at` points."""
        return at + int(self.number(packer.uoffset, at))

    def vector(self, at: int, size: int) -> tuple[int, int]:
        """Return the place of a vector's elements of `size` bytes, and their number."""
        count = int(self.number(packer.uoffset, at))
        self.require(at + 4, count * size)
        self.spend(4 + count * size)
        return at + 4, count

    def text(self, at: int) -> str:
        """Return the string at an offset. Raises Fail if it is not UTF-8."""
        start, count = self.vector(at, 1)
        try:
            return self.data[start : start + count].decode()
        except UnicodeDecodeError:
            raise damaged(f"the text at {at} is not UTF-8") from None


class Table:
    """A table. Fields are numbered from 0 in the order of the schema; an absent field has its default."""

    __slots__ = ("fields", "place", "reader")

    def __init__(self, reader: Reader, place: int) -> None:
        reader.spend(TABLE_WORK)
        self.reader, self.place = reader, place
        vtable = place - reader.number(packer.soffset, place)
        size = reader.number(packer.voffset, vtable)
        if size < FIRST_FIELD or size % 2:
            raise damaged(f"the table at {place} has a vtable of {size} bytes")
        reader.require(vtable, size)
        reader.spend(size)
        inside = reader.number(packer.voffset, vtable + 2)
        reader.require(place, inside)
        self.fields = struct.unpack_from(f"<{(size - FIRST_FIELD) // 2}H", reader.data, vtable + FIRST_FIELD)
        if any(field >= inside for field in self.fields):
            raise damaged(f"the table at {place} has a field outside it")

    def where(self, field: int) -> int | None:
        """Return the place of a field; None if it is absent."""
        found = self.fields[field] if field < len(self.fields) else 0
        return self.place + found if found else None

    def number(self, field: int, kind: struct.Struct, default: float = 0) -> Any:
        at = self.where(field)
        return default if at is None else self.reader.number(kind, at)

    def whole(self, field: int, default: int = 0) -> int:
        """Return a field of type int64."""
        return int(self.number(field, packer.int64, default))

    def code(self, field: int) -> int:
        """Return a field of an enumeration of type int32."""
        return int(self.number(field, packer.int32))

    def text(self, field: int) -> str:
        at = self.where(field)
        return "" if at is None else self.reader.text(self.reader.follow(at))

    def table(self, field: int) -> Table | None:
        at = self.where(field)
        return None if at is None else Table(self.reader, self.reader.follow(at))

    def tables(self, field: int) -> Iterator[Table]:
        for at in self.offsets(field):
            yield Table(self.reader, at)

    def texts(self, field: int) -> list[str]:
        return [self.reader.text(at) for at in self.offsets(field)]

    def offsets(self, field: int) -> list[int]:
        """Return the places to which the elements of a vector of offsets point."""
        at = self.where(field)
        if at is None:
            return []
        start, count = self.reader.vector(self.reader.follow(at), 4)
        return [self.reader.follow(start + 4 * index) for index in range(count)]

    def array(self, field: int, dtype: str) -> npt.NDArray[Any]:
        """Return a vector of numbers, as a view of the bytes."""
        at = self.where(field)
        if at is None:
            return np.empty(0, dtype)
        start, count = self.reader.vector(self.reader.follow(at), np.dtype(dtype).itemsize)
        return np.frombuffer(self.reader.data, dtype, count, start)

    def inside(self, read: Callable[[Table], Read]) -> Read:
        """Return read(self), for tables that may contain tables of their own kind. Raises Fail if they do so too deeply."""
        self.reader.depth += 1
        if self.reader.depth > MOST_DEPTH:
            raise damaged(f"its tables are nested more than {MOST_DEPTH} deep")
        try:
            return read(self)
        finally:
            self.reader.depth -= 1
