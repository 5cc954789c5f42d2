"""If, Loop and Scan nodes whose bodies are divided among providers: the node itself runs here, its bodies as compiled models.

    y = Loop(trips, condition, x) { s = Step(x) }      Step runs on a device

Values that bodies carry from one iteration to the next, or capture from outside, stay in the memory in which they are. The CPU gets
conditions, trip counts, and the rows of scanned tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from sardonyx.base.context import QUIET, RunContext
from sardonyx.base.options import CompileOptions
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.partition import captured_values, constant_values, detached
from sardonyx.graph.verify import subgraphs
from sardonyx.providers.base import Executable, ExecutionProvider
from sardonyx.runtime.arrays import Array
from sardonyx.runtime.device import Copies, Target
from sardonyx.session.compiled_model import CompiledModel, Plan
from sardonyx.session.metadata import OrtEpAssignedSubgraph
from sardonyx.session.specialise import plain

OPERATORS = ("If", "Loop", "Scan")
FIRST_OPSET = 9
Compile: TypeAlias = Callable[[ir.Graph], tuple[CompiledModel, list[OrtEpAssignedSubgraph]]]


def is_control_flow(node: ir.Node, imports: Mapping[str, int]) -> bool:
    """Is the node an If, a Loop, or a Scan of the form that it has since opset 9?"""
    return node.domain == "" and node.op_type in OPERATORS and imports.get("", FIRST_OPSET) >= FIRST_OPSET


def claims_inside(node: ir.Node, provider: ExecutionProvider, imports: Mapping[str, int], options: CompileOptions) -> bool:
    """Does the provider claim nodes in the bodies of a control-flow node, at any depth?"""
    for body in subgraphs(node):
        graph = self_contained(body, imports)
        if any(provider.get_capability(graph, list(graph), options)):
            return True
        if any(is_control_flow(inner, imports) and claims_inside(inner, provider, imports, options) for inner in graph):
            return True
    return False


def self_contained(body: ir.Graph, imports: Mapping[str, int]) -> ir.Graph:
    """Copy a body, with the values that it captures as inputs or initializers."""
    captured = captured_values(body)
    return detached(body, captured, constant_values(captured), imports)


class DividedBody(Struct, frozen=True):
    """A body, ready to run. captured: outer values that it uses. taken: the indices of its inputs and captured values that the plan
    takes; the others are constants.
    """

    captured: list[ir.Value]
    program: CompiledModel
    plan: Plan
    taken: list[int]
    assignment: list[OrtEpAssignedSubgraph]

    @classmethod
    def of(cls, body: ir.Graph, imports: Mapping[str, int], compile_graph: Compile) -> DividedBody:
        """Compile a body. Raises SardonyxError."""
        captured = captured_values(body)
        constants = constant_values(captured)
        graph = detached(body, captured, constants, imports)
        outputs = [str(value.name) for value in graph.outputs]
        program, assignment = compile_graph(graph)
        first = len(body.inputs)
        taken = [*range(first), *(first + k for k, value in enumerate(captured) if value not in constants)]
        return cls(captured, program, program.plan(outputs), taken, assignment)

    def run(self, inputs: Sequence[Any], context: RunContext) -> list[Any]:
        """Run the body on Copies and arrays, and return Copies."""
        given = [inputs[k] for k in self.taken]
        placed = [x if isinstance(x, Copies) else Copies(plain(x), lent=True) for x in given]
        return [*self.plan.run_copies(placed, {}, context)]


class ControlFlow(Executable):
    """A graph of one control-flow node. compile_graph: compiles a body, which it consumes. Raises SardonyxError."""

    def __init__(self, graph: ir.Graph, compile_graph: Compile) -> None:
        from sardonyx.graph.reference.interpreter import Interpreter  # most sessions don't come here

        self._bodies: list[DividedBody] = []

        def make_body(body: ir.Graph, imports: Mapping[str, int]) -> DividedBody:
            made = DividedBody.of(body, imports, compile_graph)
            self._bodies.append(made)
            return made

        def constant(array: Array) -> Copies:  # which is copied to a device once
            return Copies(array, lent=True)

        self._interpreter = Interpreter(graph, graph.opset_imports, make_body, constant)
        self._title = ", ".join(f"{node.op_type} '{node.name}'" for node in graph)

    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        given = [Copies(x, lent=True) for x in inputs]
        return [x.owned(None) for x in self.run_copies(given, [], context)]

    def run_copies(self, inputs: Sequence[Copies], targets: Sequence[Target], context: RunContext) -> list[Copies]:
        made = self._interpreter.run(inputs, context)
        return [x if isinstance(x, Copies) else Copies(x) for x in made]

    def assignment(self) -> list[OrtEpAssignedSubgraph]:
        inner = [part for body in self._bodies for step in body.plan.steps for part in step.executable.assignment()]
        return [*(part for body in self._bodies for part in body.assignment), *inner]

    def describe(self) -> str:
        parts = [f"{step.provider}: {step.executable.describe()}" for body in self._bodies for step in body.plan.steps]
        return "\n  ".join((f"{self._title}, whose bodies run on", *parts))

    def close(self) -> None:
        for body in self._bodies:
            body.program.close()
