"""Reading of model files, in ONNX's format and in ONNX Runtime's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import FileIO
from typing import TypeVar

import onnx

from sardonyx.base.background import Background
from sardonyx.base.errors import Fail, InvalidProtobuf, NoSuchFile
from sardonyx.graph.initializer_reader import File, Memory, SplitModel, split_large_tensors
from sardonyx.runtime.safe_open import open_regular

Read = TypeVar("Read")


def read_ort(data: bytes) -> onnx.ModelProto:
    """Convert an .ort file to a model. Raises Fail for damaged bytes."""
    from sardonyx.graph.ort_format import read_ort  # few models have this format

    return read_ort(data)


def read_file(path: str, read: Callable[[FileIO], Read]) -> Read:
    """Return read(the opened model file). Raises NoSuchFile if it does not exist, InvalidProtobuf for a folder, Fail for a pipe or a
    device.
    """
    prefix = f"Load model from {path} failed:"
    try:
        with open(open_regular(path), "rb", buffering=0) as file:
            return read(file)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoSuchFile(f"{prefix}Load model {path} failed. File doesn't exist") from error
    except IsADirectoryError as error:
        raise InvalidProtobuf(f"{prefix}Protobuf parsing failed.") from error
    except (OSError, ValueError) as error:
        raise Fail(f"{prefix}{error}") from error


def read_whole(file: FileIO) -> bytes:
    """Return all bytes of a file."""
    return file.readall() or b""


def split_file(file: FileIO, reader: Background | None) -> SplitModel:
    """Read a model file without its large tensors, which `reader` reads meanwhile."""
    size = os.fstat(file.fileno()).st_size
    sized = size > 0 and hasattr(os, "preadv")
    return split_large_tensors(File(file.fileno(), size), reader) if sized else split_large_tensors(Memory(file.readall() or b""))
