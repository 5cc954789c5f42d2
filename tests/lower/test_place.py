"""Where values are computed: each rule is taken where it should be, and what comes out is right."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from sardonyx.base.symbolic import Dim, coefficient, symbol, weight
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.tensor import Tensor, compute
from sardonyx.loop.nodes import Expr, For, Load, Seq, Stmt, Store, walk
from sardonyx.lower import place
from sardonyx.lower.place import MOST_MEMBERS
from sardonyx.lower.values import MOST_INDEX_WEIGHT, Value, cost
from sardonyx.ops import linalg, movement, norm, pointwise, shape, softmax
from sardonyx.ops.activation import gelu
from sardonyx.ops.conv import conv
from sardonyx.ops.pointwise import add, along, mul, view
from tests.lower.harness import Compiled, compiled, integers, reals

SIZES = (0, 1, 2, 5, 16, 33)


def kinds(program: Compiled) -> list[str]:
    return sorted(program.places().values())


def statements(s: Stmt) -> Iterator[Stmt]:
    """s and everything inside it."""
    yield s
    for inner in s.body if isinstance(s, Seq) else [getattr(s, name) for name in ("body", "then", "otherwise") if hasattr(s, name)]:
        if inner is not None:
            yield from statements(inner)


def vector_steps(program: Compiled) -> set[Dim | None]:
    """How far apart the lanes of vector loads and stores lie."""
    found: set[Dim | None] = set()
    for kernel in program.lowered.kernels.values():
        for loop in statements(kernel.body):
            for store in statements(loop.body) if isinstance(loop, For) and loop.kind == "vector" else ():
                if isinstance(store, Store):
                    offsets = [store.offset, *(n.offset for n in walk(store.value) if isinstance(n, Load))]
                    found |= {coefficient(offset, loop.variable) for offset in offsets}
    return found


def relu(x: Tensor) -> Tensor:
    return pointwise.pointwise(lambda e: scalar.maximum(e, 0), x)


# ---- VIEW ---------------------------------------------------------------------------------------------------------------


def test_an_index_map_whose_formula_is_too_long_has_a_buffer() -> None:
    """Each of these maps holds its index twice, so that the 12 of them would hold it 4,096 times."""

    def moved(x: Tensor, by: int) -> Tensor:
        return view(x, x.shape, lambda i: [(i + i // 2 + by) % x.shape[0]])

    program = compiled(lambda x: functools.reduce(moved, range(12), x), "f32[n]")
    assert 1 < len(kinds(program)) < 6
    for store in (s for k in program.lowered.kernels.values() for s in statements(k.body) if isinstance(s, Store)):
        assert all(weight(o.offset) <= 2 * MOST_INDEX_WEIGHT for o in walk(store.value) if isinstance(o, Load))
    for n in SIZES[1:]:
        program.check(reals(n))


def test_a_chain_of_views_is_one_copy() -> None:
    def chain(x: Tensor) -> Tensor:
        y = linalg.transpose(shape.reshaped(x, [x.shape[0], 4, 6]), [2, 0, 1])
        y = movement.sliced(y, [1], [5], [0], [2])
        return shape.reshaped(y, [2, x.shape[0] * 4])

    program = compiled(chain, "f32[m, 24]")
    assert kinds(program) == ["ROOT"]
    for m in SIZES:
        program.check(reals(m, 24))


def test_a_view_is_taken_up_by_a_product() -> None:
    program = compiled(lambda x, w: linalg.matmul(linalg.transpose(x, [1, 0]), w), "f32[64, m]", reals(64, 32))
    assert program.nests() == 1
    for m in SIZES:
        program.check(reals(64, m))


def test_backward_slices() -> None:
    program = compiled(lambda x: movement.sliced(x, [-1], [-(1 << 40)], [1], [-1]), "f32[m, n]")
    for n in SIZES:
        program.check(reals(3, n))


def test_a_broadcast_view_of_a_scalar() -> None:
    program = compiled(lambda x: pointwise.expand_to(x, [4, symbol("m"), 3]), "f32[m, 1]")
    for m in SIZES:
        program.check(reals(m, 1))


# ---- INLINE -------------------------------------------------------------------------------------------------------------


def test_a_chain_of_pointwise_values_is_one_statement() -> None:
    program = compiled(lambda x, y: relu(mul(add(x, y), pointwise.sub(x, y))), "f32[m, 8]", "f32[8]")
    assert kinds(program) == ["ROOT"]
    for m in SIZES:
        program.check(reals(m, 8), reals(8))


@pytest.mark.parametrize("residual", [0, 7])
def test_a_long_chain_is_many_statements(residual: int) -> None:
    """Expressions are walked recursively: none may grow with the model. Nor may a kernel."""

    def net(x: Tensor) -> Tensor:
        values = [x]
        for i in range(500):
            y = pointwise.pointwise(lambda e: scalar.apply("tanh", e), values[-1])
            values.append(add(y, values[-1 - residual]) if residual and i % 8 == 7 else y)
        return values[-1]

    program = compiled(net, "f32[n, 5]")
    assert all(len(nest.members) <= MOST_MEMBERS for nest in program.lowered.nests)
    assert program.nests() > 1
    program.check(reals(3, 5), tolerance=1e-5)


def test_the_cost_of_a_body_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Placing takes time in proportion to the number of values, however many share a nest."""
    asked: list[tuple[Value, Expr | None]] = []
    monkeypatch.setattr(place, "cost", lambda v: asked.append((v, v.body)) or cost(v))

    def net(x: Tensor) -> Tensor:
        values = [x]
        for i in range(100):
            y = pointwise.pointwise(lambda e: scalar.apply("tanh", e), values[-1])
            values.append(add(y, values[-5]) if i % 8 == 7 else y)
        return values[-1]

    program = compiled(net, "f32[16]")
    assert max(len(nest.members) for nest in program.lowered.nests) > 3
    assert len(asked) == len(set(asked))


