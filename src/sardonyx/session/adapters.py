"""Adapters: files of named tensors, such as the small matrices of LoRA, that runs feed to a model beside its other inputs.

A file is a FlatBuffer with ONNX Runtime's schema. Offsets in it are relative to their own position; the first word of a table
leads back to its vtable:

    Adapter    { format_version: i32, adapter_version: i32, model_version: i32, parameters: [Parameter] }     file identifier TORT
    Parameter  { name: string, dims: [i64], data_type: i32, raw_data: [u8] }
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping

import numpy as np

from sardonyx.base import dtypes
from sardonyx.base.atomic_file import replacing
from sardonyx.runtime.arrays import Array
from sardonyx.session.values import OrtValue

IDENTIFIER = b"TORT"
FORMAT_VERSION = 1
_FIELDS = 4
_DAMAGED = "The buffer does not appear to be a valid lora parameter format"


class LoraAdapter:
    """The tensors of an adapter's file, for runs to feed; see `RunOptions.add_active_adapter`."""

    def __init__(self) -> None:
        self._parameters: dict[str, Array] = {}

    def Load(self, path: str) -> None:  # noqa: N802
        """Read an adapter's file. Raises RuntimeError if it can't be read."""
        self._parameters = {name: value.numpy() for name, value in AdapterFormat.read_adapter(path).get_parameters().items()}

    def parameters(self) -> Mapping[str, Array]:
        """Return {name of the input that it is fed to: tensor}."""
        return self._parameters


