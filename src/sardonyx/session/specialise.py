"""Compiles sub-graphs for a run that has determined what was unknown: dtypes and ranks of their inputs, and answers about sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct

from sardonyx.base.context import RunContext
from sardonyx.base.symbolic import Symbol, single
from sardonyx.expr.decide import answering
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.inference import infer
from sardonyx.graph.partition import captured_values, constant_values, detached
from sardonyx.lower.importer import dimension
from sardonyx.runtime.device import Buffer
from sardonyx.session.compiled_model import CompiledModel
from sardonyx.session.late import LateSubgraph, Variant, kind_of, sizes_of
from sardonyx.session.metadata import OrtEpAssignedSubgraph

Compile: TypeAlias = Callable[[ir.Model], tuple[CompiledModel, list[OrtEpAssignedSubgraph]]]
IR_VERSION = 10
"""IR version of the models that sub-graphs are wrapped in."""


def late_program(piece: ir.Graph, compile_model: Compile) -> LateSubgraph:
    """Return the self-contained graph as an executable that is compiled when it first runs."""
    return LateSubgraph([str(v.name) for v in piece.inputs], lambda inputs: specialise(piece, inputs, compile_model))


def specialise(piece: ir.Graph, inputs: Sequence[Any], compile_model: Compile) -> Variant:
    """Compile the graph for inputs of these dtypes and ranks, and for the answers that their sizes give. Raises SardonyxError."""
    graph = piece.clone()
    for value, x in zip(graph.inputs, inputs, strict=True):
        set_kind(value, x)
    model = ir.Model(graph, ir_version=IR_VERSION)
    infer(model)
    names = [symbols_of(v) for v in graph.inputs]
    fed = {str(v.name): x for v, x in zip(graph.inputs, inputs, strict=True) if isinstance(x, np.ndarray)}
    with answering(sizes_of(names, inputs), fed) as answers:
        program, assignment = compile_model(model)
    return Variant.of(tuple(map(kind_of, inputs)), answers, names, program, [str(v.name) for v in piece.outputs], assignment)


def set_kind(value: ir.Value, x: Any) -> None:
    """Set a value's dtype and rank to those of a tensor, unless they are known."""
    if not isinstance(x, np.ndarray | Buffer) or x.dtype == object:
        return
    if value.dtype is None:
        value.type = ir.TensorType(ir.DataType.from_numpy(x.dtype))
    if value.shape is None or len(value.shape) != x.ndim:
        value.shape = ir.Shape([None] * x.ndim)


def symbols_of(value: ir.Value) -> list[Symbol | None]:
    """Return the symbols that importing will give the value's sizes; None for sizes that are numbers."""
    return [single(dimension(d, f"{value.name}.{i}")) for i, d in enumerate(value.shape or ())]


# ---- bodies -----------------------------------------------------------------------------------------------------------------


class CompiledBody(Struct, frozen=True):
    """A compiled body. captured: outer values that the body uses. taken: the indices of its inputs and captured values that the
    program reads; the others are constants.
    """

    captured: list[ir.Value]
    program: LateSubgraph
    taken: list[int]

    def run(self, inputs: Sequence[Any], context: RunContext) -> list[Any]:
        return self.program.run([plain(inputs[k]) for k in self.taken], context)


class CompiledBodies:
    """Compiles the bodies of If, Loop and Scan nodes that can't be compiled as a whole; each body is compiled when it first
    runs.

    knows: does a provider have this operator (domain, name), which the standard lacks?
    """

    def __init__(self, compile_model: Compile, knows: Callable[[str, str], bool]) -> None:
        self._compile, self._knows = compile_model, knows
        self._programs: list[LateSubgraph] = []

    def knows(self, domain: str, name: str) -> bool:
        return self._knows(domain, name)

    def make(self, graph: ir.Graph, imports: Mapping[str, int]) -> CompiledBody:
        """Return the body as a sub-graph of its own."""
        captured = captured_values(graph)
        constants = constant_values(captured)
        program = late_program(detached(graph, captured, constants, imports), self._compile)
        self._programs.append(program)
        first = len(graph.inputs)
        return CompiledBody(captured, program, [*range(first), *(first + k for k, v in enumerate(captured) if v not in constants)])

    def assignment(self) -> Sequence[OrtEpAssignedSubgraph]:
        """Return who runs the nodes of the bodies that have been compiled."""
        return [part for program in self._programs for part in program.assignment()]


def plain(value: Any) -> Any:
    """Return an array in the form that executables take: contiguous and aligned."""
    if type(value) is np.ndarray and value.flags.carray:
        return value
    return np.require(value, requirements=["C", "ALIGNED"]) if isinstance(value, np.ndarray | np.generic) else value
