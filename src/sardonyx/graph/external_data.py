"""Initializers that are stored in files beside the model. The files are not trusted.

A location names a file below the model's folder. The following are refused, with an error that names the initializer:

1. everything that `runtime.safe_open` refuses: paths that lead out of the folder, links except those of the Hugging Face cache,
anything that is not a regular file;
2. offsets and lengths that are not decimal numbers, exceed the file, or don't fit dtype and shape.

A file is checked when the model is loaded. It is read (not mapped) when the tensor's data are requested; reading fails if the file
has changed since the check.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from sardonyx.base.errors import Fail
from sardonyx.runtime.safe_open import Identity, identity_of, opened

Bytes: TypeAlias = npt.NDArray[np.uint8]

_NUMBER = re.compile(r"[0-9]{1,19}")


class ExternalData:
    """Files beside one model. folder: None for a model that was given as bytes. given: contents by location, if no file is to be
    opened

    Attribute `identities`: {location: Identity} of every file that was checked.
    """

    def __init__(self, folder: str | None, given: Mapping[str, Bytes] | None = None) -> None:
        self._folder, self._given = folder, given
        self.identities: dict[str, Identity] = {}  # {location: identity} of every file that was checked

    def tensor(self, proto: onnx.TensorProto, expected_bytes: int) -> ir.LazyTensor:
        """Check the place that `proto` names in a file, and return a tensor whose data are read when they are requested.

        expected_bytes: the size that dtype and shape imply. Raises Fail, with the initializer's name, for everything that this
        module refuses.
        """
        with self._naming(proto.name):
            entries = {entry.key: entry.value for entry in proto.external_data}
            location = entries.get("location", "")
            offset = parse_number("offset", entries.get("offset", "0"))
            length = parse_number("length", entries["length"]) if "length" in entries else expected_bytes
            if length != expected_bytes:
                raise ValueError(f"its length is {length} bytes, but its type and shape need {expected_bytes}")
            if self._given is not None:
                return self._tensor_in_memory(self._given, proto, location, offset, length)
            identity = self._identity(location)
            if offset + length > identity.size:
                raise ValueError(f"bytes {offset} to {offset + length} lie past the end of {location!r} ({identity.size} bytes)")
        dtype, shape = ir.DataType(proto.data_type), ir.Shape(proto.dims)

        name = proto.name

        def read() -> ir.TensorProtocol:
            with self._naming(name):
                return tensor_of_bytes(self._read(location, identity, offset, length), dtype, shape, name)

        return ir.LazyTensor(read, dtype, shape, name=name)

    def _tensor_in_memory(
        self, given: Mapping[str, Bytes], proto: onnx.TensorProto, location: str, offset: int, length: int
    ) -> ir.LazyTensor:
        """Return a tensor in a buffer that was given for a file, without a copy if its data are aligned. Raises ValueError."""
        if location not in given:
            raise ValueError(f"External file: {location} not found from the table user provided.")
        if offset + length > given[location].size:
            raise ValueError(f"bytes {offset} to {offset + length} lie past the end of {location!r} ({given[location].size} bytes)")
        dtype, shape, name = ir.DataType(proto.data_type), ir.Shape(proto.dims), proto.name
        data = given[location][offset : offset + length]
        if length and data.ctypes.data % dtype.itemsize:
            data = data.copy()
        return ir.LazyTensor(lambda: tensor_of_bytes(data, dtype, shape, name), dtype, shape, name=name)

    @contextlib.contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        """Turn OSError and ValueError into Fail with the initializer's name."""
        try:
            yield
        except (OSError, ValueError) as error:
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            raise Fail(f"External data of initializer '{name}' cannot be used: {reason}") from error

    def _identity(self, location: str) -> Identity:
        """Return the identity (inode, size, time of change) of the file at `location`."""
        if location not in self.identities:
            with self._open(location) as file:
                self.identities[location] = identity_of(file)
        return self.identities[location]

    def _read(self, location: str, identity: Identity, offset: int, length: int) -> Bytes:
        """Read `length` bytes of a file. Raises ValueError if it has changed."""
        data = np.empty(length, np.uint8)
        with self._open(location) as descriptor, open(descriptor, "rb", buffering=0, closefd=False) as file:
            if identity_of(descriptor) != identity:
                raise ValueError(f"{location!r} has changed since the model was loaded")
            file.seek(offset)
            filled = 0
            while filled < length:
                count = file.readinto(data[filled:].data)
                if not count:
                    raise ValueError(f"{location!r} ended after {offset + filled} bytes")
                filled += count
        return data

    @contextlib.contextmanager
    def _open(self, location: str) -> Iterator[int]:
        """Open the regular file at `location` and yield its descriptor."""
        if self._folder is None:
            raise ValueError(f"a model given as bytes has no folder in which to look for {location!r}")
        with opened(self._folder, location) as file:
            yield file


def parse_number(key: str, text: str) -> int:
    """Parse an offset or a length, which must consist of decimal digits. Raises ValueError."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"its {key} is {text[:40]!r}, not a number of bytes")
    return int(text)


def tensor_of_bytes(data: Bytes, dtype: ir.DataType, shape: ir.Shape, name: str) -> ir.TensorProtocol:
    """Return the tensor whose little-endian bytes are `data`, without a copy. Elements narrower than a byte are packed."""
    if dtype.bitwidth < 8:
        return ir.PackedTensor(data, dtype, shape=shape, name=name)
    if dtype == ir.DataType.BOOL:
        data = data != 0
    return ir.Tensor(data.view(dtype.numpy()).reshape(shape.numpy()), dtype, name=name)
