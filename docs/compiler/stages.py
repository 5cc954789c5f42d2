"""What the compiler makes of an example at each stage, for one fixed target: the same on every machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from docs.compiler.examples import Example
from sardonyx.base.options import CompileOptions
from sardonyx.codegen import features
from sardonyx.expr import require
from sardonyx.expr.tensor import Tensor
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.host_operators import is_host_node
from sardonyx.graph.load import LoadOptions, load
from sardonyx.graph.partition import extract, partition
from sardonyx.graph.passes import PIPELINE
from sardonyx.loop.nodes import Kernel
from sardonyx.lower import lowered
from sardonyx.lower.importer import Imported, import_graph
from sardonyx.lower.lowered import Lowered
from sardonyx.lower.schedule import Call, calls
from sardonyx.lower.values import Value
from sardonyx.providers import registry
from sardonyx.providers.assemble import Assembly, assemble
from sardonyx.providers.cpu import machine_for
from sardonyx.session.pipeline import ask

OPTIONS = CompileOptions(target="avx2", winograd=True)
TARGET = features.select(OPTIONS.target)
MACHINE = machine_for(TARGET, OPTIONS)


@dataclass(frozen=True)
class GraphNode:
    """A node as it stood at some moment: its operator, what it reads and gives."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class GraphStages:
    """before, after: the nodes around the passes. passes: (number, name, whether it changed anything). parts: nodes of each part, in the
    order in which they run; on_host: does Python run it? compiled: the graph of the part that is compiled."""

    before: list[GraphNode]
    passes: list[tuple[int, str, bool]]
    after: list[GraphNode]
    parts: list[list[GraphNode]]
    on_host: list[bool]
    compiled: ir.Graph


@dataclass(frozen=True)
class Compiled:
    """A graph's way through lowering: the tensors, all values once they are placed, and the program."""

    imported: Imported
    values: dict[Tensor, Value]
    program: Lowered
    assembly: Assembly

    @property
    def calls(self) -> list[Call]:
        return [c for segment in self.program.segments for c in calls(segment.steps)]


def nodes_of(graph: Iterable[ir.Node]) -> list[GraphNode]:
    return [
        GraphNode(
            node.name or "",
            node.op_type,
            tuple(str(v.name) for v in node.inputs if v is not None),
            tuple(str(v.name) for v in node.outputs),
        )
        for node in graph
    ]


def graph_stages(example: Example) -> GraphStages:
    """Loads, optimises and divides the example's graph."""
    providers = [registry.create(name, {}) for name in (registry.CPU, registry.REFERENCE)]

    def knows(domain: str, name: str) -> bool:
        return any(provider.knows(domain, name) for provider in providers)

    model = load(example.model().SerializeToString(), LoadOptions(knows=knows))
    before = nodes_of(model.graph)
    passes = [(number, p.name, p.run(model)) for number, p in enumerate(PIPELINE, 1)]
    after = nodes_of(model.graph)
    parts = partition(model.graph, list(ask(model.graph, providers, OPTIONS).values()))
    named = [nodes_of(part.nodes) for part in parts]
    pieces = extract(model.graph, parts)
    on_host = [all(is_host_node(node, piece.opset_imports) for node in piece) for piece in pieces]
    (compiled,) = (piece for piece, host in zip(pieces, on_host, strict=True) if not host)
    return GraphStages(before, passes, after, named, on_host, compiled)


def compiled(graph: ir.Graph) -> Compiled:
    """Lowers a graph that is compiled as a whole."""
    with require.collect() as requirements:
        imported = import_graph(graph, graph.opset_imports)
    graph = lowered.whole_graph(imported.inputs, imported.outputs, MACHINE)
    for step in lowered.VALUES:
        step.run(graph)
    part = lowered.program_part(graph, lambda kernel: None)
    for rest in lowered.PROGRAM:
        rest.run(part)
    program = part.lowered()
    return Compiled(imported, {**graph.values, **part.values}, program, assemble(program, requirements))


class Names:
    """Short names for tensors: that of their node; where a node gives several, they are numbered in the order in which they are computed."""

    def __init__(self, stage: Compiled) -> None:
        made = list(dict.fromkeys(t.name.partition(".")[0] for t in sorted(stage.values, key=lambda t: t.id)))
        nodes = [name.partition("#")[0] for name in made]
        self.known: dict[str, str] = {}
        for i, name in enumerate(made):
            alone = nodes.count(nodes[i]) == 1
            self.known[name] = nodes[i] if alone else f"{nodes[i]}{nodes[: i + 1].count(nodes[i])}"

    def of(self, t: Tensor) -> str:
        base, dot, rest = t.name.partition(".")
        return self.known.get(base, base) + dot + rest

    def text(self, words: str) -> str:
        """words with the names of tensors in them shortened."""
        names = sorted(self.known, key=len, reverse=True)
        return re.sub("|".join(map(re.escape, names)), lambda m: self.known[m[0]], words) if names else words


def buffer_names(kernel: Kernel, call: Call, stage: Compiled, names: Names) -> dict[str, str]:
    """{name in the kernel: the tensor's} of a kernel's arguments and scratch."""
    found = {b.name: names.of(t).replace(".", "_") for b, t in zip(kernel.buffers, call.arguments, strict=True)}
    nest = next(n for n in stage.program.nests if set(call.writes) & {v.tensor for v in n.statements})
    scratch = [v for v in nest.members if not v.stored]
    found.update((f"s{i}", names.of(v.tensor).replace(".", "_")) for i, v in enumerate(scratch))
    sums = [v for v in nest.statements if v.tile is not None]
    found.update((f"sums{v.id}", names.of(v.tile.tensor).replace(".", "_")) for v in sums if v.tile is not None)
    return found
