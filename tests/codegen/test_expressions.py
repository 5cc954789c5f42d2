"""Expressions: constants of every dtype, and values that are known outside of the loops around them."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base import dtypes
from sardonyx.base.dtypes import DType, f32
from sardonyx.base.symbolic import Symbol, value
from sardonyx.codegen.features import Target
from sardonyx.loop.nodes import Buffer, Const, For, Kernel, Load, Op, Select, Stmt, Store
from tests.codegen.harness import TARGETS, run

N = Symbol("n")
AT = Symbol("i", value(N))
NUMBERS = [d for d in dtypes.BY_CODE.values() if d.is_number and d.bits >= 8 and d.kind != "complex"]
every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
loops = pytest.mark.parametrize("kind", ["serial", "vector"])


def numbers(d: DType) -> list[float]:
    """Of both signs, and with odd bits at both ends, as far as the dtype has them."""
    if d.kind == "bool":
        return [False, True]
    if d.is_float:
        return [0.0, 1.0, 2.0, 0.5] if d.name in ("f8e8m0", "f8e8m0fnu") else [0.0, 1.0, -1.5, 0.375, 3.0]
    return [0, 1, 77, (1 << d.bits - 1) - 1, -(1 << d.bits - 1) if d.kind == "int" else (1 << d.bits) - 1]


def over(kind: str, body: Stmt) -> Stmt:
    return For(Symbol("once", 1), 0, 1, "parallel", For(AT, 0, value(N), kind, body))  # type: ignore[arg-type]


@every_target
@loops
@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_constants(dtype: DType, kind: str, target: Target) -> None:
    """Stored as they are."""
    y = Buffer("y", dtype)
    for number in numbers(dtype):
        kernel = Kernel("constants", (y,), (N,), over(kind, Store(y, value(AT), Const(number, dtype))))
        got = np.zeros(19, dtype.numpy)
        run(kernel, [got], {"n": 19}, target)
        np.testing.assert_array_equal(got.view(np.uint8), np.full(19, number).astype(dtype.numpy).view(np.uint8), f"{number}")


@every_target
@loops
def test_what_is_known_outside_a_loop_is_right_inside(kind: str, target: Target) -> None:
    """A value that does not change in the loop, beside one that does, under a condition that does not."""
    x, c, y = Buffer("x", f32, readonly=True), Buffer("c", f32, readonly=True), Buffer("y", f32)
    factor = Op("mul", Load(c, 0), Const(2.0, f32))
    chosen = Select(Op("lt", Load(c, 0), Const(0.0, f32)), Op("neg", factor), factor)
    kernel = Kernel("outside", (x, c, y), (N,), over(kind, Store(y, value(AT), Op("mul", Load(x, value(AT)), chosen))))
    for number in (-3.0, 4.0):
        values, got = np.arange(21, dtype=np.float32), np.zeros(21, np.float32)
        run(kernel, [values, np.array([number], np.float32), got], {"n": 21}, target)
        np.testing.assert_array_equal(got, values * 2 * abs(number))
