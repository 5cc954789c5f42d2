"""Streaming reader of initializers: reads large tensors from a model's bytes directly to their final place, where protobuf would
copy each several times.

    ModelProto   ... 7: graph
    GraphProto   ... 5: initializer, any number of times
    TensorProto  ... 9: raw_data

`split_large_tensors` reads the raw_data of the main graph's large initializers separately and returns the remaining bytes, which
are a valid model for protobuf to parse. It understands only the part of the wire format that it needs: a field is a key (number <<
3 | type) and a value. If it finds anything else, or a field twice that may occur once, it returns all bytes unchanged and leaves it
to protobuf to judge them.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from msgspec import Struct, field

from sardonyx.base.background import Background
from sardonyx.runtime.memory import ALIGNMENT, Bytes, allocate

LARGE = 1 << 16  # bytes; smaller tensors are left to protobuf
CHUNK = 1 << 16  # bytes that are read at a time while a file is scanned

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # protobuf's wire types
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
MOST_VARINT = 10  # bytes of the longest varint
MOST_FIELDS = 1 << 20  # of one message; scanning more fields takes longer than the copies that it saves
MOST_WHOLE = (1 << 31) - 1  # bytes of the largest message that protobuf accepts


class Source(Protocol):
    """Random access to a model's bytes."""

    size: int

    def byte(self, at: int) -> int: ...

    def piece(self, start: int, end: int) -> bytes: ...

    def array(self, start: int, end: int) -> Bytes:
        """Return u8[end - start], aligned as kernels require. It must not be written to."""
        ...


class Memory:
    """A model's bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)

    def byte(self, at: int) -> int:
        return self.data[at]

    def piece(self, start: int, end: int) -> bytes:
        return self.data[start:end]

    def array(self, start: int, end: int) -> Bytes:
        found = np.frombuffer(self.data, np.uint8, end - start, start)
        if found.ctypes.data % ALIGNMENT:
            found = allocate(end - start)
            found[:] = np.frombuffer(self.data, np.uint8, end - start, start)
        return found


class File:
    """A model's bytes in an open regular file; the caller may close its descriptor. Raises OSError, also if the file ends too
    early.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor, self.size = os.dup(descriptor), size
        weakref.finalize(self, os.close, self.descriptor)
        self.chunk, self.begin = b"", 0

    def byte(self, at: int) -> int:
        if not self.begin <= at < self.begin + len(self.chunk):
            self.chunk, self.begin = self.piece(at, min(at + CHUNK, self.size)), at
        return self.chunk[at - self.begin]

    def piece(self, start: int, end: int) -> bytes:
        if end - start > MOST_WHOLE:
            raise OSError(f"a model of {end - start} bytes is too large for protobuf")
        return self.array(start, end).tobytes()

    def array(self, start: int, end: int) -> Bytes:
        out = allocate(end - start)
        filled = 0
        while filled < out.size:
            count = os.preadv(self.descriptor, [out[filled:].data], start + filled)
            if not count:
                raise OSError(f"the file ended after {start + filled} bytes")
            filled += count
        return out


class Span(NamedTuple):
    """A field: its number, the offset of its key, and its value [start, end)."""

    number: int
    key: int
    start: int
    end: int


class UnknownFormat(Exception):
    """Raised inside this module for bytes that protobuf shall judge."""


class RawData(NamedTuple):
    """The raw_data of a tensor: its size, and a function that returns it, perhaps after a wait. The function raises OSError."""

    size: int
    read: Callable[[], Bytes]


class SplitModel(Struct):
    """A model whose large tensors are separate. `tensors`: {index of the initializer in the main graph: its raw_data}; `model`: the
    other bytes
    """

    model: bytes
    tensors: dict[int, RawData] = field(default_factory=dict)


def split_large_tensors(data: Source, reader: Background | None = None) -> SplitModel:
    """Split the large tensors off from a model's bytes. They are read by `reader` in the background, or at once if it is None."""
    try:
        graphs = [span for span in fields(data, 0, data.size) if span.number == GRAPH]
        if len(graphs) != 1:
            raise UnknownFormat
        (graph,) = graphs
        cuts = dict(large_tensors(data, graph))
    except UnknownFormat:
        return SplitModel(data.piece(0, data.size))
    inner = list(remainder(data, graph, cuts))
    model = b"".join((data.piece(0, graph.key), *nested(GRAPH, inner), data.piece(graph.end, data.size)))
    return SplitModel(model, {number: piece(data, raw, reader) for number, (_, raw) in cuts.items()})


def piece(data: Source, raw: Span, reader: Background | None) -> RawData:
    """Start reading a tensor's raw_data."""
    size = raw.end - raw.start
    if reader is not None:
        return RawData(size, reader.submit(lambda: data.array(raw.start, raw.end)).result)
    array = data.array(raw.start, raw.end)
    return RawData(size, lambda: array)


Cuts = dict[int, tuple[Span, Span]]
"""{index of an initializer: its own span and that of its raw_data}"""


def large_tensors(data: Source, graph: Span) -> Iterator[tuple[int, tuple[Span, Span]]]:
    """Yield the initializers whose raw_data is large."""
    initializers = (span for span in fields(data, graph.start, graph.end) if span.number == INITIALIZER)
    for number, tensor in enumerate(initializers):
        if tensor.end - tensor.start < LARGE:
            continue
        found = [span for span in fields(data, tensor.start, tensor.end) if span.number == RAW_DATA]
        if len(found) > 1:
            raise UnknownFormat
        if found and found[0].end - found[0].start >= LARGE:
            yield number, (tensor, found[0])


def remainder(data: Source, graph: Span, cuts: Cuts) -> Iterator[bytes]:
    """Yield the bytes of the graph without the raw_data that is cut out."""
    at = graph.start
    for tensor, raw in cuts.values():
        yield data.piece(at, tensor.key)
        yield from nested(INITIALIZER, [data.piece(tensor.start, raw.key), data.piece(raw.end, tensor.end)])
        at = tensor.end
    yield data.piece(at, graph.end)


# ---- the wire format ----------------------------------------------------------------------------------------------------


def fields(data: Source, at: int, end: int) -> Iterator[Span]:
    """Yield the fields of the message [at, end)."""
    for _ in range(MOST_FIELDS):
        if at >= end:
            return
        key = at
        tag, at = varint(data, at, end)
        start, kind = at, tag & 7
        if kind == BYTES:
            size, start = varint(data, at, end)
            at = start + size
        elif kind == VARINT:
            _, at = varint(data, at, end)
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        else:
            raise UnknownFormat
        if at > end or (tag >> 3 in (GRAPH, INITIALIZER, RAW_DATA) and kind != BYTES):
            raise UnknownFormat
        yield Span(tag >> 3, key, start, at)
    raise UnknownFormat


def varint(data: Source, at: int, end: int) -> tuple[int, int]:
    """Decode the varint at offset `at`. Returns (number, offset of its end)"""
    number = shift = 0
    while at < min(end, at + MOST_VARINT):
        byte = data.byte(at)
        number, shift, at = number | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return number, at
        if shift > 63:
            break
    raise UnknownFormat


def nested(number: int, pieces: list[bytes]) -> list[bytes]:
    """Encode a field that is a message of these pieces."""
    size = sum(map(len, pieces))
    return [encoded(number << 3 | BYTES) + encoded(size), *pieces]


def encoded(number: int) -> bytes:
    """Encode a number as a varint."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
