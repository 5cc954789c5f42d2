"""Shrinking of graphs. A campaign keeps the smaller forms that still show what was found."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import onnx
from onnx import helper

from fuzz.case_file import Packed
from fuzz.three_arithmetics import Array, Known, Undetermined, from_numpy
from sardonyx.base.errors import SardonyxError
from sardonyx.graph.reference.interpreter import KERNEL_ERRORS

UNUSED = "unused_"
Evaluate = Callable[[onnx.ModelProto, Mapping[str, Array]], Mapping[str, Known]]


def smaller(packed: Packed, evaluate: Evaluate) -> Iterator[bytes]:
    """Yield smaller forms, in this order: one output only; an earlier value as the only output; smaller bodies; a value fed instead
    of computed; one set of feeds; simpler settings.
    """
    found = itertools.chain(with_one_output(packed, evaluate), with_smaller_bodies(packed), with_a_value_fed(packed, evaluate))
    yield from (each.bytes() for each in found if weight(each) < weight(packed))
    if len(packed.feeds) > 1:
        for feeds in packed.feeds:
            yield replace(packed, feeds=[feeds]).bytes()
    for setting, plain in (("threads", 1), ("target", "host"), ("level", 0), ("winograd", False)):
        if getattr(packed.configuration, setting) != plain:
            yield packed.configured(**{setting: plain}).bytes()


def weight(packed: Packed) -> int:
    """Count nodes, including those of bodies, and outputs: smaller forms have fewer."""
    return len(packed.model.graph.output) + sum(map(nodes_of, packed.model.graph.node))


def nodes_of(node: onnx.NodeProto) -> int:
    bodies = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return 1 + sum(len(body.output) + sum(map(nodes_of, body.node)) for body in bodies)


def with_one_output(packed: Packed, evaluate: Evaluate) -> Iterator[Packed]:
    """Yield the graph up to one of its outputs, then up to any other value."""
    for output in packed.model.graph.output:
        yield only(packed, output.name, output.type.tensor_type.elem_type)
    values = evaluated(packed, evaluate)
    for name in written(packed, values):
        yield only(packed, name, values[0][name].dtype.code)


def with_a_value_fed(packed: Packed, evaluate: Evaluate) -> Iterator[Packed]:
    """Yield the graph with one computed value turned into an input."""
    values = evaluated(packed, evaluate)
    for name in reversed(written(packed, values)):
        if all(name != output.name for output in packed.model.graph.output):
            yield fed(packed, name, [v[name].native for v in values])


def written(packed: Packed, values: Sequence[Mapping[str, Known]]) -> list[str]:
    """Return the names of values that nodes write and that could be evaluated."""
    names = [name for node in packed.model.graph.node for name in node.output]
    return [name for name in names if name in values[0] and not name.startswith(UNUSED)]


def evaluated(packed: Packed, evaluate: Evaluate) -> Sequence[Mapping[str, Known]]:
    """Return every value for each set of feeds; empty if the graph can't be evaluated."""
    try:
        return [evaluate(packed.model, feeds) for feeds in packed.feeds]
    except (Undetermined, SardonyxError, *KERNEL_ERRORS):
        return [{}]


def only(packed: Packed, name: str, code: int) -> Packed:
    """Return the graph with this value as its only output."""
    model = onnx.ModelProto()
    model.CopyFrom(packed.model)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(name, code, None))
    return pruned(replace(packed, model=model))


def fed(packed: Packed, name: str, arrays: Sequence[Array]) -> Packed:
    """Return the graph with this value as an input."""
    model = onnx.ModelProto()
    model.CopyFrom(packed.model)
    for node in model.graph.node:
        if name in node.output:
            node.output[list(node.output).index(name)] = f"{UNUSED}{name}"
    fixed = [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*(a.shape for a in arrays), strict=True)]
    model.graph.input.append(helper.make_tensor_value_info(name, from_numpy(arrays[0].dtype).code, fixed))
    return pruned(replace(packed, model=model, feeds=[{**f, name: a} for f, a in zip(packed.feeds, arrays, strict=True)]))


def pruned(packed: Packed) -> Packed:
    """Return the graph without nodes, inputs and initializers that no output needs."""
    needed = prune(packed.model.graph)
    keep(packed.model.graph.input, needed)
    return replace(packed, feeds=[{name: x for name, x in feeds.items() if name in needed} for feeds in packed.feeds])


def with_smaller_bodies(packed: Packed) -> Iterator[Packed]:
    """Yield the graph with bodies that lack unneeded parts, then with one scan output less."""
    model = onnx.ModelProto()
    model.CopyFrom(packed.model)
    for node in model.graph.node:
        prune_bodies(node)
    if model != packed.model:
        yield pruned(replace(packed, model=model))
    for k, node in enumerate(packed.model.graph.node):
        last = node.output[-1] if node.output else ""
        states = {"Loop": len(node.input) - 2, "Scan": len(node.input) - 1}.get(node.op_type, 0)
        read = {name for other in packed.model.graph.node for name in names_in(other)} | {o.name for o in packed.model.graph.output}
        if node.op_type in ("Loop", "Scan") and len(node.output) > max(states, 1) and last not in read:
            model = onnx.ModelProto()
            model.CopyFrom(packed.model)
            del model.graph.node[k].output[-1]
            next(a.g for a in model.graph.node[k].attribute if a.name == "body").output.pop()
            yield replace(packed, model=model)


def prune_bodies(node: onnx.NodeProto) -> None:
    """Remove from the node's bodies what none of their outputs needs."""
    for body in (a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH):
        for inner in body.node:
            prune_bodies(inner)
        prune(body)


def prune(graph: onnx.GraphProto) -> set[str]:
    """Remove nodes and initializers that no output needs. Returns the names that are needed."""
    needed = {output.name for output in graph.output}
    for k in reversed(range(len(graph.node))):
        if needed.isdisjoint(graph.node[k].output):
            del graph.node[k]
        else:
            needed |= names_in(graph.node[k])
    keep(graph.initializer, needed)
    del graph.value_info[:]
    return needed


def keep(field: Any, names: set[str]) -> None:
    kept = [x for x in field if x.name in names]
    del field[:]
    field.extend(kept)


def names_in(node: onnx.NodeProto) -> set[str]:
    """Return the values that a node or its bodies read."""
    bodies = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    inner = [name for body in bodies for n in body.node for name in names_in(n)]
    return {*node.input, *inner, *(output.name for body in bodies for output in body.output)}
