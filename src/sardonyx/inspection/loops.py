"""The loops of a model's kernels as text. The model is loaded, optimised and lowered; no machine code is generated."""

from __future__ import annotations

import os
from collections.abc import Iterator

from sardonyx.base.options import CompileOptions
from sardonyx.codegen import features
from sardonyx.expr import require
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.host_operators import is_host_node
from sardonyx.graph.load import LoadOptions, load
from sardonyx.graph.partition import extract, partition
from sardonyx.graph.passes import optimise
from sardonyx.loop.nodes import Kernel
from sardonyx.loop.printer import text
from sardonyx.lower.importer import import_graph
from sardonyx.lower.lowered import Lowered, lower
from sardonyx.lower.schedule import calls
from sardonyx.providers import registry
from sardonyx.providers.cpu import machine_for
from sardonyx.session.pipeline import ask


def loops(source: str | os.PathLike[str] | bytes, options: CompileOptions, prefix: str = "") -> Iterator[str]:
    """Yield the text of each kernel whose name, or the name of a node that it computes, begins with `prefix`. Raises SardonyxError."""
    for program in lowered_parts(source, options):
        for kernel, nodes in kernels_of(program):
            if any(name.startswith(prefix) for name in (kernel.name, *nodes)):
                yield f"{kernel.name} of {', '.join(nodes)}\n{text(kernel)}"


def lowered_parts(source: str | os.PathLike[str] | bytes, options: CompileOptions) -> list[Lowered]:
    """Lower the sub-graphs that the compiler claims, without the programs that prepare constants. Raises SardonyxError."""
    providers = [registry.create(name, {}) for name in (registry.CPU, registry.REFERENCE)]

    def knows(domain: str, name: str) -> bool:
        return any(provider.knows(domain, name) for provider in providers)

    model = load(source, LoadOptions(knows=knows))
    optimise(model, options, knows)
    asked = ask(model.graph, providers, options)
    parts = partition(model.graph, list(asked.values()))
    pieces = zip(parts, extract(model.graph, parts), strict=True)
    return [
        lowered_graph(piece, options)
        for part, piece in pieces
        if part.provider == 0 and not all(is_host_node(node, piece.opset_imports) for node in piece)
    ]  # provider 0 is the compiler


def lowered_graph(graph: ir.Graph, options: CompileOptions) -> Lowered:
    """Lower one sub-graph for the options' target."""
    target = features.select(options.target or None)
    with require.collect():
        imported = import_graph(graph, graph.opset_imports)
    return lower(imported.inputs, imported.outputs, machine_for(target, options))[0]


def kernels_of(program: Lowered) -> list[tuple[Kernel, list[str]]]:
    """Return each kernel with the nodes that it computes, in the order of first calls."""
    found: dict[str, dict[str, None]] = {}
    for segment in program.segments:
        for call in calls(segment.steps):
            found.setdefault(call.kernel.name, {}).update(dict.fromkeys(call.origins))
    return [(program.kernels[name], list(nodes)) for name, nodes in found.items()]
