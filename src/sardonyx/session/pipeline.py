"""Builds a session from a model's file: load, optimise, partition, compile."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from sardonyx.base import budget, debug, errors
from sardonyx.base.background import Background
from sardonyx.base.context import Trace
from sardonyx.base.errors import Fail, InvalidArgument, Unsupported
from sardonyx.base.interpreter_settings import rare_collections
from sardonyx.base.options import CompileOptions
from sardonyx.base.symbolic import forget_quotients
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.constants import array_of
from sardonyx.graph.load import FILES, LoadOptions, load
from sardonyx.graph.partition import extract, partition
from sardonyx.graph.passes import optimise
from sardonyx.graph.save import save
from sardonyx.graph.types import tensor_dtype, type_string
from sardonyx.graph.verify import subgraphs
from sardonyx.ops import registered
from sardonyx.providers import registry
from sardonyx.providers.base import Executable, ExecutionProvider
from sardonyx.providers.reference import ReferenceExecutionProvider
from sardonyx.session.compiled_model import CompiledModel, ModelStep
from sardonyx.session.feeds import Feeds, InputSpec
from sardonyx.session.metadata import NO_VERSION, ModelMetadata, NodeArg, OrtEpAssignedNode, OrtEpAssignedSubgraph
from sardonyx.session.session_parts import Request, SessionParts
from sardonyx.session.specialise import CompiledBodies, late_program


def build(request: Request, trace: Trace | None = None) -> SessionParts:
    """Build a session. Raises SardonyxError."""
    with creation(), Background("sardonyx-read") as reader:
        return build_with(reader, request, trace)


@contextlib.contextmanager
def creation() -> Iterator[None]:
    """Collect garbage rarely meanwhile, and forget at the end what was memoised."""
    with rare_collections():
        try:
            yield
        finally:
            forget_quotients()


def build_with(reader: Background, request: Request, trace: Trace | None) -> SessionParts:
    """Build a session; reader: a thread that reads large weights meanwhile."""
    start = time.perf_counter_ns()
    chosen, fallback = make_providers(request)

    known = functools.partial(knows, chosen)
    reading = LoadOptions(
        request.data_folder,
        known,
        dict(request.dimensions),
        dict(request.denotations),
        reader,
        request.distinct,
        request.given,
        request.model_format,
    )
    budget.check("reading it")
    model = load(request.source, reading)
    custom = has_custom(model)
    if trace:
        trace.record("Session", "model_loading_array" if isinstance(request.source, bytes) else "model_loading_uri", start)
    budget.check("optimising it")
    start = time.perf_counter_ns()
    add_outputs(model.graph, request.extra_outputs)
    inputs, overridable, outputs, metadata = describe(model)
    feeds = make_feeds(model.graph)
    if trace:
        from sardonyx.session.profiled_model import ProfiledModel  # most sessions are not profiled

        with budget.seconds(budget.seconds_for(count_values(model.graph))):
            trace.model = trace.model or ProfiledModel.of(model.graph)  # variants of the session have the same nodes
    with budget.seconds(budget.seconds_for(count_values(model.graph))):
        optimise(model, request.options, known)
        if request.save_to:
            save(model, request.save_to)
        if trace:
            trace.model.record_optimised(model.graph)
        program, assignment = compile_graph(model.graph, [*chosen, fallback], request)
    if trace:
        trace.record("Session", "session_initialization", start)
    return SessionParts(program, inputs, overridable, outputs, metadata, assignment, feeds, model.meta[FILES], custom)


def has_custom(model: ir.Model) -> bool:
    """Are there nodes of custom operators in the model or its bodies?"""
    if not registered.any_at_all():
        return False
    return any(registered.find(node.domain, node.op_type) for node in model.graph.all_nodes())


def count_values(graph: ir.Graph) -> int:
    """Count the outputs of all nodes of a graph, including nodes of bodies."""
    return sum(len(node.outputs) for inner in (graph, *graph.subgraphs()) for node in inner)


def make_providers(request: Request) -> tuple[list[ExecutionProvider], ExecutionProvider]:
    """Return the user's providers, including the CPU's, and the reference provider, which runs what they can't."""
    if request.forbid_cpu and registry.CPU in request.asked:
        raise InvalidArgument(
            "Conflicting session configuration: explicitly added the CPU EP to the session, but also disabled fallback to the CPU "
            "EP via session configuration options."
        )
    chosen = [registry.create(name, options) for name, options in request.providers]
    fallback = registry.create(registry.REFERENCE, {})
    assert isinstance(fallback, ReferenceExecutionProvider)
    inner = functools.partial(compile_specialised, request=request)
    fallback.bodies = lambda: CompiledBodies(inner, functools.partial(knows, chosen))
    return chosen, fallback


