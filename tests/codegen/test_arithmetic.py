"""Every operation of the loop IR, on every dtype it takes, in vectors and one by one, against its meaning in numpy."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.dtypes import DType, boolean, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64
from sardonyx.base.symbolic import Symbol, value
from sardonyx.codegen.features import Target
from sardonyx.loop import semantics
from sardonyx.loop.nodes import FUNCTIONS, OPS, Buffer, For, Kernel, Load, Op, Seq, Store
from tests.codegen.harness import TARGETS, run
from tests.codegen.values import Array, pairs

N = Symbol("n")
AT = Symbol("i", value(N))
INTEGERS = (i8, i16, i32, i64, u8, u16, u32, u64)
FLOAT_ONLY = {"sqrt", "copysign", "fma"}
INTEGER_ONLY = {"and", "or", "xor", "shl", "shr", "not"}
BOOL = ("and", "or", "xor", "not", "eq", "ne", "lt", "le", "gt", "ge", "min", "max", "add", "mul")


def operations(dtype: DType) -> list[str]:
    names = [n for n in OPS if n not in FUNCTIONS]
    if dtype is boolean:
        return list(BOOL)
    return [n for n in names if n not in (INTEGER_ONLY if dtype.is_float else FLOAT_ONLY)]


def kernel(dtype: DType, names: list[str], kind: str) -> Kernel:
    """outputs[k][i] = names[k](x[i], y[i], z[i])"""
    arguments = tuple(Buffer(n, dtype, readonly=True) for n in "xyz")
    loads = [Load(b, value(AT)) for b in arguments]
    values = [Op(n, *loads[: OPS[n][0]]) for n in names]
    outputs = [Buffer(f"out{k}", v.dtype) for k, v in enumerate(values)]
    body = Seq(tuple(Store(b, value(AT), v) for b, v in zip(outputs, values, strict=True)))
    return Kernel("ops", (*arguments, *outputs), (N,), For(AT, 0, value(N), kind, body))


def same(got: Array, want: Array, fused: bool, signed_zero: bool) -> None:
    if want.dtype.kind == "f":
        assert (np.isnan(got) == np.isnan(want)).all()
        if fused:
            np.testing.assert_allclose(got, want, rtol=np.finfo(want.dtype).eps, atol=np.finfo(want.dtype).smallest_normal)
            return
        got, want = np.where(np.isnan(got), 1, got), np.where(np.isnan(want), 1, want)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(np.signbit(got) & ((want != 0) | signed_zero), np.signbit(want) & ((want != 0) | signed_zero))
    else:
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("kind", ["vector", "serial"])
@pytest.mark.parametrize("dtype", [f32, f64, *INTEGERS, boolean], ids=str)
def test_operations(dtype: DType, kind: str, target: Target) -> None:
    names = operations(dtype)
    x, y = pairs(dtype)
    z = np.roll(x, 7)
    k = kernel(dtype, names, kind)
    outputs = [np.zeros(len(x), b.dtype.numpy) for b in k.buffers[3:]]
    run(k, [x, y, z, *outputs], {"n": len(x)}, target)
    for name, got in zip(names, outputs, strict=True):
        want = semantics.apply(name, *(x, y, z)[: OPS[name][0]])
        emulated = name == "fma" and dtype is f64 and not target.fma
        if emulated:  # the product may not overflow
            with np.errstate(all="ignore"):
                inside = np.abs(x * y) < 1e300
            got, want = got[inside], want[inside]
        try:
            same(got, want, emulated, name not in ("min", "max"))
        except AssertionError as error:
            raise AssertionError(f"{name} of {dtype} on {target.name}: {error}") from None
