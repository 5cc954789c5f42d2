"""Custom operators in shared libraries with the interface of `include/sardonyx_operators.h`.

A file is judged before it is loaded, because loading runs its code: it must be whole, of this processor, and export the interface.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sardonyx.base.dtypes import BY_CODE, from_numpy, string
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.expr.tensor import Tensor
from sardonyx.ops import custom
from sardonyx.ops.custom_signature import split_name
from sardonyx.ops.record import Op, Signature
from sardonyx.runtime.safe_open import open_regular

VERSION = 1
ENTRY, FOREIGN = b"sardonyx_operators", b"RegisterCustomOps"
MOST_OPERATORS, MOST_ARGUMENTS, MOST_AXES, MESSAGE = 1000, 64, 64, 512
MACHINES = {"x86_64": 62, "amd64": 62, "aarch64": 183, "arm64": 183, "riscv64": 243, "ppc64le": 21, "s390x": 22}
HEADER, SEGMENT, LOADED = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ"), 1
KINDS = {
    "float": ("FLOAT", "float"),
    "int": ("INT", "int"),
    "string": ("STRING", "str"),
    "floats": ("FLOATS", "list float"),
    "ints": ("INTS", "list int"),
}
_loaded: dict[str, ctypes.CDLL] = {}
_lock = threading.Lock()


class CTensor(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("sizes", ctypes.POINTER(ctypes.c_int64)),
        ("data", ctypes.c_void_p),
    )


class CAttribute(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("count", ctypes.c_int64), ("values", ctypes.c_void_p))


class CCall(ctypes.Structure):
    _fields_ = (
        *(("inputs", ctypes.c_int32), ("outputs", ctypes.c_int32), ("attributes", ctypes.c_int32)),
        *(("input", ctypes.POINTER(CTensor)), ("output", ctypes.POINTER(CTensor)), ("attribute", ctypes.POINTER(CAttribute))),
        *(("message", ctypes.c_char_p), ("message_size", ctypes.c_size_t)),
    )


FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(CCall))


class COperator(ctypes.Structure):
    _fields_ = (
        *(("name", ctypes.c_char_p), ("since", ctypes.c_int32), ("inputs", ctypes.c_int32), ("outputs", ctypes.c_int32)),
        *(("attributes", ctypes.c_char_p), ("shape", FUNCTION), ("compute", FUNCTION)),
    )


class CLibrary(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("count", ctypes.c_uint32), ("operators", ctypes.POINTER(COperator)))


def register_library(path: str) -> None:
    """Register the operators of a library for the process; a second time it does nothing. Raises Fail, naming the file."""
    try:
        place = os.path.realpath(path)
        with _lock:
            if place not in _loaded:
                judge(path)
                library = ctypes.CDLL(place)
                register(library)
                _loaded[place] = library  # it is never unloaded: records refer to its functions
    except (OSError, ValueError, Fail) as error:
        reason = error.detail if isinstance(error, Fail) else getattr(error, "strerror", None) or str(error)
        raise Fail(f"Failed to load library {path} with error: {reason}") from error


# ---- the file -----------------------------------------------------------------------------------------------------------------


def judge(path: str) -> None:
    """Raise Fail for a file that is no library of this processor, is damaged, or has another interface; OSError for no file."""
    with open(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise Fail(f"{path} is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if sys.platform.startswith("linux"):
                judge_elf(path, data)
            if data.find(ENTRY) >= 0:
                return
            if data.find(FOREIGN) >= 0:
                raise Fail(
                    f"{path} is written for ONNX Runtime's interface (RegisterCustomOps, OrtApi), which is not supported: it needs the "
                    "interface of sardonyx_operators.h, see docs/custom_operators.md"
                )
            raise Fail(f"{path} has no function sardonyx_operators")


def judge_elf(path: str, data: mmap.mmap) -> None:
    """Raise Fail unless the bytes are a whole shared library in ELF for this processor."""
    if data[:4] != b"\x7fELF":
        raise Fail(f"{path}: invalid ELF header")
    if len(data) < HEADER.size:
        raise Fail(f"{path}: the file is too short")
    identity, kind, machine, _, _, segments, _, _, _, size, count, *_ = HEADER.unpack(data[: HEADER.size])
    own = MACHINES.get(platform.machine().lower())
    if identity[4] != 2 or identity[5] != 1 or (own is not None and machine != own):
        raise Fail(f"{path}: the library is for another processor (ELF machine {machine}) than this {platform.machine()}")
    if kind != 3 or size != SEGMENT.size or segments + size * count > len(data):
        raise Fail(f"{path}: the file is damaged or no shared library")
    for index in range(count):
        start = segments + index * size
        what, _, offset, _, _, length, _, _ = SEGMENT.unpack(data[start : start + size])
        if what == LOADED and offset + length > len(data):
            raise Fail(f"{path}: the file is damaged: it ends before its segments")


# ---- the operators --------------------------------------------------------------------------------------------------------------


def register(library: ctypes.CDLL) -> None:
    """Register the operators that a library describes: all, or none. Raises Fail or ValueError for a description that is wrong."""
    entry = library.sardonyx_operators
    entry.restype = ctypes.POINTER(CLibrary)
    found = entry()
    if not found:
        raise Fail("sardonyx_operators returned NULL")
    if found.contents.version != VERSION:
        raise Fail(f"the library has version {found.contents.version} of the interface, not {VERSION}")
    count = found.contents.count
    if not 0 < count <= MOST_OPERATORS or not found.contents.operators:
        raise Fail(f"the library describes {count} operators")
    made = [record_of(found.contents.operators[index]) for index in range(count)]
    done = []
    try:
        for op in made:
            custom.add([op])
            done.append(op)
    except ValueError:
        for op in done:
            custom.unregister_custom_op(f"{op.domain}::{op.name}", op.since)
        raise


def record_of(told: COperator) -> Op:
    """Return the record of an operator. Raises Fail or ValueError."""
    name = (told.name or b"").decode()
    split_name(name, custom.RESERVED)
    if told.since < 1 or not 0 <= told.inputs <= MOST_ARGUMENTS or not 1 <= told.outputs <= MOST_ARGUMENTS:
        raise Fail(f"{name} has version {told.since}, {told.inputs} inputs and {told.outputs} outputs")
    if not told.shape or not told.compute:
        raise Fail(f"{name} has no shape or compute function")
    attributes, converted = {}, {}
    for entry in (told.attributes or b"").decode().split():
        key, _, kind = entry.partition(":")
        if not key.isidentifier() or kind not in KINDS:
            raise Fail(f"{name} has an attribute '{entry}', not name:kind with a kind of {', '.join(KINDS)}")
        attributes[key], converted[key] = KINDS[kind]
    inputs = tuple(f"input{index}" for index in range(told.inputs))
    signature = Signature(inputs, frozenset(), None, attributes, frozenset(), converted, told.outputs)
    shape, compute, outputs = told.shape, told.compute, told.outputs

    def run(*arrays: Any, **given: Any) -> tuple[Any, ...]:
        values = [np.ascontiguousarray(x).reshape(np.shape(x)) for x in arrays]
        made = [
            np.empty(sizes, BY_CODE[code].numpy) for code, sizes in shapes(name, shape, list(map(form, values)), outputs, given)
        ]
        call(name, compute, list(map(tensor, values)), list(map(tensor, made)), given)
        return tuple(made)

    def predict(*tensors: Tensor, **given: Any) -> list[Any]:
        forms = []
        for t in tensors:
            if not custom.fixed(t):
                raise Unsupported(f"{name} of sizes that a run decides")
            forms.append((t.dtype.code, tuple(map(int, t.shape))))  # type: ignore[arg-type]
        return [(BY_CODE[code].numpy, sizes) for code, sizes in shapes(name, shape, forms, outputs, given)]

    return custom.record(name, told.since, signature, run, False, predict)


Form = tuple[int, tuple[int, ...]]  # element type, sizes


def form(array: Any) -> Form:
    kind = from_numpy(array.dtype)
    if kind is string:
        raise TypeError("strings can't be passed to a library")
    return kind.code, array.shape


def shapes(name: str, function: Any, inputs: Sequence[Form], outputs: int, given: Mapping[str, Any]) -> list[Form]:
    """Call a shape function. Raises Fail if it fails, or gives what is no shape."""
    empty = [CTensor(0, 0, (ctypes.c_int64 * MOST_AXES)(), None) for _ in range(outputs)]
    call(
        name,
        function,
        [CTensor(code, len(sizes), (ctypes.c_int64 * MOST_AXES)(*sizes), None) for code, sizes in inputs],
        empty,
        given,
    )
    found = []
    for t in empty:
        if (
            t.type not in BY_CODE
            or BY_CODE[t.type] is string
            or not 0 <= t.rank <= MOST_AXES
            or any(t.sizes[a] < 0 for a in range(t.rank))
        ):
            raise Fail(f"the library's shape function of {name} gave an output of type {t.type} and rank {t.rank}")
        found.append((t.type, tuple(t.sizes[a] for a in range(t.rank))))
    return found


def tensor(array: Any) -> CTensor:
    code, sizes = form(array)
    return CTensor(code, len(sizes), (ctypes.c_int64 * MOST_AXES)(*sizes), array.ctypes.data)


def call(
    name: str, function: Callable[..., int], inputs: Sequence[CTensor], outputs: Sequence[CTensor], given: Mapping[str, Any]
) -> None:
    """Call a function of the library. Raises Fail with its message if it returns another number than 0."""
    kept = [attribute(key, value) for key, value in given.items()]
    told = [found for found, _ in kept]
    message = ctypes.create_string_buffer(MESSAGE)
    asked = CCall(len(inputs), len(outputs), len(told), (CTensor * len(inputs))(*inputs), None, (CAttribute * len(told))(*told))
    results = (CTensor * len(outputs))(*outputs)
    asked.output, asked.message, asked.message_size = results, ctypes.cast(message, ctypes.c_char_p), MESSAGE
    status = function(ctypes.byref(asked))
    if status:
        reason = message.raw.split(b"\0")[0].decode(errors="replace")
        raise Fail(f"the library's function of {name} returned {status}: {reason or 'no message'}")
    for given_tensor, result in zip(outputs, results, strict=True):
        given_tensor.type, given_tensor.rank = result.type, result.rank


def attribute(name: str, value: Any) -> tuple[CAttribute, Any]:
    """Return an attribute as the library gets it, and the memory that it points to."""
    if isinstance(value, str):
        text = ctypes.create_string_buffer(value.encode())
        return CAttribute(name.encode(), len(text) - 1, ctypes.addressof(text)), text
    numbers = value if isinstance(value, list) else [value]
    kind = ctypes.c_int64 if all(isinstance(n, int) for n in numbers) else ctypes.c_float
    memory = (kind * len(numbers))(*numbers)
    return CAttribute(name.encode(), len(numbers), ctypes.addressof(memory)), memory
