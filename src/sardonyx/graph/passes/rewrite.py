"""What the passes share: properties of values, and replacement of one value by another."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sardonyx.graph.constants import shape_of


def is_constant(value: ir.Value | None) -> bool:
    """Return whether the value is an initializer that no caller can override."""
    return value is not None and value.is_initializer() and not value.is_graph_input() and value.const_value is not None


def tensor_of(value: ir.Value | None) -> ir.TensorProtocol | None:
    """Return the tensor of a constant value, else None."""
    return value.const_value if value is not None and is_constant(value) else None


def only_reader(value: ir.Value) -> ir.Node | None:
    """Return the node that uses the value if there is exactly one use, else None; a graph's output counts as a use.

    The node must be in the graph of the value: a node in a body may run many times, or not at all.
    """
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    reader = next(iter(uses)).node
    return reader if reader.graph is value.graph else None


def unused(values: Iterable[ir.Value]) -> bool:
    """Return whether none of the values is used."""
    return all(not value.uses() and not value.is_graph_output() for value in values)


def bypass(node: ir.Node, source: ir.Value) -> bool:
    """Make all uses of the node's first output use `source` instead, and remove the node. Returns whether that was possible.

    A graph's output can only be replaced by a value that a node of the same graph makes and that is no output itself; it then gets
    the output's name.
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
    """Return the names of all values of the graph and of its bodies."""
    found = {str(v.name) for g in (graph, *graph.subgraphs()) for v in (*g.inputs, *g.initializers.values())}
    return found | {str(v.name) for node in ir.traversal.RecursiveGraphIterator(graph) for v in node.outputs}


def add_constant(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """Add an initializer, whose name is made unique."""
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
    """Return a tensor that is computed when it is read. It has the element type of `like`, and its shape by default."""
    dtype = like.dtype

    def read() -> ir.TensorProtocol:
        return ir.Tensor(np.array(compute(), dtype.numpy(), order="C"), dtype)

    return ir.LazyTensor(read, dtype, shape if shape is not None else shape_of(like))


def float64(tensor: ir.TensorProtocol) -> npt.NDArray[np.float64]:
    """Return the tensor's numbers as f64."""
    return tensor.numpy().astype(np.float64)


def size_of(value: ir.Value, axis: int) -> int | None:
    """Return the size of an axis if it is known, else None."""
    if value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else None


def rank_of(value: ir.Value | None) -> int | None:
    """Return the rank of the value if it is known, else None."""
    return len(value.shape) if value is not None and value.shape is not None else None
