"""The middle of the compiler: turn a graph of tensors into kernels, their order and their memory, in named steps (see the end).

    VALUES     of all values together: bodies are expanded, narrow floats kept wide, products rewritten and packed
    PROGRAM    of the program, then of the one that prepares its constants: values placed, kernels built, ordered, memory planned

SARDONYX_STEPS leaves out the optional ones after a number or a name, to find the step that breaks a model. Their numbers follow those of
the graph's passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct, field

from sardonyx.base.steps import last_optional
from sardonyx.expr.dependence import depends_on
from sardonyx.expr.known import DataSymbol
from sardonyx.expr.tensor import Read, Tensor, compute, operands
from sardonyx.graph.passes import NAMES as PASSES
from sardonyx.loop.nodes import Kernel
from sardonyx.lower.affine import sum_in_integers
from sardonyx.lower.arena import plan_memory
from sardonyx.lower.calls import KernelTable, hand_written, nest_call
from sardonyx.lower.check import check_calls, check_nests, check_values
from sardonyx.lower.constants import call_inputs, inline_scalars, leaves, mark_constants, orders
from sardonyx.lower.divisions import multiply_by_reciprocals
from sardonyx.lower.long_reductions import split_long_reductions
from sardonyx.lower.machine import Machine
from sardonyx.lower.order import Item, in_regions, in_segments
from sardonyx.lower.pack import pack
from sardonyx.lower.place import Decision, Nest, inline_views, place
from sardonyx.lower.precision import keep_wide
from sardonyx.lower.repetition import expand, most
from sardonyx.lower.schedule import Segment, calls, place_barriers
from sardonyx.lower.schedule import Step as ProgramStep
from sardonyx.lower.segment_levels import mark_levels
from sardonyx.lower.sharing import Kernels
from sardonyx.lower.split import Placed, split_nests
from sardonyx.lower.steps import Step, run_list
from sardonyx.lower.strips import make_strips
from sardonyx.lower.values import Value
from sardonyx.lower.verify import verify
from sardonyx.lower.winograd import rewrite_convolutions


class Lowered(Struct):
    """A lowered program: its kernels by name, its segments, and the tensors that it exchanges with the outside.

    constants   read by the program: weights, and tensors that a preparing program computes once from weights
    readbacks   elements of integer tensors that are read back between segments, as sizes of the later ones
    decisions   where each value was placed, and why not elsewhere
    orders      for each weight that is stored in another order than its own: the axes, outermost first
    """

    inputs: list[Tensor]
    outputs: list[Tensor]
    constants: list[Tensor]
    readbacks: list[DataSymbol]
    segments: list[Segment]
    kernels: dict[str, Kernel]
    nests: list[Nest]
    orders: dict[Tensor, list[int]]
    decisions: list[Decision]


Made = Callable[[Kernel, bool], object]  # called with each new kernel, and True if the preparing program needs it


def lower(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], machine: Machine, made: Made = lambda kernel, urgent: None
) -> tuple[Lowered, Lowered | None]:
    """Lower the graph to two programs: the main one, and one that computes its constants once, when the model is loaded.

    The second program is None if all constants are weights as they are. `made` is called with each kernel as soon as it is
    built. Raises LoweringError for a fault of lowering, ValueError if SARDONYX_STEPS names a step that there is not.
    """
    limit = last_optional(NAMES)
    graph = whole_graph(inputs, outputs, machine)
    run_list(VALUES, graph, len(PASSES) + 1, limit, "values")
    part = program_part(graph, lambda kernel: made(kernel, False))
    run_list(PROGRAM, part, FIRST_OF_PROGRAM, limit, "program")
    if not any(t.data is None for t in part.constants):
        return part.lowered(), None
    before = preparing_part(graph, part, lambda kernel: made(kernel, True))
    run_list(PROGRAM, before, FIRST_OF_PROGRAM, limit, "preparation")
    return part.lowered(), before.lowered()


# ---- what the steps work on -----------------------------------------------------------------------------------------------


class WholeGraph(Struct):
    """All values of a graph. kept: tensors that others read as they are. asked: tensors that are computed in each run, even from weights
    alone."""

    inputs: Sequence[Tensor]
    results: list[Tensor]
    readbacks: list[DataSymbol]
    values: dict[Tensor, Value]
    machine: Machine
    kept: list[Tensor]
    asked: set[Tensor]

    def text(self) -> str:
        from sardonyx.lower.printer import values_text

        return values_text(self.values)

    def expand_bodies(self) -> None:
        """Add what repeated bodies need. After this, all tensors that must keep their buffers are known."""
        moved = expand(self.values)
        self.kept = list(dict.fromkeys([*self.kept, *moved, *call_inputs(self.values)]))
        self.asked |= moved


class Part(Struct):
    """One of the two programs. allowed: optional rules and choices that its steps may use; steps before them add these."""

    values: dict[Tensor, Value]
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    kept: Sequence[Tensor]
    readbacks: Sequence[DataSymbol]
    constants: list[Tensor]
    machine: Machine
    kernels: KernelTable
    allowed: set[str] = field(default_factory=set)
    decisions: list[Decision] = field(default_factory=list)
    nests: list[Placed] = field(default_factory=list)
    calls: list[Item] = field(default_factory=list)
    tree: list[ProgramStep] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)

    def text(self) -> str:
        from sardonyx.lower.printer import program_text, values_text

        return "\n".join(filter(None, (values_text(self.values), program_text(self.segments))))

    def place(self) -> None:
        """Give every value its place and every statement its nest."""
        nests, self.decisions = place(self.values, [t for t in self.kept if t in self.values], self.machine, self.allowed)
        self.nests = [Placed(nest.root.id, nest, False) for nest in nests]

    def check_nests(self) -> None:
        check_nests([p.nest for p in self.nests], self.values)

    def split_nests(self) -> None:
        self.nests = list(split_nests([p.nest for p in self.nests]))

    def build_kernels(self) -> None:
        """Make a call for each nest and each hand-written kernel, in the order of their values."""
        shared = Kernels("share_kernels" in self.allowed)
        values = self.values
        items = [(p.at, p.nest.root.region, nest_call(p, values, self.machine, self.kernels, shared)) for p in self.nests]
        for call in dict.fromkeys(t.call for t in values if t.call is not None and t not in self.constants):
            first = min(call.outputs, key=lambda t: t.id)
            items.append((first.id, values[first].region, hand_written(call, self.kernels, first.origin)))
        self.calls = sorted(items, key=lambda item: item[0])

    def check_calls(self) -> None:
        check_calls(call for _, _, call in self.calls)

    def order_calls(self) -> None:
        """Put calls into repeated bodies and segments, with a barrier before each call."""
        self.tree = in_regions(self.calls, (), self.values)
        self.segments = in_segments(self.tree)
        for segment in self.segments:
            for call in calls(segment.steps):
                call.barrier = True

    def place_barriers(self) -> None:
        for segment in self.segments:
            place_barriers(segment.steps)

    def plan_memory(self) -> None:
        """Put each buffer into the arena of the segment that first writes it."""
        external = {*self.inputs, *self.outputs, *self.constants}
        inside = {t: self.values[t].region for q in self.tree for t in q.writes}
        owners: dict[Tensor, Segment] = {}
        for segment in self.segments:
            for t in (t for q in segment.steps for t in q.writes if t not in external):
                owners.setdefault(t, segment)
        touched = ((s, t) for s in self.segments for q in s.steps for t in (*q.reads, *q.writes))
        lasting = {r.tensor for r in self.readbacks}.union(t for s, t in touched if s is not owners.get(t))
        for segment in self.segments:
            owned = {
                t: most(self.values[t].allocated, inside[t]) * t.dtype.itemsize for t, owner in owners.items() if owner is segment
            }
            plan_memory(segment, owned, frozenset(lasting if "share_memory" in self.allowed else owned))

    def verify(self) -> None:
        verify(self.inputs, self.constants, self.readbacks, self.segments)

    def lowered(self) -> Lowered:
        order = orders(self.constants, self.values)
        nests = [p.nest for p in self.nests]
        inputs, outputs, readbacks = list(self.inputs), list(self.outputs), list(self.readbacks)
        return Lowered(
            inputs, outputs, self.constants, readbacks, self.segments, self.kernels.by_name, nests, order, self.decisions
        )


def whole_graph(inputs: Sequence[Tensor], outputs: Sequence[Tensor], machine: Machine) -> WholeGraph:
    """Make the state before the first step."""
    results = own_buffers(inputs, outputs)
    readbacks = data_symbols(results)
    asked = [*results, *(r.tensor for r in readbacks)]
    return WholeGraph(inputs, results, readbacks, {t: Value(t) for t in reachable(asked)}, machine, asked, set(asked))


def program_part(graph: WholeGraph, made: Callable[[Kernel], object]) -> Part:
    """Select what is computed in each run."""
    values = {t: v for t, v in graph.values.items() if not v.constant}
    constants = leaves(values, graph.values, [r.tensor for r in graph.readbacks])
    return Part(values, graph.inputs, graph.results, graph.kept, graph.readbacks, constants, graph.machine, KernelTable(made))


def preparing_part(graph: WholeGraph, program: Part, made: Callable[[Kernel], object]) -> Part:
    """Select what is computed once, and give it the layouts in which the program reads it."""
    prepared = [t for t in program.constants if t.data is None]
    values = {t: v for t, v in graph.values.items() if v.constant}
    for v in values.values():
        v.region = ()  # what depends on weights alone is computed before any loop that reads it
    for t in prepared:
        values[t].strides, values[t].has_layout = program.values[t].strides, True
    sources = [t for t in values if t.data is not None]
    whole = [*prepared, *(t for t in call_inputs(values) if t.data is None)]
    return Part(values, [], prepared, whole, [], sources, graph.machine, KernelTable(made))


def own_buffers(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Tensor]:
    """Give each output a buffer of its own: outputs that are inputs, weights, parts of other tensors, or listed twice are
    copied."""
    out: list[Tensor] = []
    for t in outputs:
        plain = t.body is not None or t.parts or t.call is not None
        if not plain or t.into is not None or t in inputs or t in out:
            t = copy_of(t)
        out.append(t)
    return out


def copy_of(t: Tensor) -> Tensor:
    """Make a tensor that copies t element by element."""
    return compute(t.dtype, t.shape, lambda *i: Read(t, tuple(i)))


def reachable(outputs: Iterable[Tensor]) -> list[Tensor]:
    """Collect all tensors that the outputs depend on, operands before their readers."""
    seen: set[Tensor] = set()
    stack = list(outputs)
    while stack:
        t = stack.pop()
        if t in seen:
            continue
        seen.add(t)
        stack += operands(t)
        if t.call is not None:
            stack += t.call.outputs
        if t.into is not None:
            stack.append(t.into[0])
        if t.region is not None:
            stack += t.region.outputs
    return sorted(seen, key=lambda t: t.id)


def data_symbols(outputs: Sequence[Tensor]) -> list[DataSymbol]:
    """Collect the sizes that are elements of tensors, in the order in which those tensors are computed."""
    found: dict[DataSymbol, None] = {}
    waiting = list(outputs)
    seen: set[Tensor] = set()
    while waiting:
        fresh = [t for t in reachable(waiting) if t not in seen]
        waiting = []
        for t in fresh:
            seen.add(t)
            for s in depends_on(t):
                if isinstance(s, DataSymbol) and s not in found:
                    found[s] = None
                    waiting.append(s.tensor)
    return sorted(found, key=lambda s: (s.tensor.id, s.position))


# ---- the steps ------------------------------------------------------------------------------------------------------------


def allow(name: str) -> Step[Part]:
    """Make the step that lets later steps use the rule or choice of this name."""
    return Step(name, lambda part: part.allowed.add(name), optional=True)


VALUES: tuple[Step[WholeGraph], ...] = (
    Step("inline_scalars", lambda g: inline_scalars(g.values), optional=True, reads="body", sets="body"),
    Step("expand_bodies", WholeGraph.expand_bodies, reads="axes body fn into region", sets="body into place region is_next_state"),
    Step(
        "mark_constants",
        lambda g: mark_constants(g.values, g.asked),
        check=lambda g: check_values(g.values, "repeated bodies were expanded"),
        reads="axes body constant into loops region shape guard",
        sets="constant",
    ),
    Step(
        "keep_wide",
        lambda g: keep_wide(g.values, {*g.inputs, *g.kept}),
        optional=True,
        reads="axes body constant fn into loops place region",
        sets="body",
    ),
    Step(
        "inline_views",
        lambda g: inline_views(g.values, g.kept, g.machine),
        reads="axes body fn into checked",
        sets="body checked place",
    ),
    Step(
        "sum_in_integers",
        lambda g: sum_in_integers(g.values, g.machine),
        optional=True,
        reads="axes body constant fn into loops place region shape",
        sets="body fn loops",
    ),
    Step(
        "rewrite_convolutions",
        lambda g: rewrite_convolutions(g.values, {*g.kept}, g.machine),
        optional=True,
        reads="axes body constant fn into loops checked place region",
        sets="body fn into loops checked place",
    ),
    Step(
        "make_strips",
        lambda g: make_strips(g.values, {*g.kept}, g.machine),
        optional=True,
        reads="axes body constant fn into loops place region shape is_next_state",
        sets="body fn into loops place",
    ),
    Step(
        "pack",
        lambda g: pack(g.values, g.machine, {*g.inputs, *g.kept}),
        optional=True,
        reads="axes body constant fn into loops place region strides",
        sets="body contracts loops",
    ),
    Step(
        "split_long_reductions",
        lambda g: split_long_reductions(g.values, {*g.kept}, g.machine),
        optional=True,
        check=lambda g: check_values(g.values, "products were rewritten"),
        reads="axes body constant contracts fn into has_layout loops checked region shape strides tile is_next_state",
        sets="body loops",
    ),
)
PROGRAM: tuple[Step[Part], ...] = (
    Step(
        "mark_levels",
        lambda p: mark_levels(p.values, p.readbacks),
        reads="axes body into loops region shape level guard",
        sets="level",
    ),
    allow("inline"),
    allow("tile"),
    allow("row"),
    Step(
        "place",
        Part.place,
        check=Part.check_nests,
        reads="axes body constant contracts fn into has_layout loops nest checked place region shape stored strides tile is_next_state level guard",
        sets="axes body fn into has_layout loops nest checked place allocated stored strides tile",
    ),
    Step(
        "split_nests",
        Part.split_nests,
        optional=True,
        reads="body contracts into loops tile is_next_state",
        sets="nest place stored",
    ),
    Step(
        "multiply_by_reciprocals",
        lambda p: multiply_by_reciprocals((v for q in p.nests for v in q.nest.statements), p.machine),
        optional=True,
        reads="body",
        sets="body",
    ),
    allow("share_kernels"),
    Step(
        "build_kernels",
        Part.build_kernels,
        check=Part.check_calls,
        reads="axes body contracts fn into loops checked region shape stored strides tile guard",
        sets="axes body into loops",
    ),
    Step("order_calls", Part.order_calls, reads="body"),
    Step("place_barriers", Part.place_barriers, optional=True),
    allow("share_memory"),
    Step("plan_memory", Part.plan_memory, check=Part.verify, reads="region allocated"),
)
NAMES = (*PASSES, *(step.name for step in VALUES), *(step.name for step in PROGRAM))
FIRST_OF_PROGRAM = len(PASSES) + len(VALUES) + 1
"""The number of PROGRAM's first step."""
