"""Linking: objects as LLVM writes them, and damaged ones."""

from __future__ import annotations

import ctypes
import functools
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import ir

from sardonyx.codegen.llvm_types import I8, I64, VOID
from sardonyx.codegen.waiting import emit_system_call, system_calls
from sardonyx.runtime.image import Image, ImageError
from sardonyx.runtime.linker import link
from sardonyx.runtime.loader import load
from tests.runtime.objects import HOST, LINUX, compile_module, emulator, function, new_module, run_program

TABLE = [3, 1, 4, 1, 5, 9, 2, 6]
KINDS = [ir.IntType(bits) for bits in (8, 16, 32, 64)]


def constant(module: ir.Module, name: str, kind: ir.Type, values: list[int]) -> ir.GlobalVariable:
    array = ir.ArrayType(kind, len(values))
    made = ir.GlobalVariable(module, array, name)
    made.linkage, made.global_constant, made.initializer = "internal", True, ir.Constant(array, values)
    return made


def lookup_module(triple: str = HOST) -> ir.Module:
    """`i64 lookup(i64 i)`: the sum of element i of four tables, of 8 to 64 bits."""
    module = new_module(triple)
    made, builder = function(module, "lookup", I64, I64)
    total = I64(0)
    for kind in KINDS:
        table = constant(module, f"table{kind.width}", kind, TABLE)
        element = builder.load(builder.gep(table, [made.args[0]], source_etype=kind), typ=kind)
        total = builder.add(total, builder.zext(element, I64) if kind is not I64 else element)
    builder.ret(total)
    return module


def caller_module(triple: str = HOST, callee: str = "lookup", name: str = "twice") -> ir.Module:
    """`i64 twice(i64 i)`: 2 * lookup(i), from another object."""
    module = new_module(triple)
    other = ir.Function(module, ir.FunctionType(I64, [I64]), callee)
    made, builder = function(module, name, I64, I64)
    builder.ret(builder.mul(builder.call(other, made.args), I64(2)))
    return module


@functools.cache
def lookup_object() -> bytes:
    return compile_module(lookup_module())


def call(image: Image, name: str, argument: int) -> int:
    loaded = load(image)
    result = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(loaded.address(name))(argument)
    loaded.close()
    return result


def test_calls_between_objects_and_constants():
    image = link([compile_module(caller_module()), lookup_object()])
    assert set(image.symbols) == {"twice", "lookup"}
    assert [call(image, "twice", i) for i in range(8)] == [2 * 4 * value for value in TABLE]


def test_text_and_constants_share_no_page():
    image = link([lookup_object()])
    assert image.text_size % 4096 == 0
    assert 0 < image.text_size < len(image.code)
    assert all(offset < image.text_size for offset in image.symbols.values())
    assert bytes(TABLE) in image.code[image.text_size :]


@pytest.mark.parametrize("optimise", [False, True])
@pytest.mark.parametrize("arch", LINUX)
def test_program_of_two_objects(arch: str, optimise: bool, tmp_path: Path):
    """Linked for each architecture and run as a program of its own, whose status is a number from the tables."""
    if emulator(arch) is None:
        pytest.skip(f"qemu-{arch} is not installed")
    triple = LINUX[arch]
    start = caller_module(triple, "lookup", "twice")
    made, builder = function(start, "start", VOID)
    made.attributes.alignstack = 16
    index = builder.alloca(I64)
    builder.store(I64(5), index)
    status = builder.call(start.globals["twice"], [builder.load(index, typ=I64)])
    emit_system_call(builder, system_calls(start), {"x86_64": 60, "aarch64": 93}[arch], (status,))
    builder.unreachable()
    objects = [compile_module(module, optimise=optimise) for module in (start, lookup_module(triple))]
    assert run_program(link(objects), tmp_path) == 2 * 4 * TABLE[5]


def test_the_same_objects_give_the_same_bytes():
    assert link([lookup_object()]).to_bytes() == link([lookup_object()]).to_bytes()


def test_undefined_symbols_are_named():
    objects = [
        compile_module(caller_module(callee="fmodf")),
        compile_module(caller_module(callee="memset", name="other")),
    ]
    with pytest.raises(ImageError, match="undefined symbols: fmodf, memset"):
        link(objects)


