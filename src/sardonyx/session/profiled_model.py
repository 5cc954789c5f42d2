"""What a profile must know of a model: its nodes as they are in the file, an estimate of each node's work, and sizes of its values.

A kernel computes several nodes, and nodes of the file are rewritten before kernels are made. `ProfiledModel.calls_of` says which
calls of kernels a node takes part in:

    1. those that name the optimised node which computes one of its outputs
    2. else none, if all its inputs are constants: it was computed when the model was loaded
    3. else those of the nodes that read its outputs, into which it was fused
    4. else those of the nodes that compute its inputs: a view of an output of the model, for example
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct, field

from sardonyx.base.dtypes import BY_CODE
from sardonyx.base.errors import SardonyxError
from sardonyx.base.symbolic import Defined, Dim, Symbol, evaluate, product, substitute, symbols
from sardonyx.expr.tensor import Read, Tensor, operands
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.records import node_name
from sardonyx.loop.nodes import Expr, Op, walk
from sardonyx.lower.importer import dimension
from sardonyx.lower.values import operations
from sardonyx.providers.claims import claim

Sizes = Mapping[str, int]  # symbolic sizes of a run, by name


class ProfiledValue(Struct, frozen=True):
    """A value: ONNX's name of its element type ("" if it is no tensor of numbers), bytes of an element, its shape (None if unknown)."""

    element_type: str = ""
    item_bytes: int = 0
    shape: tuple[Dim, ...] | None = None
    weight: bool = False

    def sizes(self, known: Sizes) -> list[int] | None:
        """Return the shape in a run; None if data decide it, or if it is unknown."""
        found = [number(n, known) for n in self.shape] if self.shape is not None else [None]
        return None if None in found else [n for n in found if n is not None]

    def bytes(self, known: Sizes) -> int:
        """Return the bytes of the value in a run; 0 if its shape is unknown."""
        sizes = self.sizes(known)
        return 0 if sizes is None else math.prod(sizes) * self.item_bytes


class ProfiledNode(Struct, frozen=True):
    """A node of the model's file. work: an estimate of the time of its operations, loads and all, in operations. flops: an estimate of
    how many numbers it computes. Both are None if there are none.

    constant: are all its inputs constants?
    """

    index: int
    name: str
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    work: Dim | None
    flops: Dim | None
    constant: bool

    def operations(self, known: Sizes) -> int:
        """Estimate the operations of the node in a run; 0 if they are unknown."""
        return (number(self.work, known) or 0) if self.work is not None else 0

    def flops_in(self, known: Sizes) -> int:
        """Estimate the numbers that the node computes in a run; 0 if that is unknown."""
        return (number(self.flops, known) or 0) if self.flops is not None else 0


