"""Objects for every row of the feature table refer to nothing outside of them but each other: no C library is needed beside them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from llvmlite import ir

from sardonyx.base.options import CompileOptions
from sardonyx.codegen.compile import compile_kernel, compile_module
from sardonyx.codegen.features import TARGETS, Target
from sardonyx.codegen.plans import emit_mid_run_plan, emit_plans
from sardonyx.codegen.team import emit_team
from sardonyx.expr import draws, require
from sardonyx.graph.load import LoadOptions, load
from sardonyx.lower.importer import import_graph
from sardonyx.lower.lowered import lower
from sardonyx.providers.assemble import assemble
from sardonyx.providers.cpu import machine_for
from sardonyx.runtime import elf
from tests.session.models import model

MODELS = {
    "functions": """g (float[n,8] x) => (float[n,8] y) {
        a = Erf(x) b = Exp(a) c = Log(b) d = Tanh(c) e = Sin(d) f = Pow(e, d) h = Sqrt(f) i = Mod<fmod = 1>(h, d) j = Round(i) y = Floor(j)
    }""",
    "double functions": "g (double[n,8] x) => (double[n,8] y) { a = Exp(x) b = Tan(a) c = Pow(b, a) y = Mod<fmod = 1>(c, b) }",
    "half floats": "g (float16[n,8] x) => (float16[n,8] y) { a = Exp(x) s = Softmax(a) p = Transpose(s) q = MatMul(s, p) y = MatMul(q, x) }",
    "bfloat16": "g (bfloat16[n,8] x) => (bfloat16[n,8] y) { a = Exp(x) y = Add(a, x) }",
    "wide integers": "g (int64[n,8] x, int64[n,8] z) => (int64[n,8] y, double[n,8] w) { a = Div(x, z) b = Mod(a, z) y = Mul(b, x) w = Cast<to = 11>(y) }",
    "unsigned integers": "g (uint64[n,8] x, uint64[n,8] z) => (uint64[n,8] y, float[n,8] w) { a = Div(x, z) y = Mod(a, z) w = Cast<to = 1>(y) }",
    "conversions": "g (float[n,8] x) => (int64[n,8] a, uint64[n,8] b, int8[n,8] c, float16[n,8] d) { a = Cast<to = 7>(x) b = Cast<to = 13>(x) c = Cast<to = 3>(x) d = Cast<to = 10>(x) }",
    "windows of symbolic sizes": """g (float[n,c,h,w] x) => (float[n,c,a,b] y) {
        y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)
    }""",
    "bytes": "g (uint8[n,64] x, int8[64,48] w) => (int32[n,48] y) { y = MatMulInteger(x, w) }",
    "sizes from data": "g (float[n,8] x) => (float[m] y) { i = NonZero(x) t = Transpose(i) y = GatherND(x, t) }",
    "random numbers": "g (float[n,8] x) => (float[n,8] y) { r = RandomNormalLike(x) y = Add(x, r) }",
    "a loop": """g (float[n,4] x, int64 k) => (float[m,4] y) <bool yes = {1}, int64[1] zero = {0}, int64[1] one = {1}> {
        z, y = Loop (k, yes, x) <body = b (int64 i, bool c, float[n,4] t) => (bool d, float[n,4] u, float[4] row) {
            d = Identity(c) u = Add(t, t) row = ReduceSum<keepdims = 0>(u, zero)
        }>
    }""",
}
WASM_MAGIC = b"\0asm"


def undefined(data: bytes) -> set[str]:
    """The names of the functions and data that an object refers to without defining them."""
    if data.startswith(WASM_MAGIC):
        return set(wasm_imports(data))
    return {symbol.name for symbol in elf.parse(data).symbols if symbol.section == elf.UNDEFINED and symbol.name}


def wasm_imports(data: bytes) -> Iterator[str]:
    """The functions that a WebAssembly object imports."""
    at = 8

    def number() -> int:
        nonlocal at
        total, shift = 0, 0
        while True:
            byte = data[at]
            at += 1
            total |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return total

    def text() -> str:
        nonlocal at
        length = number()
        at += length
        return data[at - length : at].decode()

    while at < len(data):
        section, length = number(), number()
        end = at + length
        if section == 2:
            for _ in range(number()):
                _, name, kind = text(), text(), number()
                if kind == 0:
                    yield name
                    number()
                else:  # a table, a memory or a global: what every module has
                    at += 1 if kind in (1, 3) else 0
                    if kind == 3:
                        number()
                        continue
                    if number() & 1:
                        number()
                    number()
        at = end


def objects(text: str, target: Target) -> Iterator[tuple[str, bytes]]:
    """The kernels, and the plans, of a model and of what prepares its constants."""
    graph = load(model(text), LoadOptions()).graph
    with require.collect() as requirements:
        imported = import_graph(graph, graph.opset_imports)
    program, preparation = lower([*imported.inputs, draws.state], imported.outputs, machine_for(target, CompileOptions()))
    for lowered in (program, preparation):
        if lowered is None:
            continue
        for name, kernel in lowered.kernels.items():
            yield name, compile_kernel(kernel, target)
        assembly = assemble(lowered, requirements if lowered is program else ())
        module: ir.Module = emit_plans(target, assembly.plans, assembly.slots, assembly.estimates)
        for plan in assembly.mid_run_plans:
            emit_mid_run_plan(module, target, plan.name, plan.assignments, plan.tests, assembly.slots)
        yield "plans", compile_module(module, target)


@pytest.mark.parametrize("row", TARGETS)
@pytest.mark.parametrize("text", MODELS.values(), ids=MODELS)
def test_kernels_and_plans_need_nothing_else(text: str, row: str) -> None:
    found = {name: names for name, data in objects(text, TARGETS[row]) if (names := undefined(data))}
    assert not found


@pytest.mark.parametrize("row", [name for name, target in TARGETS.items() if target.index_bits == 64])
def test_the_team_needs_nothing_else(row: str) -> None:
    assert not undefined(compile_module(emit_team(TARGETS[row].triple), TARGETS[row]))


@pytest.mark.parametrize("row", TARGETS)
def test_what_is_missing_is_seen(row: str) -> None:
    module = ir.Module()
    module.triple = TARGETS[row].triple
    kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType()])
    inside, outside = ir.Function(module, kind, "inside"), ir.Function(module, kind, "elsewhere")
    builder = ir.IRBuilder(inside.append_basic_block())
    builder.ret(builder.call(outside, inside.args))
    assert undefined(compile_module(module, TARGETS[row])) == {"elsewhere"}
