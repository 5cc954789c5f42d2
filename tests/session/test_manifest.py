"""Manifests: what is kept of a session, and that nothing else is read as one."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from msgspec.structs import force_setattr

from sardonyx.base.options import CompileOptions
from sardonyx.providers import registry
from sardonyx.runtime.image import ImageError
from sardonyx.runtime.memory import Bytes
from sardonyx.session.manifest import decode, encode
from sardonyx.session.pipeline import build
from sardonyx.session.session_parts import Request, SessionParts
from tests.graph.models import data

MOST = 1 << 20
TEXT = "g (float[N, 4] x, float[4] d) => (float[N, 4] y, float[4] c) <float[4] d = {1, 2, 3, 4}, float[4] c = {0, 0, 0, 1}> { y = Add(x, d) }"


def compiled(text: str) -> SessionParts:
    return build(Request(data(text), CompileOptions(), ((registry.CPU, {}),)))


@pytest.fixture(scope="module")
def built() -> SessionParts:
    return compiled(TEXT)


@pytest.fixture(scope="module")
def encoded(built: SessionParts) -> tuple[bytes, list[Bytes]]:
    found = encode(built, MOST)
    assert found is not None
    return found


def test_the_same_comes_back(built: SessionParts, encoded: tuple[bytes, list[Bytes]]):
    asked: list[tuple[Sequence[int], str]] = []

    def find(sizes: Sequence[int], checksum: str) -> list[Bytes]:
        asked.append((sizes, checksum))
        return encoded[1]

    again = decode(encoded[0], find, 3)
    assert again is not None
    once_more = encode(again, MOST)
    assert once_more is not None
    assert once_more[0] == encoded[0]
    assert asked[0][0] == tuple(piece.size for piece in encoded[1])
    assert again.program.steps[0].executable.threads == 3  # type: ignore[attr-defined]
    assert again.feeds.inputs == built.feeds.inputs
    assert again.feeds.overridable == built.feeds.overridable


def test_a_missing_block_means_no_session(encoded: tuple[bytes, list[Bytes]]):
    assert decode(encoded[0], lambda *_: None, 1) is None


def head(manifest: bytes) -> tuple[Any, bytes]:
    (length,) = struct.unpack_from("<Q", manifest)
    return json.loads(manifest[8 : 8 + length]), manifest[8 + length :]


def joined(told: Any, images: bytes) -> bytes:
    text = json.dumps(told).encode()
    return struct.pack("<Q", len(text)) + text + images


@pytest.mark.parametrize("value", [None, 7, "text", [], {}, [[1]], [{}]])
def test_nothing_else_is_read(encoded: tuple[bytes, list[Bytes]], value: object):
    told, images = head(encoded[0])
    for key, there in told.items():
        if value == there or (value == [] and key in ("inputs", "outputs", "overridable", "assignment", "constants")):
            continue
        try:
            found = decode(joined({**told, key: value}, images), lambda *_: encoded[1], 1)
        except (ValueError, ImageError):
            continue
        assert found is not None
        assert key in ("checksum",) or (key, value) in (("pieces", []), ("steps", [])), (key, value)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: b"",
        lambda manifest: manifest[:20],
        lambda manifest: manifest[:-1],
        lambda manifest: b"\xff" * 8 + manifest[8:],
        lambda manifest: manifest[:8] + b"[]" + manifest[10:],
        lambda manifest: struct.pack("<Q", 2) + b"{}" + manifest,
    ],
)
def test_damage_is_refused(encoded: tuple[bytes, list[Bytes]], change: Callable[[bytes], bytes]):
    with pytest.raises((ValueError, ImageError)):
        decode(change(encoded[0]), lambda *_: encoded[1], 1)


@pytest.mark.parametrize(
    "text",
    [
        "g (seq(float[N]) s) => (float[K] y) { y = ConcatFromSequence<axis = 0>(s) }",
        'g (float[2] x) => (float[2] y, string[1] c) <string[1] c = {"a"}> { y = Neg(x) }',
        'g (string[N] s) => (string[K] y) { y = StringNormalizer<case_change_action = "LOWER">(s) }',
    ],
)
def test_what_is_not_numbers_comes_back_too(text: str):
    there = compiled(text)
    found = encode(there, MOST)
    assert found is not None
    again = decode(found[0], lambda *_: found[1], 1)
    assert again is not None
    assert again.program.constants == there.program.constants
    assert [step.executable.describe() for step in again.program.steps] == [
        step.executable.describe() for step in there.program.steps
    ]
    once_more = encode(again, MOST)
    assert once_more is not None
    assert once_more[0] == found[0]


def test_more_than_there_is_room_for_is_not_kept(built: SessionParts):
    assert encode(built, 31) is None
    assert encode(built, 32) is not None


def test_arrays_keep_their_order():
    found = compiled(TEXT)
    constants = {"c": np.arange(6, dtype=np.float32).reshape(2, 3).T}
    force_setattr(found.program, "constants", constants)
    kept = encode(found, MOST)
    assert kept is not None
    again = decode(kept[0], lambda *_: kept[1], 1)
    assert again is not None
    np.testing.assert_array_equal(again.program.constants["c"], constants["c"])
