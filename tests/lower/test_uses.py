"""Which sizes a statement depends on, and what it writes: every kind of statement, and every part of it, counts."""

from __future__ import annotations

import pytest

from sardonyx.base.dtypes import boolean, f32, i64
from sardonyx.base.symbolic import Symbol, symbol, symbols, value
from sardonyx.loop.nodes import (
    Alloc,
    Buffer,
    Check,
    Const,
    Element,
    For,
    If,
    Index,
    Load,
    Op,
    Seq,
    Step,
    Stmt,
    Store,
    Tile,
    While,
)
from sardonyx.lower.uses import free_symbols, written_buffers

X, Y, Z, T = Buffer("x", f32), Buffer("y", f32), Buffer("z", f32, "scratch"), Buffer("t", i64)
A, B, C, D = (next(iter(symbols(symbol(name)))) for name in "abcd")
ROW = Symbol("row", symbol("m"))


def store(at: Symbol, guard: Symbol | None = None, buffer: Buffer = Y) -> Store:
    return Store(buffer, value(at), Const(1, f32), guard=None if guard is None else less(guard))


def less(s: Symbol) -> Op:
    return Op("lt", Index(value(s)), Index(3))


def tile(**changes: Symbol) -> Tile:
    fields = {
        **dict.fromkeys(("a_offset", "a_row", "b_offset", "c_offset", "c_row"), 0),
        **{name: value(s) for name, s in changes.items() if name not in ("extent", "a_step", "b_step")},
    }
    step = Step(*(value(changes[name]) if name in changes else 1 for name in ("extent", "a_step", "b_step")))
    return Tile(**{"rows": 1, **fields}, heights=(1,), width=16, a=X, b=X, c=Y, steps=(step,))  # type: ignore[arg-type]


CASES: dict[str, tuple[Stmt, set[Symbol], set[Buffer]]] = {
    "offset": (store(A), {A}, {Y}),
    "guard": (store(A, B), {A, B}, {Y}),
    "value": (Store(Y, 0, Load(X, value(A), less(B))), {A, B}, {Y}),
    "index from data": (Store(Y, value(Element(Load(T, value(A)), value(B))), Const(1, f32)), {A, B}, {Y}),
    "a loop binds its variable, not its bounds": (For(ROW, value(A), value(B), "serial", store(ROW)), {A, B}, {Y}),
    "a variable outside of its loop": (Seq((For(ROW, 0, 3, "serial", store(ROW)), store(ROW))), {ROW}, {Y}),
    "sequence": (Seq((store(A), store(B, buffer=X))), {A, B}, {X, Y}),
    "alloc": (Alloc(Z, value(A), store(B, buffer=Z)), {A, B}, {Z}),
    "while": (While(less(A), store(B)), {A, B}, {Y}),
    "if": (If(less(A), store(B), store(C, buffer=X)), {A, B, C}, {X, Y}),
    "if without an else": (If(less(A), store(B)), {A, B}, {Y}),
    "check": (Check(less(A), 0, (Index(value(B)), Index(value(C)))), {A, B, C}, set()),
    **{
        f"tile's {name}": (tile(**{name: A}), {A}, {Y})
        for name in ("rows", "a_offset", "a_row", "b_offset", "c_offset", "c_row", "ahead", "extent", "a_step", "b_step")
    },
}


@pytest.mark.parametrize("name", CASES)
def test_every_part_counts(name: str) -> None:
    statement, free, buffers = CASES[name]
    assert free_symbols(statement) == free
    assert written_buffers(statement) == buffers


def test_what_is_no_statement_is_refused() -> None:
    with pytest.raises(TypeError, match="no statement"):
        free_symbols(Const(True, boolean))  # type: ignore[arg-type]
