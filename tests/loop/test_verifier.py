"""Each rule has a kernel that breaks it, and the message names kernel, node and reason."""

from __future__ import annotations

import re

import pytest

from sardonyx.base.dtypes import DType, boolean, f16, f32, f64, i4, i8, i32, i64, u8
from sardonyx.base.symbolic import Symbol, value
from sardonyx.loop.nodes import (
    Alloc,
    Buffer,
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
    Select,
    Seq,
    Step,
    Stmt,
    Store,
    Tile,
    While,
)
from sardonyx.loop.verifier import InvalidKernel, allows, verify
from tests.loop.kernels import gather, relu_in_place, softmax

X, Y, H, B = Buffer("x", f32, readonly=True), Buffer("y", f32), Buffer("h", f16), Buffer("b", u8)
SCRATCH, LOCAL = Buffer("scratch", f32, "scratch"), Buffer("local", f32, "local")
N, ROW, COLUMN = Symbol("n"), Symbol("row"), Symbol("column", 4)
STRAY = value(Symbol("stray"))
ONE, TRUE = Const(1, f32), Const(True, boolean)
STORE = Store(Y, value(ROW), Load(X, value(ROW)))
FIXED = Store(Y, 0, ONE)


def row(body: Stmt, kind: str = "serial") -> For:
    return For(ROW, 0, value(N), kind, body)  # type: ignore[arg-type]


