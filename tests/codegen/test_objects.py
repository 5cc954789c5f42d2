"""Objects of every target: whole, with nothing left to be found elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.dtypes import ALL, DType, f16, f32, f64, i8, i32, i64, u8
from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import Symbol, value
from sardonyx.codegen.compile import assembly, compile_kernel, ir_text
from sardonyx.codegen.features import NEON, TARGETS, WASM, Target, host, select
from sardonyx.loop.functions import EXPANSIONS
from sardonyx.loop.nodes import FUNCTIONS, OPS, Buffer, Cast, For, Kernel, Load, Op, Seq, Step, Store, Tile
from sardonyx.runtime.linker import link
from tests.codegen.test_arithmetic import operations

N = Symbol("n")
AT = Symbol("i", value(N))
i = value(AT)
NUMBERS = [d for d in ALL if d.is_number]


def everything(dtype: DType, kind: str) -> Kernel:
    """All operations, functions and casts of a dtype, and a tile."""
    loads = [Load(Buffer(n, dtype, readonly=True), i) for n in "xyz"]
    names = operations(dtype) if dtype.is_integer or dtype.bits >= 32 else []
    names += [n for n in EXPANSIONS if dtype in (f32, f64)]
    values = [Op(n, *loads[: OPS[n][0]]) for n in names] + [Cast(loads[0], d) for d in NUMBERS]
    outputs = [Buffer(f"out{k}", v.dtype) for k, v in enumerate(values)]
    body = Seq(tuple(Store(b, i, v) for b, v in zip(outputs, values, strict=True)))
    return Kernel("everything", (*(v.buffer for v in loads), *outputs), (N,), For(AT, 0, value(N), kind, body))  # type: ignore[arg-type]


def imports(code: bytes) -> int:
    """How many functions a WebAssembly object imports (section 2; memory and tables are no functions)."""

    def number(at: int) -> tuple[int, int]:
        out = shift = 0
        while True:
            byte = code[at]
            out, shift, at = out | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return out, at

    at, found = 8, 0
    while at < len(code):
        section, (size, start) = code[at], number(at + 1)
        if section == 2:
            count, p = number(start)
            for _ in range(count):
                for _ in range(2):
                    length, p = number(p)
                    p += length
                kind, p = code[p], p + 1
                if kind == 0:
                    found, (_, p) = found + 1, number(p)
                elif kind == 1:
                    _, p = number(p + 2)
                elif kind == 2:
                    _, p = number(p + 1)
                else:
                    p += 2
        at = start + size
    return found


@pytest.mark.parametrize("target", [host(), *TARGETS.values()], ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [f32, f64, f16, i8, i64], ids=str)
def test_nothing_undefined(dtype: DType, target: Target) -> None:
    for kind in ("serial", "vector"):
        code = compile_kernel(everything(dtype, kind), target)
        if target is WASM:
            assert imports(code) == 0
        else:
            link([code])


@pytest.mark.parametrize("target", [host(), *TARGETS.values()], ids=lambda t: t.name)
def test_tiles_have_nothing_undefined(target: Target) -> None:
    for a, b, c in ((f32, f32, f32), (f64, f64, f64), (u8, i8, i32)):
        buffers = tuple(Buffer(n, d) for n, d in zip("abc", (a, b, c), strict=True))
        width = 2 * target.lanes(c)
        tile = Tile(
            value(N), (1, 2, 3), width, buffers[0], 0, value(N), buffers[1], 0, buffers[2], 0, width, (Step(value(N), 1, width),), 0
        )
        code = compile_kernel(Kernel("tile", buffers, (N,), tile), target)
        assert imports(code) == 0 if target is WASM else link([code])


def test_the_import_counter_sees_an_import() -> None:
    """A call to a function that is not there counts."""
    from llvmlite import ir

    from sardonyx.codegen.compile import compile_module

    module = ir.Module("outside")
    module.triple = WASM.triple
    outside = ir.Function(module, ir.FunctionType(ir.VoidType(), []), "outside")
    builder = ir.IRBuilder(ir.Function(module, ir.FunctionType(ir.VoidType(), []), "inside").append_basic_block())
    builder.call(outside, [])
    builder.ret_void()
    assert imports(compile_module(module, WASM)) == 1


def test_texts() -> None:
    kernel = everything(f32, "vector")
    assert "define void" in ir_text(kernel, host())
    assert "everything:" in assembly(kernel, NEON)


def test_an_object_is_the_same_every_time() -> None:
    kernel = everything(f32, "vector")
    assert compile_kernel(kernel, host()) == compile_kernel(kernel, host())


def test_unknown_functions_and_targets() -> None:
    missing = sorted(FUNCTIONS - EXPANSIONS.keys())
    x, y = Buffer("x", f16), Buffer("y", f16)
    for fn in [*missing[:1], "exp"]:
        args = [Load(x, i)] * OPS[fn][0]
        with pytest.raises(Unsupported, match=fn):
            compile_kernel(Kernel("k", (x, y), (N,), For(AT, 0, value(N), "serial", Store(y, i, Op(fn, *args)))), host())
    with pytest.raises(ValueError, match="no target"):
        select("z80")


def test_select_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARDONYX_TARGET", "sse2")
    assert select().name == "sse2"
    assert select("avx2").name == "avx2"
    monkeypatch.delenv("SARDONYX_TARGET")
    assert select() is host()


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda t: t.name)
def test_tile_shapes(target: Target) -> None:
    for vectors, rows in target.tile_shapes:
        assert target.tile_rows(vectors) == rows
        assert rows * vectors + vectors + 1 <= target.vector_registers
    lanes = target.lanes(f32)
    assert target.tile_vectors(None) == target.tile_shapes[0][0]
    for columns in (1, lanes, 2 * lanes, 3 * lanes, 12 * lanes, 7 * lanes):
        vectors = target.tile_vectors(columns)
        assert vectors in dict(target.tile_shapes)
        if columns % lanes == 0 and any(np.array([columns // lanes]) % v == 0 for v, _ in target.tile_shapes if v > 1):
            assert columns % (vectors * lanes) == 0
