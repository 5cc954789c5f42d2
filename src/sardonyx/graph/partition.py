"""Partition of a graph among providers, into sub-graphs that can run one after the other.

Providers are asked in order of preference. Of one provider's claims the largest is served first; each node goes to the first claim
that contains it. Then claims are divided so that sub-graphs don't depend on each other in a cycle: with

    level(node) = max over its producers p of level(p) + (0 if p belongs to the same claim else 1)

the nodes of one claim and one level form a sub-graph. Along every edge either the level grows or the sub-graph stays the same, so
there is no cycle. The time taken is linear in the size of the graph.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

import onnx_ir as ir
from msgspec import Struct

from sardonyx.base import errors
from sardonyx.graph.schemas import version_of
from sardonyx.graph.verify import subgraphs


class Part(Struct, frozen=True):
    """Nodes that the provider at index `provider` runs as one sub-graph."""

    provider: int
    nodes: tuple[ir.Node, ...]


def partition(graph: ir.Graph, claims: Sequence[Sequence[Sequence[ir.Node]]]) -> list[Part]:
    """Return the graph's parts in an order in which they can run.

    claims: for each provider, in order of preference, the groups of nodes that it claims. The graph's nodes must be sorted.
    Raises NotImplemented, with the node's name, if no provider claims it.
    """
    owner = assign(claims)
    levels: dict[ir.Node, int] = {}
    parts: dict[tuple[int, tuple[int, int]], list[ir.Node]] = {}
    for node in graph:
        if node not in owner:
            version = version_of(node, graph.opset_imports)
            raise errors.NotImplemented(
                f"Could not find an implementation for {node.op_type}({version}) node with name '{node.name}'"
            )
        claim = owner[node]
        before = [p for p in producers(node) if p in levels]
        levels[node] = max((levels[p] + (owner[p] != claim) for p in before), default=0)
        parts.setdefault((levels[node], claim), []).append(node)
    return [Part(claim[0], tuple(parts[level, claim])) for level, claim in sorted(parts)]


def assign(claims: Sequence[Sequence[Sequence[ir.Node]]]) -> dict[ir.Node, tuple[int, int]]:
    """Return {node: (provider, index of the claim)}."""
    owner: dict[ir.Node, tuple[int, int]] = {}
    for provider, groups in enumerate(claims):
        for index, group in enumerate(sorted(groups, key=len, reverse=True)):
            for node in group:
                owner.setdefault(node, (provider, index))
    return owner


def producers(node: ir.Node) -> Iterable[ir.Node]:
    """Yield the nodes whose outputs the node or its bodies read."""
    for value in read_values(node):
        producer = value.producer()
        if producer is not None:
            yield producer


def read_values(node: ir.Node) -> Iterable[ir.Value]:
    """Yield the values that the node or a node in its bodies reads, including those defined in the bodies."""
    yield from (value for value in node.inputs if value is not None)
    for graph in subgraphs(node):
        for inner in graph:
            yield from read_values(inner)


def captured_values(graph: ir.Graph) -> list[ir.Value]:
    """Return the values that the graph or its bodies read but none of them defines, in order of first use."""
    local = {*graph.inputs, *graph.initializers.values()}
    found: dict[ir.Value, None] = {}
    for node in graph:
        read = [value for value in node.inputs if value is not None]
        for inner in subgraphs(node):
            read += captured_values(inner)
        found.update((value, None) for value in read if value not in local)
        local.update(node.outputs)
    return list(found)


# ---- sub-graphs ----------------------------------------------------------------------------------------------------------


def extract(graph: ir.Graph, parts: Sequence[Part]) -> list[ir.Graph]:
    """Return a self-contained graph for each part. Nodes are moved there; `graph` keeps neither nodes nor outputs.

    Values keep their names. Inputs are in the order of the graph's inputs, then of first use; outputs in the order of the graph's
    outputs, then of definition. Initializers that a caller may override are inputs.
    """
    inputs = {value: index for index, value in enumerate(graph.inputs)}
    outputs = {value: index for index, value in reversed(list(enumerate(graph.outputs)))}
    graph.outputs.clear()
    home = {node: index for index, part in enumerate(parts) for node in part.nodes}
    reads = [outside_values(graph, part, home, index) for index, part in enumerate(parts)]
    passed_on = {value for values in reads for value in values}
    graph.remove(node for part in parts for node in part.nodes)
    return [move(graph, part, values, passed_on, inputs, outputs) for part, values in zip(parts, reads, strict=True)]


def outside_values(graph: ir.Graph, part: Part, home: Mapping[ir.Node, int], index: int) -> list[ir.Value]:
    """Return the values of the graph that the part reads but does not compute, in order of first use."""
    found: dict[ir.Value, None] = {}
    for node in part.nodes:
        for value in read_values(node):
            producer = value.producer()
            outside = home.get(producer, index) != index if producer is not None else value.graph is graph
            if outside:
                found[value] = None
    return list(found)


def move(
    graph: ir.Graph,
    part: Part,
    reads: Sequence[ir.Value],
    passed_on: Container[ir.Value],
    inputs: Mapping[ir.Value, int],
    outputs: Mapping[ir.Value, int],
) -> ir.Graph:
    """Make a graph of the part. inputs, outputs: the positions of values among those of the original graph"""
    copies = {value: copy_value(value) for value in reads}
    for node in part.nodes:
        redirect(node, copies)
    arguments = [value for value in reads if value in inputs or not value.is_initializer()]
    arguments.sort(key=lambda value: inputs.get(value, len(inputs)))
    results = [value for node in part.nodes for value in node.outputs if value in outputs or value in passed_on]
    results.sort(key=lambda value: outputs.get(value, len(outputs)))
    return ir.Graph(
        [copies[value] for value in arguments],
        results,
        nodes=part.nodes,
        initializers=[copies[value] for value in reads if value.is_initializer() and value not in inputs],
        opset_imports=dict(graph.opset_imports),
        name=graph.name,
    )


def copy_value(value: ir.Value) -> ir.Value:
    """Return a value with the same name, type and constant that belongs to no graph yet."""
    copy = ir.Value(name=value.name, type=value.type, shape=value.shape, const_value=value.const_value)
    copy.meta.update(value.meta)
    return copy


def redirect(node: ir.Node, copies: Mapping[ir.Value, ir.Value]) -> None:
    """Make the node and its bodies read the copies."""
    for index, value in enumerate(node.inputs):
        if value is not None and value in copies:
            node.replace_input_with(index, copies[value])
    for body in subgraphs(node):
        for inner in body:
            redirect(inner, copies)


# ---- bodies --------------------------------------------------------------------------------------------------------------


def constant_values(values: Iterable[ir.Value]) -> set[ir.Value]:
    """Return those of the values that are initializers which no caller may override."""
    return {value for value in values if value.is_initializer() and not value.is_graph_input()}


def detached(body: ir.Graph, captured: Sequence[ir.Value], constants: set[ir.Value], imports: Mapping[str, int]) -> ir.Graph:
    """Copy a body of a node, with captured values as further inputs, or as initializers if they are constants."""
    graph = body.clone(allow_outer_scope_values=True)
    copies = {value: copy_value(value) for value in captured}
    for node in graph:
        redirect(node, copies)
    for k, value in enumerate(graph.outputs):
        graph.outputs[k] = copies.get(value, value)
    for value, copy in copies.items():
        if value in constants:
            graph.register_initializer(copy)
        else:
            graph.inputs.append(copy)
    graph.opset_imports.update(imports)
    return graph
