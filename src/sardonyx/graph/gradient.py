"""Gradient nodes (ai.onnx.preview.training) become nodes of plain operators when a model is loaded.

Gradient(xs, zs, y) names values of the graph that it stands in: y is computed from xs and zs by the graph's nodes, and the node's outputs
are the derivatives of the sum of y's elements with respect to each of xs, at the values that the node is given for xs and zs.

1. The nodes between xs, zs and y are copied where the node gives other values than those that xs and zs name.
2. They are walked through backwards: each adds to the adjoints of its inputs what its row in `derivatives.RULES` says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from sardonyx.base import errors
from sardonyx.base.errors import Fail
from sardonyx.graph.derivatives import CONSTANT, RULES, Step
from sardonyx.graph.inference import infer

DOMAIN = "ai.onnx.preview.training"
OLDEST_OPSET = 9  # has all the operators that derivatives are made of


def expand_gradients(model: ir.Model) -> bool:
    """Replaces the graph's Gradient nodes; types and shapes are inferred anew. Says whether there were any.

    The nodes are no longer in order. Raises Fail for names that are not there and for Gradients of one another, NotImplemented, naming
    the node, where an operator has no derivative here.
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
    return f"Gradient node '{node.name}'"


def expand(model: ir.Model, node: ir.Node) -> None:
    """Replaces one Gradient node."""
    graph = model.graph
    if model.opset_imports[""] < OLDEST_OPSET:
        raise errors.NotImplemented(f"{title(node)} in a model of opset {model.opset_imports['']}; it takes {OLDEST_OPSET}.")
    xs, zs, y = sources(graph, node)
    path = between(graph, node)
    at: dict[ir.Value, ir.Value] = dict(zip((*xs, *zs), node.inputs, strict=True))  # type: ignore[arg-type]
    copy_path(graph, path, at)
    infer(model)
    adjoints = walk_back(Step(graph, model.opset_imports[""]), node, path, xs, y, at)
    for output, gradient in zip(node.outputs, adjoints, strict=False):
        if output.name:
            take_over(graph, output, gradient)
    graph.remove(node, safe=True)
    infer(model)


def sources(graph: ir.Graph, node: ir.Node) -> tuple[list[ir.Value], list[ir.Value], ir.Value]:
    """The values that xs, zs and y name. Raises Fail for a name that is not there, or too many or few inputs or outputs."""
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
    """The nodes by which y is computed from xs and zs, in order."""
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
    """Copies the nodes that read a value which `at` replaces by another; their outputs are added to `at`. Raises NotImplemented for
    nodes with bodies."""
    fresh = unused_names(graph)
    for node in path:
        inputs = [v if v is None else at.get(v, v) for v in node.inputs]
        if inputs == list(node.inputs):
            continue
        if any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
            raise errors.NotImplemented(f"The derivative of {node.op_type} node '{node.name}', which has bodies, at other values.")
        copy = ir.Node(node.domain, node.op_type, inputs, node.attributes.values(), num_outputs=len(node.outputs), name=node.name)
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.name = next(fresh) if old.name else ""
            at[old] = new
        graph.append(copy)


def unused_names(graph: ir.Graph) -> Iterator[str]:
    """Names that no value of the graph has, nor of a body in it."""
    taken = {v.name for g in (graph, *graph.subgraphs()) for v in (*g.inputs, *g.initializers.values())}
    taken |= {v.name for node in ir.traversal.RecursiveGraphIterator(graph) for v in node.outputs}
    return (name for name in (f"gradient_{i}" for i in itertools.count()) if name not in taken)


def walk_back(
    step: Step, node: ir.Node, path: Sequence[ir.Node], xs: Sequence[ir.Value], y: ir.Value, at: Mapping[ir.Value, ir.Value]
) -> list[ir.Value]:
    """The gradients of y with respect to xs. path: as they stand in the model; at: what stands for their values."""
    step.names = unused_names(step.graph)
    moving = depending(path, xs)
    adjoints = {y: step.filled(1, at.get(y, y))} if y in moving else {}
    for inner in reversed(path):
        reached = [v for v in inner.outputs if v in adjoints]
        if inner.op_type in CONSTANT or not reached or not moving.intersection(filter(None, inner.inputs)):
            continue
        rule = RULES.get(inner.op_type) if inner.domain == "" and reached == [inner.outputs[0]] else None
        if rule is None:
            raise errors.NotImplemented(f"{title(node)}: there is no derivative of {inner.op_type} node '{inner.name}'.")
        wanted = [v is not None and v in moving for v in inner.inputs]
        inputs = [v if v is None else at.get(v, v) for v in inner.inputs]
        output = at.get(inner.outputs[0], inner.outputs[0])
        for value, share in zip(
            inner.inputs, step.shares(rule, inner, inputs, output, adjoints[inner.outputs[0]], wanted), strict=True
        ):
            if value is not None and share is not None:
                adjoints[value] = step("Add", adjoints[value], share) if value in adjoints else share
    return [adjoints[x] if x in adjoints else step.filled(0, at.get(x, x)) for x in xs]


def depending(path: Sequence[ir.Node], xs: Sequence[ir.Value]) -> set[ir.Value]:
    """xs, and the values that move with them."""
    moving = set(xs)
    for node in path:
        if node.op_type not in CONSTANT and not moving.isdisjoint(filter(None, node.inputs)):
            moving.update(node.outputs)
    return moving


def take_over(graph: ir.Graph, output: ir.Value, gradient: ir.Value) -> None:
    """Whoever reads the Gradient node's output reads the gradient, under the same name."""
    node = ir.Node("", "Identity", [gradient], num_outputs=1)
    node.outputs[0].name, output.name = output.name, None
    output.replace_all_uses_with(node.outputs[0], replace_graph_outputs=True)
    node.outputs[0].type, node.outputs[0].shape = output.type, output.shape
    graph.append(node)