def knows(providers: Sequence[ExecutionProvider], domain: str, name: str) -> bool:
    """Does one of the providers have this operator, which the standard lacks?"""
    return any(provider.knows(domain, name) for provider in providers)


def add_outputs(graph: ir.Graph, names: Sequence[str]) -> None:
    """Make intermediate values outputs of the graph. Raises InvalidArgument for an unknown name."""
    there = {value.name: value for value in graph.outputs}
    wanted = [name for name in names if name not in there]
    if not wanted:
        return
    values = {v.name: v for v in (*graph.inputs, *graph.initializers.values())}
    values.update((v.name, v) for node in graph for v in node.outputs if v.name)
    for name in wanted:
        if name not in values:
            raise InvalidArgument(f"Invalid output name:{name}")
        graph.outputs.append(values[name])


# ---- what the model says ----------------------------------------------------------------------------------------------------


def describe(model: ir.Model) -> tuple[list[NodeArg], list[NodeArg], list[NodeArg], ModelMetadata]:
    """Return the model's inputs, inputs with a default, outputs, and metadata."""
    graph = model.graph
    inputs = [node_arg(value) for value in graph.inputs if not value.is_initializer()]
    overridable = [node_arg(value) for value in graph.inputs if value.is_initializer()]
    metadata = ModelMetadata(
        custom_metadata_map=dict(model.metadata_props),
        description=model.doc_string or "",
        domain=model.domain or "",
        graph_description=graph.doc_string or "",
        graph_name=graph.name or "",
        producer_name=model.producer_name or "",
        version=NO_VERSION if model.model_version is None else model.model_version,
    )
    return inputs, overridable, [node_arg(value) for value in graph.outputs], metadata


def node_arg(value: ir.Value) -> NodeArg:
    """Describe a value as users see it. Sequences and maps have an empty shape."""
    kind = type_string(value) or ""
    sizes = [] if value.shape is None or kind.startswith(("seq(", "map(")) else list(value.shape)
    return NodeArg(str(value.name), kind, [size if isinstance(size, int) else size.value for size in sizes])


def make_feeds(graph: ir.Graph) -> Feeds:
    """Return the checks of the graph's inputs."""
    return Feeds(
        [input_spec(value) for value in graph.inputs if not value.is_initializer()],
        [input_spec(value) for value in graph.inputs if value.is_initializer()],
    )


def input_spec(value: ir.Value) -> InputSpec:
    """Return the check of one input."""
    kind = type_string(value) or ""
    sizes = None if value.shape is None else tuple(size if isinstance(size, int) else None for size in value.shape)
    dtype = None if kind == "tensor(string)" else tensor_dtype(value)
    return InputSpec(str(value.name), kind, dtype, sizes)


# ---- compiling --------------------------------------------------------------------------------------------------------------


def compile_graph(
    graph: ir.Graph, providers: Sequence[ExecutionProvider], request: Request, nested: bool = False
) -> tuple[CompiledModel, list[OrtEpAssignedSubgraph]]:
    """Partition the graph among the providers, the reference last, and compile the parts. It consumes the graph.

    nested: the graph is compiled for a run, so a size or rank that is unknown now stays unknown unless another part computes
    it.
    """
    inputs = tuple(str(value.name) for value in graph.inputs if not value.is_initializer())
    outputs = tuple(dict.fromkeys(str(value.name) for value in graph.outputs))
    constants = visible_constants(graph)
    done = compile_parts(graph, providers, request, nested)
    assignment = [assigned for _, assigned in done]
    check_allowed(assignment, request)
    debug.show(debug.RAN, "partition", describe_assignment(assignment))
    on_devices = any(provider.devices() for provider in providers)
    return CompiledModel(inputs, outputs, constants, tuple(step for step, _ in done), on_devices), assignment


