"""Repeated bodies as statements: which tensors stand in which body, and how state goes in, round and out.

before       halves[0] = initial             parts written into their wholes
each turn t  state = halves[t % 2]           a view
             whole[t] = value
             halves[(t + 1) % 2] = update
after t      final = halves[t % 2]           a view: of the number of turns, trip or done
"""

from __future__ import annotations

from sardonyx.base.dtypes import i64
from sardonyx.base.symbolic import Dim, Symbol, value
from sardonyx.expr.region import Carried, Region
from sardonyx.expr.tensor import Read, Tensor, operands
from sardonyx.loop.nodes import Index
from sardonyx.lower.values import Value

Path = tuple[Region, ...]


def regions_of(values: dict[Tensor, Value]) -> list[Region]:
    """The regions whose results are among the values, outermost first."""
    found = dict.fromkeys(t.region for t in values if t.region is not None)
    return sorted(found, key=lambda r: min(t.id for t in r.outputs))[::-1]


def expand(values: dict[Tensor, Value]) -> set[Tensor]:
    """Adds the statements that move state and stacks; returns the tensors that must have buffers of their own."""
    kept: set[Tensor] = set()
    paths = find_paths(values)
    for t, v in list(values.items()):
        v.region = paths[t]
    for region in regions_of(values):
        outer = values[region.outputs[0]].region
        start = min(t.id for t in region.outputs)
        states = region.carried + ((region.proceed,) if region.proceed else ())
        for c in states:
            kept |= carry(values, region, c, outer, start)
        for s in region.stacked:
            step = value(region.step)
            statement(values, s.whole, (step,), s.value, (*outer, region), start - 0.4)
            values[s.whole].place = "WHOLE"
        if region.count is not None:
            v = values[region.count]
            assert region.done is not None
            v.body = Index(value(region.done))
            assert region.count.dtype is i64
    return kept


def carry(values: dict[Tensor, Value], region: Region, c: Carried, outer: Path, start: float) -> set[Tensor]:
    """State in two halves: turn t reads one, t % 2, and writes the other."""
    inner, turn = (*outer, region), value(region.step)
    for t in (c.initial, c.update, c.state, c.final):
        values.setdefault(t, Value(t))
    halves = Tensor(c.state.dtype, (2, *c.state.shape), c.state.name)
    halves.id, halves.origin = c.state.id, c.state.origin
    values[halves] = Value(halves)
    values[halves].place, values[halves].region = "WHOLE", outer
    statement(values, halves, (0,), c.initial, outer, start - 0.5)
    update = values[c.update]
    if update.body is None or update.fn or update.into or update.region != inner:
        update = values[copy_of(values, c.update, inner, start - 0.3)]
    update.into, update.turns = (halves, ((turn + 1) % 2, *update.axes)), True
    values[c.state].body = Read(halves, (turn % 2, *c.state.axes))
    turns = region.trip if region.done is None else value(region.done)
    values[c.final].body = Read(halves, (turns % 2, *c.final.axes))
    return {halves}


def statement(values: dict[Tensor, Value], target: Tensor, prefix: tuple[Dim, ...], source: Tensor, path: Path, at: float) -> Value:
    """target[*prefix, i] = source[i], as a part of target."""
    part = Tensor(source.dtype, source.shape, f"{target.name}.from.{source.name}")
    part.id, part.origin = at, source.origin
    v = values[part] = Value(part)
    v.body = Read(source, v.axes)
    v.into = part.into = target, (*prefix, *v.axes)
    v.region = path
    return v


def copy_of(values: dict[Tensor, Value], source: Tensor, path: Path, at: float) -> Tensor:
    copy = Tensor(source.dtype, source.shape, f"{source.name}.copy")
    copy.id, copy.origin = at, source.origin
    v = values[copy] = Value(copy)
    v.body, v.region = Read(source, v.axes), path
    return copy


def find_paths(values: dict[Tensor, Value]) -> dict[Tensor, Path]:
    """For each tensor the bodies whose state or step it depends on, outermost first."""
    regions = regions_of(values)
    order = {r: i for i, r in enumerate(regions)}
    steps: dict[Symbol, Region] = {r.step: r for r in regions}
    states = {c.state: r for r in regions for c in (*r.carried, *((r.proceed,) if r.proceed else ()))}
    pinned = [r for r in regions if r.pinned]
    found: dict[Tensor, frozenset[Region]] = {}
    for t in sorted(values, key=lambda t: t.id):
        own = {states[t]} if t in states else set()
        for operand in operands(t):
            own |= found.get(operand, frozenset())
        body = values[t].body
        used = body.symbols if body is not None else frozenset()
        own |= {steps[s] for s in used if s in steps}
        own |= {r for r in pinned if r.pinned[0] <= t.id < r.pinned[1] and t.data is None}  # type: ignore[index]
        if t.region is not None:
            own -= {t.region}
        found[t] = frozenset(own)
    return {t: tuple(sorted(rs, key=lambda r: order[r])) for t, rs in found.items()}
