"""The pictures of docs/compiler.md, each drawn from what the compiler has made."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from docs.compiler.stages import TARGET, Compiled, GraphNode, GraphStages, Names, buffer_names
from docs.compiler.svg import LETTER, LINE, PAD, WIDTH, Node, Picture, draw_graph
from sardonyx.expr.tensor import Tensor, reads
from sardonyx.loop.nodes import Alloc, Const, For, If, Seq, Stmt, Store, Tile, While
from sardonyx.loop.printer import Printer
from sardonyx.lower.place import Nest
from sardonyx.lower.printer import value_text
from sardonyx.lower.schedule import Call
from sardonyx.lower.values import Value, reads_of

WEIGHTS = ("w", "b", "a", "axis")
"""Names of weights in the examples."""


# ---- graphs ---------------------------------------------------------------------------------------------------------------


def graph_picture(nodes: Sequence[GraphNode], groups: Sequence[Sequence[GraphNode]] = (), on_host: Sequence[bool] = ()) -> str:
    """The nodes with the values between them; with groups, a frame around each part that is run as a whole."""
    made = {name: node for node in nodes for name in node.outputs}
    group_of = {node.name: f"part{i}" for i, group in enumerate(groups) for node in group}
    drawn: dict[str, Node] = {}
    for node in nodes:
        for name in node.inputs:
            if name not in made and name not in drawn:
                weight = name in WEIGHTS
                drawn[name] = Node((name,), "weight" if weight else "input", group=group_of.get(node.name, "") if weight else "")
        given = ", ".join(node.outputs)
        drawn[node.name] = Node(
            (node.operator, given),
            "plain",
            tuple(made[n].name if n in made else n for n in node.inputs),
            group_of.get(node.name, ""),
        )
    frames = {
        f"part{i}": (f"part {i + 1}: {'Python, on the host' if host else 'compiled'}", "host" if host else "root")
        for i, host in enumerate(on_host)
    }
    return draw_graph(drawn, frames or None)


# ---- tensors and their places ---------------------------------------------------------------------------------------------


def tensors_picture(tensors: Iterable[Tensor], names: Names) -> str:
    """Tensors as functions of their indices, before anything is decided."""
    drawn: dict[str, Node] = {}
    for t in sorted(tensors, key=lambda t: t.id):
        v = Value(t)
        reads = tuple(dict.fromkeys(r.tensor.name for r in reads_of(v)))
        for r in reads_of(v):
            if r.tensor.body is None:
                drawn.setdefault(r.tensor.name, Node((leaf_title(r.tensor),), leaf_kind(r.tensor)))
        if t.body is not None:
            title = f"{names.of(t)}: {t.dtype}[{', '.join(map(str, t.shape))}]"
            drawn[t.name] = Node((title, names.text(value_text(v))), "plain", reads)
    return draw_graph(drawn)


def leaf_title(t: Tensor) -> str:
    return f"{t.name}: {t.dtype}[{', '.join(map(str, t.shape))}]"


def leaf_kind(t: Tensor) -> str:
    return "weight" if t.name.partition(".")[0] in WEIGHTS else "input"


def places_picture(stage: Compiled, names: Names) -> str:
    """All values, each in the colour of its place, with arrows from what the graph makes it of; what a nest computes in a frame."""
    number = {v: i for i, nest in enumerate(stage.program.nests) for s in nest.statements for v in (s, s.tile) if v is not None}
    carriers = {v.tile.tensor: v for v in stage.values.values() if v.tile is not None}
    shown = {t: v for t, v in stage.values.items() if v.place is not None and v.body is not None}
    drawn: dict[str, Node] = {}
    for t in in_order({t: sources(v, shown, carriers) for t, v in shown.items()}):
        v, reads = shown[t], sources(shown[t], stage.values, carriers)
        for r in reads:
            if r not in shown:
                drawn[r.name] = Node((leaf_title(r),), leaf_kind(r))
        lines = f"{v.place} {names.of(t)}{list_of(v)}", names.text(value_text(v)).split("    #")[0]
        group = f"nest{number[v]}" if v in number else ""
        drawn[t.name] = Node(lines, str(v.place).lower(), tuple(r.name for r in reads), group)
    frames = {f"nest{i}": (nest_title(nest), "plain") for i, nest in enumerate(stage.program.nests)}
    return draw_graph(drawn, frames)


def sources(v: Value, values: Container[Tensor], carriers: Mapping[Tensor, Value]) -> list[Tensor]:
    """What the graph makes v of, as far as it is among the values; and what v reads that lowering has added."""
    if v.tile is not None and v.body is not None and reads_of(v)[0].tensor is v.tile.tensor and v.tensor.fn:
        return [v.tile.tensor]  # a contraction that became the statement that takes its own sums
    of = carriers[v.tensor].tensor if v.tensor.body is None and v.tensor in carriers else v.tensor
    own = list(dict.fromkeys(r.tensor for r in reads_of(v)))
    if of.body is None:
        return [t for t in own if t in values]
    made_of = list(dict.fromkeys(r.tensor for r in reads(of.body)))
    added = [t for t in own if t.id % 1 and t.name.endswith("panels")]
    copied = {t.name.removesuffix(".panels") for t in added}
    return [t for t in (*made_of, *added) if t in values and t is not v.tensor and t.name not in copied]


def in_order(made_of: Mapping[Tensor, Sequence[Tensor]]) -> list[Tensor]:
    """Each after those that it is made of."""
    out: dict[Tensor, None] = {}

    def visit(t: Tensor) -> None:
        for source in made_of[t]:
            if source in made_of and source not in out:
                visit(source)
        out[t] = None

    for t in sorted(made_of, key=lambda t: t.id):
        visit(t)
    return list(out)


def list_of(v: Value) -> str:
    return f"[{', '.join(map(str, v.tensor.shape))}]"


def nest_title(nest: Nest) -> str:
    loops = " x ".join(str(s.extent) for s in nest.band)
    return f"one nest: threads share {loops} rows" if nest.band else "one nest: one thread does it"


# ---- loops ----------------------------------------------------------------------------------------------------------------


@dataclass
class LoopDrawing:
    """Loops as boxes inside each other, drawn from top to bottom. y: where the next line starts."""

    printer: Printer
    formulas: dict[str, str]  # of a buffer
    kinds: dict[str, str]  # the place of what lies in a buffer
    picture: Picture = field(default_factory=Picture)
    y: float = 12.0

    def statement(self, s: Stmt, x: float, width: float) -> None:
        match s:
            case Seq():
                for part in s.body:
                    self.statement(part, x, width)
            case For() if s.lo == 0 and s.hi == 1 and s.kind != "parallel":
                self.printer.variable(s.variable)
                self.statement(s.body, x, width)
            case For():
                hi = self.printer.dim(s.hi)
                self.frame(f"for {self.printer.variable(s.variable)} < {hi}   {s.kind}", s.body, x, width)
            case While() | If():
                self.frame("while" if isinstance(s, While) else "if", s.body if isinstance(s, While) else s.then, x, width)
            case Alloc():
                self.printer.buffers[s.buffer] = s.buffer.name
                self.leaf(f"scratch {self.name_of(s.buffer.name)}: {s.buffer.dtype}[{self.printer.dim(s.size)}]", "", x, width)
                self.statement(s.body, x, width)
            case Tile():
                self.leaf(f"tile: {self.formulas.get(s.c.name, s.c.name)}", "tile", x, width)
            case Store() if isinstance(s.value, Const):
                self.leaf(f"{self.name_of(s.buffer.name)} = {s.value.value}", self.kinds.get(s.buffer.name, "root"), x, width)
            case Store():
                self.leaf(self.formulas.get(s.buffer.name, s.buffer.name), self.kinds.get(s.buffer.name, "root"), x, width)

    def name_of(self, buffer: str) -> str:
        return re.split(r"[\[ ]", self.formulas.get(buffer, buffer))[0]

    def frame(self, title: str, body: Stmt, x: float, width: float) -> None:
        at, top = len(self.picture.parts), self.y
        self.picture.words(x + PAD, self.y + LINE - 2, title, "title")
        self.y += LINE + 6
        self.statement(body, x + PAD, width - 2 * PAD)
        inner, self.picture.parts[at:] = self.picture.parts[at:], []
        self.picture.box(x, top, width, self.y - top + 2, "plain")
        self.picture.parts += inner
        self.y += 8

    def leaf(self, words: str, kind: str, x: float, width: float) -> None:
        most = int((width - 2 * PAD) / LETTER)
        words = words if len(words) <= most else words[: most - 1] + "…"
        if kind:
            self.picture.box(x, self.y, width, LINE + 4, kind)
        self.picture.words(x + PAD, self.y + LINE - 2, words, "" if kind else "quiet")
        self.y += LINE + (8 if kind else 2)


def loops_picture(stage: Compiled, names: Names) -> str:
    """The kernels' loops in the order of their calls; each statement in the colour of its value's place."""
    drawing = LoopDrawing(Printer(), {}, {})
    for call in stage.calls:
        prepare(drawing, call, stage, names)
        drawing.statement(call.kernel.body, 12, WIDTH - 24)
    return drawing.picture.text(drawing.y + 4)


def prepare(drawing: LoopDrawing, call: Call, stage: Compiled, names: Names) -> None:
    """Gives the drawing the names of a kernel's buffers and sizes, and what is stored in each buffer."""
    drawing.printer = Printer()
    drawing.printer.symbols.update((s, f"n{i}" if s.name.startswith("<") else s.name) for i, s in enumerate(call.kernel.sizes))
    drawing.formulas, drawing.kinds = {}, {}
    by_name = {names.of(v.tensor).replace(".", "_"): v for v in stage.values.values() if v.body is not None}
    for buffer, tensor in buffer_names(call.kernel, call, stage, names).items():
        v = by_name.get(tensor)
        if v is not None:
            shown = v.tile if v.tile is not None and v.place == "ROW" else v
            drawing.formulas[buffer] = names.text(value_text(shown)).split("    #")[0]
            drawing.kinds[buffer] = (v.place or "root").lower()


