"""Makes sub-graphs into programs once a run has brought what was open: ranks and types of what they read, and answers about sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from sardonyx.base.context import RunContext
from sardonyx.base.symbolic import Symbol, single
from sardonyx.expr.decide import answering
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.inference import infer
from sardonyx.graph.partition import captured_values, copy_value, redirect
from sardonyx.lower.importer import dimension
from sardonyx.session.compiled_model import CompiledModel
from sardonyx.session.late import LateSubgraph, Variant, kind_of, sizes_of
from sardonyx.session.metadata import OrtEpAssignedSubgraph

Compile: TypeAlias = Callable[[ir.Model], tuple[CompiledModel, list[OrtEpAssignedSubgraph]]]
IR_VERSION = 10
"""Of the models that sub-graphs are wrapped in: any that has what graphs can hold."""


def late_program(piece: ir.Graph, compile_model: Compile) -> LateSubgraph:
    """The self-contained graph as a program that is made when it is first run."""
    return LateSubgraph([str(v.name) for v in piece.inputs], lambda inputs: specialise(piece, inputs, compile_model))


def specialise(piece: ir.Graph, inputs: Sequence[Any], compile_model: Compile) -> Variant:
    """The graph as a program for inputs of these types and ranks, and for the answers that their sizes give. Raises SardonyxError."""
    graph = piece.clone()
    for value, x in zip(graph.inputs, inputs, strict=True):
        set_kind(value, x)
    model = ir.Model(graph, ir_version=IR_VERSION)
    infer(model)
    names = [symbols_of(v) for v in graph.inputs]
    fed = {str(v.name): x for v, x in zip(graph.inputs, inputs, strict=True) if isinstance(x, np.ndarray)}
    with answering(sizes_of(names, inputs), fed) as answers:
        program, assignment = compile_model(model)
    return Variant(tuple(map(kind_of, inputs)), answers, names, program, [str(v.name) for v in piece.outputs], assignment)


def set_kind(value: ir.Value, x: Any) -> None:
    """Gives a value the type and rank of an array, unless they are known already."""
    if not isinstance(x, np.ndarray) or x.dtype == object:
        return
    if value.dtype is None:
        value.type = ir.TensorType(ir.DataType.from_numpy(x.dtype))
    if value.shape is None or len(value.shape) != x.ndim:
        value.shape = ir.Shape([None] * x.ndim)


def symbols_of(value: ir.Value) -> list[Symbol | None]:
    """The symbols that the value's sizes have once it is imported; None for sizes that are numbers."""
    return [single(dimension(d, f"{value.name}.{i}")) for i, d in enumerate(value.shape or ())]


# ---- bodies -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CompiledBody:
    """A body as a program. taken: which of the body's inputs and captured values the program reads, the others being constants."""

    captured: list[ir.Value]
    program: LateSubgraph
    taken: list[int]

    def run(self, inputs: Sequence[Any], context: RunContext) -> list[Any]:
        return self.program.run([plain(inputs[k]) for k in self.taken], context)


class CompiledBodies:
    """Compiles the bodies of If, Loop and Scan nodes that have no compiled form as a whole, each when it is first run.

    knows: has a provider this operator (domain, name), although the standard has not?
    """

    def __init__(self, compile_model: Compile, knows: Callable[[str, str], bool]) -> None:
        self._compile, self._knows = compile_model, knows
        self._programs: list[LateSubgraph] = []

    def knows(self, domain: str, name: str) -> bool:
        return self._knows(domain, name)

    def make(self, graph: ir.Graph, imports: Mapping[str, int]) -> CompiledBody:
        """The body as a sub-graph of its own."""
        captured = captured_values(graph)
        constants = {value for value in captured if value.is_initializer() and not value.is_graph_input()}
        program = late_program(detached(graph, captured, constants, imports), self._compile)
        self._programs.append(program)
        first = len(graph.inputs)
        return CompiledBody(captured, program, [*range(first), *(first + k for k, v in enumerate(captured) if v not in constants)])

    def assignment(self) -> Sequence[OrtEpAssignedSubgraph]:
        """Who runs the nodes of the bodies that have been compiled."""
        return [part for program in self._programs for part in program.assignment()]


def detached(body: ir.Graph, captured: Sequence[ir.Value], constants: set[ir.Value], imports: Mapping[str, int]) -> ir.Graph:
    """A copy of the body whose captured values are inputs, after its own, or initializers."""
    graph = body.clone(allow_outer_scope_values=True)
    copies = {value: copy_value(value) for value in captured}
    for node in graph:
        redirect(node, copies)
    for k, value in enumerate(graph.outputs):
        graph.outputs[k] = copies.get(value, value)
    for value, copy in copies.items():
        if value in constants:
            graph.register_initializer(copy)
        else:
            graph.inputs.append(copy)
    graph.opset_imports.update(imports)
    return graph


def plain(value: Any) -> Any:
    """Arrays as executables take them: contiguous and aligned."""
    if type(value) is np.ndarray and value.flags.carray:
        return value
    return np.require(value, requirements=["C", "ALIGNED"]) if isinstance(value, np.ndarray | np.generic) else value