def test_what_is_costly_and_read_twice_at_different_points_is_stored() -> None:
    def expensive(x: Tensor) -> Tensor:
        e = pointwise.pointwise(lambda v: scalar.apply("erf", scalar.apply("exp", v)), x)
        return add(e, linalg.transpose(e))

    program = compiled(expensive, "f32[17, 17]")
    assert len(program.places()) == 2
    program.check(reals(17, 17), tolerance=1e-5)


def test_a_guarded_read_inlines_as_zero() -> None:
    """A border of another value than zero around a pointwise result: the guard goes with the read."""

    def padded(x: Tensor) -> Tensor:
        y = pointwise.pointwise(lambda e: scalar.add(e, 1), x)
        n = x.shape[0]
        assert not isinstance(n, int)
        inside = lambda i: scalar.apply("lt", scalar.index(i), scalar.index(n))  # noqa: E731
        return compute(y.dtype, [n + 3], lambda i: at(y, (i,), inside(i)))

    program = compiled(padded, "f32[n]")
    for n in (1, 2, 16, 33):
        got = program.check(reals(n))
        assert (got[0][n:] == 0).all()


# ---- TILE ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", SIZES)
def test_bias_activation_and_residual_are_the_epilogue(m: int) -> None:
    program = compiled(
        lambda x, w, b, r: add(relu(add(linalg.matmul(x, w), b)), r), "f32[m, 64]", reals(64, 96), reals(96), "f32[m, 96]"
    )
    assert kinds(program) == ["ROOT TILE"]
    program.check(reals(m, 64), reals(m, 96))


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 2, 1], [2, 0, 1], [2, 1, 0], [1, 2, 0]])
def test_a_permuted_epilogue(order: list[int]) -> None:
    program = compiled(lambda x, w: relu(linalg.transpose(linalg.matmul(x, w), order)), "f32[b, m, 16]", reals(16, 40))
    assert program.nests() == 1
    for b, m in ((2, 5), (1, 1), (3, 0), (0, 3), (2, 17)):
        program.check(reals(b, m, 16))


def test_heads_are_split_after_the_product() -> None:
    """The columns of a tile run along one loop of its statement: split in two, they are read from a buffer."""

    def heads(x: Tensor, w: Tensor) -> Tensor:
        y = linalg.matmul(x, w)
        return relu(linalg.transpose(shape.reshaped(y, [y.shape[0], y.shape[1], 4, 16]), [0, 2, 1, 3]))

    program = compiled(heads, "f32[b, s, 32]", reals(32, 64))
    assert program.nests() == 2
    for b, s in ((1, 1), (2, 7), (3, 16)):
        program.check(reals(b, s, 32))


