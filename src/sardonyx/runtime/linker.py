"""Links relocatable objects into one position-independent image: text, then read-only data, nothing writable.

parse       ELF objects -> sections, symbols, relocations
lay out     text first, then read-only data from the next page on
resolve     the symbols of each object among those of all objects
relocate    pc-relative relocations only, so that the image runs at any address
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from sardonyx.runtime import elf
from sardonyx.runtime.elf import ElfObject, Relocation, Section, Symbol, parse
from sardonyx.runtime.image import Image, ImageError

PAGE = {"x86_64": 4096, "aarch64": 65536}  # the largest page size in common use; text and data share no page


class Field(Struct, frozen=True):
    """How the value of a relocation is computed and stored.

    origin: what is subtracted from the target's address: "place", the relocated word's own address; "page", its 4 KiB page
    (from the target's page); "low12", nothing, but only the low 12 bits are kept, which are the same for every placement at a
    page boundary. The value is shifted right by `shift` bits, which must be zero, and stored in `bits` bits from bit `lsb` of
    a little-endian word.
    """

    name: str
    origin: str = "place"
    size: int = 4
    bits: int = 32
    lsb: int = 0
    shift: int = 0
    is_adr: bool = False  # the two low bits are stored separately, as in AArch64's ADR and ADRP
    is_checked: bool = True


def _low12(name: str, shift: int) -> Field:
    return Field(name, "low12", bits=12 - shift, lsb=10, shift=shift, is_checked=False)


# Numbers and formulas: System V ABI, AMD64 supplement, table 4.9; ELF for the Arm 64-bit Architecture, 5.7.
FIELDS: dict[str, dict[int, Field]] = {
    "x86_64": {
        2: Field("R_X86_64_PC32"),
        4: Field("R_X86_64_PLT32"),
        24: Field("R_X86_64_PC64", size=8, bits=64),
    },
    "aarch64": {
        260: Field("R_AARCH64_PREL64", size=8, bits=64),
        261: Field("R_AARCH64_PREL32"),
        262: Field("R_AARCH64_PREL16", size=2, bits=16),
        273: Field("R_AARCH64_LD_PREL_LO19", bits=19, lsb=5, shift=2),
        274: Field("R_AARCH64_ADR_PREL_LO21", bits=21, is_adr=True),
        275: Field("R_AARCH64_ADR_PREL_PG_HI21", "page", bits=21, shift=12, is_adr=True),
        276: Field("R_AARCH64_ADR_PREL_PG_HI21_NC", "page", bits=21, shift=12, is_adr=True, is_checked=False),
        277: _low12("R_AARCH64_ADD_ABS_LO12_NC", 0),
        278: _low12("R_AARCH64_LDST8_ABS_LO12_NC", 0),
        279: Field("R_AARCH64_TSTBR14", bits=14, lsb=5, shift=2),
        280: Field("R_AARCH64_CONDBR19", bits=19, lsb=5, shift=2),
        282: Field("R_AARCH64_JUMP26", bits=26, shift=2),
        283: Field("R_AARCH64_CALL26", bits=26, shift=2),
        284: _low12("R_AARCH64_LDST16_ABS_LO12_NC", 1),
        285: _low12("R_AARCH64_LDST32_ABS_LO12_NC", 2),
        286: _low12("R_AARCH64_LDST64_ABS_LO12_NC", 3),
        299: _low12("R_AARCH64_LDST128_ABS_LO12_NC", 4),
        314: Field("R_AARCH64_PLT32"),
    },
}

NONE = 0  # the relocation that does nothing

REFUSED = {
    "x86_64": {
        1: "R_X86_64_64",
        9: "R_X86_64_GOTPCREL",
        10: "R_X86_64_32",
        11: "R_X86_64_32S",
        41: "R_X86_64_GOTPCRELX",
        42: "R_X86_64_REX_GOTPCRELX",
    },
    "aarch64": {
        257: "R_AARCH64_ABS64",
        258: "R_AARCH64_ABS32",
        259: "R_AARCH64_ABS16",
        311: "R_AARCH64_ADR_GOT_PAGE",
        312: "R_AARCH64_LD64_GOT_LO12_NC",
    },
}
"""Relocations that depend on the image's address or need a global offset table; named in the error message."""

Offsets = dict[tuple[int, int], int]  # (object, section) -> offset in the image


def link(objects: Sequence[bytes]) -> Image:
    """Link ELF64 objects of one architecture into an image, which has all their global symbols.

    Raises ImageError for damaged objects, writable data, undefined or doubly defined symbols, and relocations that depend on
    the image's address.
    """
    parsed = [parse(data) for data in objects]
    arch = _common_architecture(parsed)
    code, text_size, offsets = _lay_out(parsed, PAGE[arch])
    symbols = _global_symbols(parsed, offsets)
    _check_defined(parsed, symbols)
    for number, item in enumerate(parsed):
        for relocation in item.relocations:
            if relocation.kind != NONE:
                target = _target(item.symbols[relocation.symbol], number, offsets, symbols) + relocation.addend
                _relocate(code, item, relocation, offsets[number, relocation.section], target)
    return Image(bytes(code), text_size, symbols, arch)


def _common_architecture(objects: Sequence[ElfObject]) -> str:
    found = sorted({item.arch for item in objects})
    if len(found) != 1:
        raise ImageError(f"the objects must be of one architecture, not of {found}")
    return found[0]


def _lay_out(objects: Sequence[ElfObject], page: int) -> tuple[bytearray, int, Offsets]:
    """Concatenate the sections: code, then data from a page boundary on. -> (bytes, bytes of text, {(object, section): offset})"""
    code, offsets = bytearray(), Offsets()
    for is_code in (True, False):
        for key, section in _placed_sections(objects):
            if section.is_code == is_code:
                _pad(code, section.alignment)
                offsets[key] = len(code)
                code += section.content
        if is_code:
            _pad(code, page)
            text_size = len(code)
    if not text_size:
        raise ImageError("no code to link")
    return code, text_size, offsets


def _placed_sections(objects: Sequence[ElfObject]) -> Iterator[tuple[tuple[int, int], Section]]:
    for number, item in enumerate(objects):
        for index, section in enumerate(item.sections):
            if not section.is_placed:
                continue
            if section.is_writable and section.size:
                raise ImageError(f"object {number}: section {section.name!r} is writable data")
            yield (number, index), section


def _pad(code: bytearray, alignment: int) -> None:
    code += bytes(-len(code) % alignment)


def _global_symbols(objects: Sequence[ElfObject], offsets: Offsets) -> dict[str, int]:
    """Return the offset of each global symbol. The first definition counts, except that a strong one replaces a weak one."""
    symbols: dict[str, int] = {}
    strong: set[str] = set()
    for number, item in enumerate(objects):
        for symbol in item.symbols:
            if symbol.binding == elf.LOCAL or (number, symbol.section) not in offsets:
                continue
            is_strong = symbol.binding != elf.WEAK
            if is_strong and symbol.name in strong:
                raise ImageError(f"symbol {symbol.name!r} is defined twice")
            if is_strong or symbol.name not in symbols:
                symbols[symbol.name] = offsets[number, symbol.section] + symbol.value
            if is_strong:
                strong.add(symbol.name)
    return symbols


def _check_defined(objects: Sequence[ElfObject], symbols: dict[str, int]) -> None:
    wanted = {
        item.symbols[relocation.symbol].name
        for item in objects
        for relocation in item.relocations
        if relocation.kind != NONE and item.symbols[relocation.symbol].section == elf.UNDEFINED
    }
    missing = sorted(wanted - symbols.keys())
    if missing:
        raise ImageError(f"undefined symbols: {', '.join(missing)}")


def _target(symbol: Symbol, number: int, offsets: Offsets, symbols: dict[str, int]) -> int:
    """Return the offset of the symbol that a relocation of object `number` refers to."""
    if symbol.binding != elf.LOCAL and symbol.name in symbols:
        return symbols[symbol.name]
    key = (number, symbol.section)
    if key not in offsets:
        raise ImageError(f"object {number}: symbol {symbol.name!r} has no place in the image")
    return offsets[key] + symbol.value


def _relocate(code: bytearray, item: ElfObject, relocation: Relocation, base: int, target: int) -> None:
    """Apply a relocation. base: the offset of its section. target: the offset of its symbol plus the addend."""
    section = item.sections[relocation.section]
    field = FIELDS[item.arch].get(relocation.kind)
    where = f"in section {section.name!r}, to symbol {item.symbols[relocation.symbol].name!r}"
    if field is None:
        name = REFUSED[item.arch].get(relocation.kind, f"of type {relocation.kind}")
        raise ImageError(
            f"relocation {name} {where} depends on where the image lies: compile position independent (reloc='pic'), "
            "with data internal to its module"
        )
    if relocation.offset + field.size > section.size:
        raise ImageError(f"relocation {field.name} {where} lies outside")
    place = base + relocation.offset
    value = _value(field, place, target)
    limit = 1 << (field.bits - 1)
    if value is None or (field.is_checked and not -limit <= value < limit):
        raise ImageError(f"relocation {field.name} {where} is out of reach or misaligned")
    word = int.from_bytes(code[place : place + field.size], "little")
    code[place : place + field.size] = _insert(field, word, value).to_bytes(field.size, "little")


def _value(field: Field, place: int, target: int) -> int | None:
    """Return the value to store; None if bits that the shift drops are not zero."""
    match field.origin:
        case "place":
            value = target - place
        case "page":
            value = (target & ~0xFFF) - (place & ~0xFFF)
        case _:
            value = target & 0xFFF
    return None if value & ((1 << field.shift) - 1) else value >> field.shift


def _insert(field: Field, word: int, value: int) -> int:
    if field.is_adr:
        mask = 0x3 << 29 | 0x7FFFF << 5
        bits = (value & 0x3) << 29 | (value >> 2 & 0x7FFFF) << 5
    else:
        mask = ((1 << field.bits) - 1) << field.lsb
        bits = value << field.lsb & mask
    return word & ~mask | bits
