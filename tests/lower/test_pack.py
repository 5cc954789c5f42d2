"""The right-hand side of contractions: which copies are made, and that products are right for every kind of B."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from sardonyx.base.dtypes import f32, f64
from sardonyx.base.symbolic import Dim, product
from sardonyx.codegen import features
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.region import scan
from sardonyx.expr.tensor import Tensor, assemble, compute
from sardonyx.lower.values import Panels
from sardonyx.ops import linalg, movement, pointwise, shape, softmax
from sardonyx.ops.pointwise import along, cast, mul, view
from tests.lower.harness import Compiled, Interpreted, compiled, integers, reals

SIZES = (0, 1, 2, 5, 17, 64)


def panels(program: Compiled) -> list[Panels]:
    """The packed copies that the program makes in each run."""
    return [n.root.tensor for n in program.lowered.nests if isinstance(n.root.tensor, Panels)]


@pytest.mark.parametrize("n", [3, 16, 40, 48, 96, 100])
def test_weights_are_packed_once(n: int) -> None:
    program = compiled(linalg.matmul, "f32[m, 24]", reals(24, n))
    assert program.preparation is not None
    assert not panels(program)
    for m in SIZES:
        program.check(reals(m, 24))


def test_one_column_is_a_plain_sum() -> None:
    program = compiled(linalg.matmul, "f32[m, 24]", reals(24, 1))
    assert program.places() == {program.outputs[0].name: "ROOT"}
    for m in SIZES:
        program.check(reals(m, 24))


def test_weights_transposed() -> None:
    program = compiled(lambda x, w: linalg.gemm(x, w, transB=1), "f32[m, 24]", reals(50, 24))
    assert not panels(program)
    program.check(reals(5, 24))


def test_both_sides_constant() -> None:
    program = compiled(lambda x, w: linalg.gemm(x, w, transA=1, transB=1), reals(4, 3), reals(5, 4))
    program.check()


def test_a_fed_matrix_of_whole_vectors_is_read_where_it_lies() -> None:
    """Unit stride along whole panels, from a buffer of the program's own."""
    relu = lambda x: pointwise.pointwise(lambda e: scalar.maximum(e, 0), x)  # noqa: E731
    program = compiled(lambda x, y: linalg.matmul(x, relu(y)), "f32[m, 24]", "f32[24, 96]")
    assert not panels(program)
    program.check(reals(5, 24), reals(24, 96))


def test_transposed_keys_are_packed() -> None:
    program = compiled(lambda q, k: linalg.matmul(q, linalg.transpose(k, [0, 2, 1])), "f32[b, q, 16]", "f32[b, s, 16]")
    assert panels(program)
    for b, q, s in ((1, 1, 1), (2, 5, 17), (3, 0, 4), (3, 4, 0), (0, 3, 3), (2, 33, 50)):
        program.check(reals(b, q, 16), reals(b, s, 16))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("k", SIZES)
def test_every_size_is_symbolic(k: int, n: int) -> None:
    program = EVERYTHING
    for b, m in ((1, 1), (2, 7), (0, 3), (3, 0), (2, 33)):
        program.check(reals(b, m, k), reals(b, k, n))


EVERYTHING = compiled(linalg.matmul, "f32[b, m, k]", "f32[b, k, n]")


@pytest.mark.parametrize(("a", "b"), [("f32[k]", "f32[k, n]"), ("f32[m, k]", "f32[k]"), ("f32[k]", "f32[k]")])
def test_vectors(a: str, b: str) -> None:
    program = compiled(linalg.matmul, a, b)
    sizes = {"m": 3, "n": 33, "k": 20}
    for k in (0, 1, 20, 64):
        sizes["k"] = k
        feeds = [reals(*(sizes[s] for s in sig[4:-1].split(", "))) for sig in (a, b)]
        program.check(*feeds)


def test_one_row_for_each_of_a_batch() -> None:
    """Decoding: one query for each head, the keys its own."""
    program = compiled(lambda q, k: linalg.matmul(q, linalg.transpose(k, [0, 1, 3, 2])), "f32[b, h, 1, 8]", "f32[b, h, s, 8]")
    for b, h, s in ((1, 1, 1), (2, 3, 17), (1, 4, 50), (0, 1, 2), (2, 2, 0)):
        program.check(reals(b, h, 1, 8), reals(b, h, s, 8))


