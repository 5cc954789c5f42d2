"""Initializers kept in files beside the model: opened by us, and never trusted.

A location names a file below the model's folder. It is walked component by component from an open directory and no link is
followed, so nothing can be swapped between check and open. Refused, each with an error that names the initializer:

1. absolute paths, drive letters, `..`, backslashes, empty names and NUL bytes;
2. symbolic links, whether the file or a folder on the way to it, hard links, and anything that is not a regular file;
3. offsets and lengths that are not plain decimal numbers, lie past the end of the file, or don't fit dtype and shape.

The one exception to 2 is the layout of the Hugging Face cache, where a file in `models--x/snapshots/<revision>/...` is a link to
`models--x/blobs/<digest>` of the same `models--x`.

A file is checked when the model is loaded and read, not mapped, when the tensor is asked for; if it is no longer the file that
was checked, reading fails.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from sardonyx.base.errors import Fail

Bytes: TypeAlias = npt.NDArray[np.uint8]

_NUMBER = re.compile(r"[0-9]{1,19}")
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_DIRECTORY = _READ | getattr(os, "O_DIRECTORY", 0)
_FILE = _READ | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one file from another: it must not change between check and read."""

    device: int
    inode: int
    size: int
    modified: int


class ExternalData:
    """The files beside one model. `folder` is None for a model that was given as bytes."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._identities: dict[str, Identity] = {}

    def tensor(self, proto: onnx.TensorProto, expected_bytes: int) -> ir.LazyTensor:
        """The tensor that `proto` places in a file, checked now and read when asked for.

        expected_bytes: what dtype and shape ask for.
        Raises Fail, naming the initializer, for everything this module refuses.
        """
        with self._naming(proto.name):
            entries = {entry.key: entry.value for entry in proto.external_data}
            location = entries.get("location", "")
            offset = parse_number("offset", entries.get("offset", "0"))
            length = parse_number("length", entries["length"]) if "length" in entries else expected_bytes
            if length != expected_bytes:
                raise ValueError(f"its length is {length} bytes, but its type and shape need {expected_bytes}")
            identity = self._identity(location)
            if offset + length > identity.size:
                raise ValueError(f"bytes {offset} to {offset + length} lie past the end of {location!r} ({identity.size} bytes)")
        dtype, shape = ir.DataType(proto.data_type), ir.Shape(proto.dims)

        name = proto.name

        def read() -> ir.TensorProtocol:
            with self._naming(name):
                return tensor_of_bytes(self._read(location, identity, offset, length), dtype, shape, name)

        return ir.LazyTensor(read, dtype, shape, name=name)

    @contextlib.contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            raise Fail(f"External data of initializer '{name}' cannot be used: {reason}") from error

    def _identity(self, location: str) -> Identity:
        if location not in self._identities:
            with self._open(location) as file:
                self._identities[location] = identity_of(file)
        return self._identities[location]

    def _read(self, location: str, identity: Identity, offset: int, length: int) -> Bytes:
        """u8[length]: these bytes of the file."""
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
        """A descriptor of the regular file at `location`."""
        if self._folder is None:
            raise ValueError(f"a model given as bytes has no folder in which to look for {location!r}")
        file = open_inside(self._folder, split_location(location))
        try:
            check_regular(file, location)
            yield file
        finally:
            os.close(file)


def parse_number(key: str, text: str) -> int:
    """An offset or a length: decimal digits only. Raises ValueError."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"its {key} is {text[:40]!r}, not a number of bytes")
    return int(text)


def split_location(location: str) -> list[str]:
    """The components of a relative path that stays where it is. Raises ValueError for any other."""
    if not location:
        raise ValueError("it has no location")
    parts = location.removeprefix("./").split("/")
    if any(part in ("", ".", "..") or "\0" in part or "\\" in part or ":" in part for part in parts):
        raise ValueError(f"its location {location!r} is not a plain path below the model's folder")
    return parts


def tensor_of_bytes(data: Bytes, dtype: ir.DataType, shape: ir.Shape, name: str) -> ir.TensorProtocol:
    """The tensor whose little-endian bytes are `data`, without a copy. Types narrower than a byte lie packed."""
    if dtype.bitwidth < 8:
        return ir.PackedTensor(data, dtype, shape=shape, name=name)
    if dtype == ir.DataType.BOOL:
        data = data != 0
    return ir.Tensor(data.view(dtype.numpy()).reshape(shape.numpy()), dtype, name=name)


def open_inside(folder: str, parts: list[str]) -> int:
    """A descriptor of the file at `parts` below `folder`; only `folder` itself may be reached through links.

    Raises OSError where a file can't be opened, ValueError where a link stands in the way.
    """
    if os.open not in os.supports_dir_fd:
        return open_by_path(folder, parts)
    directory = os.open(folder or ".", _DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _DIRECTORY | _NO_FOLLOW, dir_fd=directory)
            os.close(directory)
            directory = inner
        return os.open(parts[-1], _FILE, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR):
            raise
        blob = huggingface_blob(folder, parts)
        if blob is None:
            raise ValueError(f"{'/'.join(parts)!r} is, or lies behind, a symbolic link") from error
        return open_inside(*blob)
    finally:
        os.close(directory)


def open_by_path(folder: str, parts: list[str]) -> int:
    """`open_inside` where the system can't open relative to a directory (Windows): the resolved path must be the plain one."""
    path = os.path.join(os.path.realpath(folder), *parts)
    if os.path.realpath(path) == path:
        return os.open(path, _FILE)
    blob = huggingface_blob(folder, parts)
    if blob is None:
        raise ValueError(f"{'/'.join(parts)!r} is, or lies behind, a symbolic link")
    return open_by_path(*blob)


def huggingface_blob(folder: str, parts: list[str]) -> tuple[str, list[str]] | None:
    """(blobs folder, [name]) if the file is a link of the Hugging Face cache's layout, else None.

    The cache keeps `models--x/snapshots/<revision>/<path>` as a link to `models--x/blobs/<digest>`.
    """
    link = os.path.join(os.path.realpath(folder), *parts)
    above, separator, below = link.rpartition(f"{os.sep}snapshots{os.sep}")
    if not separator or not os.path.basename(above).startswith("models--") or os.sep not in below:
        return None
    if not os.path.islink(link) or os.path.realpath(os.path.dirname(link)) != os.path.dirname(link):
        return None
    blobs, name = os.path.split(os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link))))
    return (blobs, [name]) if blobs == os.path.join(above, "blobs") and name not in ("", "..") else None


def check_regular(file: int, location: str) -> None:
    """Raises ValueError unless the open file is a regular one with no other name."""
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{location!r} is not a regular file")
    if found.st_nlink > 1:
        raise ValueError(f"{location!r} has other hard links, so it may be a file from elsewhere; copy it instead")


def identity_of(file: int) -> Identity:
    found = os.fstat(file)
    return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
