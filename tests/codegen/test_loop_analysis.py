"""How many lanes a vector loop has; what else is analysed shows in the loops of test_control.py and test_reductions.py."""

from __future__ import annotations

import pytest

from sardonyx.base.dtypes import DType, f16, f32, f64, i64, u8
from sardonyx.base.symbolic import Symbol, value
from sardonyx.codegen.features import AVX2, AVX512, SSE2, Target
from sardonyx.codegen.loop_analysis import lanes_for
from sardonyx.loop.nodes import Buffer, Load

LOOP = Symbol("i", 100)


@pytest.mark.parametrize("target", [AVX512, AVX2, SSE2], ids=lambda t: t.name)
@pytest.mark.parametrize(
    ("stored", "loaded", "bits"),
    [([f32], [], 32), ([f32, f64], [], 64), ([f64, u8], [], 64), ([u8], [f16, u8], 16), ([f32], [i64], 64)],
)
def test_the_widest_element_fills_a_register(stored: list[DType], loaded: list[DType], bits: int, target: Target) -> None:
    reads = [Load(Buffer(f"x{k}", dtype), value(LOOP), None) for k, dtype in enumerate(loaded)]
    buffers = [Buffer(f"y{k}", dtype) for k, dtype in enumerate(stored)]
    assert lanes_for(target, LOOP, reads, buffers) == target.vector_bits // bits


def test_what_does_not_move_with_the_loop_does_not_count() -> None:
    fixed = Load(Buffer("x", f64), 3, None)
    assert lanes_for(AVX2, LOOP, [fixed], [Buffer("y", f32)]) == 8
