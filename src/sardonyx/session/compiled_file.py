"""Compiled files (.sdx): a whole session in one file, which starts without parsing the model or importing the compiler.

    header    identifier, version of the format, bytes of the next two parts, SHA-256 over them
    needs     JSON: this package's version, and what the code needs of the machine
    manifest  see session.manifest
    block     the constants, each at a cache line; the manifest holds their sizes and a checksum

A compiled file contains machine code, which runs with all rights of the process that opens it: it has to be trusted like a
shared library. The checksums find damage, not malice. So a session opens one only if the config entry
`session.allow_machine_code` is "1".
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import mmap
import os
import struct
from collections.abc import Iterator
from typing import IO

import numpy as np

import sardonyx
from sardonyx.base.atomic_file import replacing
from sardonyx.base.cache_line import LINE
from sardonyx.base.context import Trace
from sardonyx.base.errors import Fail, InvalidArgument, NoSuchFile
from sardonyx.base.errors import NotImplemented as NotImplementedHere
from sardonyx.base.model_format import COMPILED_IDENTIFIER
from sardonyx.base.replacements import NOTHING
from sardonyx.providers.native import NativeGraph
from sardonyx.runtime import blocks
from sardonyx.runtime.cores import available_cores
from sardonyx.runtime.image import ImageError
from sardonyx.runtime.memory import Bytes, allocate
from sardonyx.runtime.mounts import is_remote
from sardonyx.runtime.processor import Needs, unmet
from sardonyx.runtime.records import fields, listed, text
from sardonyx.runtime.safe_open import open_regular
from sardonyx.session import manifest
from sardonyx.session.options import MACHINE_CODE
from sardonyx.session.session_parts import Request, SessionParts

VERSION = 1
"""The version of the format. It changes with whatever makes older files wrong: the header, records, or what code and runtime
expect of each other."""
_HEADER = struct.Struct("<8sIIQ32s")


def write(built: SessionParts, needs: Needs, path: str | os.PathLike[str]) -> None:
    """Write a session to a file, completely or not at all.

    Raises NotImplemented, which names the nodes, for a session with steps in Python; OSError if the file can't be written.
    """
    in_python = nodes_in_python(built)
    if in_python:
        raise NotImplementedHere(f"A compiled file holds machine code only, and these nodes run in Python: {', '.join(in_python)}.")
    encoded = manifest.encode(built, alone=True)
    if encoded is None:
        raise NotImplementedHere("A value of this model can't be stored in a compiled file.")
    told, pieces = encoded
    wanted = json.dumps([sardonyx.__version__, needs.architecture, needs.system, needs.features, needs.only]).encode("ascii")
    digest = hashlib.sha256(wanted + told).digest()
    with replacing(path) as file:
        file.write(_HEADER.pack(COMPILED_IDENTIFIER, VERSION, len(wanted), len(told), digest))
        file.write(wanted)
        file.write(told)
        file.write(bytes(-file.tell() % LINE))
        for part in blocks.padded(pieces):
            file.write(part)


def nodes_in_python(built: SessionParts) -> list[str]:
    """Return the operators and names of the nodes that machine code doesn't compute."""
    parts = zip(built.assignment, built.program.steps, strict=True)
    outside = [part for part, step in parts if not isinstance(step.executable, NativeGraph)]
    return [f"{node.op_type} '{node.name}'" for part in outside for node in part.nodes]


