"""Chains that may be made in strips: a sum, the picture that it makes, the windows over it, and what follows them row by row."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from sardonyx.base.symbolic import Dim, Symbol, coefficient, single, substitute, symbols
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.lower.epilogue import Follower, Readers, epilogue, lone_reader
from sardonyx.lower.values import Value, extent, reads_of


@dataclass(frozen=True, slots=True)
class Link:
    """One value of a chain and its loops over images (if there are any) and rows."""

    value: Value
    image: Symbol | None
    row: Symbol

    @property
    def axes(self) -> tuple[int | None, int]:
        """The axes of the tensor that are these loops."""
        found = {single(a): i for i, a in enumerate(self.value.axes)}
        return (None if self.image is None else found[self.image]), found[self.row]

    def read_by(self, v: Value, r: Read) -> Link | None:
        """v, which reads this at r, if image and row are loops of its own."""
        image, row = self.axes
        over, down = loop_of(image, r.indices), single(r.indices[row])
        if down is None or down not in v.variables or (image is not None and over not in v.variables):
            return None
        return Link(v, over, down)


@dataclass(frozen=True, slots=True)
class Windows:
    """What a value reads of a feature map: row = step h + first + (0 ... reach - 1), h its loop of outputs."""

    value: Value
    read: Read
    axis: int
    image: int | None
    step: int
    first: int
    reach: int

    @property
    def link(self) -> Link:
        row = next(s for s in self.value.variables if s in symbols(self.read.indices[self.axis]))
        return Link(self.value, loop_of(self.image, self.read.indices), row)

    def rows(self, outputs: int) -> int:
        """Of the feature map, for so many rows of outputs."""
        return self.step * (outputs - 1) + self.reach


@dataclass(frozen=True, slots=True)
class Edge:
    """A part of the picture beside its inside: `height` rows from `start` on. row: the loop over them, if there is one."""

    value: Value
    row: Symbol | None
    start: int
    height: int


@dataclass(frozen=True, slots=True)
class Chain:
    """What is made in strips: `above` makes `height` rows of the picture from `start` on, `edges` are its other parts, `below` begins
    with the windows over it, and has `outputs` rows."""

    above: list[Link]
    feature_map: Value
    start: int
    height: int
    edges: list[Edge]
    windows: Windows
    below: list[Link]
    outputs: int

    def rows(self, outputs: int) -> int:
        """Inside of the picture's border, for so many rows of outputs."""
        return min(self.height, self.windows.rows(outputs))


def find_chain(v: Value, values: Mapping[Tensor, Value], readers: Readers, kept: Container[Tensor]) -> Chain | None:
    """The chain that begins with the sum v, if it goes into a picture that windows over rows read, and nothing else does."""
    made: list[Stage] = [(v, None), *epilogue(v, readers, kept)]
    inside = made[-1][0]
    if inside.into is None or readers.get(inside.tensor) or any(t.into or t.is_next_state for t, _ in made[:-1]):
        return None
    whole, where = inside.into
    windows = find_windows(whole, readers, kept)
    if windows is None or values[whole].region:
        return None
    found = loop_and_start(where[windows.axis])
    if found is None:
        return None
    row, start = found
    windows = dataclasses.replace(windows, image=find_image(windows, made, where, row))
    above, below = trace(made, loop_of(windows.image, where), row), follow(windows.link, readers, kept)
    if above is None or below is None:
        return None
    found_edges = [find_edge(values[p], windows) for p in whole.parts if p is not inside.tensor]
    edges = [e for e in found_edges if e]
    height, outputs = extent(above[-1].row), extent(below[0].row)
    if not isinstance(height, int) or not isinstance(outputs, int) or len(edges) < len(found_edges):
        return None
    return Chain(above, values[whole], start, height, edges, windows, below, outputs)


def find_image(windows: Windows, made: Sequence[Stage], where: Sequence[Dim], row: Symbol) -> int | None:
    """The axis of the picture that counts images: its loop moves what rows move, in the windows and in the sum before them."""
    for axis, i in enumerate(windows.read.indices):
        s, before = single(i), single(where[axis])
        if before is None or s not in windows.value.variables or not move_alike(s, windows.link.row, windows.value):
            continue
        links = trace(made, before, row)
        if links and links[0].image and move_alike(links[0].image, links[0].row, links[0].value):
            return axis
    return None


