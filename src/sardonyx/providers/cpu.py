"""The compiler as a provider: graph -> tensor expressions -> places -> loops -> machine code -> a program the team of threads runs."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from sardonyx.base import debug
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.options import CompileOptions
from sardonyx.base.symbolic import Symbol, evaluate, round_up
from sardonyx.codegen import compile as code
from sardonyx.codegen import features
from sardonyx.codegen.program import emit_program
from sardonyx.codegen.team import emit_team
from sardonyx.expr import require
from sardonyx.expr.tensor import Tensor
from sardonyx.graph.partition import read_values
from sardonyx.loop.printer import text
from sardonyx.lower.describe import describe
from sardonyx.lower.importer import import_graph, import_node
from sardonyx.lower.lowered import Lowered, lower
from sardonyx.lower.machine import Machine
from sardonyx.lower.schedule import bytes_of
from sardonyx.providers.assemble import assemble
from sardonyx.providers.base import Executable, ExecutionProvider
from sardonyx.providers.native import NativeGraph
from sardonyx.providers.objects import kernel_object, module_object
from sardonyx.runtime.arrays import Array
from sardonyx.runtime.cache import Cache, shared_cache
from sardonyx.runtime.cores import available_cores
from sardonyx.runtime.execution import LINE, Block, Program
from sardonyx.runtime.linker import link
from sardonyx.runtime.team import Team, configure


class CPUExecutionProvider(ExecutionProvider):
    """Claims every node that it can lower and compiles them into native programs."""

    name = "CPUExecutionProvider"

    def get_capability(self, graph: ir.Graph, options: CompileOptions) -> list[list[ir.Node]]:
        return [claimed(graph)]

    def compile(self, graph: ir.Graph, options: CompileOptions) -> Executable:
        return compile_graph(graph, options)


def claimed(graph: ir.Graph) -> list[ir.Node]:
    """The nodes with a compiled form, as far as they can be reached over values whose type and rank are known."""
    from sardonyx.lower.importer import graph_input, weight

    scope: dict[ir.Value, Tensor] = {}
    out: list[ir.Node] = []

    def provide(v: ir.Value) -> bool:
        if v in scope:
            return True
        try:
            scope[v] = weight(v) if v.const_value is not None and v.is_initializer() else graph_input(v)
        except Unsupported:
            return False
        return True

    for node in graph:
        if not all(provide(v) for v in read_values(node) if v.graph is graph):
            continue
        try:
            import_node(node, scope, graph.opset_imports)
        except (Unsupported, Fail) as error:
            debug.show(debug.RAN, "refused", str(error))
            continue
        out.append(node)
    return out


def compile_graph(graph: ir.Graph, options: CompileOptions) -> NativeGraph:
    """A native program for the graph. Raises Unsupported."""
    target = features.select(options.target or None)
    machine = Machine(lanes=target.vector_bits // 32, shapes=target.tile_shapes, fma=target.fma, winograd=options.winograd)
    threads = options.threads or available_cores()
    with require.collect() as requirements:
        imported = import_graph(graph, graph.opset_imports)
    lowered, preparation = lower(imported.inputs, imported.outputs, machine)
    team = host_team()
    cache = shared_cache() if options.cache else None
    prepared: dict[Tensor, Array] = {}
    if preparation is not None:
        first = build(preparation, (), target, team, prepared, cache)
        first.empty = [block_for(preparation.outputs).empty] * len(preparation.outputs)
        prepared = dict(zip(preparation.outputs, first.run([], threads), strict=True))
    program = build(lowered, requirements, target, team, prepared, cache, ticks=debug.level() >= 1)
    for t in (*lowered.constants, *(preparation.constants if preparation else ())):
        t.data = None  # the numbers are in place: the model's own are not kept
    return NativeGraph(program, threads, functools.partial(describe, lowered))


def block_for(outputs: Sequence[Tensor]) -> Block:
    """Memory for tensors of fixed shapes."""
    return Block(evaluate(sum((round_up(bytes_of(t), LINE) for t in outputs), start=0), fixed))


def fixed(s: Symbol) -> int:
    raise ValueError(f"{s} is not known when the model is loaded")


@functools.cache
def host_team() -> Team:
    """The process's team of threads."""
    target = features.host()
    return configure(link([module_object(emit_team(target.triple), target, shared_cache())]))


def build(
    lowered: Lowered,
    requirements: Sequence[require.Requirement],
    target: features.Target,
    team: Team,
    prepared: Mapping[Tensor, Array],
    cache: Cache | None,
    ticks: bool = False,
) -> Program:
    """The lowered program, compiled and placed, with its constants in memory."""
    assembly = assemble(lowered, requirements)
    show(lowered, target)
    objects = [kernel_object(k, target, cache) for k in lowered.kernels.values()]
    module = emit_program(target, assembly.runs, assembly.plans, assembly.slots, ticks)
    objects.append(module_object(module, target, cache))
    return Program(assembly.spec, link(objects), team, [numbers(t, lowered.orders.get(t), prepared) for t in lowered.constants])


def show(lowered: Lowered, target: features.Target) -> None:
    """The dial's levels 2 (nests), 4 (loop IR), 5 (LLVM IR) and 6 (assembly)."""
    if debug.wants(debug.KERNELS):
        debug.show(debug.KERNELS, "nests", describe(lowered))
    for name, kernel in lowered.kernels.items():
        if debug.wants(debug.LOOPS):
            debug.show(debug.LOOPS, f"{name} loops", text(kernel))
        if debug.wants(debug.LLVM):
            debug.show(debug.LLVM, f"{name} llvm", code.ir_text(kernel, target))
        if debug.wants(debug.ASSEMBLY):
            debug.show(debug.ASSEMBLY, f"{name} assembly", code.assembly(kernel, target))


def numbers(t: Tensor, order: Sequence[int] | None, prepared: Mapping[Tensor, Array]) -> Array:
    """A constant's array, its axes in the order in which they are read."""
    if t.data is None:
        return prepared[t]
    array = t.data.load()
    return array if order is None else array.transpose(order)