def test_one_row_and_no_batch() -> None:
    program = compiled(linalg.matmul, "f32[1, 40]", reals(40, 200))
    program.check(reals(1, 40))


@pytest.mark.parametrize("fixed", [1, 2, 7])
def test_few_fixed_rows_of_a_batch(fixed: int) -> None:
    """So few rows that a tile could take those of several pictures, were their B the same."""
    program = compiled(linalg.matmul, f"f32[b, {fixed}, 8]", "f32[b, 8, n]")
    for b, n in ((1, 1), (3, 17), (0, 3), (5, 48)):
        program.check(reals(b, fixed, 8), reals(b, 8, n))
    shared = compiled(linalg.matmul, f"f32[b, {fixed}, 8]", reals(8, 40))
    for b in (0, 1, 4, 9):
        shared.check(reals(b, fixed, 8))


def test_grouped_queries_share_keys() -> None:
    """[b, kv, group, q, d] times [b, kv, 1, d, s]: one packed copy for a group."""

    def scores(q: Tensor, k: Tensor) -> Tensor:
        keys = linalg.transpose(k, [0, 1, 3, 2])
        shared = view(keys, [k.shape[0], 2, 1, 8, k.shape[2]], lambda b, h, _, d, s: (b, h, d, s))
        return linalg.matmul(shape.reshaped(q, [q.shape[0], 2, 3, q.shape[2], 8]), shared)

    program = compiled(scores, "f32[b, 6, q, 8]", "f32[b, 2, s, 8]")
    for b, q, s in ((1, 1, 1), (2, 5, 17), (1, 0, 4)):
        program.check(reals(b, 6, q, 8), reals(b, 2, s, 8))


def test_a_broadcast_batch() -> None:
    program = compiled(linalg.matmul, "f32[a, 1, m, 8]", "f32[1, b, 8, 20]")
    for a, b, m in ((2, 3, 5), (1, 1, 1), (0, 2, 3), (2, 0, 3)):
        program.check(reals(a, 1, m, 8), reals(1, b, 8, 20))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_are_widened_as_they_are_packed(dtype: type) -> None:
    name = "f16" if dtype is np.float16 else "bf16"
    for weight in (True, False):
        w = integers(24, 40).astype(dtype)
        program = compiled(linalg.matmul, f"{name}[m, 24]", w if weight else f"{name}[24, 40]")
        for m in (0, 1, 9):
            program.check(integers(m, 24).astype(dtype), *([] if weight else [w]))


def test_doubles() -> None:
    program = compiled(linalg.matmul, "f64[m, k]", "f64[k, n]")
    for m, k, n in ((5, 7, 9), (1, 1, 1), (33, 40, 50), (0, 3, 4), (3, 0, 4), (3, 4, 0)):
        program.check(reals(m, k, dtype=np.float64), reals(k, n, dtype=np.float64))


def test_doubles_of_floats() -> None:
    program = compiled(lambda x, w: linalg.matmul(cast(x, f64), cast(w, f64)), "f32[m, 24]", reals(24, 20))
    program.check(reals(5, 24))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.int8, np.uint64])
def test_integers_are_no_tiles(dtype: type) -> None:
    name = {"i": "i", "u": "u"}[np.dtype(dtype).kind] + str(8 * np.dtype(dtype).itemsize)
    program = compiled(linalg.matmul, f"{name}[m, k]", f"{name}[k, n]")
    assert "ROOT TILE" not in program.places().values()
    for m, k, n in ((3, 4, 5), (0, 1, 1), (1, 0, 3), (9, 33, 20)):
        program.check(integers(m, k, low=0, dtype=dtype), integers(k, n, low=0, dtype=dtype))


def test_integers_times_floats() -> None:
    """A dequantised operand: a cast of an integer is computed into the packed copy's source."""
    program = compiled(
        lambda x, w: linalg.matmul(x, mul(cast(w, f32), compute_scale(w))), "f32[m, 16]", integers(16, 24, dtype=np.int8)
    )
    for m in (1, 5):
        program.check(reals(m, 16))


