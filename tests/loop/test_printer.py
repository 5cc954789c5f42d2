"""The canonical text: readable, and equal exactly for kernels that compute the same in the same way."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from msgspec.structs import replace

from sardonyx.base.dtypes import f16, f32, f64, i32, i64
from sardonyx.base.symbolic import Dim, Symbol, maximum, minimum, value
from sardonyx.loop.nodes import (
    Buffer,
    Cast,
    Check,
    Const,
    Element,
    For,
    If,
    Index,
    Kernel,
    Load,
    Op,
    Reduce,
    Seq,
    Step,
    Stmt,
    Store,
    Tile,
    While,
    first,
)
from sardonyx.loop.printer import key, text
from tests.loop.kernels import gather, relu_in_place, softmax

SOFTMAX = """\
kernel(b0: f32 readonly, b1: f32; s0)
for i0 in [0, s0) parallel:
  alloc b2: f32 scratch [64]:
    for i1 in [0, 64) vector:
      v0 = reduce max over i2 in [0, 64) vector:
        b0[64*i0 + i2]
      b2[i1] = exp(sub(b0[64*i0 + i1], v0))
    for i3 in [0, 64) vector:
      v0 = reduce add over i4 in [0, 64) vector:
        b2[i4]
      b1[64*i0 + i3] = div(b2[i3], v0)
"""
GATHER = """\
kernel(b0: f32 readonly, b1: i64 readonly, b2: f32; s0, s1)
for i0 in [0, s1) serial:
  b2[i0] = b0[[b1[i0] in s0: 7]]
"""
RELU = """\
kernel(b0: f32; s0)
for i0 in [0, s0) serial:
  if lt(b0[i0], 0.0):
    b0[i0] = 0.0 where eq(and(index(i0), 1), 0)
"""


@pytest.mark.parametrize(("kernel", "golden"), [(softmax(), SOFTMAX), (gather(), GATHER), (relu_in_place(), RELU)])
def test_golden(kernel: Kernel, golden: str) -> None:
    assert text(kernel) == golden


X, Y = Buffer("x", f32, readonly=True), Buffer("y", f32)
N, R, C = Symbol("n"), Symbol("i"), Symbol("j")


def body_text(body: Stmt, *buffers: Buffer) -> str:
    """The text of a kernel's body."""
    return text(Kernel("k", (X, Y, *buffers), (N,), body)).split("\n", 1)[1]


def test_every_statement() -> None:
    x, condition = Load(X, 0), Op("lt", Load(Y, 0), Const(3, f32))
    steps = (Step(3, value(N), 4), Step(4, 1, 16))
    tile = Tile(2, (1, 2), 16, X, 0, 12, X, 5, Y, value(N), 16, steps, ahead=64)
    parts = (While(condition, Store(Y, 0, x, "add")), If(condition, Store(Y, 1, x), Seq(())))
    assert body_text(Seq((*parts, Check(condition, 3, (Index(value(N)),)), tile))) == (
        "while:\n"
        "  condition lt(b1[0], 3.0)\n"
        "  b1[0] = add b0[0]\n"
        "if lt(b1[0], 3.0):\n"
        "  b1[1] = b0[0]\n"
        "else:\n"
        "check lt(b1[0], 3.0) else 3, index(s0)\n"
        "tile 2 of 1|2 x 16: b1[s0; row 16] = b0[0; row 12] * b0[5], [3] a s0 b 4, [4] a 1 b 16 ahead 64 by 1\n"
    )


def test_first_of_a_parallel_loop() -> None:
    inner = For(C, value(first(R)), value(R), "serial", Store(Y, value(C), Load(X, value(C))))
    assert "for i1 in [i0.first, i0) serial" in body_text(For(R, 0, value(N), "parallel", inner))


def test_shared_values_stand_once() -> None:
    """As a tree the expression would have 2^60 leaves."""
    e = Load(X, 0)
    for _ in range(60):
        e = Op("mul", e, e)
    assert body_text(Store(Y, 0, e)).count("mul") == 60


def test_a_reduction_keeps_what_it_binds() -> None:
    """Shared values inside the body stand inside it; those around it are used there."""
    r = Symbol("r", 8)
    outer = Op("exp", Load(X, 9))
    inner = Op("add", Load(X, value(r)), outer)
    e = Op("add", Op("mul", outer, outer), Reduce("add", ((r, "serial"),), Op("mul", inner, inner)))
    assert body_text(Store(Y, 0, e)) == (
        "v0 = exp(b0[9])\n"
        "v1 = reduce add over i0 in [0, 8) serial:\n"
        "  v2 = add(b0[i0], v0)\n"
        "  mul(v2, v2)\n"
        "b1[0] = add(mul(v0, v0), v1)\n"
    )


def test_names_do_not_count() -> None:
    others = ("b", "a", "size", "j", "i", "x")
    assert key(softmax()) == key(softmax(others))
    assert key(softmax()) == key(replace(softmax(), name="another", sources=("node",)))


def test_sorted_by_canonical_names() -> None:
    """Sums, products, and the operands of min and max: whatever the names' own order."""

    def offset(a: str, b: str) -> str:
        first, second = Symbol(a), Symbol(b)
        e: Dim = value(first) * value(second) + value(second) * 3 + minimum(value(first), value(second) - 9)
        e = e + maximum(value(second) - 9, value(first))
        return text(Kernel("k", (Y,), (first, second), Store(Y, e, Const(0, f32))))

    assert offset("p", "q") == offset("q", "p")


def test_order_of_elements() -> None:
    """Two elements in one offset, whichever was made first and wherever they lie in memory."""

    def offset(swapped: bool) -> str:
        indices = Buffer("indices", i64)
        atoms = [value(Element(Load(indices, place), value(N))) for place in (0, 1)]
        e = atoms[1] * 4 + atoms[0] if swapped else atoms[0] + atoms[1] * 4
        return body_text(Store(Y, e, Const(0, f32)), indices)

    assert offset(True) == offset(False)
    assert offset(True).startswith("b1[4*[b2[1] in s0: 0] + [b2[0] in s0: 0]]")


@pytest.mark.parametrize(
    "other",
    [
        softmax(kind="serial"),
        softmax(dtype=f64),
        replace(softmax(), sizes=(Symbol("n"), Symbol("m"))),
        relu_in_place(),
        relu_in_place(guarded=False),
        gather(),
        gather(code=8),
    ],
)
def test_differences_count(other: Kernel) -> None:
    kernels = [softmax(), softmax(kind="serial"), softmax(dtype=f64), relu_in_place(), relu_in_place(False), gather(), gather(8)]
    assert sum(key(k) == key(other) for k in kernels) == (0 if len(other.sizes) == 2 and "exp" in text(other) else 1)


def test_constants_and_types_count() -> None:
    values = [Const(1, i64), Const(1, f32), Const(1, f64), Const(1, i32), Const(1, f16), Const(0.0, f32), Const(-0.0, f32)]
    values += [Cast(Const(1, f64), f32), Const(float("nan"), f32), Const(1 + 2**-23, f32)]
    texts = {text(Kernel("k", (), (), Check(Op("eq", v, v), 0))) for v in values}
    assert len(texts) == len(values)


def test_key_is_the_same_in_every_process() -> None:
    """Neither the hash seed nor addresses count."""
    program = "from tests.loop.kernels import *; from sardonyx.loop.printer import key; print(key(softmax()), key(gather()))"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [key(softmax()), key(gather())]


def test_a_symbol_that_nothing_binds_shows() -> None:
    assert "?stray" in body_text(Store(Y, value(Symbol("stray")), Const(0, f32)))
