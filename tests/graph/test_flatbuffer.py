"""graph/flatbuffer.py: offsets, sizes and repetition in bytes that lie."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from flatbuffers import Builder

from sardonyx.base.errors import Fail
from sardonyx.graph.flatbuffer import MOST_DEPTH, Reader, Table


def nested(depth: int, copies: int) -> bytes:
    """Make tables inside each other; each holds the next one `copies` times."""
    builder, inner = Builder(0), None
    for _ in range(depth):
        places = [] if inner is None else [inner] * copies
        builder.StartVector(4, len(places), 4)
        for place in places:
            builder.PrependUOffsetTRelative(place)
        vector = builder.EndVector()
        builder.StartObject(1)
        builder.PrependUOffsetTRelativeSlot(0, vector, 0)
        inner = builder.EndObject()
    builder.Finish(inner)
    return bytes(builder.Output())


def count(table: Table) -> int:
    return 1 + sum(inner.inside(count) for inner in table.tables(0))


def test_nested_tables_are_read() -> None:
    assert count(Reader.of(nested(5, 2)).root()) == 31


def test_tables_that_are_shared_cannot_multiply() -> None:
    """2^40 visits in a file of 1 KB."""
    with pytest.raises(Fail, match="too often"):
        count(Reader.of(nested(40, 2)).root())


def test_tables_nest_up_to_a_limit() -> None:
    assert count(Reader.of(nested(MOST_DEPTH + 1, 1)).root()) == MOST_DEPTH + 1
    with pytest.raises(Fail, match="nested"):
        count(Reader.of(nested(MOST_DEPTH + 2, 1)).root())


def test_a_length_beyond_the_file_allocates_nothing() -> None:
    builder = Builder(0)
    text = builder.CreateString("abc")
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, text, 0)
    builder.Finish(builder.EndObject())
    data = bytes(builder.Output())
    at = data.index(struct.pack("<I", 3) + b"abc")
    assert Reader.of(data).root().text(0) == "abc"
    long = data[:at] + struct.pack("<I", 1 << 31) + data[at + 4 :]
    for read in (lambda t: t.text(0), lambda t: t.texts(0), lambda t: t.array(0, "<i8"), lambda t: list(t.tables(0))):
        with pytest.raises(Fail, match="outside"):
            read(Reader.of(long).root())


def test_absent_fields_have_defaults() -> None:
    builder = Builder(0)
    builder.StartObject(0)
    builder.Finish(builder.EndObject())
    table = Reader.of(bytes(builder.Output())).root()
    assert (table.text(3), table.whole(3, 5), table.table(3), table.texts(3), table.code(0)) == ("", 5, None, [], 0)
    np.testing.assert_array_equal(table.array(3, "<f4"), [])
