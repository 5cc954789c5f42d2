"""What is dealt out to the team, and what one thread does alone."""

from __future__ import annotations

from sardonyx.base.dtypes import f32
from sardonyx.base.symbolic import Symbol, symbol, value
from sardonyx.loop.nodes import Alloc, Buffer, Const, For, Seq, Stmt, Store
from sardonyx.lower.parallel import TINY, dealt, is_alone, is_tiny, undealt

AT = Symbol("i", 4)
X = Buffer("x", f32)
STORE = Store(X, value(AT), Const(1.0, f32))


def loop(kind: str = "parallel", turns: int = 4) -> Stmt:
    return For(AT, 0, turns, kind, STORE)  # type: ignore[arg-type]


def test_one_turn_is_done_by_one_thread() -> None:
    assert is_alone(dealt(loop("serial")))
    assert is_alone(loop(turns=1))
    assert is_alone(Alloc(Buffer("s", f32, "scratch"), 4, loop(turns=1)))
    assert not is_alone(loop())
    assert not is_alone(loop("serial"))
    assert not is_alone(Seq((loop(turns=1), loop())))


def test_a_loop_that_is_not_dealt_out() -> None:
    assert undealt(loop()) == dealt(loop("serial"))
    assert undealt(loop(turns=1)) == loop(turns=1)
    two = Seq((loop(), loop()))
    assert undealt(two) == two


def test_tiny() -> None:
    assert is_tiny(TINY)
    assert not is_tiny(TINY + 1)
    assert not is_tiny(symbol("n"))
