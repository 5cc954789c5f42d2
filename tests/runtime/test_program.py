"""Programs: contexts, planning, running, failures and the end."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from llvmlite import ir

from sardonyx.codegen.words import I64, PTR, VOID
from sardonyx.runtime import abi
from sardonyx.runtime.image import Image, ImageError
from sardonyx.runtime.linker import link
from sardonyx.runtime.loader import load
from sardonyx.runtime.memory import allocate
from sardonyx.runtime.program import Failure, Program, ProgramSpec, Segment, Slot, TensorSpec
from sardonyx.runtime.team import Team
from tests.runtime.objects import compile_module, function, new_module, team_image

N, BYTES, X, Y, W = (Slot(abi.FIRST_SLOT + index) for index in range(5))
SPEC = ProgramSpec(
    slots=W.index + 1,
    dims=(("n", N),),
    inputs=(TensorSpec("x", "int64", (1, N), X),),
    outputs=(TensorSpec("y", "int64", (N, 3), Y),),
    segments=(Segment("plan", "run"), Segment("plan", "fail")),
)


def make_image() -> Image:
    """plan: ARENA_BYTES = 8 * n. run: thread 0 stores x[0] + w[0] at y[0]. fail: status = 7 << 32 | n, detail = 1, 2, 3."""
    module = new_module()

    def at(builder: ir.IRBuilder, context: ir.Value, index: int) -> ir.Value:
        return builder.gep(context, [I64(index)], source_etype=I64)

    made, builder = function(module, "plan", VOID, PTR)
    context = made.args[0]
    size = builder.mul(builder.load(at(builder, context, N.index), typ=I64), I64(8))
    builder.store(size, at(builder, context, abi.ARENA_BYTES))
    builder.ret_void()

    made, builder = function(module, "run", VOID, PTR, I64, I64)
    context, tid, _ = made.args
    with builder.if_then(builder.icmp_signed("==", tid, I64(0))):
        x, y, w = (builder.load(at(builder, context, slot.index), typ=PTR) for slot in (X, Y, W))
        builder.store(builder.add(builder.load(x, typ=I64), builder.load(w, typ=I64)), y)
    builder.ret_void()

    made, builder = function(module, "fail", VOID, PTR, I64, I64)
    context = made.args[0]
    node = builder.load(at(builder, context, N.index), typ=I64)
    builder.store(builder.or_(node, I64(7 << 32)), at(builder, context, abi.STATUS))
    for index in range(3):
        builder.store(I64(index + 1), at(builder, context, abi.DETAIL + index))
    builder.ret_void()
    return link([compile_module(module)])


@pytest.fixture(scope="module")
def crew() -> Iterator[Team]:
    made = Team(team_image())
    yield made
    made.close()


@pytest.fixture
def weight() -> np.ndarray:
    piece = allocate(8).view(np.int64)
    piece[0] = 1000
    return piece


@pytest.fixture
def program(crew: Team, weight: np.ndarray) -> Program:
    return Program(SPEC, load(make_image()), crew, {W: weight.ctypes.data}, (weight,))


def run(program: Program, x: int) -> int:
    context = program.borrow()
    values = np.array([x, 0])
    context.slots[N.index] = 2
    context.slots[X.index] = values.ctypes.data
    context.slots[Y.index] = values.ctypes.data + 8
    program.plan(context, 0)
    assert context.slots[abi.ARENA_BYTES] == 16
    program.run(context, 0, 2)
    assert context.failure() is None
    program.give_back(context)
    return int(values[1])


def test_plan_and_run(program: Program):
    assert [run(program, x) for x in (1, -5)] == [1001, 995]


def test_concurrent_runs_have_contexts_of_their_own(program: Program):
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda x: run(program, x), range(500))) == [x + 1000 for x in range(500)]


def test_contexts_are_aligned_zeroed_and_lent_again(program: Program):
    first, second = program.borrow(), program.borrow()
    assert first.address != second.address
    assert [context.address % abi.CONTEXT_ALIGNMENT for context in (first, second)] == [0, 0]
    assert all(first.slots[index] == 0 for index in range(W.index))
    program.give_back(first)
    assert program.borrow() is first


def test_shapes_are_read_from_the_context(program: Program):
    context = program.borrow()
    context.slots[N.index] = 17
    assert context.shape(SPEC.inputs[0]) == (1, 17)
    assert context.shape(SPEC.outputs[0]) == (17, 3)


def test_a_failure_names_the_node_and_is_gone_in_the_next_run(program: Program):
    context = program.borrow()
    context.slots[N.index] = 41
    program.run(context, 1, 1)
    assert context.failure() == Failure(code=7, node=41, details=(1, 2, 3))
    program.give_back(context)
    assert program.borrow() is context
    assert context.failure() is None


def test_a_missing_entry_is_named(crew: Team):
    spec = ProgramSpec(W.index, (), (), (), (Segment("plan", "gone"),))
    with pytest.raises(ImageError, match="no symbol 'gone'"):
        Program(spec, load(make_image()), crew)


def test_a_closed_program_lends_nothing_and_lets_go_after_the_last_run(crew: Team):
    weight = allocate(8).view(np.int64)
    weight[0] = 5
    alive = weakref.ref(weight)
    program = Program(SPEC, load(make_image()), crew, {W: weight.ctypes.data}, (weight,))
    program.give_back(program.borrow())
    context = program.borrow()
    del weight
    program.close()
    with pytest.raises(RuntimeError, match="closed"):
        program.borrow()
    gc.collect()
    assert alive() is not None
    context.slots[N.index] = 1
    program.run(context, 1, 1)
    assert context.failure() is not None
    program.give_back(context)
    del context
    gc.collect()
    assert alive() is None
