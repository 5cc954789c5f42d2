"""The compiler as a provider: graph -> tensor expressions -> places -> loops -> machine code -> a program that the thread team
runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

import numpy as np
from msgspec import Struct, field

from sardonyx.base import debug
from sardonyx.base.background import Background
from sardonyx.base.cache_line import LINE
from sardonyx.base.dtypes import bf16, f16, f32
from sardonyx.base.errors import Fail
from sardonyx.base.options import CompileOptions
from sardonyx.base.symbolic import Symbol, evaluate, round_up
from sardonyx.codegen import compile as code
from sardonyx.codegen import features
from sardonyx.codegen.casts import is_native
from sardonyx.codegen.needs import needs_of
from sardonyx.codegen.plans import LEVEL as PLAN_LEVEL
from sardonyx.codegen.plans import emit_mid_run_plan, emit_plans
from sardonyx.codegen.team import emit_team
from sardonyx.expr import draws, require
from sardonyx.expr.tensor import Tensor
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.host_operators import is_host_node
from sardonyx.loop.nodes import Kernel
from sardonyx.loop.printer import text
from sardonyx.lower.describe import describe
from sardonyx.lower.importer import Imported, import_graph
from sardonyx.lower.lowered import Lowered, lower
from sardonyx.lower.machine import Machine
from sardonyx.lower.schedule import bytes_of, calls
from sardonyx.providers.assemble import assemble
from sardonyx.providers.base import Executable, ExecutionProvider
from sardonyx.providers.claims import Claim, claim
from sardonyx.providers.host import HostGraph
from sardonyx.providers.host_nodes import layout_of
from sardonyx.providers.native import NativeGraph
from sardonyx.providers.objects import Objects
from sardonyx.runtime import abi
from sardonyx.runtime.arrays import Array
from sardonyx.runtime.cache import shared_cache
from sardonyx.runtime.cores import available_cores
from sardonyx.runtime.execution import Block, Program, ProgramSpec
from sardonyx.runtime.linker import link
from sardonyx.runtime.processor import unmet
from sardonyx.runtime.team import Team, configure, current


class CPUExecutionProvider(ExecutionProvider):
    """Claims every node that it can lower, which become native programs, and nodes of strings, sequences, optionals and maps,
    which run in Python.
    """

    name = "CPUExecutionProvider"
    claims_bodies = False  # what it can't compile with its bodies, the reference runs
    claim: Claim | None = None  # for the graph that `get_capability` last saw, until it is compiled

    def get_capability(self, graph: ir.Graph, nodes: Sequence[ir.Node], options: CompileOptions) -> list[list[ir.Node]]:
        self.claim = claim(graph, nodes)
        return [group for group in (self.claim.nodes, self.claim.on_host) if group]

    def get_late_capability(self, graph: ir.Graph, nodes: Sequence[ir.Node], options: CompileOptions) -> list[list[ir.Node]]:
        return [self.claim.late] if self.claim is not None and self.claim.late else []

    def compile(self, graph: ir.Graph, options: CompileOptions) -> Executable:
        if all(is_host_node(node, graph.opset_imports) for node in graph) and len(graph):
            return HostGraph(layout_of(graph))
        imported = self.claim.imported(graph) if self.claim is not None else None
        if self.claim is not None and imported is not None:
            requirements, self.claim = self.claim.requirements, None
            return compile_tensors(imported, requirements, options)
        return compile_graph(graph, options)


def compile_graph(graph: ir.Graph, options: CompileOptions) -> NativeGraph:
    """Compile a graph to a native program. Raises Unsupported."""
    with require.collect() as requirements:
        imported = import_graph(graph, graph.opset_imports)
    return compile_tensors(imported, requirements, options)


def compile_tensors(imported: Imported, requirements: Sequence[require.Requirement], options: CompileOptions) -> NativeGraph:
    """Compile a graph that has been imported to tensors. Raises Unsupported."""
    target = runnable(features.select(options.target or None))
    machine = machine_for(target, options)
    threads = options.threads or available_cores()
    cache = shared_cache() if options.cache else None
    with Background("sardonyx-compile") as background:
        flags = (abi.FLUSH if options.flush_denormals else 0) | (0 if options.spin else abi.NO_SPIN)
        compiler = Compiler(Objects(background, cache), target, machine, threads, flags)
        timed = options.timed or debug.level() >= debug.RAN
        program, lowered, preparation = compiler.run(imported.inputs, imported.outputs, requirements, timed)
    for t in (*lowered.constants, *(preparation.constants if preparation else ())):
        t.data = None  # the program has packed copies, so the model's data can be freed
    return NativeGraph(program, threads, functools.partial(describe, lowered))


def runnable(target: features.Target) -> features.Target:
    """Return the target. Raises Fail if this machine can't run its code, which prepares constants while a model is compiled."""
    if target.name != "host" and (reason := unmet(needs_of(target))):
        raise Fail(f"Code for the target {target.name} can't run here: {reason}.")
    return target


def machine_for(target: features.Target, options: CompileOptions) -> Machine:
    """Return the description of the target that lowering uses."""
    converted = frozenset(d for d in (f16, bf16) if is_native(d, f32, target))
    return Machine(
        lanes=target.vector_bits // 32,
        shapes=target.tile_shapes,
        l2=target.caches.l2,
        way=target.caches.l1 // target.caches.ways,
        ways=target.caches.ways,
        fma=target.fma,
        winograd=options.winograd,
        integer_sums=options.integer_sums,
        flops=target.flops,
        converted=converted,
        groups=target.groups,
    )


