"""The middle of the compiler: turn a graph of tensors into kernels, their order and their memory. `lower` lists the steps."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from sardonyx.base.budget import check
from sardonyx.base.errors import running
from sardonyx.base.symbolic import Symbol, product, symbols
from sardonyx.expr.dependence import closure, depends_on
from sardonyx.expr.known import DataSymbol
from sardonyx.expr.origin import Origin
from sardonyx.expr.region import Region
from sardonyx.expr.require import braced
from sardonyx.expr.tensor import KernelCall, Read, Tensor, compute, operands
from sardonyx.loop.nodes import Const, Expr, Kernel
from sardonyx.loop.printer import key
from sardonyx.lower.arena import plan_memory
from sardonyx.lower.check import check_calls, check_nests, check_values
from sardonyx.lower.long_reductions import split_long_reductions
from sardonyx.lower.machine import Machine
from sardonyx.lower.pack import pack
from sardonyx.lower.parallel import ensure_parallel_loop, is_single_threaded
from sardonyx.lower.place import Nest, inline_views, place
from sardonyx.lower.precision import keep_wide
from sardonyx.lower.repetition import expand, most
from sardonyx.lower.schedule import Call, Repeat, Segment, Step, place_barriers
from sardonyx.lower.segment_levels import mark_levels
from sardonyx.lower.sharing import Kernels
from sardonyx.lower.split import Placed, split_nests
from sardonyx.lower.strips import make_strips
from sardonyx.lower.values import Value, reads_of, transform
from sardonyx.lower.values import depends_on as depends_on_value
from sardonyx.lower.verify import verify
from sardonyx.lower.winograd import rewrite_convolutions


class Lowered(Struct):
    """A lowered program: its kernels by name, its segments, and the tensors that it exchanges with the outside.

    constants   read by the program: weights, and tensors that a preparing program computes once from weights
    readbacks   elements of integer tensors that are read back between segments, as sizes of the later ones
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


Made = Callable[[Kernel, bool], object]  # called with each new kernel, and True if the preparing program needs it


def lower(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], machine: Machine, made: Made = lambda kernel, urgent: None
) -> tuple[Lowered, Lowered | None]:
    """Lower the graph to two programs: the main one, and one that computes its constants once, when the model is loaded.

    The second program is None if all constants are weights as they are. `made` is called with each kernel as soon as it is
    built.
    """
    results = own_buffers(inputs, outputs)
    readbacks = data_symbols(results)
    kept = [*results, *(p.tensor for p in readbacks)]
    values = {t: Value(t) for t in reachable(kept)}
    inline_scalars(values)
    moved = expand(values)
    kept = list(dict.fromkeys([*kept, *moved, *call_inputs(values)]))
    mark_constants(values, {*results, *moved, *(p.tensor for p in readbacks)})
    check_values(values, "repeated bodies were expanded")
    keep_wide(values, {*inputs, *kept})
    inline_views(values, kept, machine)
    rewrite_convolutions(values, {*kept}, machine)
    make_strips(values, {*kept}, machine)
    pack(values, machine, {*inputs, *kept})
    split_long_reductions(values, {*kept}, machine)
    check_values(values, "products were rewritten")
    run = {t: v for t, v in values.items() if not v.constant}
    constants = leaves(run, values, [p.tensor for p in readbacks])
    prepared = [t for t in constants if t.data is None]
    program = lower_part(run, inputs, results, kept, readbacks, constants, machine, lambda kernel: made(kernel, False))
    if not prepared:
        return program, None
    before = {t: v for t, v in values.items() if v.constant}
    for v in before.values():
        v.region = ()  # what depends on weights alone is computed before any loop that reads it
    for t in prepared:
        before[t].strides, before[t].has_layout = run[t].strides, True
    sources = [t for t in before if t.data is not None]
    whole = [*prepared, *(t for t in call_inputs(before) if t.data is None)]
    return program, lower_part(before, [], prepared, whole, [], sources, machine, lambda kernel: made(kernel, True))


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


