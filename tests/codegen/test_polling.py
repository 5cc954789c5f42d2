"""Loops in strips: they compute the same, ask after each strip, and end the kernel where the answer is yes."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from sardonyx.base.dtypes import f32, i64
from sardonyx.base.symbolic import Dim, Symbol, maximum, minimum, value
from sardonyx.codegen import polling
from sardonyx.codegen.features import Target
from sardonyx.codegen.polling import Effort, at_most, expressions, iterations, repeated
from sardonyx.loop.nodes import Alloc, Buffer, Const, For, Kernel, Load, Op, Reduce, Seq, Store, While
from tests.codegen.harness import TARGETS, run

M, N = Symbol("m"), Symbol("n")
m, n = value(M), value(N)
R, J = Symbol("r", m), Symbol("j", n)
r, j = value(R), value(J)
X, Y = Buffer("x", f32, readonly=True), Buffer("y", f32)
LOCAL, LIMIT = Buffer("s", i64, "local"), Buffer("c", i64, readonly=True)


def rows(kind: str, combined: bool) -> Kernel:
    """y[r] = sum over j of x[r, j]"""
    load = Load(X, r * n + j)
    body = For(J, 0, n, kind, Store(Y, r, load, "add")) if combined else Store(Y, r, Reduce("add", ((J, kind),), load))
    return Kernel("rows", (X, Y), (M, N), For(R, 0, m, "parallel", body))


def nested() -> Kernel:
    """y[r] = sum over j of x[r, j], all by one thread"""
    inner = For(R, 0, m, "serial", For(J, 0, n, "vector", Store(Y, r, Load(X, r * n + j), "add")))
    return Kernel("nested", (X, Y), (M, N), For(Symbol("once", 1), 0, 1, "parallel", inner))


def conditional() -> Kernel:
    """while s < n: y[0] += x[0]; s += 1"""
    more = Op("lt", Load(LOCAL, 0), Load(LIMIT, 0))
    body = Seq((Store(Y, 0, Load(X, 0), "add"), Store(LOCAL, 0, Op("add", Load(LOCAL, 0), Const(1, i64)))))
    whole = Alloc(LOCAL, 1, Seq((Store(LOCAL, 0, Const(0, i64)), While(more, body))))
    return Kernel("conditional", (X, Y, LIMIT), (), For(Symbol("once", 1), 0, 1, "parallel", whole))


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of few iterations."""
    monkeypatch.setattr(polling, "NODES", 24)
    monkeypatch.setattr(polling, "AROUND", (2, 1))


class Answers:
    """A function that is asked; after so many times its answer is yes."""

    def __init__(self, noes: int) -> None:
        self.asked, self.noes = 0, noes
        self.function = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)(self.answer)
        self.address = ctypes.cast(self.function, ctypes.c_void_p).value or 0

    def answer(self, context: int) -> bool:
        self.asked += 1
        return self.asked > self.noes


KERNELS = [rows(kind, combined) for kind in ("vector", "serial") for combined in (True, False)] + [nested()]


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("kernel", KERNELS, ids=["vector", "vector sum", "serial", "serial sum", "nested"])
def test_strips_compute_the_same(kernel: Kernel, target: Target) -> None:
    for size in (0, 1, 5, 16, 23, 64, 100, 1000):
        x, y, answers = np.arange(7 * size, dtype=np.float32).reshape(7, size) % 5, np.zeros(7, np.float32), Answers(1 << 30)
        run(kernel, [x, y], {"m": 7, "n": size}, target, 2, answers.address)
        np.testing.assert_array_equal(y, x.sum(1))
        assert answers.asked > 0 or size < 1000
        again = np.zeros(7, np.float32)
        run(kernel, [x, again], {"m": 7, "n": size}, target, 2)  # nobody to ask
        np.testing.assert_array_equal(again, y)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("kernel", KERNELS, ids=["vector", "vector sum", "serial", "serial sum", "nested"])
def test_a_kernel_ends_when_it_is_told_to(kernel: Kernel) -> None:
    """The row that it was at is not complete, and no later one is begun."""
    x, y, answers = np.ones((7, 100_000), np.float32), np.zeros(7, np.float32), Answers(3)
    run(kernel, [x, y], {"m": 7, "n": 100_000}, None, 1, answers.address)
    assert answers.asked == 4
    assert (y < 100_000).all()
    assert (y[1:] == 0).all()


