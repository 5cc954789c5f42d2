"""Runs a graph node by node. A graph is prepared once (each node's kernel chosen, each value given a slot), then run many times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from sardonyx.base.context import EXPIRED, QUIET, TERMINATED, RunContext
from sardonyx.base.errors import Fail, InvalidArgument, SardonyxError, running
from sardonyx.graph.constants import array_of
from sardonyx.graph.partition import captured_values
from sardonyx.graph.reference.control import Body, Kernel
from sardonyx.graph.reference.kernels import kernel_for
from sardonyx.graph.types import tensor_dtype

# What numpy and onnx.reference raise when they are handed something that doesn't fit.
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
_NOTHING = 0  # the slot of inputs that are left out


@dataclass(frozen=True, slots=True)
class Step:
    """One node: its kernel, and the slots that it reads, writes and is the last to read. `dtypes` are those its outputs must have."""

    node: ir.Node
    kernel: Kernel
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    dtypes: tuple[np.dtype[Any] | None, ...]
    done_with: tuple[int, ...]


class Interpreter:
    """A graph, ready to run.

    `captured` are the values of outer graphs that it reads; `run` takes them after the graph's inputs.
    make_body: prepares the graphs in nodes' attributes; without it they are interpreted too.
    Raises Unsupported if a node has no kernel.
    """

    def __init__(self, graph: ir.Graph, imports: Mapping[str, int], make_body: MakeBody | None = None) -> None:
        self.captured = captured_values(graph)
        self._make_body = make_body or Interpreter
        self._slots: dict[ir.Value, int] = {}
        self._constants: dict[int, np.ndarray[Any, Any]] = {}
        inputs = {id(value) for value in graph.inputs}
        for value in graph.initializers.values():
            if id(value) not in inputs and value.const_value is not None:
                self._constants[self._slot(value)] = array_of(value.const_value)
        self._inputs = tuple(self._slot(value) for value in (*graph.inputs, *self.captured))
        steps = [self._step(node, imports) for node in graph]
        self._outputs = tuple(self._slot(value) for value in graph.outputs)
        self._steps = self._with_lifetimes(steps)

    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        """The graph's outputs. Raises Fail or InvalidArgument that names the node, and Fail if the context asks for an end."""
        values: list[Any] = [None] * (len(self._slots) + 1)
        for slot, constant in self._constants.items():
            values[slot] = constant
        for slot, value in zip(self._inputs, inputs, strict=True):
            values[slot] = value
        for step in self._steps:
            context.check()
            start = time.perf_counter_ns() if context.trace else 0
            results = run_step(step, [values[slot] for slot in step.inputs], context)
            if context.trace:
                context.trace.record("Node", f"{step.node.name}_kernel_time", start, op_name=step.node.op_type)
            for slot, result in zip(step.outputs, results, strict=False):
                values[slot] = result
            for slot in step.done_with:
                values[slot] = None
        return [values[slot] for slot in self._outputs]

    def _slot(self, value: ir.Value) -> int:
        return self._slots.setdefault(value, len(self._slots) + 1)

    def _step(self, node: ir.Node, imports: Mapping[str, int]) -> Step:
        inner = {name: self._make_body(graph, imports) for name, graph in graph_attributes(node).items()}
        inputs = [_NOTHING if value is None else self._slot(value) for value in node.inputs]
        inputs += [self._slot(value) for body in inner.values() for value in body.captured]
        return Step(
            node=node,
            kernel=make_kernel(node, imports, inner),
            inputs=tuple(inputs),
            outputs=tuple(self._slot(value) for value in node.outputs),
            dtypes=tuple(tensor_dtype(value) for value in node.outputs),
            done_with=(),
        )

    def _with_lifetimes(self, steps: list[Step]) -> list[Step]:
        """The steps, each told which slots nobody reads after it."""
        kept = {_NOTHING, *self._outputs, *self._constants}
        out: list[Step] = []
        for step in reversed(steps):
            last = {slot for slot in (*step.inputs, *step.outputs) if slot not in kept}
            kept |= last
            out.append(Step(step.node, step.kernel, step.inputs, step.outputs, step.dtypes, tuple(last)))
        return out[::-1]


def make_kernel(node: ir.Node, imports: Mapping[str, int], bodies: Mapping[str, Body]) -> Kernel:
    """The node's kernel. Raises Fail, naming the node, if its attributes don't make sense."""
    try:
        return kernel_for(node, imports, bodies, Interpreter)
    except KERNEL_ERRORS as error:
        raise Fail(f"Node ({node.name}) Op ({node.op_type}) {describe(error)}") from error


def graph_attributes(node: ir.Node) -> dict[str, ir.Graph]:
    """{attribute: graph} for a node with bodies."""
    return {n: a.as_graph() for n, a in node.attributes.items() if a.type == ir.AttributeType.GRAPH}


def run_step(step: Step, inputs: list[Any], context: RunContext) -> list[Any]:
    """The node's outputs, with the types they are known to have."""
    try:
        with np.errstate(all="ignore"):  # an operator's NaN or overflow is a result, nothing to warn of
            results = step.kernel(inputs, context)
    except SardonyxError as error:
        if error.detail in (TERMINATED, EXPIRED):
            raise
        raise type(error)(failure(step.node, error.detail)) from error
    except IndexError as error:
        raise InvalidArgument(failure(step.node, str(error))) from error
    except KERNEL_ERRORS as error:
        raise Fail(failure(step.node, f"{describe(error)} (inputs: {', '.join(map(describe_input, inputs))})")) from error
    return [conform(result, dtype) for result, dtype in zip(results, step.dtypes, strict=False)]


def conform(result: Any, dtype: np.dtype[Any] | None) -> Any:
    """The result with the element type that it must have."""
    if dtype is None or not isinstance(result, np.ndarray | np.generic):
        return result
    array = np.asarray(result)
    return array if array.dtype == dtype else array.astype(dtype)


def failure(node: ir.Node, reason: str) -> str:
    return running(f"{node.op_type} node '{node.name}'", reason)


def describe(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    cause = error.__cause__
    return f"{text}: {cause}" if cause is not None else text


def describe_input(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return "nothing" if value is None else type(value).__name__