class AdapterFormat:
    """The content of an adapter's file: versions and named tensors."""

    def __init__(self, adapter: AdapterFormat | None = None) -> None:
        self._versions: list[int] = [FORMAT_VERSION, 0, 0] if adapter is None else list(adapter._versions)
        self._parameters: dict[str, OrtValue] = {} if adapter is None else dict(adapter._parameters)

    @staticmethod
    def read_adapter(file_path: str | os.PathLike[str]) -> AdapterFormat:
        """Read an adapter's file. Raises RuntimeError if it can't be read."""
        try:
            with open(file_path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise RuntimeError(f"The adapter {os.fspath(file_path)} cannot be read: {error.strerror}") from error
        try:
            return decode(data)
        except (IndexError, KeyError, MemoryError, OverflowError, ValueError, struct.error) as error:
            raise RuntimeError(f"{_DAMAGED}: {error}") from error

    def export_adapter(self, file_path: str | os.PathLike[str]) -> None:
        """Write the adapter to a file. Raises OSError."""
        data = encode(self._versions, {name: value.numpy() for name, value in self._parameters.items()})
        with replacing(file_path) as file:
            file.write(data)

    def get_format_version(self) -> int:
        """Return the version of the file's format."""
        return self._versions[0]

    def set_adapter_version(self, adapter_version: int) -> None:
        """Set the adapter's own version."""
        self._versions[1] = int(adapter_version)

    def get_adapter_version(self) -> int:
        """Return the adapter's own version."""
        return self._versions[1]

    def set_model_version(self, model_version: int) -> None:
        """Set the version of the model that the adapter belongs to."""
        self._versions[2] = int(model_version)

    def get_model_version(self) -> int:
        """Return the version of the model that the adapter belongs to."""
        return self._versions[2]

    def set_parameters(self, params: Mapping[str, OrtValue]) -> None:
        """Set the tensors, {name: value}. Raises RuntimeError for values that are not tensors of numbers."""
        for name, value in params.items():
            if value._get_c_value()._array(f"Parameter {name} is no tensor.").dtype == object:
                raise RuntimeError(f"Parameter {name} is a tensor of strings, which an adapter can't hold.")
        self._parameters = {name: value._get_c_value() for name, value in params.items()}

    def get_parameters(self) -> dict[str, OrtValue]:
        """Return the tensors, {name: value}."""
        return {name: OrtValue(value) for name, value in self._parameters.items()}


# ---- reading ----------------------------------------------------------------------------------------------------------------


class Reader:
    """Reads numbers and offsets of a FlatBuffer. Raises struct.error for a position outside of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def word(self, at: int, form: str = "<I") -> int:
        """Read the number at a position."""
        if at < 0:
            raise ValueError(f"position {at} lies before the buffer")
        return int(struct.unpack_from(form, self.data, at)[0])

    def follow(self, at: int) -> int:
        """Return the position that the offset at `at` leads to."""
        return at + self.word(at)

    def field(self, table: int, number: int) -> int | None:
        """Return the position of a table's field; None if the field is absent."""
        vtable = table - self.word(table, "<i")
        if self.word(vtable, "<H") < 6 + 2 * number:
            return None
        offset = self.word(vtable + 4 + 2 * number, "<H")
        return table + offset if offset else None

    def number(self, table: int, number: int) -> int:
        """Read an i32 field; 0 if it is absent."""
        at = self.field(table, number)
        return 0 if at is None else self.word(at, "<i")

    def vector(self, table: int, number: int, itemsize: int) -> tuple[int, int]:
        """Return the position of the first element of a vector or string, and the number of elements. Raises ValueError if they
        don't lie in the buffer.
        """
        at = self.field(table, number)
        if at is None:
            return 0, 0
        start = self.follow(at)
        count = self.word(start)
        if start + 4 + count * itemsize > len(self.data):
            raise ValueError(f"{count} elements at position {start} don't fit in a buffer of {len(self.data)} bytes")
        return start + 4, count


def decode(data: bytes) -> AdapterFormat:
    """Decode an adapter. Raises ValueError, KeyError or struct.error for other bytes."""
    if data[4:8] != IDENTIFIER:
        raise ValueError("it has no TORT identifier")
    reader = Reader(data)
    root = reader.follow(0)
    made = AdapterFormat()
    made._versions = [reader.number(root, i) for i in range(3)]
    start, count = reader.vector(root, 3, 4)
    for i in range(count):
        name, array = parameter(reader, reader.follow(start + 4 * i))
        made._parameters[name] = OrtValue._of(array)
    return made


def parameter(reader: Reader, table: int) -> tuple[str, Array]:
    """Return the name and the tensor of a parameter."""
    at, size = reader.vector(table, 0, 1)
    name = reader.data[at : at + size].decode()
    at, rank = reader.vector(table, 1, 8)
    dims = struct.unpack_from(f"<{rank}q", reader.data, at)
    dtype = dtypes.BY_CODE[reader.number(table, 2)]
    at, size = reader.vector(table, 3, 1)
    if dtype is dtypes.string or any(n < 0 for n in dims) or math.prod(dims) * dtype.itemsize != size:
        raise ValueError(f"parameter {name!r} has {size} bytes, which is not what {dtype.onnx_name}{list(dims)} needs")
    return name, np.frombuffer(reader.data, np.uint8, size, at).view(dtype.numpy).reshape(dims).copy()


# ---- writing ----------------------------------------------------------------------------------------------------------------


def encode(versions: list[int], parameters: Mapping[str, Array]) -> bytes:
    """Return the bytes of an adapter's file."""
    out = bytearray(struct.pack("<I4s", 0, IDENTIFIER))
    root = table(out)
    struct.pack_into("<I", out, 0, root)
    struct.pack_into("<3i", out, root + 4, *versions)
    places = vector(out, root + 16, len(parameters), bytes(4 * len(parameters)), 4)
    for i, (name, array) in enumerate(sorted(parameters.items())):
        made = table(out)
        struct.pack_into("<I", out, places + 4 * i, made - (places + 4 * i))
        text = name.encode()
        vector(out, made + 4, len(text), text + b"\0", 4)
        vector(out, made + 8, array.ndim, struct.pack(f"<{array.ndim}q", *array.shape), 8)
        struct.pack_into("<i", out, made + 12, dtypes.from_numpy(array.dtype).code)
        vector(out, made + 16, array.nbytes, array.tobytes(), 8)
    return bytes(out)


def table(out: bytearray) -> int:
    """Append a vtable and a table of four zero fields of four bytes each. -> the table's position"""
    out.extend(bytes(-len(out) % 4))
    out.extend(struct.pack("<HH4H", 4 + 2 * _FIELDS, 4 + 4 * _FIELDS, *(4 + 4 * i for i in range(_FIELDS))))
    place = len(out)
    out.extend(struct.pack("<i", 4 + 2 * _FIELDS) + bytes(4 * _FIELDS))
    return place


def vector(out: bytearray, field: int, count: int, data: bytes, align: int) -> int:
    """Append a vector with aligned data, and set the field to its offset. -> the position of the data"""
    out.extend(bytes(-(len(out) + 4) % align))
    struct.pack_into("<I", out, field, len(out) - field)
    out.extend(struct.pack("<I", count))
    place = len(out)
    out.extend(data)
    out.extend(bytes(-len(out) % 4))
    return place