def test_an_epilogue_with_a_broadcast_row_and_column() -> None:
    program = compiled(lambda x, w, r, c: mul(add(linalg.matmul(x, w), r), c), "f32[m, 8]", reals(8, 20), "f32[1, 20]", "f32[m, 1]")
    assert kinds(program) == ["ROOT TILE"]
    for m in SIZES:
        program.check(reals(m, 8), reals(1, 20), reals(m, 1))


def test_an_epilogue_that_repeats_its_rows_is_not_one() -> None:
    """[m, n] broadcast to [b, m, n]: each sum would be computed b times."""
    program = compiled(lambda x, w, y: add(linalg.matmul(x, w), y), "f32[m, 8]", reals(8, 20), "f32[b, m, 20]")
    assert program.nests() == 2
    for b, m in ((2, 3), (0, 3), (3, 0)):
        program.check(reals(m, 8), reals(b, m, 20))


def test_a_product_that_is_read_twice_is_computed_once() -> None:
    program = compiled(lambda x, w: add(*(relu(y) for y in [linalg.matmul(x, w)] * 2)), "f32[m, 8]", reals(8, 16))
    assert program.nests() == 1
    program.check(reals(7, 8))


def test_a_product_under_a_product() -> None:
    program = compiled(lambda x, v, w: linalg.matmul(relu(linalg.matmul(x, v)), w), "f32[m, 24]", reals(24, 40), reals(40, 24))
    for m in SIZES:
        program.check(reals(m, 24))