def inline_scalars(values: dict[Tensor, Value]) -> None:
    """Replace reads of constants of one element by literals. Only dtypes that literals can have: f32, f64, bool, integers of
    8 bits or more."""
    literals: dict[Tensor, Expr] = {}
    for t in values:
        if t.data is not None and t.data.size == 1:
            number = t.data.load().reshape(()).item()
            plain = (t.dtype.is_integer and t.dtype.bits >= 8) or t.dtype.kind == "bool" or t.dtype.name in ("f32", "f64")
            if plain:
                literals[t] = Const(number, t.dtype)
    for v in values.values():
        if v.body is not None and not literals.keys().isdisjoint(r.tensor for r in reads_of(v)):
            v.body = transform(v.body, lambda r: literals.get(r.tensor, r) if r.guard is None else r)


def call_inputs(values: dict[Tensor, Value]) -> list[Tensor]:
    """List the tensors that hand-written kernels read. They must be whole, dense buffers."""
    calls = dict.fromkeys(t.call for t in values if t.call is not None)
    return [t for call in calls for t in call.inputs]


def mark_constants(values: dict[Tensor, Value], results: Container[Tensor]) -> None:
    """Mark the values that depend on weights alone, so that they are computed once, when the model is loaded.

    Values in `results` are never marked. The outputs of one hand-written kernel, or the parts of one tensor, are marked
    together or not at all.
    """
    asked = {t.call for t, v in values.items() if t.call is not None and (t in results or not is_fixed(v))}
    for t, v in sorted(values.items(), key=lambda item: item[1].id):
        if t.data is not None:
            v.constant = True
            continue
        sources = [r.tensor for r in reads_of(v)] + list(t.parts) + (list(t.call.inputs) if t.call else [])
        v.constant = bool(sources) and is_fixed(v) and not v.region and t.region is None and t not in results
        v.constant = v.constant and (t.call is None or t.call not in asked)
        v.constant = v.constant and all(values[s].constant for s in sources)
    for t, v in values.items():  # a part is constant only if its whole is
        if v.into is not None and v.constant and not values[v.into[0]].constant:
            v.constant = False
        if t.parts and not v.constant:
            for p in t.parts:
                values[p].constant = False


def is_fixed(v: Value) -> bool:
    """Tell whether v depends on no sizes and no iterations, only on its own loops."""
    return depends_on_value(v) <= set(v.all_loops)


def leaves(run: dict[Tensor, Value], values: dict[Tensor, Value], read_back: Iterable[Tensor]) -> list[Tensor]:
    """Collect the constants that `run` reads, or whose elements are sizes, and add each to `run` as a value without a body."""
    used = dict.fromkeys(t for t in read_back if values[t].constant)
    for t, v in run.items():
        for s in [r.tensor for r in reads_of(v)] + (list(t.call.inputs) if t.call else []):
            if values[s].constant:
                used[s] = None
    for t in used:
        leaf = run[t] = Value(t)
        leaf.body, leaf.fn, leaf.into, leaf.loops, leaf.constant = None, None, None, (), True
        leaf.has_layout = values[t].has_layout
    return list(used)


def lower_part(
    values: dict[Tensor, Value],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    kept: Sequence[Tensor],
    readbacks: Sequence[DataSymbol],
    constants: Sequence[Tensor],
    machine: Machine,
    made: Callable[[Kernel], object],
) -> Lowered:
    """Lower one program: place its values, build the kernels, order the calls in segments, and lay out memory.

    kept: tensors that need buffers of their own. constants: inputs that are filled before the first run.
    """
    mark_levels(values, readbacks)
    nests = place(values, [t for t in kept if t in values], machine)
    check_nests(nests, values)
    placed = list(split_nests(nests))
    kernels = KernelTable(made)
    shared = Kernels()
    items = [(p.at, p.nest.root.region, nest_call(p, values, machine, kernels, shared)) for p in placed]
    for call in dict.fromkeys(t.call for t in values if t.call is not None and t not in constants):
        first = min(call.outputs, key=lambda t: t.id)
        items.append((first.id, values[first].region, hand_written(call, kernels, first.origin)))
    check_calls(call for _, _, call in items)
    items.sort(key=lambda item: item[0])
    external = {*inputs, *outputs, *constants}
    read_back = frozenset(p.tensor for p in readbacks)
    tree = in_regions(items, (), values)
    levels = levels_of(tree)
    segments = [Segment()]  # a program without steps has one segment too
    for step in tree:
        level = level_of(step, levels)
        while len(segments) <= level:
            segments.append(Segment())
        segments[level].steps.append(step)
    inside = {t: values[t].region for q in tree for t in q.writes}
    owners: dict[Tensor, Segment] = {}  # a buffer lies in the arena of the segment that first writes it
    for segment in segments:
        for t in (t for q in segment.steps for t in q.writes if t not in external):
            owners.setdefault(t, segment)
    crossing = frozenset(t for s in segments for q in s.steps for t in (*q.reads, *q.writes) if s is not owners.get(t))
    for segment in segments:
        owned = {t: most(values[t].allocated, inside[t]) * t.dtype.itemsize for t, owner in owners.items() if owner is segment}
        place_barriers(segment.steps)
        plan_memory(segment, owned, read_back | crossing)
    verify(inputs, constants, readbacks, segments)
    order = orders(constants, values)
    return Lowered(
        list(inputs), list(outputs), list(constants), list(readbacks), segments, kernels.by_name, [p.nest for p in placed], order
    )