def tile(**changes: object) -> Tile:
    fields: dict[str, object] = {
        "rows": 1,
        "heights": (1, 2),
        "width": 16,
        "a": X,
        "a_offset": 0,
        "a_row": 4,
        "b": X,
        "b_offset": 0,
    }
    fields |= {"c": Y, "c_offset": 0, "c_row": 16, "steps": (Step(4, 1, 16),)}
    return Tile(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("kernel", [softmax(), softmax(kind="serial"), gather(), relu_in_place()], ids=lambda k: k.name)
def test_sound_kernels(kernel: Kernel) -> None:
    verify(kernel)


SOUND = [
    row(STORE, "vector"),
    row(Seq((Store(Y, 0, Load(X, value(ROW)), "add"), For(COLUMN, 0, 4, "unrolled", STORE))), "vector"),
    Alloc(SCRATCH, value(N), Store(SCRATCH, 0, ONE)),
    Store(H, 0, Select(TRUE, Load(H, 1), Load(H, 2))),
    tile(),
    Check(TRUE, 1, (Index(value(N)),)),
    Store(Y, 0, Reduce("add", ((Symbol("n", 4), "serial"),), ONE)),  # the size n is another symbol
]


@pytest.mark.parametrize("body", SOUND)
def test_sound_statements(body: Stmt) -> None:
    verify(Kernel("k", (X, Y, H, B), (N,), body))


BROKEN: list[tuple[Stmt, str]] = [
    (Store(Y, STRAY, ONE), "k: store to y[stray]: nothing binds stray"),
    (Store(Y, 0, Load(X, STRAY)), "nothing binds stray"),
    (Store(Y, 0, Load(X, value(Element(Load(B, STRAY), value(N))))), "nothing binds stray"),
    (Store(Y, 0, Load(X, value(Element(Load(X, 0), value(N))))), "an index that is no integer"),
    (Seq((row(STORE), STORE)), "nothing binds row"),
    (For(ROW, 0, value(N), "serial", row(STORE)), "k: serial loop over row: row is bound already"),
    (For(N, 0, 3, "serial", FIXED), "n is bound already"),
    (Store(Y, 0, Load(SCRATCH, 0)), "k: load of scratch[0]: scratch is not in scope"),
    (Seq((Alloc(SCRATCH, 1, FIXED), Store(SCRATCH, 0, ONE))), "k: store to scratch[0]: scratch is not in scope"),
    (Alloc(SCRATCH, 1, Alloc(SCRATCH, 1, FIXED)), "k: allocation of scratch: scratch is no new memory"),
    (Alloc(Y, 1, FIXED), "y is no new memory"),
    (Alloc(LOCAL, value(N), FIXED), "a local buffer without a constant size"),
    (Store(X, 0, ONE), "k: store to x[0]: x is readonly"),
    (Store(Y, 0, Const(1, f64)), "a value of f64 into f32"),
    (Store(Y, 0, ONE, "sub"), "no sub of f32"),
    (Store(H, 0, Load(H, 0), "add"), "no add of f16"),
    (Store(Y, 0, ONE, guard=ONE), "a condition of f32"),
    (Store(Y, 0, Load(X, 0, ONE)), "a guard that is no bool"),
    (Store(H, 0, Op("add", Load(H, 0), Load(H, 1))), "k: add of f16, f16: no such operation, in store to h[0]"),
    (Store(Y, 0, Op("and", ONE, ONE)), "and of f32, f32"),
    (Store(B, 0, Op("sqrt", Load(B, 0))), "sqrt of u8"),
    (If(ONE, FIXED), "k: if: a condition of f32"),
    (While(ONE, FIXED), "k: while: a condition of f32"),
    (Check(ONE, 0), "k: check: a condition of f32"),
    (Check(TRUE, 0, (ONE,)), "three integers"),
    (row(If(TRUE, STORE), "vector"), "k: if: in the vector loop over row"),
    (row(Alloc(SCRATCH, 1, STORE), "vector"), "in the vector loop over row"),
    (row(For(COLUMN, 0, 4, "vector", STORE), "vector"), "in the vector loop over row"),
    (row(FIXED, "vector"), "row doesn't move it"),
    (row(For(COLUMN, 0, 4, "parallel", STORE), "parallel"), "inside another parallel loop"),
    (row(STORE, "unrolled"), "an unrolled loop without constant bounds"),
    (For(COLUMN, 0, 5, "serial", FIXED), "runs to 5, its variable is below 4"),
    (Store(Y, 0, Reduce("add", ((ROW, "serial"),), ONE)), "k: add over row: row has no extent"),
    (For(COLUMN, 0, 4, "serial", Store(Y, 0, Reduce("add", ((COLUMN, "serial"),), ONE))), "column is bound already"),
    (Store(Y, 0, Reduce("add", ((COLUMN, "parallel"),), ONE)), "a parallel loop in an expression"),
    (Store(Y, 0, Reduce("and", ((COLUMN, "serial"),), ONE)), "no and of f32"),
    (Store(Y, 0, Reduce("add", ((COLUMN, "serial"),), Load(X, STRAY))), "nothing binds stray"),
    (Store(Y, 0, Op("add", Reduce("add", ((COLUMN, "serial"),), ONE), Load(X, value(COLUMN)))), "nothing binds column"),
    (tile(c=X), "k: tile into x: x is readonly"),
    (tile(a=SCRATCH), "scratch is not in scope"),
    (tile(a=B), "f32 sums of u8 by f32"),
    (tile(rows=3), "3 rows are none of (1, 2)"),
    (tile(heights=(), rows=value(N)), "an empty tile"),
    (tile(b_offset=STRAY), "nothing binds stray"),
    (tile(steps=(Step(STRAY, 1, 16),)), "nothing binds stray"),
]


@pytest.mark.parametrize(("body", "reason"), BROKEN, ids=[reason for _, reason in BROKEN])
def test_broken_rules(body: Stmt, reason: str) -> None:
    with pytest.raises(InvalidKernel, match=f"^k: .*{re.escape(reason.removeprefix('k: '))}"):
        verify(Kernel("k", (X, Y, H, B), (N,), body))


def test_arguments_have_names_of_their_own() -> None:
    with pytest.raises(InvalidKernel, match="two buffers of one name"):
        verify(Kernel("k", (X, Buffer("x", f32)), (), FIXED))


@pytest.mark.parametrize(
    ("fn", "dtype", "allowed"),
    [
        ("add", f32, True),
        ("add", f16, False),
        ("add", boolean, False),
        ("xor", boolean, True),
        ("max", boolean, True),
        ("add", i4, False),
        ("shl", i8, True),
        ("shl", f32, False),
        ("exp", f64, True),
        ("exp", i32, False),
        ("fma", i64, False),
        ("mod", i64, True),
        ("eq", f16, False),
        ("eq", boolean, True),
    ],
)
def test_operations_and_dtypes(fn: str, dtype: DType, allowed: bool) -> None:
    assert allows(fn, dtype) is allowed


def test_shared_expressions_are_seen_once() -> None:
    """As a tree it would have 2^60 leaves."""
    e = Load(X, 0)
    for _ in range(60):
        e = Op("mul", e, e)
    verify(Kernel("k", (X, Y), (), Store(Y, 0, e)))
