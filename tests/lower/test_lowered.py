"""Whole programs: what outputs may be, what is computed once, sizes that data decide, and errors."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx import ops
from sardonyx.base.dtypes import boolean
from sardonyx.base.errors import Fail, InvalidArgument, NamesDiffer
from sardonyx.base.symbolic import Dim
from sardonyx.codegen import features
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.known import elements
from sardonyx.expr.origin import origin
from sardonyx.expr.tensor import Tensor, compute, constant, reduction
from sardonyx.loop.nodes import Expr
from sardonyx.ops import linalg, movement, pointwise, shape, softmax
from sardonyx.ops.pointwise import add, along, view
from tests.lower.harness import compile_tensors, compiled, integers, machine_for, reals

SIZES = (0, 1, 2, 7, 33)


def operator(name: str, *inputs: Tensor, **attributes: object) -> Tensor:
    op = ops.find("", name, 21)
    assert op is not None
    assert op.meaning is not None
    made = op.meaning(*inputs, **attributes)
    return made if isinstance(made, Tensor) else next(t for t in made if t is not None)


# ---- outputs ------------------------------------------------------------------------------------------------------------


def test_outputs_that_are_inputs_constants_duplicates_parts_and_views() -> None:
    table = reals(3, 4)

    def outputs(x: Tensor) -> list[Tensor]:
        y = add(x, x)
        whole = movement.concat(y, x, axis=0)
        part = whole.parts[0]
        return [x, constant(table), y, y, x, part, whole, linalg.transpose(y), linalg.transpose(x), constant(table)]

    program = compiled(outputs, "f32[m, 4]")
    for m in SIZES:
        got = program.check(reals(m, 4))
        assert len({a.ctypes.data for a in got if a.size}) == len([a for a in got if a.size]), "outputs share memory"


def test_outputs_made_of_weights_alone() -> None:
    program = compiled(
        lambda x, w, v: [linalg.matmul(w, v), add(w, w), linalg.matmul(x, add(w, w))], "f32[m, 4]", reals(4, 4), reals(4, 20)
    )
    for m in SIZES:
        program.check(reals(m, 4))


def test_a_hand_written_kernel_over_weights() -> None:
    """Its results are prepared when the model is loaded, not in the run."""
    program = compiled(lambda x, w: add(x, operator("CumSum", w, constant(np.array(1)))), "f32[m, 5]", reals(1, 5))
    assert program.preparation is not None
    assert len(program.lowered.kernels) == 1
    for m in SIZES:
        program.check(reals(m, 5))


def test_a_hand_written_kernel_over_a_part_of_a_weight() -> None:
    """What it reads is a buffer of its own, also where all is prepared."""
    turned = lambda w: view(w, (5, 1), lambda i, j: (j, 4 - i))  # noqa: E731
    program = compiled(lambda x, w: add(x, operator("CumSum", turned(w), constant(np.array(0)))), "f32[5, n]", reals(1, 5))
    assert program.preparation is not None
    for n in SIZES:
        program.check(reals(5, n))


def test_what_a_hand_written_kernel_makes_of_weights_lies_as_it_writes_it() -> None:
    """A reader that transposes it would have it lie in its own order."""
    program = compiled(
        lambda x, w: add(x, linalg.transpose(operator("CumSum", w, constant(np.array(0))))), "f32[m, 5]", reals(5, 3)
    )
    assert program.preparation is not None
    program.check(reals(3, 5))
    picked = compiled(lambda a, w: linalg.transpose(operator("CumSum", w, a)), "i64[1]", reals(5, 3))
    for axis in (0, 1):
        picked.check(np.array([axis]))


def test_weights_are_computed_on_once() -> None:
    program = compiled(lambda x, w: linalg.matmul(x, softmax.softmax_over(w, [0])), "f32[m, 8]", reals(8, 20))
    assert program.preparation is not None
    assert len(program.lowered.nests) == 1
    program.check(reals(3, 8))


@pytest.mark.parametrize("both", [True, False])
def test_sums_of_weights_as_long_as_an_input_are_no_constants(both: bool) -> None:
    """Their loops end where only a run says so."""

    def build(x: Tensor, w: Tensor) -> list[Tensor]:
        def body(*i: Dim) -> Expr:
            return at(w, (i[-1],))

        total = reduction("add", w.dtype, (1,), [x.shape[1]], body)
        table = compute(w.dtype, (3,), lambda i: at(w, (i,)))
        return [add(along("add", x, [1]), total), *([table] if both else [])]

    program = compiled(build, "f32[2, k]", reals(9))
    for k in (0, 1, 5, 9):
        program.check(reals(2, k))


def test_inputs_that_nobody_reads() -> None:
    program = compiled(lambda x, y: add(x, x), "f32[m]", "f32[n, 3]")
    program.check(reals(4), reals(0, 3))


def test_an_input_read_only_for_its_shape() -> None:
    program = compiled(lambda x, y: shape.reshaped(x, [y.shape[0], 4]), "f32[m]", "f32[n, 3]")
    for n in (0, 1, 5):
        program.check(reals(4 * n), reals(n, 3))


def test_scalars_of_every_kind_become_literals() -> None:
    for number in (np.float32(2.5), np.int64(-3), np.bool_(True), np.float16(0.5), np.float64(1e300)):
        kind = {"f": "f", "i": "i", "b": "bool"}[number.dtype.kind]
        name = kind if kind == "bool" else f"{kind}{8 * number.dtype.itemsize}"
        program = compiled(lambda x, c: pointwise.pointwise(scalar.maximum, x, c), f"{name}[m]", np.array(number))
        program.check(integers(5, low=0, high=2).astype(number.dtype))


# ---- parts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concat(axis: int) -> None:
    program = compiled(lambda x, y: movement.concat(x, y, add(x, x), axis=axis), "f32[a, b, c]", "f32[a, b, c]")
    for sizes in ((1, 1, 1), (2, 3, 17), (0, 2, 2), (3, 16, 5)):
        program.check(reals(*sizes), reals(*sizes, seed=1))


def test_concat_of_a_tensor_with_itself_and_of_concats() -> None:
    def nested(x: Tensor, y: Tensor) -> list[Tensor]:
        inner = movement.concat(x, y, x, axis=1)
        outer = movement.concat(inner, inner, y, axis=1)
        return [outer, movement.concat(outer, outer, axis=0), along("add", inner, [1])]

    program = compiled(nested, "f32[m, a]", "f32[m, b]")
    for m, a, b in ((1, 1, 1), (3, 5, 2), (2, 0, 4), (2, 3, 0), (0, 1, 1), (2, 17, 33)):
        program.check(reals(m, a), reals(m, b))


def test_a_concat_under_a_product_and_a_softmax() -> None:
    def net(x: Tensor, y: Tensor, w: Tensor) -> list[Tensor]:
        both = movement.concat(x, y, axis=1)
        return [linalg.matmul(both, w), softmax.softmax_over(both, [1])]

    program = compiled(net, "f32[m, 8]", "f32[m, 12]", reals(20, 24))
    for m in SIZES:
        program.check(reals(m, 8), reals(m, 12))


def test_products_and_reductions_written_into_a_concat() -> None:
    def net(x: Tensor, w: Tensor) -> Tensor:
        return movement.concat(linalg.matmul(x, w), softmax.softmax_over(x, [1]), along("add", x, [1]), axis=1)

    program = compiled(net, "f32[m, 8]", reals(8, 20))
    for m in SIZES:
        program.check(reals(m, 8))


@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [0, 2, 3, 0], [0, 0, 0, 0], [2, 0, 0, 1]])
def test_borders(pads: list[int]) -> None:
    program = compiled(lambda x: movement.pad_2(add(x, x), pads), "f32[m, n]")
    for m, n in ((1, 1), (3, 17), (0, 2), (2, 0)):
        program.check(reals(m, n))


def test_a_concat_of_weights_and_inputs() -> None:
    program = compiled(lambda x, w: movement.concat(w, x, w, axis=0), "f32[m, 4]", reals(2, 4))
    for m in SIZES:
        program.check(reals(m, 4))


def test_a_concat_of_weights_is_prepared() -> None:
    program = compiled(lambda x, v, w: linalg.matmul(x, movement.concat(v, w, axis=1)), "f32[m, 4]", reals(4, 5), reals(4, 6))
    assert len(program.lowered.nests) == 1
    program.check(reals(3, 4))


# ---- sizes that data decide -----------------------------------------------------------------------------------------------


def test_nonzero_then_gather_then_product() -> None:
    """Three segments: count, positions, and what is computed with them."""

    def rows(x: Tensor, mask: Tensor, w: Tensor) -> list[Tensor]:
        where = operator("NonZero", mask)
        chosen = compute(x.dtype, [where.shape[1], 8], lambda i, j: at(x, (element(at(where, (0, i)), x.shape[0]), j)))
        return [softmax.softmax_over(linalg.matmul(chosen, w), [1]), where]

    program = compiled(rows, "f32[m, 8]", "bool[m]", reals(8, 20))
    assert len(program.lowered.segments) > 1
    for m in SIZES:
        for density in (0, 1, 2):
            program.check(reals(m, 8), integers(m, low=0, high=density + 1).astype(bool) if density < 2 else np.ones(m, bool))


def test_sizes_that_depend_on_sizes_that_depend_on_data() -> None:
    def twice(x: Tensor) -> Tensor:
        first = operator("NonZero", x)
        values = compute(x.dtype, [first.shape[1]], lambda i: at(x, (element(at(first, (0, i)), x.shape[0]),)))
        big = pointwise.pointwise(lambda e: scalar.apply("gt", e, 1), values, dtype=boolean)
        return operator("NonZero", big)

    program = compiled(twice, "i64[m]")
    for m in SIZES:
        program.check(integers(m, low=0, high=4))


def test_a_size_read_off_an_input() -> None:
    program = compiled(lambda n, x: pointwise.expand_to(x, [elements(n)[0], 3]), "i64[1]", "f32[1, 3]")
    for n in (0, 1, 5, 40):
        program.check(np.array([n]), reals(1, 3))


def test_a_size_below_zero_is_an_error() -> None:
    with origin("the node"):
        program = compiled(lambda n, x: pointwise.expand_to(x, [elements(n)[0], 3]), "i64[1]", "f32[1, 3]")
    with pytest.raises(Fail, match="below zero"):
        program.run(np.array([-1]), reals(1, 3))
    program.check(np.array([2]), reals(1, 3))


def test_sizes_that_overflow_are_an_error() -> None:
    program = compiled(lambda n, x: pointwise.expand_to(x, [elements(n)[0], elements(n)[1], 3]), "i64[2]", "f32[1, 3]")
    for huge in ([1 << 40, 1 << 40], [1 << 62, 4], [(1 << 63) - 1, (1 << 63) - 1], [1 << 31, 1 << 31]):
        with pytest.raises((Fail, InvalidArgument)):
            program.run(np.array(huge), reals(1, 3))
    program.check(np.array([2, 3]), reals(1, 3))


def test_requirements_on_sizes() -> None:
    program = compiled(linalg.matmul, "f32[m, k]", "f32[l, n]")
    program.check(reals(2, 3), reals(3, 4))
    with pytest.raises(Fail, match="Incompatible dimensions"):
        program.run(reals(2, 3), reals(4, 4))
    with origin("sum", "Add"):
        program = compiled(lambda x, y: add(x, y), "f32[m]", "f32[n]")
    with pytest.raises(Fail, match=r"while running Add node 'sum': 3 by 4 cannot be broadcast: shapes \[3\] and \[4\]"):
        program.run(reals(3), reals(4))


def test_one_name_for_two_sizes() -> None:
    program = compiled(lambda x, y: add(x, y), "f32[m]", "f32[m]")
    with pytest.raises(NamesDiffer, match="differs"):
        program.run(reals(3), reals(4))
    program.check(reals(3), reals(3))


def test_fixed_sizes_that_clash_fail_at_once() -> None:
    with pytest.raises(Fail, match=r"\[2, 3\] and \[4, 5\]"):
        compiled(linalg.matmul, "f32[2, 3]", "f32[4, 5]")


# ---- indices out of bounds --------------------------------------------------------------------------------------------------


def test_an_index_out_of_bounds_names_the_node_and_the_program_goes_on() -> None:
    def gather(x: Tensor, i: Tensor) -> Tensor:
        with origin("pick", "Gather"):
            return view(x, [i.shape[0], 3], lambda r, c: (element(at(i, (r,)), x.shape[0]), c))

    program = compiled(gather, "f32[n, 3]", "i64[m]")
    for wrong in ([4], [-5], [0, 1, 99], [1 << 40], [-(1 << 63)]):
        for threads in (1, 2):
            with pytest.raises(InvalidArgument, match=r"Gather node 'pick': index -?\d+ is out of bounds for an axis of 4"):
                program.run(reals(4, 3), np.array(wrong), threads=threads)
        program.check(reals(4, 3), np.array([3, -4, 0]))


def test_an_index_into_nothing() -> None:
    program = compiled(lambda x, i: view(x, [i.shape[0]], lambda r: (element(at(i, (r,)), x.shape[0]),)), "f32[n]", "i64[m]")
    with pytest.raises(Fail, match="no element to take"):  # before anything is read
        program.run(reals(0), np.array([0]))
    program.check(reals(0), np.zeros(0, np.int64))


# ---- programs do not disturb each other -----------------------------------------------------------------------------------


def test_lowering_leaves_the_tensors_as_they_are() -> None:
    """The same tensors are lowered twice, and mean the same after."""
    program = compiled(lambda x, w: softmax.softmax_over(linalg.matmul(x, w), [1]), "f32[m, 8]", reals(8, 20))
    again = compile_tensors(program.inputs, program.outputs, [], features.AVX2, machine_for(features.AVX2))
    program.check(reals(5, 8), tolerance=1e-5)
    again.check(reals(5, 8), tolerance=1e-5)


def test_equal_kernels_are_one() -> None:
    def layers(x: Tensor, *weights: Tensor) -> Tensor:
        for w in weights:
            x = pointwise.pointwise(lambda e: scalar.minimum(scalar.maximum(e, -1), 1), linalg.matmul(x, w))
        return x

    program = compiled(layers, "f32[m, 16]", *[reals(16, 16, seed=i) for i in range(6)], machine={"l2": 1024})
    assert program.nests() > len(program.lowered.kernels)
    program.check(reals(5, 16))
