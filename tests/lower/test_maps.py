"""Pointwise nests: which loops are folded, which is the vector's, and what plain moves have as sizes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from sardonyx.base.dtypes import f32
from sardonyx.base.symbolic import Dim, Symbol, symbol, value
from sardonyx.codegen import features
from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import Buffer, Const, For, Index, Load, Op, Store
from sardonyx.lower.maps import fold, generalised, in_chunks, vector_loop
from sardonyx.ops import linalg, pointwise
from tests.lower.harness import compiled, machine_for, reals

N, M = symbol("n"), symbol("m")
ROW, COLUMN, K = Symbol("i", N), Symbol("j", M), Symbol("k", 5)
X, Y = Buffer("x", f32), Buffer("y", f32)
i, j, k = value(ROW), value(COLUMN), value(K)


def copy(to: object, of: object) -> Store:
    return Store(Y, to, Load(X, of))  # type: ignore[arg-type]


def folded(store: Store) -> list[object]:
    """Extents of the loops i, j, k after folding."""
    return [s.extent for s in fold([ROW, COLUMN, K], store)[0]]


def test_dense_loops_are_one() -> None:
    dense = i * M * 5 + j * 5 + k
    loops, store = fold([ROW, COLUMN, K], copy(dense, dense))
    assert [s.extent for s in loops] == [N * M * 5]
    assert store.offset == value(loops[0])


@pytest.mark.parametrize(
    ("to", "of", "extents"),
    [
        (i * M * 5 + j * 5 + k, i * M * 6 + j * 6 + k, [N * M, 5]),  # rows with a gap
        (i * M * 5 + j * 5 + k, j * N * 5 + i * 5 + k, [N, M, 5]),  # the outer two change places
        (i * M * 5 + j * 5 + k, i * (M + 1) * 5 + j * 5 + k, [N, M * 5]),
        (i * M * 5 + j * 5 + k, k, [N * M, 5]),  # a row for all
        (i * M * 5 + j * 5 + k, i, [N, M * 5]),  # a number for each row
    ],
)
def test_only_loops_that_every_address_allows_are_folded(to: object, of: object, extents: list[object]) -> None:
    assert folded(copy(to, of)) == extents


def test_a_loop_that_is_read_as_a_number_stays() -> None:
    dense = i * M * 5 + j * 5 + k
    number = Store(Y, dense, Op("add", Load(X, dense), Op("mul", Load(X, dense), Const(2.0, f32))))
    assert folded(number) == [N * M * 5]
    counted = Store(Y, dense, Index(j))
    assert folded(counted) == [N, M, 5]


def test_vectors_follow_memory() -> None:
    machine = machine_for(features.host())
    assert vector_loop([ROW, COLUMN], copy(i * M + j, j * N + i), machine) is COLUMN  # what is written counts before what is read
    assert vector_loop([ROW, COLUMN], copy(i + j * N, j * N + i), machine) is ROW
    assert vector_loop([ROW, K], copy(i * 5 + k, i * 5 + k), machine) is ROW, "five are no vector"


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_a_vector_of_eight_is_long_enough(lanes: int) -> None:
    """Of as many as there are lanes, if these are fewer."""
    machine = replace(machine_for(features.host()), lanes=lanes)
    enough = min(lanes, 8)
    short, long = Symbol("s", enough - 1), Symbol("l", enough)
    across = value(short) + value(long) * enough
    assert vector_loop([long, short], copy(across, across), machine) is long, "although memory lies along the other"
    assert vector_loop([short, long], copy(value(long) + value(short) * enough, 0), machine) is long
    both = Symbol("a", enough), Symbol("b", enough)
    nowhere = copy(value(both[0]) * 3 + value(both[1]) * 50, 0)
    assert vector_loop(both, nowhere, machine) is both[1], "the inner one, where nothing decides"


def test_enough_is_dealt_out() -> None:
    """As few of the outer loops as make 64 turns; all of them where they make fewer; chunks of the vector where they make under 8."""

    def parallel(*shape: int) -> Dim:
        perm = [2, 1, 0, 3]

        def build(x: Tensor, y: Tensor) -> Tensor:
            return pointwise.add(linalg.transpose(x, perm), y)

        sizes = ", ".join(map(str, shape))
        turned = ", ".join(str(shape[k]) for k in perm)
        program = compiled(build, f"f32[{turned}]", f"f32[{sizes}]")
        ((body,),) = [[k.body for k in program.lowered.kernels.values()]]
        assert isinstance(body, For)
        assert body.kind == "parallel"
        return body.hi

    assert parallel(64, 3, 5, 16) == 64
    assert parallel(63, 3, 5, 16) == 63 * 3
    assert parallel(4, 3, 5, 16) == 4 * 3 * 5
    assert parallel(2, 3, 4, 4096) == 2 * 3 * 4
    assert parallel(2, 1, 3, 4096) == 2 * 3 * 2, "a vector of 4096 in chunks of 2048"
    assert parallel(2, 1, 3, 512) == 2 * 3
    assert parallel(2, 1, 4, 4096) == 2 * 4


def test_chunks_cover_the_loop_once() -> None:
    for length in (1, 7, 8, 9, 40):
        (c,), body = in_chunks(Symbol("v", length), copy(i, i), 8)
        reached = [n for at in range(-(-length // 8)) for n in range(at * 8, min(length, at * 8 + 8))]
        assert reached == list(range(length))
        assert c.extent == -(-length // 8)
        assert body.lo == value(c) * 8  # type: ignore[attr-defined]


def test_moves_have_their_steps_as_sizes() -> None:
    found = generalised([ROW, COLUMN], copy(i * M * 2 + j + 7, j * N + i * 3))
    assert found is not None
    sizes = found[2]
    assert {s.name: d for s, d in sizes.items()} == {
        "#extent0": N, "#extent1": M, "#to": 7, "#to.step0": M * 2, "#from.step0": 3, "#from.step1": N,
    }  # fmt: skip
    assert generalised([ROW], Store(Y, i, Op("add", Load(X, i), Load(X, i)))) is None
    assert generalised([ROW], Store(Y, i, Load(X, i), combine="add")) is None
    assert generalised([ROW, COLUMN], copy(i * i + j, j)) is None, "no step"


@pytest.mark.parametrize("sizes", [(0, 3), (1, 1), (2, 3), (5, 16), (33, 17), (3, 700)])
def test_moves_and_sums_of_any_size(sizes: tuple[int, int]) -> None:
    """Turned, reversed, shifted and broadcast, in one model with symbolic sizes."""
    n, m = sizes
    turned = compiled(lambda x: linalg.transpose(x), "f32[n, m]")
    turned.check(reals(n, m))
    both = compiled(lambda x, y: pointwise.add(linalg.transpose(x), y), "f32[n, m]", "f32[m, n]")
    both.check(reals(n, m), reals(m, n, seed=1))
    spread = compiled(lambda x, y: pointwise.add(x, y), "f32[n, m]", "f32[m]")
    spread.check(reals(n, m), reals(m))
    rows = compiled(lambda x, y: pointwise.add(x, y), "f32[n, m]", "f32[n, 1]")
    rows.check(reals(n, m), reals(n, 1))


def test_a_fill_and_a_copy_share_kernels_with_others() -> None:
    program = compiled(lambda x, y: [linalg.transpose(x), linalg.transpose(y)], "f32[4, 6]", "f32[5, 7]")
    program.check(reals(4, 6), reals(5, 7))
    assert len(program.lowered.kernels) == 1