def orders(constants: Sequence[Tensor], values: dict[Tensor, Value]) -> dict[Tensor, list[int]]:
    """List the axes, outermost in memory first, of each weight that is stored in another order than its own."""
    out = {}
    for t in constants:
        steps = [0 if not isinstance(s, int) else s for s in values[t].strides]
        order = sorted(range(t.rank), key=lambda a: -steps[a])
        if t.data is not None and order != list(range(t.rank)):
            out[t] = order
    return out


def levels_of(steps: Sequence[Step]) -> dict[Tensor | Symbol, int]:
    """Assign each written tensor, and each loop's counters, to the number of its segment.

    The steps are visited again until nothing changes, because a step that decides a size may stand after one that needs the
    size.
    """
    levels: dict[Tensor | Symbol, int] = {}
    asked: set[Tensor] = set()  # tensors whose elements are sizes of the steps seen so far
    moving = True
    while moving:
        moving = False
        for step in steps:
            level = level_of(step, levels)
            asked |= {s.tensor for s in sizes_of(step) if isinstance(s, DataSymbol)}
            for t in step.writes:
                moving |= level > levels[t] if t in levels else t in asked
                levels[t] = max(level, levels.get(t, 0))
            if isinstance(step, Repeat):
                levels |= {s: level for s in (step.region.step, step.region.done) if s is not None}
    return levels


def level_of(step: Step, levels: dict[Tensor | Symbol, int]) -> int:
    """Return the number of the segment that a step belongs to: not before the segments that compute what it reads or count
    the iterations that it names, and after those that compute its sizes. Inputs are there from the start."""
    level = max((levels.get(t, 0) for t in all_reads(step)), default=0)
    for s in sizes_of(step):
        level = max(level, levels.get(s.tensor, -1) + 1 if isinstance(s, DataSymbol) else levels.get(s, 0))
    return level


def all_reads(step: Step) -> frozenset[Tensor]:
    """Collect the tensors that must be written before a step.

    For a loop these include its state, even if the body only writes it: without an iteration, the initial state is the
    result.
    """
    if isinstance(step, Call):
        return step.reads
    flags = () if step.flag is None else (step.flag,)
    return step.states.union(flags, *map(all_reads, step.steps))


def sizes_of(step: Step) -> frozenset[Symbol]:
    """Collect the symbols that a step's sizes, trip counts and result shapes depend on."""
    if isinstance(step, Repeat):
        return closure(symbols(step.region.trip)).union(*map(sizes_of, step.steps))
    return closure(frozenset().union(*map(symbols, step.sizes), *(symbols(n) for t in step.writes for n in t.shape)))


Item = tuple[float, tuple[Region, ...], Call]


