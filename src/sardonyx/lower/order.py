"""Put calls into the order of the program: inside the repeated bodies that contain them, in segments whose sizes are known when they begin."""

from __future__ import annotations

from collections.abc import Sequence

from sardonyx.base.symbolic import Symbol, symbols
from sardonyx.expr.dependence import closure
from sardonyx.expr.known import DataSymbol
from sardonyx.expr.region import Region
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.lower.schedule import Call, Repeat, Segment, Step
from sardonyx.lower.values import Value


def in_segments(tree: Sequence[Step]) -> list[Segment]:
    """Put each step into the first segment in which all its sizes are known. A program without steps has one segment too."""
    levels = levels_of(tree)
    segments = [Segment()]
    for step in tree:
        level = level_of(step, levels)
        while len(segments) <= level:
            segments.append(Segment())
        segments[level].steps.append(step)
    return segments


def levels_of(steps: Sequence[Step]) -> dict[Tensor | Symbol, int]:
    """Assign each written tensor, and each loop's counters, to the number of its segment.

    The steps are visited again until nothing changes, because a step that decides a size may stand after one that needs the
    size.
    """
    levels: dict[Tensor | Symbol, int] = {}
    asked: set[Tensor] = set()  # tensors whose elements are sizes of the steps seen so far
    moving = True
    while moving:
        moving = False
        for step in steps:
            level = level_of(step, levels)
            asked |= {s.tensor for s in sizes_of(step) if isinstance(s, DataSymbol)}
            for t in step.writes:
                moving |= level > levels[t] if t in levels else t in asked
                levels[t] = max(level, levels.get(t, 0))
            if isinstance(step, Repeat):
                levels |= {s: level for s in (step.region.step, step.region.done) if s is not None}
    return levels


def level_of(step: Step, levels: dict[Tensor | Symbol, int]) -> int:
    """Return the number of the segment that a step belongs to: not before the segments that compute what it reads or count
    the iterations that it names, and after those that compute its sizes. Inputs are there from the start."""
    level = max((levels.get(t, 0) for t in all_reads(step)), default=0)
    for s in sizes_of(step):
        level = max(level, levels.get(s.tensor, -1) + 1 if isinstance(s, DataSymbol) else levels.get(s, 0))
    return level


def all_reads(step: Step) -> frozenset[Tensor]:
    """Collect the tensors that must be written before a step.

    For a loop these include its state, even if the body only writes it: without an iteration, the initial state is the
    result.
    """
    if isinstance(step, Call):
        return step.reads
    flags = () if step.flag is None else (step.flag,)
    return step.states.union(flags, *map(all_reads, step.steps))


def sizes_of(step: Step) -> frozenset[Symbol]:
    """Collect the symbols that a step's sizes, trip counts and result shapes depend on."""
    if isinstance(step, Repeat):
        return closure(symbols(step.region.trip)).union(*map(sizes_of, step.steps))
    return closure(frozenset().union(*map(symbols, step.sizes), *(symbols(n) for t in step.writes for n in t.shape)))


Item = tuple[float, tuple[Region, ...], Call]


def in_regions(items: Sequence[Item], path: tuple[Region, ...], values: dict[Tensor, Value]) -> list[Step]:
    """Return the steps at this depth. Calls in deeper regions become one Repeat per region, placed just before the region's
    first output.

    items: (position in the program, regions that enclose the call, call). path: the regions that enclose this depth.
    """
    own: list[tuple[float, Step]] = [(at, call) for at, where, call in items if where == path]
    inner: dict[Region, list[Item]] = {}
    for at, where, call in items:
        if len(where) > len(path) and where[: len(path)] == path:
            inner.setdefault(where[len(path)], []).append((at, where, call))
    for region, inside in inner.items():
        steps = in_regions(inside, (*path, region), values)
        found = Repeat(region, steps, flag_of(region, values))
        found.states = found.writes & {state_buffer(c.state, values) for c in region.states}
        own.append((region.at - 0.25, found))
    return [step for _, step in sorted(own, key=lambda item: item[0])]


def flag_of(region: Region, values: dict[Tensor, Value]) -> Tensor | None:
    """Return the tensor that decides whether the region's next iteration runs, or None if the trip count alone decides."""
    return region.flag if region.proceed is None else state_buffer(region.proceed.state, values)


def state_buffer(state: Tensor, values: dict[Tensor, Value]) -> Tensor:
    """Return the double buffer that holds a state (see lower.repetition)."""
    read = values[state].body
    assert isinstance(read, Read)
    return read.tensor