class Compiler(Struct):
    """Compiles kernels as lowering produces them, then the programs that call them."""

    objects: Objects
    target: features.Target
    machine: Machine
    threads: int
    flags: int = 0  # of the programs' contexts (abi.FLUSH, abi.NO_SPIN)
    kernels: dict[str, list[Future[bytes]]] = field(default_factory=dict)

    def run(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], requirements: Sequence[require.Requirement], timed: bool = False
    ) -> tuple[Program, Lowered, Lowered | None]:
        """Compile the program that computes the outputs. -> (the program, its lowered form, the lowered program that prepared
        its constants)
        """
        team = start_team(self.objects)
        lowered, preparation = lower([*inputs, draws.state], outputs, self.machine, self.begin)
        if not any(draws.state in c.arguments for segment in lowered.segments for c in calls(segment.steps)):
            lowered.inputs = list(inputs)
        first = self.draft(preparation, (), urgent=True) if preparation is not None else None
        then = self.draft(lowered, requirements, ticks=timed)
        # LLVM compiles the program's own kernels while its constants are prepared.
        prepared = prepare(first, team(), self.threads) if first is not None else {}
        return then.program(team(), prepared), lowered, preparation

    def begin(self, kernel: Kernel, urgent: bool) -> None:
        """Start compiling a kernel. Raises Unsupported for what can't be emitted, Fail for a number that needs too many bits."""
        if kernel.name in self.kernels:
            return
        try:
            self.kernels[kernel.name] = self.objects.kernel(kernel, self.target, urgent)
        except Fail as error:
            raise Fail(f"{', '.join(filter(None, kernel.sources))}: {error.detail}") from None

    def draft(
        self, lowered: Lowered, requirements: Sequence[require.Requirement], urgent: bool = False, ticks: bool = False
    ) -> Draft:
        """Emit a program's plans and collect its objects, without waiting for them."""
        assembly = assemble(lowered, requirements, ticks, self.flags)
        show(lowered, self.target)
        module = emit_plans(self.target, assembly.plans, assembly.slots, assembly.estimates)
        for b in assembly.mid_run_plans:
            emit_mid_run_plan(module, self.target, b.name, b.assignments, b.tests, assembly.slots)
        own = self.objects.module(module, self.target, urgent, PLAN_LEVEL)
        objects = dict.fromkeys(found for name in lowered.kernels for found in self.kernels[name])
        return Draft(lowered, assembly.spec, [*objects, own])


class Draft(Struct):
    """A program whose objects are still being compiled."""

    lowered: Lowered
    spec: ProgramSpec
    objects: Sequence[Future[bytes]]

    def program(self, team: Team, prepared: Mapping[Tensor, Array]) -> Program:
        """Wait for the objects, link them, and return the program with its constants."""
        constants = [numbers(t, self.lowered.orders.get(t), prepared) for t in self.lowered.constants]
        return Program(self.spec, link([found.result() for found in self.objects]), team, constants)


def prepare(draft: Draft, team: Team, threads: int) -> dict[Tensor, Array]:
    """Run the program of a draft, which computes packed constants from the model's initializers."""
    program, outputs = draft.program(team, {}), draft.lowered.outputs
    program.empty = [block_for(outputs).empty] * len(outputs)
    return dict(zip(outputs, program.run([], threads), strict=True))


def block_for(outputs: Sequence[Tensor]) -> Block:
    """Allocate memory for tensors of fixed shapes."""
    return Block(evaluate(sum((round_up(bytes_of(t), LINE) for t in outputs), start=0), fixed))


def fixed(s: Symbol) -> int:
    raise ValueError(f"the size {s} is not known when the model is loaded")


def start_team(objects: Objects) -> Callable[[], Team]:
    """Return a function that returns the process's thread team; if there is none yet, start compiling its code.

    The code is not optimised: that would take a tenth of the time in which a process loads and runs a small model, and no run
    would be faster for it. It runs on any processor of the architecture, so that compiled files can hold it.
    """
    there = current()
    if there is not None:
        return lambda: there
    target = features.baseline()
    module = objects.module(emit_team(target.triple), target, urgent=True, level=0)
    return functools.cache(lambda: configure(link([module.result()])))


def show(lowered: Lowered, target: features.Target) -> None:
    """Print nests (debug level 2), loop IR (4), LLVM IR (5) and assembly (6)."""
    if debug.wants(debug.KERNELS):
        from sardonyx.lower.printer import decisions_text

        debug.show(debug.KERNELS, "places", decisions_text(lowered.decisions))
        debug.show(debug.KERNELS, "nests", describe(lowered))
    for name, kernel in lowered.kernels.items():
        if debug.wants(debug.LOOPS):
            debug.show(debug.LOOPS, f"{name} loops", text(kernel))
        if debug.wants(debug.LLVM):
            debug.show(debug.LLVM, f"{name} llvm", code.ir_text(kernel, target))
        if debug.wants(debug.ASSEMBLY):
            debug.show(debug.ASSEMBLY, f"{name} assembly", code.assembly(kernel, target))


def numbers(t: Tensor, order: Sequence[int] | None, prepared: Mapping[Tensor, Array]) -> Array:
    """Return a constant's array, with its axes in the order in which kernels read them."""
    if t.data is None:
        return prepared[t]
    array = t.data.load()
    return array if order is None else np.ascontiguousarray(array.transpose(order))
