"""If, Loop, Scan and SequenceMap: the operators whose attributes are graphs.

Each kernel gets the node's inputs, followed by the values that its bodies capture from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from sardonyx.base.context import RunContext
from sardonyx.base.errors import InvalidArgument

Kernel = Callable[[list[Any], RunContext], Sequence[Any]]


class Body(Protocol):
    """A graph that is ready to run."""

    @property
    def captured(self) -> list[ir.Value]: ...

    def run(self, inputs: Sequence[Any], context: RunContext) -> list[Any]: ...


def truth(value: Any, what: str) -> bool:
    """Convert a condition, a tensor of one element, to bool. Raises InvalidArgument for more elements."""
    array = np.asarray(value)
    if array.size != 1:
        raise InvalidArgument(f"{what} must be one value, not a tensor of shape {list(array.shape)}")
    return bool(array.reshape(-1)[0])


def if_kernel(node: ir.Node, bodies: Mapping[str, Body]) -> Kernel:
    """Return the kernel of If(condition) { then_branch, else_branch }."""
    first = next(iter(bodies))

    def run(inputs: list[Any], context: RunContext) -> Sequence[Any]:
        name = "then_branch" if truth(inputs[0], "the condition") else "else_branch"
        cut = 1 + len(bodies[first].captured)
        captured = inputs[1:cut] if name == first else inputs[cut:]
        return bodies[name].run(captured, context)

    return run


def loop_kernel(node: ir.Node, bodies: Mapping[str, Body]) -> Kernel:
    """Return the kernel of Loop(trips?, condition?, carried...) { body(i, condition, carried...) -> condition, carried...,
    scanned... }.
    """
    body, given = bodies["body"], len(node.inputs)
    count = max(given - 2, 0)
    inner = node.attributes["body"].as_graph()
    number, flag = map(axes_of, inner.inputs[:2])
    scanned = inner.outputs[1 + count :]

    def run(inputs: list[Any], context: RunContext) -> Sequence[Any]:
        inputs = [*inputs[:given], *[None] * (2 - given), *inputs[given:]]  # absent inputs at the end may be missing
        trips = None if inputs[0] is None else int(np.asarray(inputs[0]).reshape(-1)[0])
        going = True if inputs[1] is None else truth(inputs[1], "the condition")
        carried, captured = inputs[2 : 2 + count], inputs[2 + count :]
        rows: list[list[Any]] = [[] for _ in scanned]
        i = 0
        while going and (trips is None or i < trips):
            context.check()
            results = body.run([np.full(number, i, np.int64), np.full(flag, going), *carried, *captured], context)
            going, carried = truth(results[0], "the body's condition"), results[1 : 1 + count]
            for row, result in zip(rows, results[1 + count :], strict=True):
                row.append(result)
            i += 1
        return [*carried, *(stack(row, value) for row, value in zip(rows, scanned, strict=True))]

    return run


def axes_of(argument: ir.Value) -> tuple[int, ...]:
    """Return the shape of a number that is given to a body: that of a scalar, or one axis if the body declares it so, as some
    exporters do.
    """
    return (1,) if argument.shape is not None and len(argument.shape) == 1 else ()


def stack(rows: list[Any], value: ir.Value, axis: int = 0) -> Any:
    """Stack the rows along a new axis. Without rows, return an empty tensor of the value's type, with its shape as far as it is
    known.
    """
    if rows:
        return np.stack(rows, axis)
    dtype = value.dtype.numpy() if value.dtype not in (None, ir.DataType.STRING) else object
    sizes = [size if isinstance(size, int) else 0 for size in value.shape] if value.shape is not None else []
    sizes.insert(axis, 0)
    return np.empty(sizes, dtype)


def scan_kernel(node: ir.Node, bodies: Mapping[str, Body]) -> Kernel:
    """Return the kernel of Scan(state..., scanned...) { body(state..., slices...) -> state..., slices... }, since opset 9."""
    body = bodies["body"]
    inner = node.attributes["body"].as_graph()
    scans = node.attributes["num_scan_inputs"].as_int()
    states = len(node.inputs) - scans
    outputs = len(inner.outputs) - states
    axes = _ints(node, "scan_input_axes", scans)
    reversed_inputs = _ints(node, "scan_input_directions", scans)
    output_axes = _ints(node, "scan_output_axes", outputs)
    reversed_outputs = _ints(node, "scan_output_directions", outputs)

    def run(inputs: list[Any], context: RunContext) -> Sequence[Any]:
        state, scanned = inputs[:states], inputs[states : states + scans]
        captured = inputs[states + scans :]
        slices = [
            np.flip(np.moveaxis(x, axis, 0), 0) if back else np.moveaxis(x, axis, 0)
            for x, axis, back in zip(scanned, axes, reversed_inputs, strict=True)
        ]
        if len({len(x) for x in slices}) > 1:
            raise InvalidArgument(f"scan inputs have different lengths: {[len(x) for x in slices]}")
        rows: list[list[Any]] = [[] for _ in range(outputs)]
        for i in range(len(slices[0]) if slices else 0):
            context.check()
            results = body.run([*state, *(x[i] for x in slices), *captured], context)
            state = results[:states]
            for row, result in zip(rows, results[states:], strict=True):
                row.append(result)
        ordered = [row[::-1] if back else row for row, back in zip(rows, reversed_outputs, strict=True)]
        values = inner.outputs[states:]
        return [*state, *(stack_at(r, v, a) for r, v, a in zip(ordered, values, output_axes, strict=True))]

    return run


def stack_at(rows: list[Any], value: ir.Value, axis: int) -> Any:
    """Stack rows as `stack` does, along an axis that may be counted from the end of the result."""
    rank = np.ndim(rows[0]) if rows else len(value.shape or ())
    return stack(rows, value, axis + rank + 1 if axis < 0 else axis)


def _ints(node: ir.Node, name: str, count: int) -> Sequence[int]:
    attribute = node.attributes.get(name)
    return attribute.as_ints() if attribute is not None else [0] * count


def scan_8_kernel(node: ir.Node, bodies: Mapping[str, Body]) -> Kernel:
    """Return the kernel of opset 8's Scan(lengths?, state[b, ...]..., scanned[b, s, ...]...), which scans each row of the batch
    separately.
    """
    body = bodies["body"]
    inner = node.attributes["body"].as_graph()
    scans = node.attributes["num_scan_inputs"].as_int()
    states = len(node.inputs) - 1 - scans
    outputs = inner.outputs[states:]
    directions = _ints(node, "directions", scans)

    def run(inputs: list[Any], context: RunContext) -> Sequence[Any]:
        lengths, state = inputs[0], inputs[1 : 1 + states]
        scanned, captured = inputs[1 + states : 1 + states + scans], inputs[1 + states + scans :]
        batch, longest = scanned[0].shape[:2]
        finals: list[list[Any]] = []
        for b in range(batch):
            length = longest if lengths is None else int(lengths[b])
            row = [s[b] for s in state]
            results: list[list[Any]] = [[] for _ in outputs]
            for i in range(length):
                context.check()
                steps = [x[b, length - 1 - i if back else i] for x, back in zip(scanned, directions, strict=True)]
                values = body.run([*row, *steps, *captured], context)
                row = values[:states]
                for result, value in zip(results, values[states:], strict=True):
                    result.append(value)
            finals.append([*row, *(pad_rows(stack(r, v), longest) for r, v in zip(results, outputs, strict=True))])
        return [np.stack(column) for column in zip(*finals, strict=True)]

    return run


def pad_rows(rows: Any, longest: int) -> Any:
    """Append zeros to the rows, up to the longest sequence of the batch."""
    return np.pad(rows, [(0, longest - len(rows)), *[(0, 0)] * (rows.ndim - 1)])


def sequence_map_kernel(node: ir.Node, bodies: Mapping[str, Body]) -> Kernel:
    """Return the kernel of SequenceMap(sequence, others...) { body(element, others...) }. The body gets elements of sequences, and
    tensors unchanged.
    """
    body, count = bodies["body"], len(node.inputs)

    def run(inputs: list[Any], context: RunContext) -> Sequence[Any]:
        arguments, captured = inputs[:count], inputs[count:]
        lengths = {len(x) for x in arguments if isinstance(x, list)}
        if len(lengths) != 1:
            raise InvalidArgument(f"sequences have different lengths: {sorted(lengths)}")
        results: list[list[Any]] = [[] for _ in node.outputs]
        for i in range(lengths.pop()):
            context.check()
            values = body.run([*(x[i] if isinstance(x, list) else x for x in arguments), *captured], context)
            for result, value in zip(results, values, strict=True):
                result.append(value)
        return results

    return run