def in_regions(items: Sequence[Item], path: tuple[Region, ...], values: dict[Tensor, Value]) -> list[Step]:
    """Return the steps at this depth. Calls in deeper regions become one Repeat per region, placed just before the region's
    first output.

    items: (position in the program, regions that enclose the call, call). path: the regions that enclose this depth.
    """
    own: list[tuple[float, Step]] = [(at, call) for at, where, call in items if where == path]
    inner: dict[Region, list[Item]] = {}
    for at, where, call in items:
        if len(where) > len(path) and where[: len(path)] == path:
            inner.setdefault(where[len(path)], []).append((at, where, call))
    for region, inside in inner.items():
        steps = in_regions(inside, (*path, region), values)
        found = Repeat(region, steps, flag_of(region, values))
        found.states = found.writes & {state_buffer(c.state, values) for c in region.states}
        own.append((region.at - 0.25, found))
    return [step for _, step in sorted(own, key=lambda item: item[0])]


def flag_of(region: Region, values: dict[Tensor, Value]) -> Tensor | None:
    """Return the tensor that decides whether the region's next iteration runs, or None if the trip count alone decides."""
    return region.flag if region.proceed is None else state_buffer(region.proceed.state, values)


def state_buffer(state: Tensor, values: dict[Tensor, Value]) -> Tensor:
    """Return the double buffer that holds a state (see lower.repetition)."""
    read = values[state].body
    assert isinstance(read, Read)
    return read.tensor


class KernelTable(Struct):
    """The kernels of a program by name. `made` is called with each as soon as it is built, so that it compiles while others
    are built."""

    made: Callable[[Kernel], object]
    by_name: dict[str, Kernel] = field(default_factory=dict)
    single_threaded: dict[str, bool] = field(default_factory=dict)

    def keep(self, kernel: Kernel) -> Kernel:
        """Return the kernel of this name; if there is none yet, add this one."""
        if kernel.name not in self.by_name:
            self.by_name[kernel.name] = kernel
            self.made(kernel)
        return self.by_name[kernel.name]

    def is_single_threaded(self, kernel: Kernel) -> bool:
        """Tell whether one thread computes the whole kernel. The answer is memoised."""
        if kernel.name not in self.single_threaded:
            self.single_threaded[kernel.name] = is_single_threaded(kernel.body)
        return self.single_threaded[kernel.name]


def nest_call(placed: Placed, values: dict[Tensor, Value], machine: Machine, kernels: KernelTable, shared: Kernels) -> Call:
    """Build the nest's kernel, or reuse an equal one, and return the call with its arguments, sizes and error messages."""
    nest = placed.nest
    check(f"making the loops of {nest.root}")
    kernel, arguments, sizes, work = shared.build(nest, values, machine, placed.single_threaded)
    kernel = kernels.keep(kernel)
    origins = tuple(dict.fromkeys(v.tensor.origin for v in nest.statements))
    writes = frozenset((v.into[0] if v.into else v.tensor) for v in [nest.root, *(m for m in nest.members if m.stored)])
    checked = dict.fromkeys(o for v in nest.statements for o in v.checked)
    checks = said_of(checked or origins, ("index {0} is out of bounds for an axis of {1}",))
    return Call(kernel, arguments, sizes, writes, origins, checks, work=work, single_threaded=kernels.is_single_threaded(kernel))


def said_of(origins: Iterable[Origin], messages: Sequence[str]) -> tuple[str, ...]:
    """Return the error messages of a call's checks; each names the nodes in which the check can fail."""
    title = " or ".join(dict.fromkeys(o.full for o in origins if o))
    return tuple(running(braced(title), message) for message in messages)


def hand_written(call: KernelCall, kernels: KernelTable, origin: Origin) -> Call:
    """Return the call of a hand-written kernel. An estimate of its work is made if the operator has given none."""
    kernel = replace(call.kernel, body=ensure_parallel_loop(call.kernel.body))
    kernel = kernels.keep(replace(kernel, name=f"k_{key(kernel)[:20]}"))
    arguments = [*call.inputs, *call.outputs]
    work = sum((product(t.shape) for t in arguments), start=0) * HAND_WRITTEN if call.work is None else call.work
    single_threaded = kernels.is_single_threaded(kernel)
    checks = said_of([origin], call.checks)
    return Call(
        kernel, arguments, list(call.sizes), frozenset(call.outputs), (origin,), checks, work=work, single_threaded=single_threaded
    )


HAND_WRITTEN = 8
"""Operations per element of its arguments that a hand-written kernel is guessed to do: good enough to tell little work from
much."""
