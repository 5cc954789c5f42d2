"""Adapters: files of named tensors that runs feed to a model beside its other inputs, such as the small matrices of LoRA.

A file is a FlatBuffer of ONNX Runtime's schema; offsets count from where they stand, a table's first word leads back to its vtable:

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
from sardonyx.runtime.arrays import Array
from sardonyx.session.values import OrtValue

IDENTIFIER = b"TORT"
FORMAT_VERSION = 1
_FIELDS = 4
_DAMAGED = "The buffer does not appear to be a valid lora parameter format"


class LoraAdapter:
    """An adapter that runs use: `RunOptions.add_active_adapter`."""

    def __init__(self) -> None:
        self._parameters: dict[str, Array] = {}

    def Load(self, path: str) -> None:  # noqa: N802
        """Reads an adapter's file. Raises RuntimeError for one that can't be read."""
        self._parameters = {name: value.numpy() for name, value in AdapterFormat.read_adapter(path).get_parameters().items()}

    def parameters(self) -> Mapping[str, Array]:
        """The tensors by the names of the inputs that they are fed to."""
        return self._parameters


class AdapterFormat:
    """An adapter's content, to be written to a file, or read from one."""

    def __init__(self, adapter: AdapterFormat | None = None) -> None:
        self._versions: list[int] = [FORMAT_VERSION, 0, 0] if adapter is None else list(adapter._versions)
        self._parameters: dict[str, OrtValue] = {} if adapter is None else dict(adapter._parameters)

    @staticmethod
    def read_adapter(file_path: str | os.PathLike[str]) -> AdapterFormat:
        """The adapter in a file. Raises RuntimeError for one that can't be read."""
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
        """Writes the adapter to a file. Raises OSError."""
        data = encode(self._versions, {name: value.numpy() for name, value in self._parameters.items()})
        with open(file_path, "wb") as file:
            file.write(data)

    def get_format_version(self) -> int:
        """The version of the file's format."""
        return self._versions[0]

    def set_adapter_version(self, adapter_version: int) -> None:
        """Sets the version that the adapter's maker gives it."""
        self._versions[1] = int(adapter_version)

    def get_adapter_version(self) -> int:
        """The version that the adapter's maker gives it."""
        return self._versions[1]

    def set_model_version(self, model_version: int) -> None:
        """Sets the version of the model that it belongs to."""
        self._versions[2] = int(model_version)

    def get_model_version(self) -> int:
        """The version of the model that it belongs to."""
        return self._versions[2]

    def set_parameters(self, params: Mapping[str, OrtValue]) -> None:
        """Sets the tensors. Raises RuntimeError for values that are no tensors of numbers."""
        for name, value in params.items():
            if value._get_c_value()._tensor(f"Parameter {name} is no tensor.").dtype == object:
                raise RuntimeError(f"Parameter {name} is a tensor of strings, which an adapter can't hold.")
        self._parameters = {name: value._get_c_value() for name, value in params.items()}

    def get_parameters(self) -> dict[str, OrtValue]:
        """The tensors by their names."""
        return {name: OrtValue(value) for name, value in self._parameters.items()}


# ---- reading ----------------------------------------------------------------------------------------------------------------


class Reader:
    """Reads words of a FlatBuffer. Raises struct.error for a place outside of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def word(self, at: int, form: str = "<I") -> int:
        """The number at a place."""
        if at < 0:
            raise ValueError(f"a place before the buffer: {at}")
        return int(struct.unpack_from(form, self.data, at)[0])

    def follow(self, at: int) -> int:
        """Where the offset at a place leads."""
        return at + self.word(at)

    def field(self, table: int, number: int) -> int | None:
        """The place of a table's field; None if it is left out."""
        vtable = table - self.word(table, "<i")
        if self.word(vtable, "<H") < 6 + 2 * number:
            return None
        offset = self.word(vtable + 4 + 2 * number, "<H")
        return table + offset if offset else None

    def number(self, table: int, number: int) -> int:
        """An i32 field, 0 by default."""
        at = self.field(table, number)
        return 0 if at is None else self.word(at, "<i")

    def vector(self, table: int, number: int, itemsize: int) -> tuple[int, int]:
        """Where the elements of a vector or string begin, and how many there are. Raises ValueError if they don't lie in the buffer."""
        at = self.field(table, number)
        if at is None:
            return 0, 0
        start = self.follow(at)
        count = self.word(start)
        if start + 4 + count * itemsize > len(self.data):
            raise ValueError(f"{count} elements at {start} don't lie in {len(self.data)} bytes")
        return start + 4, count


def decode(data: bytes) -> AdapterFormat:
    """The adapter in these bytes. Raises ValueError, KeyError or struct.error for others."""
    if data[4:8] != IDENTIFIER:
        raise ValueError("it does not begin as an adapter's file does")
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
    """A parameter's name and numbers."""
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
    """The bytes of an adapter."""
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
    """Appends a vtable and a table of four fields of four bytes each, zeros for now. Returns the table's place."""
    out.extend(bytes(-len(out) % 4))
    out.extend(struct.pack("<HH4H", 4 + 2 * _FIELDS, 4 + 4 * _FIELDS, *(4 + 4 * i for i in range(_FIELDS))))
    place = len(out)
    out.extend(struct.pack("<i", 4 + 2 * _FIELDS) + bytes(4 * _FIELDS))
    return place


def vector(out: bytearray, field: int, count: int, data: bytes, align: int) -> int:
    """Appends a vector whose data are aligned, and has the field lead to it. Returns the place of the data."""
    out.extend(bytes(-(len(out) + 4) % align))
    struct.pack_into("<I", out, field, len(out) - field)
    out.extend(struct.pack("<I", count))
    place = len(out)
    out.extend(data)
    out.extend(bytes(-len(out) % 4))
    return place