Done = tuple[ModelStep, OrtEpAssignedSubgraph]  # a compiled part, and its provider and nodes
Claims = list[list[ir.Node]]  # groups of nodes


class Source(Struct, frozen=True):
    """Which provider compiles claimed nodes (its index in the list).

    late: when they first run, see session.late. bodies: it compiles nodes in the bodies of a control-flow node, see
    session.control_flow.
    """

    place: int
    late: bool = False
    bodies: bool = False


def compile_parts(graph: ir.Graph, providers: Sequence[ExecutionProvider], request: Request, nested: bool = False) -> list[Done]:
    """Compile the graph's parts that have outputs, in the order in which they run. It consumes the graph."""
    asked = ask(graph, providers, request.options, nested)
    sources = list(asked)
    parts = partition(graph, list(asked.values()))
    pieces = [(sources[part.provider], piece) for part, piece in zip(parts, extract(graph, parts), strict=True)]
    return [done for source, piece in pieces if piece.outputs for done in compile_part(piece, source, providers, request)]


def ask(
    graph: ir.Graph, providers: Sequence[ExecutionProvider], options: CompileOptions, nested: bool = False
) -> dict[Source, Claims]:
    """Return what each provider claims, by precedence: nodes that compile now, nodes that compile when they first run, and those
    of the reference. A provider is only asked while there are unclaimed nodes, and only about these.
    """
    *chosen, reference = providers
    found: dict[Source, Claims] = {}
    unclaimed = list(graph)
    for place, provider in enumerate(chosen):
        if unclaimed:
            groups = provider.get_capability(graph, unclaimed, options)
            found[Source(place)], unclaimed = granted(groups, unclaimed, provider)
        if unclaimed and provider.claims_bodies:
            divided = [[node] for node in unclaimed if has_claimed_bodies(node, provider, graph.opset_imports, options)]
            found[Source(place, bodies=True)], unclaimed = granted(divided, unclaimed, provider)
    for place, provider in enumerate(chosen):
        if unclaimed:
            groups = provider.get_late_capability(graph, unclaimed, options)
            if nested:  # a group that is the whole graph would come back unchanged at each run
                groups = [group for group in groups if len(group) < len(graph)]
            found[Source(place, late=True)], unclaimed = granted(groups, unclaimed, provider)
    if unclaimed:
        found[Source(len(chosen))] = [list(group) for group in reference.get_capability(graph, unclaimed, options)]
    return found


def has_claimed_bodies(node: ir.Node, provider: ExecutionProvider, imports: Mapping[str, int], options: CompileOptions) -> bool:
    """Does the provider claim nodes in the bodies of this node?"""
    if not any(True for _ in subgraphs(node)):
        return False
    from sardonyx.session import control_flow  # only other providers than the CPU's are asked about bodies

    return control_flow.is_control_flow(node, imports) and control_flow.claims_inside(node, provider, imports, options)


def granted(
    groups: Sequence[Sequence[ir.Node]], unclaimed: Sequence[ir.Node], provider: ExecutionProvider
) -> tuple[Claims, list[ir.Node]]:
    """Return what a provider may have of its claims, and the nodes that are left. Raises Fail for a claimed node that it was not
    asked about.
    """
    there, claimed = set(unclaimed), {node for group in groups for node in group}
    for node in claimed - there:
        raise Fail(f"{provider.name} claims {node.op_type} node '{node.name}', which it was not asked about")
    return [list(group) for group in groups if group], [node for node in unclaimed if node not in claimed]


def visible_constants(graph: ir.Graph) -> dict[str, Any]:
    """Return initializers that are outputs, or inputs that a caller may leave out."""
    seen = {value.name for value in (*graph.inputs, *graph.outputs)}
    return {
        name: array_of(value.const_value)
        for name, value in graph.initializers.items()
        if name in seen and value.const_value is not None
    }