@pytest.mark.usefixtures("often")
def test_loops_with_a_condition_ask() -> None:
    x, limit = np.ones(1, np.float32), np.array([100])
    for noes, enough in ((1 << 30, True), (2, False)):
        y, answers = np.zeros(1, np.float32), Answers(noes)
        run(conditional(), [x, y, limit], None, None, 1, answers.address)
        assert (y[0] == 100) == enough
        assert answers.asked >= 3


def test_long_loops_ask_seldom() -> None:
    """At their own pace: what asking costs is little beside a strip."""
    x, y, answers = np.ones((1, 3_000_000), np.float32), np.zeros(1, np.float32), Answers(1 << 30)
    run(rows("vector", True), [x, y], {"m": 1, "n": 3_000_000}, None, 1, answers.address)
    assert 3 <= answers.asked <= 200


# ---- estimates --------------------------------------------------------------------------------------------------------------

K, L = Symbol("k", 3), Symbol("l", 8)


BOUNDS: list[tuple[Dim, int | None]] = [
    (7, 7),
    (n, None),
    (minimum(n, 5), 5),
    (minimum(n, m), None),
    (minimum(8 * r + 8, n) - 8 * r, 8),
    (maximum(value(K), 7) + 1, 8),
    (maximum(n, 7), None),
    (value(K) * 4 + 2, 10),
    (value(K) * n, None),
    (9 - n, 9),
    ((value(K) * 4) // 3, 2),
    (n % 6, 5),
    (minimum(value(K), value(L)), 2),
    (maximum(value(K), value(L)), 7),
    (minimum(n, value(L)) + 3, 10),
]


@pytest.mark.parametrize(("dim", "most"), BOUNDS, ids=lambda v: str(v))
def test_bounds(dim: Dim, most: int | None) -> None:
    assert at_most(dim) == most


def test_a_variable_bounds_its_loop() -> None:
    assert iterations(K, 0, n) == 3
    assert iterations(K, 1, n) == 2
    assert iterations(K, 0, 2) == 2
    assert iterations(K, 1, 2) == 1
    assert iterations(K, 0, 9) == 3
    assert iterations(J, 0, n) is None
    assert iterations(J, 0, 9) == 9


def test_efforts() -> None:
    load = Load(X, j)
    assert expressions([Op("add", load, load)]) == Effort(2)
    assert expressions([Op("exp", load)]).nodes > 10
    assert expressions([Reduce("add", ((K, "serial"),), load)]) == Effort(3)
    assert expressions([Reduce("add", ((J, "serial"),), load)]) == Effort(0, 1)
    assert repeated(10, Effort(5)) == Effort(50)
    assert repeated(1 << 40, Effort(5)) == Effort(0, 1)
    assert repeated(None, Effort(0, 2)) == Effort(0, 3)
    assert polling.poll_interval(1 << 40, Effort(0, 3)) == polling.AROUND[-1]
    assert polling.poll_interval(polling.AROUND[0], Effort(0, 1)) is None
    assert polling.poll_interval(polling.AROUND[0] + 1, Effort(0, 1)) == polling.AROUND[0]


def test_efforts_add_up() -> None:
    """What is computed adds up, levels of loops that ask don't."""
    assert Effort(1, 2) + Effort(2, 1) == Effort(3, 2)
    assert Effort(5) + Effort(7, 3) == Effort(12, 3)
    assert repeated(-3, Effort(5)) == Effort(0)
    assert repeated(10, Effort(5), 4) == Effort(15)
    store = Store(Y, r, Load(X, r))
    efforts = polling.Efforts()
    one = efforts.statement(store)
    assert one.depth == 0
    assert efforts.statement(For(J, 0, n, "serial", store)) == Effort(0, 1)
    assert efforts.statement(For(R, 0, m, "serial", For(J, 0, n, "serial", store))) == Effort(0, 2)
    assert efforts.statement(For(K, 0, 3, "serial", store)) == Effort(3 * one.nodes)
    assert efforts.statement(While(Op("lt", Load(LOCAL, 0), Load(LIMIT, 0)), For(J, 0, n, "serial", store))) == Effort(0, 2)


def test_a_strip_takes_as_long_whatever_its_body() -> None:
    for nodes in (1, 3, 100, 1 << 12):
        for lanes in (1, 4):
            assert polling.NODES * lanes // 2 < polling.strip(Effort(nodes), lanes) * nodes <= polling.NODES * lanes
    assert polling.strip(Effort(2 * polling.NODES)) == 1
    assert polling.strip(Effort(0)) == polling.NODES
    assert polling.strip(Effort(polling.NODES // 2, 1)) == 2  # a long body around loops that ask
    assert polling.strip(Effort(1, 1)) == polling.AROUND[0]
    assert polling.strip(Effort(1, 2)) == polling.AROUND[1]