# ---- machine code ---------------------------------------------------------------------------------------------------------


def machine_picture(llvm: str, tile: Tile) -> str:
    """The kernel's functions, and the registers of its tallest tile."""
    picture, y = Picture(), 14.0
    functions = re.findall(r"^define [^@]*@\"?([\w.]+)\"?\(", llvm, re.MULTILINE)
    lanes = TARGET.vector_bits // 32
    vectors, rows = tile.width // lanes, max(tile.heights)
    for name in functions:
        tiles = name.startswith("tile")
        words = (
            f"tile of {name.split('.')[2].split('x')[0]} rows x {tile.width} columns"
            if tiles
            else "the kernel: loops, calls of tiles"
        )
        picture.labelled(12, y, 300, [words], "tile" if tiles else "root")
        y += LINE + PAD + 6
    x, top = 420.0, 14.0
    picture.words(x, top + 10, f"registers of the tile of {rows} rows", "title")
    for column in range(vectors):
        picture.labelled(x + 70 + 104 * column, top + 20, 98, [f"B: {lanes} columns"], "weight")
    for row in range(rows):
        at = top + 52 + 30 * row
        picture.labelled(x, at, 62, [f"A: row {row}"], "input")
        for column in range(vectors):
            picture.labelled(x + 70 + 104 * column, at, 98, [f"sum {row}, {column}"], "tile")
    used = vectors * rows + vectors + 1
    bottom = top + 52 + 30 * rows + 12
    picture.words(x, bottom, f"{vectors * rows} sums + {vectors} of B + 1 of A = {used} of 16")
    return picture.text(max(y, bottom) + 14)