def move_alike(s: Symbol, t: Symbol, v: Value) -> bool:
    """Do both loops move the same of v's operands?"""
    return all((s in r.symbols) == (t in r.symbols) for r in reads_of(v))


def loop_of(axis: int | None, indices: Sequence[Dim]) -> Symbol | None:
    return None if axis is None else single(indices[axis])


def find_windows(feature_map: Tensor, readers: Readers, kept: Container[Tensor]) -> Windows | None:
    """How the one value that reads the picture slides over the first axis over which it does."""
    found = summing_reader(feature_map, readers, kept)
    if found is None or found[0].region:
        return None
    v, r = found
    axis = next((a for a, i in enumerate(r.indices) if symbols(i) & set(v.loops) and symbols(i) & set(v.variables)), None)
    if axis is None:
        return None
    index = r.indices[axis]
    moved = {s: c for s in symbols(index) if isinstance(c := coefficient(index, s), int) and c > 0}
    outer = [s for s in v.variables if s in moved]
    first = substitute(index, dict.fromkeys(moved, 0))
    if moved.keys() != symbols(index) or not moved.keys() <= set(v.all_loops) or len(outer) != 1 or not isinstance(first, int):
        return None
    reach: Dim = 1
    for s in moved.keys() - set(outer):
        reach = reach + moved[s] * (extent(s) - 1)
    return Windows(v, r, axis, None, moved[outer[0]], first, reach) if isinstance(reach, int) and reach > 0 else None


def summing_reader(t: Tensor, readers: Readers, kept: Container[Tensor]) -> Follower | None:
    """The sum that alone reads t, at one place and without a guard."""
    found = lone_reader(t, readers, kept)
    return found if found and found[0].fn and found[1].guard is None else None


def loop_and_start(index: Dim) -> tuple[Symbol, int] | None:
    """(loop, start) where index = loop + start."""
    start = substitute(index, dict.fromkeys(symbols(index), 0))
    s = single(index - start)
    return (s, start) if s is not None and isinstance(start, int) else None


Stage = tuple[Value, Read | None]
"""A value and how it reads the one before it."""


def trace(made: Sequence[Stage], image: Symbol | None, row: Symbol) -> list[Link] | None:
    """Links of values that follow each other at their own points, from the loops of the last one."""
    links: list[Link] = []
    at: tuple[Symbol | None, Symbol | None] = image, row
    for i in reversed(range(len(made))):
        v, r = made[i]
        over, down = at
        if down is None or down not in v.variables or (image is not None and over not in v.variables):
            return None
        links.insert(0, Link(v, over, down))
        if r is not None:
            places = {single(j): single(a) for a, j in zip(made[i - 1][0].axes, r.indices, strict=True)}
            at = (None if image is None else places.get(over)), places.get(down)
    return links


def follow(windows: Link, readers: Readers, kept: Container[Tensor]) -> list[Link] | None:
    """The windows and what follows them at their own point; if one sum alone reads that in its own image and row, this too and what
    follows it. None where they don't keep image and row."""
    links = [windows]
    steps = epilogue(windows.value, readers, kept)
    last = steps[-1][0] if steps else windows.value
    found = summing_reader(last.tensor, readers, kept) if last.into is None else None
    for t, r in steps:
        link = links[-1].read_by(t, r)
        if link is None:
            return None
        links.append(link)
    link = links[-1].read_by(*found) if found and not found[0].region else None
    if link:
        links.append(link)
        for t, r in epilogue(link.value, readers, kept):
            link = links[-1].read_by(t, r)
            if link is None:
                return None
            links.append(link)
    return None if any(u.value.is_next_state or (u.value.into and u is not links[-1]) for u in links) else links


def find_edge(v: Value, windows: Windows) -> Edge | None:
    """A part of the picture as an edge, if it is the same in each row and image."""
    if v.into is None or v.fn or v.body is None or v.region:
        return None
    row, moving = v.into[1][windows.axis], symbols(v.into[1][windows.axis])
    if windows.image is not None:
        moving |= symbols(v.into[1][windows.image])
    if not moving.isdisjoint(v.body.symbols):
        return None
    if isinstance(row, int):
        return Edge(v, None, row, 1)
    s, start = loop_and_start(row) or (None, 0)
    height = extent(s) if s in v.variables else None
    return Edge(v, s, start, height) if isinstance(height, int) else None
