"""Repeated bodies as statements: which tensors stand in which body, and how state goes in, round and out.

before            halves[0] = initial             parts written into their wholes
each iteration t  state = halves[t % 2]           a view
                  whole[t] = value
                  halves[(t + 1) % 2] = update
after t           final = halves[t % 2]           a view: of the number of iterations, trip or done

A branch of an If is a body of at most one iteration: whole = value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sardonyx.base.bounds import greatest
from sardonyx.base.dtypes import i64
from sardonyx.base.symbolic import Dim, is_nonnegative, maximum, symbols, value
from sardonyx.expr.dependence import can_fail, closure, depends_on
from sardonyx.expr.region import Carried, Region
from sardonyx.expr.tensor import Read, Tensor, operands
from sardonyx.loop.nodes import Index
from sardonyx.lower.values import Value

Path = tuple[Region, ...]


def regions_of(values: Iterable[Tensor]) -> list[Region]:
    """The regions whose results are among the tensors, outer ones before those inside them."""
    found = dict.fromkeys(r for t in values if t.region is not None for r in t.region.both)
    return sorted(found, key=lambda r: r.at)[::-1]


def expand(values: dict[Tensor, Value]) -> set[Tensor]:
    """Adds the statements that move state and stacks; returns the tensors that must have buffers of their own."""
    kept: set[Tensor] = set()
    paths = find_paths(values)
    for t, v in list(values.items()):
        v.region = paths[t]
    for region in regions_of(values):
        outer = values[region.outputs[0]].region
        count = len(region.states) + len(region.stacked)
        for i, c in enumerate(region.states):
            kept |= double_buffer(values, region, c, outer, i / count)
        for i, s in enumerate(region.stacked, len(region.states)):
            prefix = () if region.flag is not None else (value(region.step),)
            statement(values, s.whole, prefix, s.value, (*outer, region), region.at - UPDATES + STEP * i / count)
            values[s.whole].place = "WHOLE"
        if region.flag is not None:
            kept.add(region.flag)
        if region.count is not None:
            v = values[region.count]
            assert region.done is not None
            v.body = Index(value(region.done))
            assert region.count.dtype is i64
    return kept


INITIAL, UPDATES, STEP = 0.5, 0.35, 0.09
"""How far before the region statements stand that put states into their buffers, and those that end an iteration; and over how much of
that they are spread, so that no two stand at one place. """


def double_buffer(values: dict[Tensor, Value], region: Region, c: Carried, outer: Path, share: float) -> set[Tensor]:
    """State in two buffers: iteration t reads one, t % 2, and writes the other. share: in [0, 1), of its place among states and stacks."""
    inner, iteration = (*outer, region), value(region.step)
    for t in (c.initial, c.update, c.state, c.final):
        values.setdefault(t, Value(t))
    values[c.state].region, values[c.final].region = inner, outer  # also of a condition, which nobody may read
    buffers = Tensor(c.state.dtype, (2, *c.state.shape), c.state.name)
    buffers.id, buffers.origin = c.state.id, c.state.origin
    values[buffers] = Value(buffers)
    values[buffers].place, values[buffers].region = "WHOLE", outer
    statement(values, buffers, (0,), c.initial, outer, region.at - INITIAL + STEP * share)
    update = values[c.update]
    if update.body is None or update.fn or update.into or update.region != inner:
        update = values[copy_of(values, c.update, inner, region.at - UPDATES + STEP * share)]
    update.into, update.is_next_state = (buffers, ((iteration + 1) % 2, *update.axes)), True
    values[c.state].body = Read(buffers, (iteration % 2, *c.state.axes))
    count_done = region.trip if region.done is None else value(region.done)
    values[c.final].body = Read(buffers, (count_done % 2, *c.final.axes))
    return {buffers}


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


# ---- which body a tensor stands in --------------------------------------------------------------------------------------


def find_paths(values: Iterable[Tensor]) -> dict[Tensor, Path]:
    """For each tensor the bodies that it must be computed in, the outermost first.

    These are the bodies whose state or iteration it depends on, and those around them: a body stands inside another one if anything
    that it is given, counts or computes depends on that.
    """
    tensors = sorted(values, key=lambda t: t.id)
    regions = regions_of(tensors)
    if not regions:
        return dict.fromkeys(tensors, ())
    order = {r: i for i, r in enumerate(regions)}
    found = own_regions(tensors, regions)
    made_of = {t: [o for o in operands(t) if o in found] for t in tensors if t.region is None}
    around = {r: frozenset(q for q in regions if q.pinned and encloses(q, r)) for r in regions}
    moving = True
    while moving:
        moving = False
        for t in tensors:
            now = found[t]
            if t.region is not None:
                now = now.union(*(around[r] for r in t.region.both))
            else:
                now = now.union(*(found[o] for o in made_of[t]))
            now = now.union(*(around[r] for r in now))
            if now != found[t]:
                found[t], moving = now, True
        for r, outer in outside(tensors, regions, found, order).items():
            moving |= not outer <= around[r]
            around[r] |= outer
    return {t: tuple(sorted(rs, key=order.__getitem__)) for t, rs in found.items()}


def own_regions(tensors: Iterable[Tensor], regions: Iterable[Region]) -> dict[Tensor, frozenset[Region]]:
    """The bodies that a tensor depends on by itself: whose state it is, whose iteration it names, or which it may not leave."""
    steps = {r.step: r for r in regions}
    states = {c.state: r for r in regions for c in r.states}
    bodies = [r for r in regions if r.made is not None]
    pinned = [r for r in bodies if r.pinned]
    out: dict[Tensor, frozenset[Region]] = {}
    for t in tensors:
        own = {steps[s] for s in depends_on(t) if s in steps}
        if t in states:
            own.add(states[t])
        if t.data is None:
            own |= {r for r in (bodies if can_fail(t) else pinned) if r.made[0] <= t.id < r.made[1]}  # type: ignore[index]
        out[t] = frozenset(own)
    return out


def encloses(q: Region, r: Region) -> bool:
    """Does body r stand in body q, as the model has it?"""
    return q is not r and q.made is not None and q.made[0] < r.at < q.made[1]


def outside(
    tensors: Iterable[Tensor], regions: Iterable[Region], found: Mapping[Tensor, frozenset[Region]], order: Mapping[Region, int]
) -> dict[Region, frozenset[Region]]:
    """For each region those that must stand around it, as far as is known."""
    steps = {r.step: r for r in regions}
    out: dict[Region, set[Region]] = {}
    for r in regions:
        named = {steps[s] for s in closure(symbols(r.trip)) if s in steps}
        out[r] = named.union(*(found[t] for t in (*r.inputs, *r.results) if t in found))
    for t in tensors:
        for r in found[t]:
            out[r] |= found[t]
    return {r: frozenset(q for q in rs if order[q] < order[r]) for r, rs in out.items()}


# ---- sizes that change from iteration to iteration ------------------------------------------------------------------------


def most(size: Dim, path: Path) -> Dim:
    """As large as a size, which may depend on the iterations of these bodies, ever is; never below zero."""
    for region in reversed(path):
        size = greatest(size, region.step, 0, maximum(region.trip - 1, 0))
    return size if not path or is_nonnegative(size) else maximum(size, 0)