def compute_scale(w: Tensor) -> Tensor:
    return compute(f32, (1, w.shape[1]), lambda *_: scalar.literal(0.25, f32))


def test_a_diagonal_is_no_contraction() -> None:
    """x[i, k] w[k, i]: a batch and no column."""
    program = compiled(lambda x, w: along("add", mul(x, linalg.transpose(w)), [1]), "f32[m, k]", "f32[k, m]")
    for m, k in ((3, 4), (17, 33), (1, 1), (0, 4), (4, 0)):
        program.check(reals(m, k), reals(k, m))


def test_a_sum_of_products_that_only_inlining_reveals() -> None:
    """sum(a * b): the sum's body becomes a product of reads after packing; it stays a plain reduction."""

    def sums(a: Tensor, b: Tensor) -> Tensor:
        product = mul(view(a, (a.shape[0], 1, a.shape[1]), lambda i, _, k: (i, k)), view(b, (1, *b.shape), lambda _, j, k: (j, k)))
        return along("add", product, [2])

    program = compiled(sums, "f32[m, k]", "f32[n, k]")
    for m, n, k in ((3, 5, 7), (1, 1, 1), (16, 17, 33), (3, 4, 0)):
        program.check(reals(m, k), reals(n, k))


def test_a_left_side_whose_rows_do_not_lie_evenly() -> None:
    """Rows of A taken as i // 3: a dense copy is made."""

    def gather(x: Tensor, w: Tensor) -> Tensor:
        m = x.shape[0]
        a = view(x, (m * 3, 8), lambda i, k: (i // 3, k))
        return linalg.matmul(a, w)

    program = compiled(gather, "f32[m, 8]", reals(8, 20))
    for m in (0, 1, 5):
        program.check(reals(m, 8))


def test_a_right_side_whose_columns_do_not_lie_evenly() -> None:
    def spread(x: Tensor, w: Tensor) -> Tensor:
        b = view(w, (8, w.shape[1] * 2), lambda k, j: (k, j // 2))
        return linalg.matmul(x, b)

    for w in ("f32[8, n]", reals(8, 10)):
        program = compiled(spread, "f32[m, 8]", w)
        program.check(reals(5, 8), *([reals(8, 10)] if isinstance(w, str) else []))


def test_a_slice_of_a_weight_of_symbolic_width() -> None:
    """The weight is fixed, what is read of it is not: its copy is made in the run."""

    def head(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return linalg.matmul(x, movement.sliced(w, [0], [y.shape[0]], [1], [1]))

    program = compiled(head, "f32[m, 8]", "f32[n]", reals(8, 40))
    for n in (0, 1, 17, 40, 50):
        program.check(reals(5, 8), reals(n))


def test_a_matrix_for_each_turn_of_a_loop() -> None:
    """B = w[t]: packed inside the loop, be it a weight or fed."""

    def powers(x: Tensor, w: Tensor) -> Tensor:
        def step(t: Dim, h: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            own = view(w, w.shape[1:], lambda k, n: (t, k, n))
            return [pointwise.pointwise(lambda e: scalar.minimum(scalar.maximum(e, -2), 2), linalg.matmul(h, own))], []

        return scan(w.shape[0], [x], step)[0][0]

    weights = integers(4, 8, 8).astype(np.float32)
    for argument, feeds in (("f32[t, 8, 8]", [weights]), (weights, [])):
        program = compiled(powers, "f32[m, 8]", argument)
        for m in (1, 5):
            program.check(reals(m, 8), *feeds)


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16"])
@pytest.mark.parametrize("which", ["left", "right", "both"])
def test_what_a_loop_leaves_is_packed_after_it(which: str, dtype: str) -> None:
    """The final state is a part of the memory in which the loop keeps it from iteration to iteration."""

    def net(x: Tensor, y: Tensor) -> Tensor:
        (final,), _ = scan(y.shape[0], [x], lambda t, h: ([pointwise.pointwise(lambda e: scalar.maximum(e, 0), h)], []))
        return linalg.gemm(final if which != "right" else x, final if which != "left" else x, transB=1)

    program = compiled(net, f"{dtype}[m, 12]", "f32[n]")
    for turns in (0, 1, 2, 3):
        program.check(reals(5, 12).astype({"f32": np.float32, "f64": np.float64, "f16": np.float16}[dtype]), reals(turns))


def test_what_a_loop_leaves_stands_in_an_inner_loop_too() -> None:
    """A product in each iteration of the outer loop, with what the inner one leaves."""

    def net(x: Tensor) -> Tensor:
        def outer(t: Dim, h: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            (inner,), _ = scan(t + 1, [h], lambda u, s: ([pointwise.pointwise(lambda e: scalar.minimum(e, 1), s)], []))
            return [linalg.gemm(inner, inner, transB=1)], []

        return scan(3, [x], outer)[0][0]

    compiled(net, "f32[6, 6]").check(reals(6, 6))


def test_one_sided_windows() -> None:
    """A convolution along one axis, written out: A's index is a sum of two loops."""

    def windows(x: Tensor, w: Tensor) -> Tensor:
        n, taps = x.shape[0], 3
        a = compute(x.dtype, (n - 2, taps, 4), lambda i, r, c: at(x, (i + r, c)))
        return linalg.matmul(shape.reshaped(a, [n - 2, 12]), w)

    program = compiled(windows, "f32[n, 4]", reals(12, 10))
    for n in (2, 3, 9, 40):
        program.check(reals(n, 4))


def test_the_packed_copy_is_told_from_a_weight() -> None:
    """Both sides are weights, and so few columns that column // width is 0."""

    def product(x: Tensor, w: Tensor) -> Tensor:
        return linalg.matmul(linalg.transpose(x), w)

    for n in (1, 5, 16, 17):
        compiled(product, reals(4, 3), reals(4, n)).check()


@pytest.mark.parametrize("first", ["product", "transpose"])
@pytest.mark.parametrize("whole", [False, True], ids=["value", "whole"])
def test_what_is_read_without_a_copy_lies_in_rows_whoever_else_reads_it(whole: bool, first: str) -> None:
    """A right-hand side that is computed, alone or as parts of a whole, and read by a transposition too."""

    def scaled(x: Tensor, by: float) -> Tensor:
        return compute(f32, x.shape, lambda i, j: scalar.mul(scalar.apply("exp", at(x, (i, j))), by))

    def build(x: Tensor, a: Tensor) -> list[Tensor]:
        b = scaled(x, 1.0)
        if whole:
            b = assemble(f32, [2 * x.shape[0], x.shape[1]], [(scaled(x, 2.0), [0, 0]), (scaled(x, 3.0), [x.shape[0], 0])])
        made = {}
        for name in ("product", "transpose") if first == "product" else ("transpose", "product"):
            if name == "product":
                made[name] = linalg.matmul(a, b)
            else:
                made[name] = compute(f32, b.shape[::-1], lambda i, j: scalar.add(at(b, (j, i)), 1.0))
        return [made["product"], made["transpose"]]

    k = 80 if whole else 40
    program = compiled(build, "f32[40, 64]", f"f32[m, {k}]")
    assert not any("panels" in name for name in program.places())
    for m in (1, 5):
        program.check(reals(40, 64) / 4, reals(m, k), tolerance=1e-5)


# ---- few rows -----------------------------------------------------------------------------------------------------------


def scores(q: Tensor, k: Tensor) -> Tensor:
    """[b, h, q, d], [b, h, s, d] -> [b, h, q, s]"""
    return linalg.matmul(q, linalg.transpose(k, [0, 1, 3, 2]))


def copied(program: Compiled, *feeds: np.ndarray) -> int:
    """Elements of the packed copies that a run with these feeds makes."""
    sizes = Interpreted(program.lowered, feeds, program.sizes(feeds), program.constants)
    return sum(sizes.number(product(t.shape)) for t in panels(program))


@pytest.mark.parametrize("target", [features.host(), features.AVX2, features.SSE2], ids=lambda t: t.name)
@pytest.mark.parametrize("depth", [10, 17, 96])
def test_few_rows_read_keys_where_they_lie(depth: int, target: features.Target) -> None:
    """Chosen when a run starts: one row for every 10 elements along k, 8 at most."""
    program = compiled(scores, f"f32[b, 2, q, {depth}]", f"f32[b, 2, s, {depth}]", target=target)
    assert panels(program)
    for q in (0, 1, 2, 3, 8, 9, 20):
        for b, s in ((1, 1), (2, 50), (1, 97), (0, 3), (2, 0)):
            feeds = reals(b, 2, q, depth), reals(b, 2, s, depth)
            assert bool(copied(program, *feeds)) == bool(q > min(depth // 10, 8) and b and s)
            program.check(*feeds)


def test_keys_too_short_to_add_up_are_copied() -> None:
    program = compiled(scores, "f32[b, 2, q, 9]", "f32[b, 2, s, 9]")
    assert copied(program, reals(1, 2, 1, 9), reals(1, 2, 3, 9))
    program.check(reals(1, 2, 1, 9), reals(1, 2, 3, 9))


def test_without_a_batch_only_one_row_is_few() -> None:
    """The threads share a copy at least."""
    program = compiled(lambda x, y: linalg.matmul(x, linalg.transpose(y)), "f32[m, 64]", "f32[n, 64]")
    assert [bool(copied(program, reals(m, 64), reals(50, 64))) for m in (1, 2)] == [False, True]
    for m in (0, 1, 2, 9):
        program.check(reals(m, 64), reals(50, 64))


def test_keys_of_a_symbolic_depth() -> None:
    program = compiled(scores, "f32[b, 2, q, d]", "f32[b, 2, s, d]")
    for q, depth in ((1, 0), (1, 9), (1, 10), (2, 10), (3, 33), (9, 96), (8, 96)):
        feeds = reals(1, 2, q, depth), reals(1, 2, 20, depth)
        assert bool(copied(program, *feeds)) == (depth > 0 and q > min(depth // 10, 8))
        program.check(*feeds)


def test_doubles_in_few_rows() -> None:
    program = compiled(scores, "f64[b, 2, q, 20]", "f64[b, 2, s, 20]")
    for q in (1, 2, 3):
        program.check(reals(1, 2, q, 20, dtype=np.float64), reals(1, 2, 37, 20, dtype=np.float64))


def test_keys_joined_to_a_past() -> None:
    """The whole is an output: it lies in the order of its axes. Its readers are an attention of one nest."""

    def attention(q: Tensor, past: Tensor, now: Tensor) -> list[Tensor]:
        keys = movement.concat(past, now, axis=2)
        return [linalg.matmul(softmax.softmax_over(scores(q, keys), [3]), keys), keys]

    program = compiled(attention, "f32[b, 3, q, 32]", "f32[b, 3, s, 32]", "f32[b, 3, q, 32]")
    for q, s in ((1, 0), (1, 1), (1, 100), (3, 33), (4, 33), (20, 0)):
        feeds = reals(1, 3, q, 32) / 4, reals(1, 3, s, 32), reals(1, 3, q, 32, seed=1)
        assert bool(copied(program, *feeds)) == (q > 3)
        program.check(*feeds, tolerance=1e-5)


@pytest.mark.parametrize("columns", ["s", "48", "96"])
def test_keys_that_are_computed_are_copied(columns: str) -> None:
    """They may be computed beside their copy, which has to be made then, though they are an output."""

    def both(q: Tensor, k: Tensor) -> list[Tensor]:
        keys = pointwise.pointwise(lambda e: scalar.mul(e, e), k)
        return [scores(q, keys), keys]

    program = compiled(both, "f32[b, 2, q, 64]", f"f32[b, 2, {columns}, 64]")
    for q in (1, 20):
        feeds = reals(1, 2, q, 64), reals(1, 2, 50 if columns == "s" else int(columns), 64)
        assert copied(program, *feeds)
        program.check(*feeds, tolerance=1e-5)


def test_grouped_queries_in_few_rows() -> None:
    """Two heads read the keys of one: a division in B's index."""

    def grouped(q: Tensor, k: Tensor) -> Tensor:
        b, h, s, d = k.shape
        return scores(q, view(k, (b, 2 * h, s, d), lambda b, h, s, d: (b, h // 2, s, d)))

    program = compiled(grouped, "f32[b, 4, q, 16]", "f32[b, 2, s, 16]")
    for b, q, s in ((1, 1, 1), (2, 2, 50), (1, 3, 50), (3, 0, 4)):
        program.check(reals(b, 4, q, 16), reals(b, 2, s, 16))


@pytest.mark.parametrize("q", [1, 2, 9])
def test_nan_and_infinity_stay_with_their_row_and_key(q: int) -> None:
    program = compiled(scores, "f32[b, 1, q, 64]", "f32[b, 1, s, 64]")
    queries, keys = reals(1, 1, q, 64), reals(1, 1, 50, 64)
    keys[0, 0, 3, 63], keys[0, 0, 17, 0], queries[0, 0, q - 1, 5] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        wanted = queries @ keys.swapaxes(2, 3)
    got = [program.run(queries, keys, threads=n)[0] for n in (1, 2)]
    assert got[0].tobytes() == got[1].tobytes()
    np.testing.assert_array_equal(got[0], wanted)


def test_a_copy_that_serves_many_turns_is_made() -> None:
    """A fed matrix times a state of one row, turn after turn."""

    def powers(x: Tensor, w: Tensor) -> Tensor:
        def step(t: Dim, h: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            return [
                pointwise.pointwise(lambda e: scalar.minimum(scalar.maximum(e, -2), 2), linalg.matmul(h, linalg.transpose(w)))
            ], []

        return scan(3, [x], step)[0][0]

    program = compiled(powers, "f32[m, 16]", "f32[16, 16]")
    assert copied(program, reals(1, 16), reals(16, 16))
    program.check(reals(1, 16), reals(16, 16))


# ---- loops that move neither operand, dtypes that no tile reads -----------------------------------------------------------


@pytest.mark.parametrize("repeated", [[4, 7, 8], [7, 4, 8], [2, 4, 3, 8]])
@pytest.mark.parametrize("fixed", [True, False])
def test_rows_that_are_repeated(repeated: list[int], fixed: bool) -> None:
    """A loop that moves with neither operand is one of rows."""

    def build(x: Tensor, w: Tensor) -> list[Tensor]:
        wide = view(x, repeated, lambda *i: [i[repeated.index(4)], i[-1]])
        y = linalg.matmul(wide, w)
        return [y, pointwise.pointwise(lambda e: scalar.maximum(e, 0), softmax.softmax_over(y, [3 if len(repeated) == 4 else 2]))]

    w = reals(8, 16)
    program = compiled(build, "f32[4, 8]", *([w] if fixed else ["f32[8, 16]"]))
    program.check(reals(4, 8), *([] if fixed else [w]), tolerance=1e-5)


def test_columns_that_are_repeated() -> None:
    """Of a product whose other operand moves with none of the outer loops."""

    def build(x: Tensor, w: Tensor) -> Tensor:
        return linalg.matmul(view(x, [5, 3, 2, 8], lambda i, j, r, k: [r, k]), view(w, [5, 3, 8, 6], lambda i, j, k, c: [j, k, c]))

    compiled(build, "f32[2, 8]", "f32[3, 8, 6]").check(reals(2, 8), reals(3, 8, 6))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
@pytest.mark.parametrize("target", [features.host(), features.SSE2], ids=["host", "sse2"])
@pytest.mark.parametrize("fixed", [True, False])
def test_products_of_narrow_floats_on_every_processor(dtype: type, target: features.Target, fixed: bool) -> None:
    name = {"float16": "f16", "bfloat16": "bf16", "float8_e4m3fn": "f8e4m3fn", "float8_e5m2": "f8e5m2"}[np.dtype(dtype).name]
    x, w = integers(5, 33, low=-2, high=3).astype(dtype), integers(33, 48, low=-1, high=2).astype(dtype)
    bias = integers(48, low=-1, high=2).astype(dtype)

    def build(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return pointwise.pointwise(lambda e: scalar.maximum(e, 0), pointwise.add(linalg.matmul(x, w), b))

    program = compiled(build, f"{name}[m, 33]", w if fixed else f"{name}[33, 48]", bias, target=target)
    program.check(x, *([] if fixed else [w]))
    program.check(x[:0], *([] if fixed else [w]))