@pytest.mark.parametrize("l2", [2 << 20, 4096])
def test_streamed_panels_and_fused_chains_agree(l2: int) -> None:
    """With a small cache B streams by panels; with a large one the chain is one nest."""

    def block(x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        return add(linalg.matmul(pointwise.lifted(gelu)(linalg.matmul(x, v)), w), x)

    program = compiled(block, "f32[m, 48]", reals(48, 96), reals(96, 48), machine={"l2": l2})
    for m in SIZES:
        program.check(reals(m, 48), tolerance=1e-5)


# ---- ROW ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 17), (0, 4), (5, 0), (33, 64), (2, 1)])
def test_softmax_of_rows_is_one_nest(m: int, n: int) -> None:
    program = compiled(lambda x: softmax.softmax_over(x, [1]), "f32[m, n]")
    assert kinds(program) == ["ROOT", "ROW", "ROW", "ROW"]
    program.check(reals(m, n))


@pytest.mark.parametrize("axes", [[0], [1], [2], [3], [1, 2, 3], [2, 3], [0, 3]])
def test_softmax_over_any_axes(axes: list[int]) -> None:
    program = compiled(lambda x: softmax.softmax_over(x, axes), "f32[b, 6, h, w]")
    for b, h, w in ((1, 5, 7), (2, 1, 16), (3, 4, 33), (0, 2, 2)):
        program.check(reals(b, 6, h, w))


def layer_norm(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return norm.layer_normalization(x, scale, bias)[0]


@pytest.mark.parametrize("n", [1, 7, 64, 100])
def test_layer_normalisation_is_one_nest(n: int) -> None:
    program = compiled(layer_norm, f"f32[b, s, {n}]", reals(n), reals(n))
    assert program.nests() == 1
    for b, s in ((1, 1), (2, 9), (0, 3)):
        program.check(reals(b, s, n), tolerance=1e-5)


def test_rms_normalisation_under_a_residual() -> None:
    program = compiled(lambda x, r, s: norm.rms_normalization(add(x, r), s), "f32[m, 40]", "f32[m, 40]", reals(40))
    assert program.nests() == 1
    program.check(reals(9, 40), reals(9, 40, seed=1), tolerance=1e-5)


def test_group_normalisation_through_reshape() -> None:
    program = compiled(lambda x, s, b: norm.group_normalization(x, s, b, 4), "f32[n, 8, h, w]", reals(8), reals(8))
    for n, h, w in ((1, 5, 5), (2, 3, 16), (0, 3, 3)):
        program.check(reals(n, 8, h, w), tolerance=1e-5)


def test_attention_keeps_scores_in_scratch() -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = linalg.matmul(q, linalg.transpose(k, [0, 1, 3, 2]))
        return linalg.matmul(softmax.softmax_over(scores, [3]), v)

    program = compiled(attend, "f32[b, h, q, 16]", "f32[b, h, s, 16]", "f32[b, h, s, 16]")
    for b, h, q, s in ((1, 2, 5, 5), (2, 3, 1, 17), (1, 1, 9, 1), (0, 2, 3, 3), (2, 0, 3, 3), (1, 2, 0, 4)):
        program.check(reals(b, h, q, 16), reals(b, h, s, 16, seed=1), reals(b, h, s, 16, seed=2), tolerance=1e-5)


def test_attention_over_a_picture_keeps_scores_in_scratch() -> None:
    """height * width keys: as many as a sequence may have, as long as nothing is known of them."""

    def attend(x: Tensor, k: Tensor) -> Tensor:
        n, c, h, w = x.shape
        flat = linalg.transpose(shape.reshaped(x, [n, c, h * w]), [0, 2, 1])
        keys = linalg.transpose(linalg.matmul(flat, k), [0, 2, 1])
        return linalg.matmul(softmax.softmax_over(linalg.matmul(flat, keys), [2]), flat)

    program = compiled(attend, "f32[n, 8, h, w]", reals(8, 8))
    assert "ROW TILE" in kinds(program)
    for n, h, w in ((1, 3, 5), (2, 1, 1), (1, 7, 7)):
        program.check(reals(n, 8, h, w), tolerance=1e-5)


def test_a_stored_row_is_read_by_later_nests() -> None:
    """exp(x) is an output and a member of the softmax's nest."""

    def both(x: Tensor) -> list[Tensor]:
        e = pointwise.pointwise(lambda v: scalar.apply("exp", v), x)
        total = along("add", e, [1])
        return [e, pointwise.div(e, total), along("max", total, [0])]

    program = compiled(both, "f32[m, n]")
    assert "ROW stored" in kinds(program)
    for m, n in ((3, 17), (1, 1), (33, 5)):
        program.check(reals(m, n), tolerance=1e-5)


def test_a_reduction_that_is_an_output_and_read_again() -> None:
    def both(x: Tensor) -> list[Tensor]:
        total = along("add", x, [1])
        return [pointwise.sub(x, total), total]

    program = compiled(both, "f32[m, n]")
    for m, n in ((4, 9), (0, 3), (3, 0), (1, 1)):
        program.check(reals(m, n))


def test_rows_of_two_outputs() -> None:
    def statistics(x: Tensor) -> list[Tensor]:
        return [along("add", x, [1]), along("max", x, [1]), along("min", x, [0])]

    program = compiled(statistics, "f32[m, 24]")
    for m in (1, 5, 64):
        program.check(reals(m, 24))


def test_a_wide_row_leaves_the_nest() -> None:
    """Scratch for eight rows would not fit in the cache: the value gets a buffer."""
    program = compiled(lambda x: softmax.softmax_over(x, [1]), "f32[4, 3000]", machine={"l2": 4096})
    assert "ROW" in kinds(program)
    program.check(reals(4, 3000), tolerance=1e-5)


# ---- ROOT and layouts -----------------------------------------------------------------------------------------------------


def test_a_buffer_lies_as_its_reader_walks_it() -> None:
    """NCHW -> a buffer with channels last, because a convolution reads it so."""

    def net(x: Tensor, w: Tensor) -> list[Tensor]:
        y = relu(x)
        return [conv(y, w, pads=[1, 1, 1, 1]), along("add", y, [0, 1, 2, 3])]

    program = compiled(net, "f32[n, 8, h, w]", reals(16, 8, 3, 3))
    for n, h, w in ((1, 5, 5), (2, 7, 9), (0, 4, 4)):
        program.check(reals(n, 8, h, w))


def test_between_convolutions_vectors_follow_the_channels() -> None:
    """Also where buffers that will be written by channels are not laid yet."""

    def net(x: Tensor, w: Tensor) -> list[Tensor]:
        y = relu(conv(x, w, pads=[1, 1]))
        for _ in range(3):
            y = add(conv(relu(conv(relu(y), w, pads=[1, 1])), w, pads=[1, 1]), y)
        return [conv(relu(y), w, pads=[1, 1]), along("max", y, [1, 2])]

    program = compiled(net, "f32[n, 32, t]", reals(32, 32, 3))
    assert 32 not in vector_steps(program)
    program.check(reals(2, 32, 9), tolerance=1e-4, interpreted=False)


def test_windows_under_an_average_follow_the_channels() -> None:
    """Squeeze and excite: what reads the windows first adds up pixels, and does not care; what they read has its channels side by side."""

    def net(x: Tensor, w: Tensor, windows: Tensor) -> Tensor:
        y = relu(conv(relu(conv(x, w)), windows, pads=[1, 1, 1, 1], group=40))
        return conv(mul(y, conv(relu(conv(along("add", y, [2, 3]), w)), w)), w)

    program = compiled(net, "f32[n, 40, 20, 20]", reals(40, 40, 1, 1), reals(40, 1, 3, 3))
    assert 40 not in vector_steps(program)
    program.check(reals(2, 40, 20, 20), tolerance=1e-4, interpreted=False)


def test_a_whole_made_of_weights_decides_no_layout() -> None:
    """Places of a class token and of the patches, one after the other: the parts are made when the model is loaded, not in a run."""

    def net(x: Tensor, w: Tensor, first: Tensor, others: Tensor) -> Tensor:
        places = movement.concat(mul(first, first), mul(others, others), axis=1)
        y = add(movement.concat(first, linalg.matmul(x, w), axis=1), places)
        return add(linalg.matmul(softmax.softmax_over(y, [2]), w), y)

    program = compiled(net, "f32[1, 4, 32]", reals(32, 32), reals(1, 1, 32), reals(1, 4, 32))
    program.check(reals(1, 4, 32), tolerance=1e-5)


def test_two_readers_of_other_orders() -> None:
    def both(x: Tensor, w: Tensor) -> list[Tensor]:
        y = linalg.matmul(x, w)
        return [softmax.softmax_over(linalg.transpose(y), [1]), softmax.softmax_over(y, [1]), linalg.matmul(linalg.transpose(y), y)]

    program = compiled(both, "f32[m, 16]", reals(16, 24))
    for m in (1, 5, 33):
        program.check(reals(m, 16), tolerance=1e-5)


def test_the_output_keeps_the_order_of_its_axes() -> None:
    program = compiled(lambda x, w: conv(relu(x), w), "f32[n, 3, h, w]", reals(6, 3, 1, 1))
    program.check(reals(2, 3, 5, 4))


# ---- refine -------------------------------------------------------------------------------------------------------------


def test_an_axis_asked_for_in_parts_gets_two_loops() -> None:
    def merge_heads(x: Tensor) -> Tensor:
        return shape.reshaped(linalg.transpose(x, [0, 2, 1, 3]), [x.shape[0], x.shape[2], 32])

    program = compiled(lambda x: relu(merge_heads(x)), "f32[b, 4, s, 8]")
    for b, s in ((1, 1), (2, 5), (0, 3), (3, 0)):
        program.check(reals(b, 4, s, 8))


def test_heads_split_and_merged_around_attention() -> None:
    def attend(x: Tensor, w: Tensor, o: Tensor) -> Tensor:
        def heads(t: Tensor) -> Tensor:
            return linalg.transpose(shape.reshaped(t, [t.shape[0], t.shape[1], 2, 8]), [0, 2, 1, 3])

        q, k, v = (heads(linalg.matmul(x, movement.sliced(w, [i], [i + 16], [1], [1]))) for i in (0, 16, 32))
        p = softmax.softmax_over(linalg.matmul(q, linalg.transpose(k, [0, 1, 3, 2])), [3])
        y = linalg.transpose(linalg.matmul(p, v), [0, 2, 1, 3])
        return add(linalg.matmul(shape.reshaped(y, [y.shape[0], y.shape[1], 16]), o), x)

    program = compiled(attend, "f32[b, s, 16]", reals(16, 48) / 4, reals(16, 16))
    for b, s in ((1, 1), (2, 7), (1, 33)):
        program.check(reals(b, s, 16) / 2, tolerance=1e-4)


def test_quotients_of_two_axes() -> None:
    """DepthToSpace: both picture axes are asked for as i // 2 and i % 2."""
    program = compiled(lambda x: relu(movement.depth_to_space(x, 2)), "f32[n, 8, 3, w]")
    for n, w in ((1, 1), (2, 5), (0, 2)):
        program.check(reals(n, 8, 3, w))


# ---- broadcasting of sizes that turn out to be one --------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "n"), [(5, 5), (1, 5), (5, 1), (1, 1), (0, 1), (1, 0), (0, 0)])
def test_named_sizes_that_turn_out_to_be_one(m: int, n: int) -> None:
    program = compiled(lambda x, y: relu(add(x, y)), "f32[m, 3]", "f32[n, 3]")
    program.check(reals(m, 3), reals(n, 3))


@pytest.mark.parametrize(("b", "c"), [(2, 2), (1, 2), (2, 1), (1, 1)])
def test_named_batches_that_turn_out_to_be_one(b: int, c: int) -> None:
    program = compiled(linalg.matmul, "f32[b, 3, 8]", "f32[c, 8, 16]")
    program.check(reals(b, 3, 8), reals(c, 8, 16))


# ---- data-dependent indices -------------------------------------------------------------------------------------------------


def test_gather_under_a_product() -> None:
    """Embedding: rows chosen by data are read by a contraction."""

    def embed(i: Tensor, table: Tensor, w: Tensor) -> Tensor:
        n = i.shape[0]
        rows = compute(table.dtype, [n, 16], lambda r, c: at(table, (element(at(i, (r,)), 50), c)))
        return linalg.matmul(rows, w)

    program = compiled(embed, "i64[n]", reals(50, 16), reals(16, 24))
    for n in SIZES:
        program.check(integers(n, low=-50, high=50))


def test_a_view_by_data_of_a_view_by_data() -> None:
    def twice(i: Tensor, x: Tensor) -> Tensor:
        n = x.shape[0]
        y = view(x, [i.shape[0]], lambda r: (element(at(i, (r,)), n),))
        return view(y, [i.shape[0]], lambda r: (element(at(i, (r,)), i.shape[0]),))

    program = compiled(twice, "i64[m]", "f32[n]")
    program.check(np.array([2, 0, -1], np.int64), reals(3))


# ---- several index maps --------------------------------------------------------------------------------------------------

Map = tuple[list[int], Callable[..., Sequence[Dim]]]
"""A shape, and what is read at each of its indices, of a tensor of 12 x 12 x 16."""

MAPS: dict[str, Map] = {
    "whole": ([12, 12, 16], lambda i, j, k: [i, j, k]),
    "diagonal": ([12, 16], lambda i, k: [i, i, k]),
    "other diagonal": ([12, 16], lambda i, k: [i, 11 - i, k]),
    "transposed": ([12, 12, 16], lambda i, j, k: [j, i, k]),
    "every other row": ([6, 12, 16], lambda i, j, k: [2 * i, j, k]),
    "shifted": ([11, 12, 16], lambda i, j, k: [i + 1, j, k]),
    "one row": ([12, 16], lambda j, k: [3, j, k]),
    "merged": ([144, 16], lambda i, k: [i // 12, i % 12, k]),
}
MAKERS: dict[str, Callable[[Tensor], Tensor]] = {
    "pointwise": lambda x: pointwise.pointwise(lambda e: scalar.apply("tanh", e), x),
    "normalised": lambda x: softmax.softmax_over(x, [2]),
    "product": lambda x: linalg.matmul(x, linalg.transpose(x, [0, 2, 1])),
}


def read_at(x: Tensor, how: Map, reader: int) -> Tensor:
    """Read by a sum of rows, or by another function of each element."""
    seen = view(x, how[0], how[1])
    if reader:
        return along("add", seen, [len(how[0]) - 1])
    return pointwise.pointwise(lambda e: scalar.apply("sin", e), seen)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(MAPS, 2)))
def test_what_is_read_at_several_indices_is_computed_at_all_of_them(maker: str, one: str, other: str) -> None:
    cut = {"product": 12}.get(maker, 16)
    maps = [([*shape[:-1], cut], index) for shape, index in (MAPS[one], MAPS[other])]

    def build(x: Tensor) -> list[Tensor]:
        v = MAKERS[maker](x)
        return [read_at(v, maps[0], 0), read_at(v, maps[1], 1), *([v] if one == "diagonal" else [])]

    compiled(build, "f32[12, 12, 16]").check(reals(12, 12, 16), tolerance=1e-5)
