"""What the passes share: questions about values, and replacing one by another."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sardonyx.graph.constants import shape_of


def is_constant(value: ir.Value | None) -> bool:
    """Is it an initializer that no caller can override?"""
    return value is not None and value.is_initializer() and not value.is_graph_input() and value.const_value is not None


def tensor_of(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of a constant value, else None."""
    return value.const_value if value is not None and is_constant(value) else None


def only_reader(value: ir.Value) -> ir.Node | None:
    """The node that alone reads the value, and once; None if others do, or if it is a graph's output.

    The node stands in the graph that the value is of: one in a body runs only when the body does, or many times.
    """
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    reader = next(iter(uses)).node
    return reader if reader.graph is value.graph else None


def unused(values: Iterable[ir.Value]) -> bool:
    """Does nobody read any of them?"""
    return all(not value.uses() and not value.is_graph_output() for value in values)


def bypass(node: ir.Node, source: ir.Value) -> bool:
    """Makes all who read the node's first output read `source` instead and removes the node. Says whether it could.

    A graph's output can only be taken over by a value that a node of the same graph makes and that is no output itself;
    it then takes the output's name.
    """
    output, graph = node.outputs[0], node.graph
    assert graph is not None
    if not unused(node.outputs[1:]):
        return False
    if output.is_graph_output():
        producer = source.producer()
        if producer is None or producer.graph is not graph or source.is_graph_output():
            return False
        name = output.name
        output.name = f"{name}_bypassed"
        source.name = name
    output.replace_all_uses_with(source, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    return True


def names(graph: ir.Graph) -> set[str]:
    """Of all values of the graph and of the bodies in it."""
    found = {str(v.name) for g in (graph, *graph.subgraphs()) for v in (*g.inputs, *g.initializers.values())}
    return found | {str(v.name) for node in ir.traversal.RecursiveGraphIterator(graph) for v in node.outputs}


def add_constant(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """A new initializer, whose name is made unique."""
    taken, unique, count = names(graph), name, 0
    while unique in taken:
        count += 1
        unique = f"{name}_{count}"
    tensor.name = unique
    value = ir.Value(name=unique, type=ir.TensorType(tensor.dtype), shape=shape_of(tensor), const_value=tensor)
    graph.register_initializer(value)
    return value


def computed(
    compute: Callable[[], npt.NDArray[np.generic]], like: ir.TensorProtocol, shape: ir.Shape | None = None
) -> ir.LazyTensor:
    """A tensor of the element type of `like` (and its shape by default) that is computed when it is read."""
    dtype = like.dtype

    def read() -> ir.TensorProtocol:
        return ir.Tensor(np.array(compute(), dtype.numpy(), order="C"), dtype)

    return ir.LazyTensor(read, dtype, shape if shape is not None else shape_of(like))


def float64(tensor: ir.TensorProtocol) -> npt.NDArray[np.float64]:
    """The tensor's numbers in double precision."""
    return tensor.numpy().astype(np.float64)


def size_of(value: ir.Value, axis: int) -> int | None:
    """The size of an axis, if it is known and fixed."""
    if value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else None


def rank_of(value: ir.Value | None) -> int | None:
    return len(value.shape) if value is not None and value.shape is not None else None