def compile_part(piece: ir.Graph, source: Source, providers: Sequence[ExecutionProvider], request: Request) -> list[Done]:
    """Compile a part by the provider that claimed it. If the provider finds that it can't, the later providers are asked for its
    nodes.
    """
    budget.check("compiling it")
    provider, last = providers[source.place], len(providers) - 1
    try:
        executable = make_executable(piece, source, providers, request)
    except Unsupported as error:
        if source.place == last:
            raise errors.NotImplemented(str(error)) from error
        debug.show(debug.RAN, "refused", f"{provider.name} can't compile what it claimed: {error}")
        return compile_parts(piece, providers[source.place + 1 :], request)
    # The reference and nodes with divided bodies report the nodes of bodies themselves.
    told = piece if source.place == last or source.bodies else piece.all_nodes()
    nodes = tuple(OrtEpAssignedNode(node.name or "", node.domain, node.op_type) for node in told)
    names = tuple(str(v.name) for v in piece.inputs), tuple(str(v.name) for v in piece.outputs)
    return [(ModelStep(provider.name, executable, *names), OrtEpAssignedSubgraph(provider.name, nodes))]


def make_executable(piece: ir.Graph, source: Source, providers: Sequence[ExecutionProvider], request: Request) -> Executable:
    """Compile a part, or make an executable that compiles it when it first runs. Raises Unsupported if the provider can't
    compile it.
    """
    if source.late:
        return late_program(piece, functools.partial(compile_specialised, request=request))
    if source.bodies:
        from sardonyx.session.control_flow import ControlFlow  # only other providers than the CPU's have such nodes

        return ControlFlow(piece, functools.partial(compile_graph, providers=providers, request=request))
    return providers[source.place].compile(piece, request.options)


def compile_specialised(model: ir.Model, request: Request) -> tuple[CompiledModel, list[OrtEpAssignedSubgraph]]:
    """Optimise and compile a sub-graph whose unknown ranks and sizes a run has determined (see session.specialise)."""
    chosen, fallback = make_providers(request)
    optimise(model, request.options, functools.partial(knows, chosen))
    with creation():
        return compile_graph(model.graph, [*chosen, fallback], request, nested=True)


def check_allowed(assignment: Sequence[OrtEpAssignedSubgraph], request: Request) -> None:
    """Raise Fail, naming the nodes, if some run on a provider that the session's options forbid."""
    if request.forbid_reference and (nodes := assigned_to(assignment, registry.REFERENCE)):
        raise Fail(
            "This session contains graph nodes that are assigned to the reference provider, but fallback to it has been explicitly "
            f"disabled by the user: {', '.join(map(title, nodes))}"
        )
    fallen = [] if registry.CPU in request.asked else assigned_to(assignment, registry.CPU)
    fallen += [] if registry.REFERENCE in request.asked else assigned_to(assignment, registry.REFERENCE)
    if request.forbid_cpu and fallen:
        raise Fail(
            "This session contains graph nodes that are assigned to the default CPU EP, but fallback to CPU EP has been explicitly "
            f"disabled by the user. Nodes: {', '.join(map(title, fallen))}"
        )


def assigned_to(assignment: Sequence[OrtEpAssignedSubgraph], provider: str) -> list[OrtEpAssignedNode]:
    return [node for part in assignment if part.ep_name == provider for node in part.nodes]


def title(node: OrtEpAssignedNode) -> str:
    return f"{node.op_type} '{node.name}'" if node.name else node.op_type


def describe_assignment(assignment: Sequence[OrtEpAssignedSubgraph]) -> str:
    """Return one line per part: its provider, and how many nodes of each operator."""
    lines = []
    for part in assignment:
        counts: dict[str, int] = {}
        for node in part.nodes:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
        lines.append(f"{part.ep_name}: " + ", ".join(f"{name} x {count}" for name, count in counts.items()))
    return "\n".join(lines) or "no nodes"
