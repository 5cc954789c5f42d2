"""Interpreter of graphs. A graph is prepared once: each node gets its kernel, each value a slot. Then it can run many times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from msgspec import Struct

from sardonyx.base.context import EXPIRED, QUIET, TERMINATED, RunContext
from sardonyx.base.errors import Fail, InvalidArgument, SardonyxError, running
from sardonyx.graph.constants import array_of
from sardonyx.graph.partition import captured_values
from sardonyx.graph.records import node_name
from sardonyx.graph.reference.control import Body, Kernel
from sardonyx.graph.reference.kernels import kernel_for
from sardonyx.graph.types import tensor_dtype

# Exceptions that numpy and onnx.reference raise for inputs that don't fit.
KERNEL_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
MakeBody: TypeAlias = Callable[[ir.Graph, Mapping[str, int]], Body]
"""Function that prepares a graph in a node's attribute."""
_NOTHING = 0  # the slot of absent inputs


REFERENCE = "ReferenceExecutionProvider"
"""The provider that interprets graphs, as profiles name it."""


class PreparedNode(Struct, frozen=True):
    """A node with its kernel, and the slots that it reads and writes. done_with: slots that no later node reads; dtypes: those that
    its outputs must have
    """

    node: ir.Node
    kernel: Kernel
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    dtypes: tuple[np.dtype[Any] | None, ...]
    done_with: tuple[int, ...]


class Interpreter:
    """A graph that is ready to run.

    captured: the values of outer graphs that it reads; `run` takes them after the graph's inputs.
    make_body: prepares the graphs in nodes' attributes; by default they are interpreted too.
    constant: makes of an initializer's array what kernels get.
    Raises Unsupported if a node has no kernel.
    """

    def __init__(
        self,
        graph: ir.Graph,
        imports: Mapping[str, int],
        make_body: MakeBody | None = None,
        constant: Callable[[np.ndarray[Any, Any]], Any] = lambda array: array,
    ) -> None:
        self.captured = captured_values(graph)
        self._make_body = make_body or Interpreter
        self._slots: dict[ir.Value, int] = {}
        self._constants: dict[int, Any] = {}
        inputs = {id(value) for value in graph.inputs}
        for value in graph.initializers.values():
            if id(value) not in inputs and value.const_value is not None:
                self._constants[self._slot(value)] = constant(array_of(value.const_value))
        self._inputs = tuple(self._slot(value) for value in (*graph.inputs, *self.captured))
        nodes = [self._prepared(node, imports) for node in graph]
        self._outputs = tuple(self._slot(value) for value in graph.outputs)
        self._nodes = self._with_lifetimes(nodes)

    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        """Return the graph's outputs. Raises Fail or InvalidArgument with the node's name, and Fail if the context asks to stop."""
        values: list[Any] = [None] * (len(self._slots) + 1)
        for slot, constant in self._constants.items():
            values[slot] = constant
        for slot, value in zip(self._inputs, inputs, strict=True):
            values[slot] = value
        for prepared in self._nodes:
            context.check()
            start = time.perf_counter_ns() if context.trace else 0
            results = run_node(prepared, [values[slot] for slot in prepared.inputs], context)
            if context.trace:
                context.trace.record_calls(REFERENCE, start, [((node_name(prepared.node),), 1)])
            for slot, result in zip(prepared.outputs, results, strict=False):
                values[slot] = result
            for slot in prepared.done_with:
                values[slot] = None
        return [values[slot] for slot in self._outputs]

    def _slot(self, value: ir.Value) -> int:
        return self._slots.setdefault(value, len(self._slots) + 1)

    def _prepared(self, node: ir.Node, imports: Mapping[str, int]) -> PreparedNode:
        inner = {name: self._make_body(graph, imports) for name, graph in graph_attributes(node).items()}
        inputs = [_NOTHING if value is None else self._slot(value) for value in node.inputs]
        inputs += [self._slot(value) for body in inner.values() for value in body.captured]
        return PreparedNode(
            node=node,
            kernel=make_kernel(node, imports, inner),
            inputs=tuple(inputs),
            outputs=tuple(self._slot(value) for value in node.outputs),
            dtypes=tuple(tensor_dtype(value) for value in node.outputs),
            done_with=(),
        )

    def _with_lifetimes(self, nodes: list[PreparedNode]) -> list[PreparedNode]:
        """Compute which slots each node is the last to read."""
        kept = {_NOTHING, *self._outputs, *self._constants}
        out: list[PreparedNode] = []
        for prepared in reversed(nodes):
            last = {slot for slot in (*prepared.inputs, *prepared.outputs) if slot not in kept}
            kept |= last
            out.append(
                PreparedNode(prepared.node, prepared.kernel, prepared.inputs, prepared.outputs, prepared.dtypes, tuple(last))
            )
        return out[::-1]


def make_kernel(node: ir.Node, imports: Mapping[str, int], bodies: Mapping[str, Body]) -> Kernel:
    """Return the node's kernel. Raises Fail, with the node's name, if its attributes are invalid."""
    try:
        return kernel_for(node, imports, bodies, Interpreter)
    except KERNEL_ERRORS as error:
        raise Fail(f"Node ({node.name}) Op ({node.op_type}) {describe(error)}") from error


def graph_attributes(node: ir.Node) -> dict[str, ir.Graph]:
    """Return {attribute: graph} of a node with bodies."""
    return {n: a.as_graph() for n, a in node.attributes.items() if a.type == ir.AttributeType.GRAPH}


def run_node(prepared: PreparedNode, inputs: list[Any], context: RunContext) -> list[Any]:
    """Run a node and return its outputs, converted to the types that they are known to have."""
    try:
        with np.errstate(all="ignore"):  # NaN and overflow are results of operators, not reasons for warnings
            results = prepared.kernel(inputs, context)
    except SardonyxError as error:
        if error.detail in (TERMINATED, EXPIRED):
            raise
        raise type(error)(failure(prepared.node, error.detail)) from error.__cause__ or error
    except IndexError as error:
        raise InvalidArgument(failure(prepared.node, str(error))) from error
    except KERNEL_ERRORS as error:
        raise Fail(failure(prepared.node, f"{describe(error)} (inputs: {', '.join(map(describe_input, inputs))})")) from error
    return [conform(result, dtype) for result, dtype in zip(results, prepared.dtypes, strict=False)]


def conform(result: Any, dtype: np.dtype[Any] | None) -> Any:
    """Convert the result to the element type that it must have."""
    if dtype is None or not isinstance(result, np.ndarray | np.generic):
        return result
    array = np.asarray(result)
    return array if array.dtype == dtype else array.astype(dtype)


def failure(node: ir.Node, reason: str) -> str:
    """Return the error's text for a node that failed."""
    return running(f"{node.op_type} node '{node.name}'", reason)


def describe(error: BaseException) -> str:
    """Return the error's text and that of its cause."""
    text = str(error) or type(error).__name__
    cause = error.__cause__
    return f"{text}: {cause}" if cause is not None else text


def describe_input(value: Any) -> str:
    """Return dtype and shape of an input, as errors show them."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return "nothing" if value is None else type(value).__name__
