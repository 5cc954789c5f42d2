"""What a tensor depends on: each way in which a definition can name a symbol counts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sardonyx.base.dtypes import f32, i64
from sardonyx.base.symbolic import Defined, Dim, Symbol, alias, symbol, value
from sardonyx.expr.dependence import closure, depends_on
from sardonyx.expr.index import element
from sardonyx.expr.known import DataSymbol
from sardonyx.expr.region import scan
from sardonyx.expr.scalar import cast, index
from sardonyx.expr.tensor import Read, Tensor, assemble, compute, constant, input_tensor, kernel_outputs, reduction
from sardonyx.loop.builder import KernelBuilder
from sardonyx.loop.nodes import Index, Op

T = Symbol("t", 5)
t = value(T)
X = input_tensor("x", f32, [symbol("n")])


def filled(n: Dim) -> Tensor:
    return compute(f32, [n], lambda i: cast(index(0), f32))


def called() -> Tensor:
    b = KernelBuilder("nothing")
    b.size("n")
    b.output("y", f32, 1)
    return kernel_outputs(b.build(), [], [(f32, [1])], [t])[0]


def part_of_a_whole() -> Tensor:
    part = filled(2)
    assemble(f32, [9], [(part, [t])])
    return part


def result_of_a_loop() -> Tensor:
    start = filled(3)
    return scan(t, [start], lambda u, s: ([compute(f32, [3], lambda i: Op("neg", Read(s, (i,))))], []))[0][0]


WAYS: dict[str, Callable[[], Tensor]] = {
    "shape": lambda: filled(t + 1),
    "expression": lambda: compute(f32, [3], lambda i: Read(X, (i + t,))),
    "guard": lambda: compute(f32, [3], lambda i: Read(X, (i,), Op("lt", Index(i), Index(t)))),
    "data-dependent index": lambda: compute(f32, [3], lambda i: Read(X, (element(index(t), 5),))),
    "extent of a sum": lambda: reduction("add", f32, [], [t], lambda r: Read(X, (r,))),
    "extent of an extent": lambda: reduction("add", f32, [], [value(Symbol("u", t))], lambda r: Read(X, (r,))),
    "size of a call": called,
    "place in a whole": part_of_a_whole,
    "iterations": result_of_a_loop,
    "defined size": lambda: filled(value(Defined(t // 2 + symbol("n")))),
    "alias": lambda: filled(alias(t * t + symbol("n") * 3)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_definition_names_a_symbol(way: str) -> None:
    assert T in depends_on(WAYS[way]())


def test_what_it_depends_on_is_not_what_it_reads() -> None:
    """Operands have definitions of their own."""
    y = compute(f32, [3], lambda i: Read(filled(t), (i,)))
    assert T not in depends_on(y)


def test_constants_depend_on_nothing_but_their_loops() -> None:
    y = reduction("add", f32, [2], [3], lambda i, r: Read(constant(np.zeros((2, 3), np.float32)), (i, r)))
    assert depends_on(y) == {*y.variables, *y.loops}


def test_sizes_from_data_are_found_in_every_depth() -> None:
    count = DataSymbol(input_tensor("count", i64, [1]), 0)
    deep = value(Symbol("i", value(Symbol("j", value(Defined(value(count) * 2 + symbol("n")))))))
    assert count in closure(deep.symbols)
    assert not any(isinstance(s, Defined) for s in closure(deep.symbols))
