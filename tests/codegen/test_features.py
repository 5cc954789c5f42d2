"""Targets: which tiles fit in their registers, which widths leave no vector idle, and estimates of their speed."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from sardonyx.base.dtypes import f16, f32, f64
from sardonyx.codegen.features import AVX2, AVX512, SSE2, Target, rows_in_registers
from sardonyx.runtime.caches import Caches

TARGETS = pytest.mark.parametrize("target", [AVX512, AVX2, SSE2], ids=lambda t: t.name)


@TARGETS
def test_sums_b_and_a_broadcast_fit_in_the_registers(target: Target) -> None:
    """A row more would fit in none of the listed shapes but those that are bound by something else than registers."""
    for vectors, rows in target.tile_shapes:
        assert rows <= rows_in_registers(target.vector_registers, vectors, target.fma)
    for vectors in range(1, 12):
        rows = rows_in_registers(target.vector_registers, vectors, target.fma)
        others = vectors + (1 if target.fma else 2)  # B, a broadcast, and a product where there is no multiply-add
        assert rows == 1 or rows * vectors + others <= target.vector_registers < (rows + 1) * vectors + others


@TARGETS
def test_rows_of_listed_and_other_widths(target: Target) -> None:
    for vectors in range(1, 12):
        listed = dict(target.tile_shapes)
        rows = rows_in_registers(target.vector_registers, vectors, target.fma)
        assert target.tile_rows(vectors) == listed.get(vectors, rows)


@TARGETS
def test_panels_leave_no_vector_idle(target: Target) -> None:
    """The preferred width that divides the vectors; all of them where they are few; else the preferred one."""
    widths = [v for v, _ in target.tile_shapes]
    assert target.tile_vectors(None) == widths[0]
    for dtype in (f32, f64):
        lanes = target.lanes(dtype)
        assert lanes == target.vector_bits // dtype.bits
        for count in range(1, 40):
            for columns in (count * lanes, count * lanes - lanes + 1):
                vectors = target.tile_vectors(columns, dtype)
                dividing = [v for v in widths if v > 1 and count % v == 0]
                assert vectors == (dividing[0] if dividing else count if count <= max(widths) else widths[0])


def test_speeds_are_in_proportion() -> None:
    """Vectors of 512 bits count one and a half times as much as those of 256; multiply-adds twice as much as products and sums."""
    assert AVX512.flops == 1.5 * AVX2.flops
    assert AVX2.flops == 2 * replace(AVX2, fma=False).flops
    assert replace(AVX2, vector_bits=128).flops == AVX2.flops / 2
    assert 1e10 < SSE2.flops < AVX2.flops < 1e12


def test_what_an_object_depends_on() -> None:
    assert AVX2.key != AVX512.key
    assert replace(AVX2, caches=Caches(1 << 15, 8, 1 << 20, 1 << 23)).key == AVX2.key
    assert AVX2.architecture == "x86_64"
    assert AVX2.lanes(f16) == 16
