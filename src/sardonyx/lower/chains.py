"""Find the chains that lower.strips can tile: a sum, the feature map that it fills, windows over that map, and what follows
row by row."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from sardonyx.base.symbolic import Dim, Symbol, coefficient, single, substitute, symbols
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.lower.epilogue import Follower, Readers, epilogue, lone_reader
from sardonyx.lower.values import Value, extent, reads_of


class Link(Struct, frozen=True):
    """A value of a chain, with its loop over images, if there is one, and its loop over rows."""

    value: Value
    image: Symbol | None
    row: Symbol

    @property
    def axes(self) -> tuple[int | None, int]:
        """The positions of these loops among the value's axes: (image, row)."""
        found = {single(a): i for i, a in enumerate(self.value.axes)}
        return (None if self.image is None else found[self.image]), found[self.row]

    def read_by(self, v: Value, r: Read) -> Link | None:
        """Return the link of v, which reads this value at r, if image and row are loops of v too; else None."""
        image, row = self.axes
        over, down = loop_of(image, r.indices), single(r.indices[row])
        if down is None or down not in v.variables or (image is not None and over not in v.variables):
            return None
        return Link(v, over, down)


class Windows(Struct, frozen=True):
    """The windows that a value slides over a feature map. On axis `axis` it reads row step * h + first + (0 ... reach - 1),
    where h is its loop over rows of output; `image` is the axis of images."""

    value: Value
    read: Read
    axis: int
    image: int | None
    step: int
    first: int
    reach: int

    @property
    def link(self) -> Link:
        """The link of the value that reads the windows."""
        row = next(s for s in self.value.variables if s in symbols(self.read.indices[self.axis]))
        return Link(self.value, loop_of(self.image, self.read.indices), row)

    def rows(self, outputs: int) -> int:
        """Return how many rows of the feature map the windows of `rows` rows of output read."""
        return self.step * (outputs - 1) + self.reach


class Edge(Struct, frozen=True):
    """A part of the feature map's border: `height` rows from row `start` on. row: the loop over them, if there is one."""

    value: Value
    row: Symbol | None
    start: int
    height: int


class Chain(Struct, frozen=True):
    """A chain that can be computed in strips.

    above        values up to the one that fills `height` rows of the feature map, from row `start` on
    edges        the other parts of the feature map: its border
    windows      what reads the feature map
    below        the values from the windows on, with `outputs` rows
    """

    above: list[Link]
    feature_map: Value
    start: int
    height: int
    edges: list[Edge]
    windows: Windows
    below: list[Link]
    outputs: int

    def rows(self, outputs: int) -> int:
        """Return how many rows inside the border `rows` rows of output read."""
        return min(self.height, self.windows.rows(outputs))


def find_chain(v: Value, values: Mapping[Tensor, Value], readers: Readers, kept: Container[Tensor]) -> Chain | None:
    """Return the chain that begins with the sum v, if v fills a feature map that only windows over rows read; else None."""
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
    windows = replace(windows, image=find_image(windows, made, where, row))
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
    """Return the axis of the feature map that counts images. Its loop must move the same operands as the loop over rows, both
    in the windows and in the sum that fills the map."""
    for axis, i in enumerate(windows.read.indices):
        s, before = single(i), single(where[axis])
        if before is None or s not in windows.value.variables or not move_alike(s, windows.link.row, windows.value):
            continue
        links = trace(made, before, row)
        if links and links[0].image and move_alike(links[0].image, links[0].row, links[0].value):
            return axis
    return None


def move_alike(s: Symbol, t: Symbol, v: Value) -> bool:
    """Tell whether the two loops move the same of v's operands."""
    return all((s in r.symbols) == (t in r.symbols) for r in reads_of(v))


def loop_of(axis: int | None, indices: Sequence[Dim]) -> Symbol | None:
    """Return the loop that is the index of this axis, or None."""
    return None if axis is None else single(indices[axis])


def find_windows(feature_map: Tensor, readers: Readers, kept: Container[Tensor]) -> Windows | None:
    """Return how the windows of the feature map's only reader move along it. None if it has several readers, or none with windows.

    For example, a convolution of three rows with stride 2 reads rows 2y to 2y + 2 of its input for its row y. Of several axes
    the first one counts.
    """
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
    """Return the reduction that is the only reader of t, with its read, if the read has no guard; else None."""
    found = lone_reader(t, readers, kept)
    return found if found and found[0].fn and found[1].guard is None else None


def loop_and_start(index: Dim) -> tuple[Symbol, int] | None:
    """Split an index of the form loop + start. -> (loop, start), or None."""
    start = substitute(index, dict.fromkeys(symbols(index), 0))
    s = single(index - start)
    return (s, start) if s is not None and isinstance(start, int) else None


Stage = tuple[Value, Read | None]
"""A value and its read of the stage before; None for the first."""


def trace(made: Sequence[Stage], image: Symbol | None, row: Symbol) -> list[Link] | None:
    """Follow the loops over images and rows back from the last value to the first. -> a link for each value, or None where
    one has no such loop."""
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
    """Return the links from the windows on: their epilogue, then one more reduction, if it is the only reader, and its
    epilogue.

    None if a value in between does not keep image and row as loops, writes into another tensor, or is a state.
    """
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
    """Return the part v of the feature map as an edge, if it has the same content in each row and image; else None."""
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
