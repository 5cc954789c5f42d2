"""Nodes of the loop IR: equal ones are one object, symbols that are bound don't show, what is refused."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.base.dtypes import DType, bf16, boolean, f16, f32, f64, i4, i8, i32, i64, u8
from sardonyx.base.symbolic import Symbol, symbol, symbols, value
from sardonyx.loop import nodes
from sardonyx.loop.nodes import (
    Bitcast,
    Buffer,
    Cast,
    Const,
    Element,
    Expr,
    Index,
    Load,
    Op,
    Reduce,
    Select,
    Seq,
    Store,
    as_element,
    replace,
    sequence,
    walk,
)

N = symbol("n")
ROW, COLUMN = Symbol("i", N), Symbol("j", N)
X = Buffer("x", f32)
T = Buffer("t", i64)


def load(offset: object) -> Load:
    return Load(X, offset)  # type: ignore[arg-type]


def test_equal_expressions_are_one_object() -> None:
    assert Op("add", load(value(ROW)), Const(1, f32)) is Op("add", load(value(ROW) + 0), Const(1.0, f32))
    assert load(value(ROW)) is not load(value(COLUMN))
    assert Load(Buffer("x", f32), value(ROW)) is not load(value(ROW)), "buffers are the same only if they are one object"
    assert Cast(load(0), f64) is not Cast(load(0), f16)


def test_constants_tell_apart_what_compares_equal() -> None:
    assert Const(0.0, f32) is not Const(-0.0, f32)
    assert math.copysign(1, Const(-0.0, f32).value) == -1
    assert Const(math.nan, f32) is Const(math.nan, f32)
    assert Const(1, i32) is not Const(1, i64)
    assert Const(True, boolean).value is True
    assert isinstance(Const(1, boolean).value, bool)


def test_unused_expressions_are_forgotten() -> None:
    made = Op("mul", Const(0.8125, f64), Const(0.6875, f64))
    seen = weakref.ref(made)
    assert seen() is made
    del made
    gc.collect()
    assert seen() is None


@given(st.integers(-(2**70), 2**70), st.sampled_from([i4, i8, u8, i32, i64]))
def test_integers_wrap(n: int, dtype: DType) -> None:
    found = as_element(n, dtype)
    low = -(2 ** (dtype.bits - 1)) if dtype.kind == "int" else 0
    assert (found - n) % 2**dtype.bits == 0
    assert low <= found < low + 2**dtype.bits


@pytest.mark.parametrize(
    ("number", "dtype", "rounded"),
    [(0.1, f16, 0.0999755859375), (1 / 3, bf16, 0.333984375), (1e39, f32, math.inf), (2**24 + 1, f32, 2.0**24)],
)
def test_floats_are_rounded(number: float, dtype: DType, rounded: float) -> None:
    assert as_element(number, dtype) == rounded
    assert Const(number, dtype).value == rounded


@pytest.mark.parametrize(
    "make",
    [
        lambda: Op("add", load(0), Const(1, i32)),
        lambda: Op("add", load(0)),
        lambda: Op("sqrt", load(0), load(1)),
        lambda: Select(load(0), load(0), load(1)),
        lambda: Select(Const(True, boolean), load(0), Const(1, f64)),
        lambda: Bitcast(load(0), f64),
        lambda: Reduce("sub", ((COLUMN, "serial"),), load(value(COLUMN))),
    ],
)
def test_wrong_dtypes_are_refused(make: object) -> None:
    with pytest.raises(TypeError):
        make()  # type: ignore[operator]


def test_comparisons_give_bool() -> None:
    for fn in nodes.COMPARISONS:
        assert Op(fn, load(0), load(1)).dtype is boolean


def test_a_reduction_hides_its_loops_but_not_their_extents() -> None:
    total = Reduce("add", ((COLUMN, "serial"),), load(value(ROW) + value(COLUMN)))
    assert total.symbols == {ROW} | symbols(N)


def test_guards_and_data_dependent_offsets_count_among_the_symbols() -> None:
    guard = Op("lt", Index(value(COLUMN)), Index(3))
    assert Load(X, value(ROW), guard).symbols == {ROW, COLUMN}
    at = value(Element(Load(T, value(COLUMN)), 5))
    assert load(at + value(ROW)).symbols == {ROW, COLUMN}


def test_replacing_reaches_offsets_guards_and_elements() -> None:
    guard = Op("lt", Index(value(ROW)), Index(3))
    at = value(Element(Load(T, value(ROW)), N)) + value(ROW)
    changed = replace(Load(X, at, guard), {ROW: value(COLUMN) * 2})
    assert changed is Load(
        X, value(Element(Load(T, value(COLUMN) * 2), N)) + value(COLUMN) * 2, Op("lt", Index(value(COLUMN) * 2), Index(3))
    )


def test_replacing_leaves_alone_what_does_not_mention_the_symbol() -> None:
    e = Op("mul", load(value(ROW)), load(value(COLUMN)))
    assert replace(e, {Symbol("k", N): 0}) is e
    assert replace(e, {}) is e


def test_walking_visits_arguments_first_and_each_once() -> None:
    shared = Op("exp", load(value(ROW)))
    e = Op("add", shared, Op("mul", shared, load(value(Element(Load(T, value(COLUMN)), 5)))))
    order = list(walk(e))
    assert len(order) == len(set(order))
    assert order[-1] is e
    for node in order:
        for inner in node.args:
            assert order.index(inner) < order.index(node)
    assert Load(T, value(COLUMN)) in order, "expressions inside offsets are visited too"


def test_rebuilding_with_the_same_parts_gives_the_same_node() -> None:
    one = Op("lt", load(0), load(1))
    every: list[Expr] = [
        Const(2, f32),
        Index(value(ROW)),
        load(value(ROW)),
        Load(X, value(ROW), one),
        one,
        Select(one, load(0), load(1)),
        Cast(load(0), f16),
        Bitcast(load(0), i32),
        Reduce("max", ((COLUMN, "vector"),), load(value(COLUMN))),
    ]
    for e in every:
        assert e.rebuild(e.args, e.dims) is e


def test_sequences_are_flat() -> None:
    a, b, c = (Store(X, n, Const(n, f32)) for n in range(3))
    assert sequence([a]) is a
    assert sequence([a, sequence([b, c])]) == Seq((a, b, c))
    assert sequence([]) == Seq(())


def test_elements_of_two_graphs_are_two() -> None:
    """Their numbers may be one object, and their bounds have one name."""
    first, second = (value(Symbol("n", extent)) for extent in (2, 3))
    number = Const(0, i64)
    elements = [Element(number, bound) for bound in (first, second)]
    assert elements[0].key == elements[1].key
    assert elements[0] != elements[1]
    assert value(elements[0]) != value(elements[1])
    assert elements[0] == Element(number, first)


def test_an_expression_whose_nodes_were_listed_is_freed_without_a_collection() -> None:
    inner = Op("add", Const(3, f32), Const(4.25, f32))
    whole = Op("mul", inner, Const(17, f32))
    assert list(nodes.walk(whole))[-1] is whole
    assert list(nodes.walk(whole)) == list(nodes.walk(whole))
    gone = weakref.ref(whole), weakref.ref(inner)
    gc.disable()
    try:
        del whole, inner
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()
