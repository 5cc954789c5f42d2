"""Pictures as SVG text: boxes, words, arrows, and graphs laid out in levels. Colours are classes, with a set for light and one for dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

WIDTH = 760
"""Of every picture, in pixels."""
LETTER, LINE, PAD = 6.7, 16, 8
"""Width of a letter of 11 pixels in a monospaced font, height of a line, space inside a box."""

LIGHT = {
    "paper": ("#ffffff", "#d0d7de"),
    "plain": ("#f6f8fa", "#8c959f"),
    "input": ("#fff8c5", "#9a6700"),
    "weight": ("#eaeef2", "#57606a"),
    "view": ("#ffffff", "#8c959f"),
    "inline": ("#ffeff7", "#bf3989"),
    "tile": ("#fff1e5", "#bc4c00"),
    "row": ("#dafbe1", "#1a7f37"),
    "root": ("#ddf4ff", "#0969da"),
    "host": ("#fbefff", "#8250df"),
}
DARK = {
    "paper": ("#0d1117", "#30363d"),
    "plain": ("#161b22", "#6e7681"),
    "input": ("#341a00", "#d29922"),
    "weight": ("#21262d", "#8b949e"),
    "view": ("#0d1117", "#6e7681"),
    "inline": ("#42062a", "#f778ba"),
    "tile": ("#3d1300", "#f0883e"),
    "row": ("#04260f", "#3fb950"),
    "root": ("#051d4d", "#58a6ff"),
    "host": ("#271052", "#a371f7"),
}
DASHED = ("view", "inline")


def style() -> str:
    """The colours; a viewer that prefers dark takes the second set."""

    def rules(colours: Mapping[str, tuple[str, str]], words: str, quiet: str) -> str:
        boxes = "".join(f".{name}{{fill:{fill};stroke:{line}}}" for name, (fill, line) in colours.items())
        return f"text{{fill:{words}}}.quiet{{fill:{quiet}}}.arrow{{fill:none;stroke:{quiet}}}.tip{{fill:{quiet}}}{boxes}"

    dashed = ",".join(f".{name}" for name in DASHED)
    return (
        "<style>text{font:11px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre}"
        f".title{{font-weight:bold}}{dashed}{{stroke-dasharray:4 3}}{rules(LIGHT, '#1f2328', '#57606a')}"
        f"@media(prefers-color-scheme:dark){{{rules(DARK, '#e6edf3', '#8b949e')}}}</style>"
    )


@dataclass
class Picture:
    """What has been drawn so far."""

    parts: list[str] = field(default_factory=list)

    def box(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """A rectangle of a kind of `LIGHT`."""
        self.parts.append(f'<rect class="{kind}" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="4"/>')

    def words(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """One line of text whose base line lies at y."""
        marks = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor != "start" else "")
        self.parts.append(f'<text x="{x:.0f}" y="{y:.0f}"{marks}>{escape(text)}</text>')

    def labelled(self, x: float, y: float, width: float, lines: Sequence[str], kind: str) -> float:
        """A box around lines of text, the first one in bold; returns its height."""
        height = len(lines) * LINE + PAD
        self.box(x, y, width, height, kind)
        for i, line in enumerate(lines):
            self.words(x + PAD, y + LINE * (i + 1) - 2, line, "title" if i == 0 else "")
        return height

    def arrow(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """A curve that leaves and arrives vertically, with a tip at its end."""
        middle = (y0 + y1) / 2
        self.parts.append(
            f'<path class="arrow" d="M{x0:.0f} {y0:.0f}C{x0:.0f} {middle:.0f} {x1:.0f} {middle:.0f} {x1:.0f} {y1 - 4:.0f}"/>'
        )
        self.parts.append(f'<path class="tip" d="M{x1:.0f} {y1:.0f}l-4 -7h8z"/>')

    def text(self, height: float) -> str:
        """The whole picture."""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}">'
        paper = f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="6"/>'
        return "\n".join([head, style(), paper, *self.parts, "</svg>"]) + "\n"


@dataclass(frozen=True)
class Node:
    """A box of a graph: its lines, its kind, and the names of the nodes that it reads. group: a frame that it stands in."""

    lines: tuple[str, ...]
    kind: str
    reads: tuple[str, ...] = ()
    group: str = ""

    @property
    def width(self) -> float:
        return max(map(len, self.lines)) * LETTER + 2 * PAD

    @property
    def height(self) -> float:
        return len(self.lines) * LINE + PAD


GAP = 26
"""Between two levels of a graph."""


def draw_graph(nodes: Mapping[str, Node], frames: Mapping[str, tuple[str, str]] | None = None) -> str:
    """Boxes in levels, each below all that it reads. frames: {group: (title, kind)}: a frame around the nodes of a group."""
    picture, at, y = Picture(), {}, 2.0 * PAD + (LINE if frames else 0)
    rows = [part for row in levels_of(nodes) for part in wrapped(row, nodes)]
    for row in rows:
        gap = (WIDTH - sum(nodes[name].width for name in row)) / (len(row) + 1)
        x = gap
        for name in row:
            at[name] = x, y
            x += nodes[name].width + gap
        y += max(nodes[name].height for name in row) + GAP
    for group, (title, kind) in (frames or {}).items():
        draw_frame(picture, title, kind, {name: at[name] for name in nodes if nodes[name].group == group}, nodes)
    for name, node in nodes.items():
        for read in node.reads:
            connect(picture, read, name, at, nodes)
    for name, node in nodes.items():
        picture.labelled(*at[name], node.width, node.lines, node.kind)
    return picture.text(y - GAP + 2 * PAD)


def levels_of(nodes: Mapping[str, Node]) -> list[list[str]]:
    """The names by level: one below the lowest of those that a node reads; what reads nothing stands just above its first reader."""
    levels: dict[str, int] = {}
    for name, node in nodes.items():
        levels[name] = max((levels[r] + 1 for r in node.reads), default=0)
    for name in nodes:
        readers = [levels[n] for n, node in nodes.items() if name in node.reads]
        if readers and not nodes[name].reads:
            levels[name] = min(readers) - 1
    return [[name for name in nodes if levels[name] == level] for level in range(max(levels.values()) + 1)]


def wrapped(row: Sequence[str], nodes: Mapping[str, Node]) -> list[list[str]]:
    """A level as one row, or as several where it is too wide."""
    out: list[list[str]] = [[]]
    for name in row:
        if out[-1] and sum(nodes[n].width + 2 * PAD for n in [*out[-1], name]) > WIDTH - 4 * PAD:
            out.append([])
        out[-1].append(name)
    return out


Places = Mapping[str, tuple[float, float]]


def draw_frame(picture: Picture, title: str, kind: str, at: Places, nodes: Mapping[str, Node]) -> None:
    """A box around nodes, with a title above them."""
    left, right = min(x for x, _ in at.values()) - PAD, max(x + nodes[n].width for n, (x, _) in at.items()) + PAD
    top, bottom = min(y for _, y in at.values()) - LINE - 2, max(y + nodes[n].height for n, (_, y) in at.items()) + PAD
    right = max(right, left + len(title) * LETTER + 2 * PAD)
    picture.box(left, top, right - left, bottom - top, kind)
    picture.words(left + PAD / 2, top + LINE - 4, title, "quiet")


def connect(picture: Picture, source: str, target: str, at: Places, nodes: Mapping[str, Node]) -> None:
    """An arrow between two boxes; around those that stand between."""
    (x0, y0), (x1, y1) = at[source], at[target]
    start, end = x0 + nodes[source].width / 2, x1 + nodes[target].width / 2
    between = [(x, x + nodes[n].width) for n, (x, y) in at.items() if y0 + nodes[source].height < y and y + nodes[n].height < y1]
    if not any(left - PAD < max(start, end) and min(start, end) < right + PAD for left, right in between):
        picture.arrow(start, y0 + nodes[source].height, end, y1)
        return
    side = max(x0 + nodes[source].width, x1 + nodes[target].width, *(right for _, right in between)) + 2 * PAD
    middle = y0 + nodes[source].height / 2
    end = x1 + nodes[target].width - 2 * PAD
    picture.parts.append(
        f'<path class="arrow" d="M{x0 + nodes[source].width:.0f} {middle:.0f}C{side + PAD:.0f} {middle:.0f} '
        f'{side + PAD:.0f} {y1 - GAP / 2:.0f} {end:.0f} {y1 - 4:.0f}"/>'
    )
    picture.parts.append(f'<path class="tip" d="M{end:.0f} {y1:.0f}l-4 -7h8z"/>')