def load(request: Request, trace: Trace | None = None) -> SessionParts:
    """Load a compiled file.

    Raises InvalidArgument if the session doesn't allow machine code or asks for what only a model can give, NoSuchFile, and
    Fail for a file that is damaged, of another version, or for another machine.
    """
    what = "the data" if isinstance(request.source, bytes) else os.fspath(request.source)
    if not request.allow_machine_code:
        raise InvalidArgument(
            f"{what}: a compiled file contains machine code, which is to be trusted like a shared library. A session opens it if "
            f'the config entry {MACHINE_CODE} is "1".'
        )
    require_plain(request, trace, what)
    try:
        with opened(request.source) as (file, size):
            code, block = read(file, size)
        made = manifest.decode(
            code, lambda sizes, checksum: blocks.pieces_of(block, sizes, checksum), request.options.threads or available_cores()
        )
    except FileNotFoundError as error:
        raise NoSuchFile(f"Load model from {what} failed. File doesn't exist") from error
    except (OSError, ValueError, RecursionError, ImageError) as error:
        raise Fail(f"{what} can't be loaded: {error}") from error
    if made is None:
        raise Fail(f"{what} can't be loaded: its constants are damaged")
    return made


def require_plain(request: Request, trace: Trace | None, what: str) -> None:
    """Raise InvalidArgument for a request that the code in a compiled file can't serve."""
    reasons = {
        "it can't be profiled": trace is not None,
        "no optimised model can be written from it": bool(request.save_to),
        "its initializers can't be replaced": request.given is not NOTHING,
        "its dimensions were fixed when it was compiled": bool(request.dimensions or request.denotations),
        f"it has no other outputs: {', '.join(request.extra_outputs)}": bool(request.extra_outputs),
        "axes with one name must have the same size": request.distinct,
    }
    for reason, applies in reasons.items():
        if applies:
            raise InvalidArgument(f"{what} is compiled: {reason}.")


@contextlib.contextmanager
def opened(source: str | os.PathLike[str] | bytes) -> Iterator[tuple[IO[bytes], int]]:
    """Open a regular file, or bytes as one; yield it and its size. Raises OSError or ValueError."""
    if isinstance(source, bytes):
        yield io.BytesIO(source), len(source)
        return
    with open(open_regular(os.fspath(source)), "rb", buffering=0) as file:
        yield file, os.fstat(file.fileno()).st_size


def read(file: IO[bytes], size: int) -> tuple[bytes, Bytes]:
    """Return the manifest and the block of a file of this size.

    Raises OSError, and ValueError for what `write` didn't write and for code that this machine can't run.
    """
    first = file.read(_HEADER.size)
    if len(first) < _HEADER.size or not first.startswith(COMPILED_IDENTIFIER):
        raise ValueError("it is not a compiled file, or not all of one")
    _, version, wanted, told, digest = _HEADER.unpack(first)
    if version != VERSION:
        raise ValueError(f"its format has version {version}, not {VERSION}: compile the model again")
    start = _HEADER.size + wanted + told
    if start > size:
        raise ValueError("it is incomplete")
    head = file.read(start - _HEADER.size)
    if hashlib.sha256(head).digest() != digest:
        raise ValueError("it is damaged")
    require_runnable(head[:wanted])
    file.seek(blocks.padded_size(start))
    return head[wanted : wanted + told], block_of(file, max(0, size - blocks.padded_size(start)))


def block_of(file: IO[bytes], size: int) -> Bytes:
    """Return the rest of a file, `size` bytes that begin at a cache line.

    A file on a local disk is mapped, as libraries are: processes share the memory, and nothing is read before it is needed.
    """
    start = file.tell()
    if size and not isinstance(file, io.BytesIO) and not is_remote(os.fstat(file.fileno()).st_dev):
        return np.frombuffer(mmap.mmap(file.fileno(), start + size, access=mmap.ACCESS_READ), np.uint8)[start:]
    block = allocate(size)
    view, at = block.data, 0
    while at < size:
        count: int = file.readinto(view[at:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError("it is incomplete")
        at += count
    return block


def require_runnable(record: bytes) -> None:
    """Raise ValueError unless this package and this machine can run code with the needs in this record."""
    version, architecture, system, features, only = fields(json.loads(record), 5)
    if version != sardonyx.__version__:
        raise ValueError(
            f"it was compiled by version {version} of Sardonyx, and this is {sardonyx.__version__}: compile the model again"
        )
    reason = unmet(Needs(text(architecture), text(system), listed(features, text), text(only)))
    if reason:
        raise ValueError(reason)
