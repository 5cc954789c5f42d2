"""What is dealt out to the team, and what one thread does alone."""

from __future__ import annotations

from sardonyx.base.dtypes import f32
from sardonyx.base.symbolic import Symbol, symbol, value
from sardonyx.loop.nodes import Alloc, Buffer, Const, For, Seq, Stmt, Store
from sardonyx.lower.parallel import TINY, ensure_parallel_loop, is_single_threaded, is_tiny, on_one_thread

AT = Symbol("i", 4)
X = Buffer("x", f32)
STORE = Store(X, value(AT), Const(1.0, f32))


def loop(kind: str = "parallel", turns: int = 4) -> Stmt:
    return For(AT, 0, turns, kind, STORE)  # type: ignore[arg-type]


def test_one_turn_is_done_by_one_thread() -> None:
    assert is_single_threaded(ensure_parallel_loop(loop("serial")))
    assert is_single_threaded(loop(turns=1))
    assert is_single_threaded(Alloc(Buffer("s", f32, "scratch"), 4, loop(turns=1)))
    assert not is_single_threaded(loop())
    assert not is_single_threaded(loop("serial"))
    assert not is_single_threaded(Seq((loop(turns=1), loop())))


def test_a_loop_that_is_not_dealt_out() -> None:
    assert on_one_thread(loop()) == ensure_parallel_loop(loop("serial"))
    assert on_one_thread(loop(turns=1)) == loop(turns=1)
    two = Seq((loop(), loop()))
    assert on_one_thread(two) == two


def test_tiny() -> None:
    assert is_tiny(TINY)
    assert not is_tiny(TINY + 1)
    assert not is_tiny(symbol("n"))
