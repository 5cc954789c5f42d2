"""Turn repeated bodies into statements: find the bodies that each tensor is computed in, and move state into, through and out
of them.

A state has a buffer with two copies (double buffering): iteration t reads copy t % 2 and writes the other one.

    before            buffers[0] = initial            parts written into their wholes
    each iteration t  state = buffers[t % 2]          an index map
                      whole[t] = value
                      buffers[(t + 1) % 2] = update
    after n of them   final = buffers[n % 2]          an index map; n is the trip count, or the iterations done

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
    """List the regions whose results are among the tensors, outer regions before inner ones."""
    found = dict.fromkeys(r for t in values if t.region is not None for r in t.region.both)
    return sorted(found, key=lambda r: r.at)[::-1]


def expand(values: dict[Tensor, Value]) -> set[Tensor]:
    """Add the statements that move states and stacked results. Return the tensors that must have buffers of their own."""
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
"""Positions of the added statements, as distances before the region's id: those that store initial states, and those that end an
iteration. They are spread over a range of STEP, so that no two stand at one position."""


def double_buffer(values: dict[Tensor, Value], region: Region, c: Carried, outer: Path, share: float) -> set[Tensor]:
    """Create the double buffer of state c and the statements that fill it; return {the buffer}.

    share: in [0, 1); the state's position among the region's states and stacks. outer: the bodies around the region.
    """
    inner, iteration = (*outer, region), value(region.step)
    for t in (c.initial, c.update, c.state, c.final):
        values.setdefault(t, Value(t))
    values[c.state].region, values[c.final].region = inner, outer  # also for a condition that no value reads
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
    """Add the statement target[*prefix, i] = source[i], as a part of target. at: its position in the program."""
    part = Tensor(source.dtype, source.shape, f"{target.name}.from.{source.name}")
    part.id, part.origin = at, source.origin
    v = values[part] = Value(part)
    v.body = Read(source, v.axes)
    v.into = part.into = target, (*prefix, *v.axes)
    v.region = path
    return v


def copy_of(values: dict[Tensor, Value], source: Tensor, path: Path, at: float) -> Tensor:
    """Add a copy of source that is computed in these bodies. at: its position in the program."""
    copy = Tensor(source.dtype, source.shape, f"{source.name}.copy")
    copy.id, copy.origin = at, source.origin
    v = values[copy] = Value(copy)
    v.body, v.region = Read(source, v.axes), path
    return copy


# ---- which bodies a tensor is computed in -------------------------------------------------------------------------------


def find_paths(values: Iterable[Tensor]) -> dict[Tensor, Path]:
    """Return, for each tensor, the bodies that it must be computed in, outermost first.

    These are the bodies whose state or counter it depends on, and the bodies around those. A body stands inside another one
    if anything that it reads, computes, or takes its trip count from depends on that one's state or counter.
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
    """Return the bodies that each tensor depends on directly: it is a state, names the counter, or may not be moved out of
    the body."""
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
    """Tell whether body r is nested in body q in the model."""
    return q is not r and q.made is not None and q.made[0] < r.at < q.made[1]


def outside(
    tensors: Iterable[Tensor], regions: Iterable[Region], found: Mapping[Tensor, frozenset[Region]], order: Mapping[Region, int]
) -> dict[Region, frozenset[Region]]:
    """Return, for each region, the regions that must enclose it according to what has been found so far."""
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
    """Return the largest value of a size that may depend on the iterations of these bodies; never below zero."""
    for region in reversed(path):
        size = greatest(size, region.step, 0, maximum(region.trip - 1, 0))
    return size if not path or is_nonnegative(size) else maximum(size, 0)
