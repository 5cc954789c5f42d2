"""Reads relocatable ELF64 objects (little endian), as LLVM writes them. Raises ImageError for damaged ones."""

from __future__ import annotations

import struct

from msgspec import Struct

from sardonyx.runtime.image import ImageError

MACHINES = {62: "x86_64", 183: "aarch64"}
WRITE, ALLOC, EXECUTE, TLS = 0x1, 0x2, 0x4, 0x400  # flags of a section
UNDEFINED, FIRST_RESERVED, ABSOLUTE, COMMON = 0, 0xFF00, 0xFFF1, 0xFFF2  # section indices of symbols
LOCAL, WEAK = 0, 2  # symbol bindings
MOST_ALIGNMENT = 4096

_SYMBOL_TABLE, _RELA, _NOTE, _NOBITS, _REL, _UNWIND = 2, 4, 7, 8, 9, 0x70000001  # section types
_RELOCATABLE = 1
_IDENTITY = b"\x7fELF\x02\x01\x01"  # 64 bits, little endian, version 1
_IDENTITY_BYTES = 16
_FILE = struct.Struct("<HHIQQQIHHHHHH")  # the rest of the file header
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")


class Section(Struct, frozen=True):
    """A section's header, and its content if the file holds it."""

    name: str
    kind: int
    flags: int
    size: int
    alignment: int
    content: bytes
    link: int
    info: int

    @property
    def is_placed(self) -> bool:
        """Does the section belong into memory? Unwind tables and notes don't, since nothing unwinds through compiled code."""
        return bool(self.flags & ALLOC) and self.kind not in (_NOTE, _UNWIND) and self.name != ".eh_frame"

    @property
    def is_code(self) -> bool:
        """Must the section be executable? As in linkers, every section called .text is."""
        return bool(self.flags & EXECUTE) or self.name == ".text" or self.name.startswith(".text.")

    @property
    def is_writable(self) -> bool:
        return bool(self.flags & (WRITE | TLS)) or self.kind == _NOBITS


class Symbol(Struct, frozen=True):
    """A symbol: `value` is its offset in the section with index `section`."""

    name: str
    binding: int
    section: int
    value: int


class Relocation(Struct, frozen=True):
    """Store the address of a symbol plus the addend into `section` at `offset`, in the way that `kind` says."""

    section: int
    offset: int
    kind: int
    symbol: int
    addend: int


class ElfObject(Struct, frozen=True):
    """A relocatable object whose indices have been checked."""

    arch: str
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
    relocations: tuple[Relocation, ...]


def parse(data: bytes) -> ElfObject:
    """Parse an object. Raises ImageError if it isn't one, is damaged, or is for a processor that the linker doesn't know."""
    kind, machine, _, _, _, table, _, _, _, _, entry, count, names = _unpack(_FILE, data, _IDENTITY_BYTES)
    if not data.startswith(_IDENTITY) or kind != _RELOCATABLE:
        raise ImageError("not a relocatable ELF64 object")
    if machine not in MACHINES:
        raise ImageError(f"object of an unknown processor (ELF machine {machine})")
    if entry != _SECTION.size or names >= count:
        raise ImageError("damaged object: its section headers are invalid")
    headers = [_unpack(_SECTION, data, table + i * entry) for i in range(count)]
    labels = _content(data, headers[names])
    sections = tuple(_section(data, header, labels) for header in headers)
    symbols = _symbols(sections)
    relocations = tuple(
        relocation
        for section in sections
        if section.kind in (_RELA, _REL)
        for relocation in _relocations(section, sections, len(symbols))
    )
    return ElfObject(MACHINES[machine], sections, symbols, relocations)


def _section(data: bytes, header: tuple[int, ...], labels: bytes) -> Section:
    label, kind, flags, _, _, size, link, info, alignment, _ = header
    content = b"" if kind == _NOBITS else _content(data, header)
    alignment = max(alignment, 1)
    if alignment & (alignment - 1) or alignment > MOST_ALIGNMENT:
        raise ImageError(f"section {_text(labels, label)!r} is aligned to {alignment} bytes")
    return Section(_text(labels, label), kind, flags, size, alignment, content, link, info)


def _symbols(sections: tuple[Section, ...]) -> tuple[Symbol, ...]:
    tables = [section for section in sections if section.kind == _SYMBOL_TABLE]
    if len(tables) > 1:
        raise ImageError("damaged object: more than one symbol table")
    symbols = []
    for table in tables:
        labels = _at(sections, table.link, "symbol names").content
        for label, information, _, section, value, _ in _entries(_SYMBOL, table):
            if section < FIRST_RESERVED and value > _at(sections, section, "a symbol's section").size:
                raise ImageError(f"damaged object: symbol {_text(labels, label)!r} lies outside its section")
            symbols.append(Symbol(_text(labels, label), information >> 4, section, value))
    return tuple(symbols)


def _relocations(table: Section, sections: tuple[Section, ...], symbols: int) -> list[Relocation]:
    target = _at(sections, table.info, "a relocated section")
    if not target.is_placed:
        return []
    if table.kind == _REL:
        raise ImageError(f"section {table.name!r} has relocations without addends (REL), which are not supported")
    relocations = []
    for offset, information, addend in _entries(_RELOCATION, table):
        symbol, kind = information >> 32, information & 0xFFFFFFFF
        if symbol >= symbols or offset >= target.size:
            raise ImageError(f"damaged object: section {table.name!r} relocates an unknown symbol, or beyond its section")
        relocations.append(Relocation(table.info, offset, kind, symbol, addend))
    return relocations


def _unpack(layout: struct.Struct, data: bytes, offset: int) -> tuple[int, ...]:
    if offset + layout.size > len(data):
        raise ImageError("damaged object: it ends too early")
    return layout.unpack_from(data, offset)


def _entries(layout: struct.Struct, table: Section) -> list[tuple[int, ...]]:
    if len(table.content) % layout.size:
        raise ImageError(f"damaged object: the size of section {table.name!r} is no multiple of its entries' size")
    return list(layout.iter_unpack(table.content))


def _content(data: bytes, header: tuple[int, ...]) -> bytes:
    offset, size = header[4], header[5]
    if offset + size > len(data):
        raise ImageError("damaged object: a section lies outside the file")
    return data[offset : offset + size]


def _at(sections: tuple[Section, ...], index: int, what: str) -> Section:
    if index >= len(sections):
        raise ImageError(f"damaged object: {what} has no section")
    return sections[index]


def _text(labels: bytes, offset: int) -> str:
    end = labels.find(b"\0", offset)
    if end < 0:
        raise ImageError("damaged object: a name lies outside its table")
    return labels[offset:end].decode("utf-8", "backslashreplace")