def test_a_symbol_defined_twice_is_named():
    with pytest.raises(ImageError, match="'lookup' is defined twice"):
        link([lookup_object(), lookup_object()])


def test_weak_definitions_give_way():
    modules = []
    for linkage, value in (("weak_odr", 1), ("", 2), ("weak_odr", 3)):
        module = new_module()
        made, builder = function(module, "number", I64, I64)
        made.linkage = linkage
        builder.ret(I64(value))
        modules.append(module)
    modules.append(caller_module(callee="number"))
    assert call(link([compile_module(module) for module in modules]), "twice", 0) == 4


@pytest.mark.parametrize("arch", LINUX)
def test_writable_data_is_refused(arch: str):
    module = new_module(LINUX[arch])
    state = ir.GlobalVariable(module, I64, "state")
    state.initializer = I64(1)
    _, builder = function(module, "count", VOID)
    builder.store(builder.add(builder.load(state, typ=I64), I64(1)), state)
    builder.ret_void()
    with pytest.raises(ImageError, match=r"section '\.data' is writable"):
        link([compile_module(module)])


def test_absolute_relocations_are_refused():
    with pytest.raises(ImageError, match=r"R_X86_64_(32S|64) in section '\.text'.*reloc='pic'"):
        link([compile_module(lookup_module(LINUX["x86_64"]), reloc="static")])


@pytest.mark.parametrize(("arch", "name"), [("x86_64", "GOTPCREL"), ("aarch64", "ADR_GOT_PAGE")])
def test_data_of_another_object_is_refused(arch: str, name: str):
    module = new_module(LINUX[arch])
    outside = ir.GlobalVariable(module, I8, "outside")
    _, builder = function(module, "where", I64)
    builder.ret(builder.ptrtoint(outside, I64))
    other = new_module(LINUX[arch])
    defined = ir.GlobalVariable(other, I8, "outside")
    defined.global_constant, defined.initializer = True, I8(1)
    with pytest.raises(ImageError, match=f"{name}.*'outside'"):
        link([compile_module(module), compile_module(other)])


def test_objects_of_two_architectures_are_refused():
    with pytest.raises(ImageError, match="one architecture"):
        link([compile_module(lookup_module(triple)) for triple in LINUX.values()])
    with pytest.raises(ImageError, match="one architecture"):
        link([])


def test_an_object_without_code_is_refused():
    module = new_module()
    constant(module, "table", I8, TABLE).linkage = ""
    with pytest.raises(ImageError, match="no code"):
        link([compile_module(module)])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends too early"),
        (b"MZ" + bytes(100), "not a relocatable ELF64 object"),
        (b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HH", 1, 8) + bytes(60), "unknown processor"),
    ],
)
def test_what_is_no_object_is_refused(data: bytes, message: str):
    with pytest.raises(ImageError, match=message):
        link([data])


@given(length=st.integers(0, 4000))
@settings(max_examples=50, deadline=None)
def test_truncated_objects_never_crash(length: int):
    data = lookup_object()
    if length < len(data):
        with pytest.raises(ImageError):
            link([data[:length]])


@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_damaged_objects_never_crash(changes: list[tuple[int, int]]):
    data = bytearray(lookup_object())
    for position, value in changes:
        data[position % len(data)] = value
    try:
        image = link([bytes(data)])
    except ImageError:
        return
    assert len(image.code) >= image.text_size > 0
    assert all(0 <= offset <= len(image.code) for offset in image.symbols.values())


def test_image_survives_serialisation():
    image = link([compile_module(caller_module()), lookup_object()])
    assert Image.from_bytes(image.to_bytes()) == image


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_images_never_crash(data: st.DataObject):
    good = link([lookup_object()]).to_bytes()[:600]
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, 120))] = data.draw(st.integers(0, 255))
    with pytest.raises(ImageError):
        Image.from_bytes(bytes(changed))


def test_only_images_are_read_back():
    good = link([lookup_object()]).to_bytes()
    for data in (b"", good[:30], good[:-1], good + b"\0", b"X" + good[1:]):
        with pytest.raises(ImageError, match="damaged image"):
            Image.from_bytes(data)
