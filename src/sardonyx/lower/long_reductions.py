"""Split long reductions to few elements into parts that threads can share.

    total = sum(k < n) x[k]     ->     part[b] = sum(k < PART) x[b PART + k]     for each b < n / PART, by any thread
                                       total = sum(b < n / PART) part[b]

Threads share the loops over a result's elements, so one thread would otherwise compute such a reduction. The parts depend on
sizes alone and are combined in order: the bits are the same for any number of threads. Contractions are left to tiles (see
lower.pack).
"""

from __future__ import annotations

from collections.abc import Sequence

from sardonyx.base.dtypes import bf16, f16
from sardonyx.base.symbolic import Dim, Symbol, product, quotient_and_remainder, single, substitute, symbols, value
from sardonyx.expr.tensor import Read, Tensor, assemble, variable
from sardonyx.loop.blocks import find_blocks
from sardonyx.loop.nodes import replace
from sardonyx.lower.layout import DEPTH, Layouts
from sardonyx.lower.machine import Machine
from sardonyx.lower.parallel import LEAST_SHARED_WORK
from sardonyx.lower.values import Value, extent, moves, operands

MOST_RESULTS = 16
"""Reductions with at least this many results have work for all threads and are not split."""
PART = 1 << 12
"""Terms of a part, at most."""


def split_long_reductions(values: dict[Tensor, Value], kept: set[Tensor], machine: Machine) -> None:
    """Replace each long reduction to few elements by a reduction over parts. kept: tensors that must stay as they are."""
    layouts: Layouts | None = None
    for v in sorted(values.values(), key=lambda v: v.id):
        if is_long(v, machine):
            layouts = layouts or Layouts(values, kept, machine)
            v.loops = tuple(by_distance(v, layouts))
            split(v, values)


def is_long(v: Value, machine: Machine) -> bool:
    """Tell whether v reduces so many terms to so few elements that threads should share the terms.

    Sizes known only at run time count as 1 if the result has them: a softmax over as many keys as there are queries is not
    split.
    """
    if v.fn is None or v.tensor.dtype in (f16, bf16) or not v.loops or operands(v) is not None:
        return False
    extents = list(map(extent, v.loops))
    if any(symbols(n) & {*v.loops, *v.variables} for n in extents):
        return False
    count = product(v.shape)
    ones: dict[Symbol, Dim] = dict.fromkeys(symbols(count), 1)
    results, terms = machine.guess(count, 1), machine.guess(substitute(product(extents), ones), machine.small)
    return results < MOST_RESULTS and terms >= 2 * PART and max(results, 1) * terms >= LEAST_SHARED_WORK


def by_distance(v: Value, layouts: Layouts) -> list[Symbol]:
    """Order the loops of v's reduction by their step in memory, the longest first, so that each part reads a contiguous
    range."""
    spots = layouts.likely_spots(v, DEPTH)

    def distance(s: Symbol) -> int:
        return max((abs(layouts.machine.guess(step)) for spot in spots if (step := moves(spot, s)) is not None), default=0)

    return sorted(v.loops, key=distance, reverse=True)


def split(v: Value, values: dict[Tensor, Value]) -> None:
    """Rewrite v as the reduction of a new value whose elements are the parts."""
    blocks = find_blocks([extent(s) for s in v.loops], PART)
    assert blocks is not None, "a long reduction is longer than a part"
    cut, n = v.loops[blocks.depth], extent(v.loops[blocks.depth])
    loops = (*v.loops[: blocks.depth], cut), v.loops[blocks.depth + 1 :]
    count, rest = quotient_and_remainder(n, blocks.iterations)
    whole = make_part(v, values, *loops, count, blocks.iterations, 0)
    if rest != 0:
        whole = joined(v, values, whole, make_part(v, values, *loops, 1, rest, n - rest))
    over = [variable(f"{s.name}.part", n) for s, n in zip(loops[0], whole.shape[v.tensor.rank :], strict=True)]
    v.body, v.loops = Read(whole, (*v.axes, *over)), tuple(s for d in over for s in symbols(d))


def joined(v: Value, values: dict[Tensor, Value], first: Tensor, last: Tensor) -> Tensor:
    """Concatenate two tensors of parts of v along their last axis."""
    before = [0] * (first.rank - 1)
    count = first.shape[-1]
    whole = assemble(first.dtype, [*first.shape[:-1], count + last.shape[-1]], [(first, [*before, 0]), (last, [*before, count])])
    whole.name, whole.id, whole.origin = f"{v.tensor.name}.parts", v.id - 0.4, v.tensor.origin
    for p in whole.parts:
        values[p].into = p.into
    values[whole] = made = Value(whole)
    made.region, made.constant = v.region, v.constant
    return whole


def make_part(
    v: Value, values: dict[Tensor, Value], outside: Sequence[Symbol], inside: Sequence[Symbol], count: Dim, length: Dim, start: Dim
) -> Tensor:
    """Create the value of the parts, of shape [*v's axes, *loops in `outside` but the last, count].

    Each part reduces `length` iterations, counted from `start`, of the last loop in `outside`, and all of the loops in
    `inside`.
    """
    *around, cut = outside
    part = Tensor(v.tensor.dtype, [*v.shape, *map(extent, around), count], f"{v.tensor.name}.part")
    part.id, part.origin = v.id - 0.5, v.tensor.origin
    values[part] = made = Value(part)
    within = variable(f"{cut.name}.within", length)
    env = {s: own for a, own in zip([*v.axes, *map(value, around)], part.axes, strict=False) if (s := single(a)) is not None}
    assert v.body is not None
    made.body = replace(v.body, {**env, cut: part.axes[-1] * length + start + within})
    made.fn, made.loops = v.fn, (*symbols(within), *inside)
    made.region, made.constant, made.checked = v.region, v.constant, dict(v.checked)
    part.body, part.fn, part.loops = made.body, made.fn, made.loops
    return part
