"""Bottom-up rewriting: arguments first, shared parts once, and expressions inside offsets too."""

from __future__ import annotations

from sardonyx.base.dtypes import f32, i64
from sardonyx.base.symbolic import Symbol, symbol, value
from sardonyx.loop.nodes import Buffer, Const, Element, Expr, Load, Op, walk
from sardonyx.loop.rewrite import rewrite, rewrite_dim

N = symbol("n")
ROW = Symbol("i", N)
X, T, U = Buffer("x", f32), Buffer("t", i64), Buffer("u", i64)


def from_u(e: Expr) -> Expr:
    """Reads of t become reads of u."""
    return Load(U, e.offset, e.guard) if isinstance(e, Load) and e.buffer is T else e


def test_nothing_to_change_gives_the_same_object() -> None:
    e = Op("add", Load(X, value(ROW)), Const(1, f32))
    assert rewrite(e, lambda x: x) is e
    assert rewrite_dim(value(ROW) + 3, lambda x: x) == value(ROW) + 3


def test_arguments_are_rewritten_before_the_node() -> None:
    def rule(e: Expr) -> Expr:
        if isinstance(e, Const):
            return Const(e.value + 1, e.dtype)
        return e.args[0] if isinstance(e, Op) and e.fn == "neg" else e

    e = Op("neg", Op("mul", Const(1, f32), Const(2, f32)))
    assert rewrite(e, rule) is Op("mul", Const(2, f32), Const(3, f32))


def test_shared_parts_are_rewritten_once() -> None:
    e: Expr = Load(X, value(ROW))
    for _ in range(60):  # 2^60 paths through 61 nodes
        e = Op("add", e, e)
    seen: list[Expr] = []

    def rule(x: Expr) -> Expr:
        seen.append(x)
        return x

    assert rewrite(e, rule) is e
    assert len(seen) == 61


def test_expressions_inside_offsets_are_rewritten() -> None:
    at = value(Element(Load(T, value(ROW)), N, 3))
    for dim in (at * 4 + value(ROW), (at + value(ROW)) // 5, value(Element(Load(U, at), N))):
        changed = rewrite(Load(X, dim), from_u)
        assert T not in buffers(changed)
        assert U in buffers(changed)
    kept = rewrite(Load(X, at), from_u)
    assert kept is Load(X, value(Element(Load(U, value(ROW)), N, 3))), "the bound and the code stay"


def buffers(e: Expr) -> set[Buffer]:
    return {n.buffer for n in walk(e) if isinstance(n, Load)}
