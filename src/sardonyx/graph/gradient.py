"""Expansion of Gradient nodes (ai.onnx.preview.training) into nodes of plain operators when a model is loaded.

Gradient(xs, zs, y) names values of its graph: the graph's nodes compute y from xs and zs. The outputs of the node are the
derivatives of the sum of y's elements with respect to each of xs, at the values that the node's inputs give for xs and zs.

1. The nodes between xs, zs and y are copied where the Gradient node's inputs differ from the values that xs and zs name.
2. The nodes are visited backwards. Each adds to the adjoints of its inputs what its rule in `derivatives.RULES` returns.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import onnx_ir as ir

from sardonyx import ops
from sardonyx.base import errors
from sardonyx.base.errors import Fail
from sardonyx.graph.derivatives import CONSTANT, RULES, Contributions, DerivativeBuilder
from sardonyx.graph.inference import infer
from sardonyx.ops.registered import GRADIENT

Rule: TypeAlias = Callable[[DerivativeBuilder], Contributions]

DOMAIN = "ai.onnx.preview.training"
OLDEST_OPSET = 9  # the first opset that has all operators which derivatives use


def expand_gradients(model: ir.Model) -> bool:
    """Replace the graph's Gradient nodes, and infer types and shapes anew. Returns whether there were any.

    Afterwards nodes may be out of order. Raises Fail for missing names and for Gradient nodes that depend on each other in a cycle,
    NotImplemented, with the node's name, where an operator has no derivative here.
    """
    waiting = [node for node in model.graph if is_gradient(node)]
    found = bool(waiting)
    while waiting:
        ready = next((node for node in waiting if not any(map(is_gradient, between(model.graph, node)))), None)
        if ready is None:
            raise Fail(f"This is an invalid model. {title(waiting[0])} is computed from its own outputs.")
        waiting.remove(ready)
        expand(model, ready)
    return found


def is_gradient(node: ir.Node) -> bool:
    return (node.domain, node.op_type) == (DOMAIN, "Gradient")


def title(node: ir.Node) -> str:
    """Return how errors name a Gradient node."""
    return f"Gradient node '{node.name}'"


def expand(model: ir.Model, node: ir.Node) -> None:
    """Replace one Gradient node."""
    graph = model.graph
    if model.opset_imports[""] < OLDEST_OPSET:
        raise errors.NotImplemented(
            f"{title(node)} is in a model of opset {model.opset_imports['']}, but needs opset {OLDEST_OPSET}."
        )
    xs, zs, y = sources(graph, node)
    path = between(graph, node)
    at: dict[ir.Value, ir.Value] = dict(zip((*xs, *zs), node.inputs, strict=True))  # type: ignore[arg-type]
    copy_path(graph, path, at)
    infer(model)
    adjoints = walk_back(DerivativeBuilder(graph, model.opset_imports[""]), node, path, xs, y, at)
    for output, gradient in zip(node.outputs, adjoints, strict=False):
        if output.name:
            take_over(graph, output, gradient)
    graph.remove(node, safe=True)
    infer(model)


def sources(graph: ir.Graph, node: ir.Node) -> tuple[list[ir.Value], list[ir.Value], ir.Value]:
    """Return the values that xs, zs and y name. Raises Fail for missing names and wrong numbers of inputs or outputs."""
    values = {v.name: v for v in (*graph.inputs, *graph.initializers.values(), *(v for n in graph for v in n.outputs))}

    def named(names: Sequence[str]) -> list[ir.Value]:
        if missing := [name for name in names if name not in values]:
            raise Fail(f"This is an invalid model. {title(node)}: there is no value {missing[0]}.")
        return [values[name] for name in names]

    xs, zs = (named(node.attributes[a].as_strings() if a in node.attributes else ()) for a in ("xs", "zs"))
    if len(node.inputs) != len(xs) + len(zs) or None in node.inputs or len(node.outputs) > len(xs):
        raise Fail(f"This is an invalid model. {title(node)} has {len(node.inputs)} inputs for {len(xs)} xs and {len(zs)} zs.")
    return xs, zs, named([node.attributes["y"].as_string()])[0]


def between(graph: ir.Graph, node: ir.Node) -> list[ir.Node]:
    """Return the nodes that compute y from xs and zs, in order."""
    xs, zs, y = sources(graph, node)
    needed: set[ir.Node] = set()
    waiting, seen = [y], {*xs, *zs}
    while waiting:
        value = waiting.pop()
        producer = None if value in seen else value.producer()
        seen.add(value)
        if producer is not None and producer not in needed:
            needed.add(producer)
            waiting.extend(v for v in producer.inputs if v is not None)
    return [n for n in graph if n in needed]


def copy_path(graph: ir.Graph, path: Sequence[ir.Node], at: dict[ir.Value, ir.Value]) -> None:
    """Copy the nodes that read a value which `at` replaces, and add their outputs to `at`. Raises NotImplemented for nodes with
    bodies.
    """
    fresh = unused_names(graph)
    for node in path:
        inputs = [v if v is None else at.get(v, v) for v in node.inputs]
        if inputs == list(node.inputs):
            continue
        if any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
            raise errors.NotImplemented(
                f"There is no derivative at other values of {node.op_type} node '{node.name}', because it has bodies."
            )
        copy = ir.Node(node.domain, node.op_type, inputs, node.attributes.values(), num_outputs=len(node.outputs), name=node.name)
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.name = next(fresh) if old.name else ""
            at[old] = new
        graph.append(copy)


def unused_names(graph: ir.Graph) -> Iterator[str]:
    """Yield names that no value of the graph or of its bodies has."""
    taken = {v.name for g in (graph, *graph.subgraphs()) for v in (*g.inputs, *g.initializers.values())}
    taken |= {v.name for node in ir.traversal.RecursiveGraphIterator(graph) for v in node.outputs}
    return (name for name in (f"gradient_{i}" for i in itertools.count()) if name not in taken)


def walk_back(
    builder: DerivativeBuilder,
    node: ir.Node,
    path: Sequence[ir.Node],
    xs: Sequence[ir.Value],
    y: ir.Value,
    at: Mapping[ir.Value, ir.Value],
) -> list[ir.Value]:
    """Return the gradients of y with respect to xs. path: the nodes of the model; at: replacements of their values"""
    builder.names = unused_names(builder.graph)
    moving = depending(path, xs)
    adjoints = {y: builder.filled(1, at.get(y, y))} if y in moving else {}
    for inner in reversed(path):
        reached = [v for v in inner.outputs if v in adjoints]
        if inner.op_type in CONSTANT or not reached or not moving.intersection(filter(None, inner.inputs)):
            continue
        rule = rule_for(inner, builder.graph.opset_imports) if reached == [inner.outputs[0]] else None
        if rule is None:
            raise errors.NotImplemented(f"{title(node)}: there is no derivative of {inner.op_type} node '{inner.name}'.")
        wanted = [v is not None and v in moving for v in inner.inputs]
        inputs = [v if v is None else at.get(v, v) for v in inner.inputs]
        output = at.get(inner.outputs[0], inner.outputs[0])
        for value, share in zip(
            inner.inputs, builder.contributions(rule, inner, inputs, output, adjoints[inner.outputs[0]], wanted), strict=True
        ):
            if value is not None and share is not None:
                adjoints[value] = builder("Add", adjoints[value], share) if value in adjoints else share
    return [adjoints[x] if x in adjoints else builder.filled(0, at.get(x, x)) for x in xs]


def rule_for(node: ir.Node, imports: Mapping[str, int]) -> Rule | None:
    """Return the rule by which a node is differentiated; None if it has none. Custom operators bring theirs."""
    if node.domain == "":
        return RULES.get(node.op_type)
    op = ops.find(node.domain, node.op_type, imports.get(node.domain, 0))
    return None if op is None or op.signature is None or not callable(op.gradient) else functools.partial(of_custom, node)


def of_custom(node: ir.Node, b: DerivativeBuilder) -> Contributions:
    """Append the node of the operator that computes a custom operator's contributions, and return its outputs."""
    inputs = [b.g, *b.inputs]
    made = ir.Node(node.domain, node.op_type + GRADIENT, inputs, node.attributes.values(), num_outputs=len(b.inputs))
    for output in made.outputs:
        output.name = next(b.names)
    b.graph.append(made)
    return made.outputs


def depending(path: Sequence[ir.Node], xs: Sequence[ir.Value]) -> set[ir.Value]:
    """Return xs and all values that depend on them differentiably."""
    moving = set(xs)
    for node in path:
        if node.op_type not in CONSTANT and not moving.isdisjoint(filter(None, node.inputs)):
            moving.update(node.outputs)
    return moving


def take_over(graph: ir.Graph, output: ir.Value, gradient: ir.Value) -> None:
    """Make all uses of the Gradient node's output use the gradient instead, under the output's name."""
    node = ir.Node("", "Identity", [gradient], num_outputs=1)
    node.outputs[0].name, output.name = output.name, None
    output.replace_all_uses_with(node.outputs[0], replace_graph_outputs=True)
    node.outputs[0].type, node.outputs[0].shape = output.type, output.shape
    graph.append(node)