# ---- running --------------------------------------------------------------------------------------------------------------


def run_picture(stages: GraphStages, stage: Compiled, threads: int = 2) -> str:
    """Who does what, from top to bottom: the caller's thread at the left."""
    picture, y, lane = Picture(), 14.0, (WIDTH - 36) / threads
    for i in range(threads):
        picture.words(18 + lane * i, y + 8, f"thread {i}{': the caller' if i == 0 else ''}", "title")
    y += 20
    for group, host in zip(stages.parts, stages.on_host, strict=True):
        if host:
            y += picture.labelled(18, y, lane - 12, ["step on the host", *(n.operator for n in group)], "host") + 10
            continue
        for name, plan in stage.assembly.plans.items():
            y += picture.labelled(18, y, lane - 12, [name, f"{len(plan)} numbers: sizes, offsets, addresses"], "weight") + 10
        for call in stage.calls:
            for i in range(threads):
                height = picture.labelled(
                    18 + lane * i, y, lane - 12, ["kernel", f"part {i + 1} of {threads} of its parallel loop"], "root"
                )
            y += height + 10
            if call is not stage.calls[-1]:
                picture.words(18, y + 6, "barrier", "quiet")
                y += 18
    picture.words(18, y + 8, "the caller wraps the outputs as numpy arrays", "quiet")
    return picture.text(y + 22)
