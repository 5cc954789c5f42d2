"""The large tensors of a model's bytes, read to where they stay: protobuf would copy each several times.

    ModelProto   ... 7: graph
    GraphProto   ... 5: initializer, any number of times
    TensorProto  ... 9: raw_data

`split_large_tensors` reads the raw_data of the main graph's large initializers apart and returns what is left, a model like any other, for protobuf
to parse. It knows the wire format as far as it must: fields are a key (number << 3 | type) and a value. Bytes in which it meets
anything else, or a field twice that says once, are left whole, for protobuf to judge.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from sardonyx.base.background import Background
from sardonyx.runtime.memory import ALIGNMENT, Bytes, allocate

LARGE = 1 << 16  # bytes of a tensor: less is not worth it
CHUNK = 1 << 16  # bytes that are read at a time while looking through a file

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # types of fields
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
MOST_VARINT = 10  # bytes
MOST_FIELDS = 1 << 20  # of one message: looking at more takes longer than what is gained
MOST_WHOLE = (1 << 31) - 1  # bytes: protobuf takes no larger messages


class Source(Protocol):
    """A model's bytes."""

    size: int

    def byte(self, at: int) -> int: ...

    def piece(self, start: int, end: int) -> bytes: ...

    def array(self, start: int, end: int) -> Bytes:
        """u8[end - start], aligned as kernels like it, not to be written to."""
        ...


class Memory:
    """Bytes that are there."""

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
    """The bytes of an open regular file, which may be closed elsewhere. Raises OSError, also where it ends too early."""

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
            raise OSError(f"{end - start} bytes in one piece are no model")
        return self.array(start, end).tobytes()

    def array(self, start: int, end: int) -> Bytes:
        out = allocate(end - start)
        filled = 0
        while filled < out.size:
            count = os.preadv(self.descriptor, [out[filled:].data], start + filled)
            if not count:
                raise OSError(f"it ended after {start + filled} bytes")
            filled += count
        return out


class Span(NamedTuple):
    """A field: its number, where its key begins, and its value [start, end)."""

    number: int
    key: int
    start: int
    end: int


class UnknownFormat(Exception):
    """Bytes that are for protobuf to judge."""


class RawData(NamedTuple):
    """The raw_data of a tensor: its size, and what gives it, perhaps after a wait. Raises OSError."""

    size: int
    read: Callable[[], Bytes]


@dataclass
class SplitModel:
    """`model`: the bytes without large tensors. `tensors`: {initializer: its raw_data}, numbered as they stand in the graph."""

    model: bytes
    tensors: dict[int, RawData] = field(default_factory=dict)


def split_large_tensors(data: Source, reader: Background | None = None) -> SplitModel:
    """The model of these bytes, and its large tensors, which are read by `reader` if there is one, else at once."""
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
    size = raw.end - raw.start
    if reader is not None:
        return RawData(size, reader.submit(lambda: data.array(raw.start, raw.end)).result)
    array = data.array(raw.start, raw.end)
    return RawData(size, lambda: array)


Cuts = dict[int, tuple[Span, Span]]  # initializer: its own span and its raw_data's


def large_tensors(data: Source, graph: Span) -> Iterator[tuple[int, tuple[Span, Span]]]:
    """The initializers with much raw_data."""
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
    """The graph without what is cut out, in pieces."""
    at = graph.start
    for tensor, raw in cuts.values():
        yield data.piece(at, tensor.key)
        yield from nested(INITIALIZER, [data.piece(tensor.start, raw.key), data.piece(raw.end, tensor.end)])
        at = tensor.end
    yield data.piece(at, graph.end)


# ---- the wire format ----------------------------------------------------------------------------------------------------


def fields(data: Source, at: int, end: int) -> Iterator[Span]:
    """The fields of the message [at, end)."""
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
    """(the number that begins at `at`, where it ends)"""
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
    """A field that is a message of these pieces."""
    size = sum(map(len, pieces))
    return [encoded(number << 3 | BYTES) + encoded(size), *pieces]


def encoded(number: int) -> bytes:
    """A varint."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