class ProfiledModel(Struct):
    """A model's nodes in their order, those of bodies included, and its values by name.

    inputs: {name: its axes' sizes}. computed_by: {value: name of the optimised node that computes it}.
    """

    nodes: list[ProfiledNode]
    values: dict[str, ProfiledValue]
    inputs: dict[str, list[Dim]]
    computed_by: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: ir.Graph) -> ProfiledModel:
        """Describe a graph as it was loaded."""
        tensors = imported(graph)
        values: dict[str, ProfiledValue] = {}
        nodes: list[ProfiledNode] = []
        known = {v.name for v in all_weights(graph)}
        for index, node in enumerate(graph.all_nodes()):
            inputs, outputs = (tuple(v.name for v in side if v is not None and v.name) for side in (node.inputs, node.outputs))
            for v in (*node.inputs, *node.outputs):
                if v is not None and v.name and v.name not in values:
                    values[v.name] = profiled_value(v, tensors.get(v))
            constant = known.issuperset(inputs) and bool(inputs)
            if constant:
                known.update(outputs)
            work, flops = (work_of(node, tensors, count) for count in (operations, arithmetic))
            nodes.append(ProfiledNode(index, node_name(node), node.op_type, node.domain, inputs, outputs, work, flops, constant))
        sizes = {str(v.name): list(tensors[v].shape if v in tensors else declared_shape(v) or ()) for v in graph.inputs}
        return cls(nodes, values, sizes)

    def record_optimised(self, graph: ir.Graph) -> None:
        """Record which nodes compute which values after the passes; of a variant of the session, values that others lack."""
        found = {v.name: node_name(node) for node in graph.all_nodes() for v in node.outputs if v.name}
        self.computed_by = {**found, **self.computed_by}

    def sizes_in(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """Return the symbolic sizes of a run. shapes: of its inputs, by name."""
        found: dict[str, int] = {}
        for name, axes in self.inputs.items():
            for n, size in zip(axes, shapes.get(name, ()), strict=False):
                for s in symbols(n):
                    found.setdefault(s.name, size)
        return found

    def calls_of(self, named: Iterable[str]) -> list[tuple[str, ...]]:
        """Return for each node the names under which calls of kernels compute it; see above. named: names that calls have."""
        there = set(named)
        found: list[tuple[str, ...]] = [()] * len(self.nodes)
        for node in self.nodes:
            own = dict.fromkeys(self.computed_by.get(name, "") for name in node.outputs)
            found[node.index] = tuple(name for name in own if name in there)
        open_nodes = [node for node in self.nodes if not found[node.index] and not node.constant]
        readers = neighbours(self.nodes, lambda node: node.inputs)
        for node in reversed(open_nodes):  # a reader comes after what it reads
            found[node.index] = joined(found[i] for name in node.outputs for i in readers.get(name, ()))
        makers = neighbours(self.nodes, lambda node: node.outputs)
        for node in open_nodes:
            if not found[node.index]:
                found[node.index] = joined(found[i] for name in node.inputs for i in makers.get(name, ()))
        return found


def neighbours(nodes: Iterable[ProfiledNode], names: Callable[[ProfiledNode], Iterable[str]]) -> dict[str, list[int]]:
    """Return {value: indices of the nodes that have it among `names`}."""
    found: dict[str, list[int]] = {}
    for node in nodes:
        for name in names(node):
            found.setdefault(name, []).append(node.index)
    return found


def joined(groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the names of all groups, each once."""
    return tuple(dict.fromkeys(name for group in groups for name in group))


# ---- sizes and work -----------------------------------------------------------------------------------------------------------


def imported(graph: ir.Graph) -> dict[ir.Value, Tensor]:
    """Return the tensor expressions of the graph's values; none if the graph can't be imported before it is optimised."""
    with contextlib.suppress(SardonyxError):
        return claim(graph).made
    return {}


def all_weights(graph: ir.Graph) -> Iterator[ir.Value]:
    """Yield the initializers that no caller may override, those of bodies included."""
    for inner in (graph, *graph.subgraphs()):
        yield from (v for v in inner.initializers.values() if not v.is_graph_input())


def profiled_value(v: ir.Value, tensor: Tensor | None) -> ProfiledValue:
    """Describe a value by its tensor, else by what its inferred type says."""
    weight = v.is_initializer() and not v.is_graph_input()
    if tensor is not None:
        return ProfiledValue(tensor.dtype.onnx_name, tensor.dtype.itemsize, tensor.shape, weight)
    dtype = BY_CODE.get(int(v.dtype)) if v.dtype is not None and isinstance(v.type, ir.TensorType) else None
    if dtype is None:
        return ProfiledValue()
    return ProfiledValue(dtype.onnx_name, dtype.itemsize if dtype.is_number else 0, declared_shape(v), weight)


def declared_shape(v: ir.Value) -> tuple[Dim, ...] | None:
    """Return the shape that a value's type says; None if it says none."""
    return None if v.shape is None else tuple(dimension(d, f"{v.name}.{i}") for i, d in enumerate(v.shape))


def work_of(node: ir.Node, tensors: Mapping[ir.Value, Tensor], count: Callable[[Expr], int]) -> Dim | None:
    """Estimate the operations of a node by the tensors that its outputs are computed from; None if there are none.

    count: counts the operations of an expression.
    """
    given = {tensors[v] for v in node.inputs if v is not None and v in tensors}
    waiting = [tensors[v] for v in node.outputs if v in tensors]
    if not waiting:
        return None
    seen = {*given}
    total: Dim = 0
    while waiting:
        t = waiting.pop()
        if t in seen or t.origin != node_name(node):
            continue
        seen.add(t)
        total = total + tensor_work(t, count)
        waiting += operands(t)
    return total


def arithmetic(body: Expr) -> int:
    """Count the operations on numbers of an expression: neither loads nor conditions nor indices."""
    return sum(1 for n in walk(body) if isinstance(n, Op) and (n.dtype.is_float or n.dtype == body.dtype))


def tensor_work(t: Tensor, count: Callable[[Expr], int]) -> Dim:
    """Estimate the operations of one tensor: those of its body, and one to combine each term of a reduction. A view has none."""
    if t.call is not None:
        return t.call.work if t.call.work is not None else sum((product(x.shape) for x in t.call.inputs), start=product(t.shape))
    if t.body is None:
        return 0
    each = (0 if isinstance(t.body, Read) else count(t.body)) + bool(t.loops)
    elements = product([*t.shape, *(s.extent for s in t.loops if s.extent is not None)])
    while outer := {s: s.extent for s in symbols(elements) if s.extent is not None}:
        elements = substitute(elements, outer)
    return elements * each


def number(d: Dim, known: Sizes) -> int | None:
    """Return a size's number in a run; None if data decide it."""

    def size(s: Symbol) -> int:
        return evaluate(s.definition, size) if isinstance(s, Defined) else known[s.name]

    try:
        return int(evaluate(d, size))
    except (LookupError, ArithmeticError):
        return None
