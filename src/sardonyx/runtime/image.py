"""Linked machine code: position independent, ready to be placed in memory, and stored in the on-disk cache."""

from __future__ import annotations

import struct

from msgspec import Struct

_MAGIC = b"SDXIMAGE"
_HEADER = struct.Struct("<8s16sQQI")  # magic, architecture, bytes of text, bytes in all, symbols
_SYMBOL = struct.Struct("<QH")  # offset, bytes of the name that follows


class ImageError(Exception):
    """Machine code that can't be linked, read back or placed; the message says why."""


class Image(Struct, frozen=True):
    """Linked machine code, which runs at any address that is aligned to a page.

    code: text, padded to `text_size` bytes, then read-only data. symbols: {global symbol: its offset in code}. arch: the
    first part of its target triple, such as `x86_64`.
    """

    code: bytes
    text_size: int
    symbols: dict[str, int]
    arch: str

    def to_bytes(self) -> bytes:
        """Serialise the image. Equal images give equal bytes."""
        parts = [
            _HEADER.pack(_MAGIC, self.arch.encode("ascii"), self.text_size, len(self.code), len(self.symbols)),
        ]
        for name, offset in sorted(self.symbols.items()):
            encoded = name.encode()
            parts += (_SYMBOL.pack(offset, len(encoded)), encoded)
        return b"".join([*parts, self.code])

    @classmethod
    def from_bytes(cls, data: bytes) -> Image:
        """Read what `to_bytes` wrote. Raises ImageError for anything else."""
        try:
            magic, arch, text_size, size, count = _HEADER.unpack_from(data)
            symbols, at = {}, _HEADER.size
            for _ in range(count):
                offset, length = _SYMBOL.unpack_from(data, at)
                at += _SYMBOL.size
                symbols[data[at : at + length].decode()] = offset
                at += length
            image = cls(bytes(data[at:]), text_size, symbols, arch.rstrip(b"\0").decode("ascii"))
        except (struct.error, UnicodeDecodeError) as error:
            raise ImageError(f"damaged image: {error}") from None
        image._check(magic, size)
        return image

    def _check(self, magic: bytes, size: int) -> None:
        if magic != _MAGIC:
            raise ImageError("damaged image: not an image")
        if len(self.code) != size or not 0 < self.text_size <= size:
            raise ImageError(f"damaged image: {len(self.code)} bytes of code, {self.text_size} of text, {size} declared")
        for name, offset in self.symbols.items():
            if offset > size:
                raise ImageError(f"damaged image: symbol {name!r} lies outside")
