"""Turns a lowered program into what the runtime needs: a spec, the plans that compute its sizes and addresses, and its step
tables.

Every slot of the run context is allotted here.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from sardonyx.base.cache_line import LINE
from sardonyx.base.errors import Fail, running
from sardonyx.base.symbolic import (
    Atom,
    Defined,
    Derived,
    Dim,
    Int,
    Symbol,
    definitions,
    evaluate,
    ground,
    maximum,
    round_up,
    single,
    substitute,
    symbols,
    terms,
    value,
)
from sardonyx.codegen.plans import Expected
from sardonyx.codegen.scratch import scratch_bytes
from sardonyx.expr.dependence import closure
from sardonyx.expr.known import DataSymbol
from sardonyx.expr.region import Region
from sardonyx.expr.require import Requirement, braced
from sardonyx.expr.tensor import Tensor
from sardonyx.lower.lowered import Lowered
from sardonyx.lower.machine import Machine
from sardonyx.lower.repetition import Path, most
from sardonyx.lower.schedule import Call, Repeat, Segment, Step, bytes_of, calls, work
from sardonyx.runtime import abi
from sardonyx.runtime.execution import LARGEST, Condition, Port, ProgramSpec, Readback, SegmentSpec
from sardonyx.runtime.steps import CallStep, LoopStep, PlanStep, RunStep, rows

CHUNK = 4_000_000
"""Operations of the smallest chunk of a call, about 25 microseconds of work."""
CHUNKS = 4
"""The most chunks of a thread's range. If a core is slower than others, or busy, other threads steal its remaining chunks."""
STRIP = 1 << 24
"""Operations of a strip, after which a thread polls should_stop: some milliseconds of work."""
UNKNOWN = Machine().small
"""The size that is assumed for an unknown size."""


def chunks_of(work: Dim) -> int:
    """Return into how many chunks a thread's range is divided, for a call of `work` operations."""
    return max(1, min(CHUNKS, evaluate(work, lambda s: UNKNOWN) // (CHUNKS * CHUNK)))


def require_words(spec: ProgramSpec) -> None:
    """Raise Fail if a number of the spec doesn't fit a slot."""
    sizes = (n for port in (*spec.inputs, *spec.outputs) for n in port.shape)
    placed = (offset for segment in spec.segments for _, offset in segment.placed)
    for number in (*(n for _, n in spec.fixed), *sizes, *placed):
        if not -1 - LARGEST <= number <= LARGEST:
            raise Fail(f"a size of {number} does not fit in 64 bits")


class MidRunPlan(Struct):
    """A plan that runs between the kernels of a run: at the start of each iteration of a loop, or after its last one.

    It computes what depends on the number of the iteration or on the number of iterations, and checks the conditions on such
    sizes. point: the order of the plans. A later plan may use what earlier plans of the segment compute, and runs again
    whenever they do.
    """

    name: str
    point: int
    assignments: list[tuple[int, Dim]] = field(default_factory=list)
    tests: list[Expected] = field(default_factory=list)


class Assembly(Struct):
    """What code generation and the runtime need: the spec, the plans, the slot of each symbol, and the slots of estimates."""

    spec: ProgramSpec
    plans: dict[str, list[tuple[int, Dim]]]
    mid_run_plans: list[MidRunPlan]
    slots: dict[Symbol, int]
    estimates: frozenset[int]


def assemble(program: Lowered, requirements: Sequence[Requirement], timed: bool = False, flags: int = 0) -> Assembly:
    """Allot the slots of a program's context, and make its spec and plans.

    timed: add up the cycles of each call. flags: abi.FLUSH and abi.NO_SPIN.
    """
    assembler = Assembler(program, timed)
    if flags:
        assembler.fixed.append((abi.FLAGS, flags))
    return assembler.run(requirements)


class Assembler(Struct):
    """The state of `assemble`: which slots hold what, and the plans so far."""

    program: Lowered
    timed: bool
    slots: dict[Symbol, int] = field(default_factory=dict)
    plans: dict[str, list[tuple[int, Dim]]] = field(default_factory=dict)
    next_slot: int = abi.FIRST_SLOT
    memory: dict[Tensor, Dim] = field(default_factory=dict)  # addresses that are computed in each run
    places: dict[Tensor, tuple[int, int]] = field(default_factory=dict)  # other addresses: the segment, and the offset in its arena
    numbered: dict[Tensor, int] = field(default_factory=dict)  # the number of each constant
    placed: list[list[tuple[int, int]]] = field(default_factory=list)  # for each segment: (slot, offset in its arena)
    call_names: list[tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)
    fixed: list[tuple[int, int]] = field(default_factory=list)  # slots whose number never changes
    pointers: list[tuple[int, int]] = field(default_factory=list)  # slots that hold the address of a constant
    # slots of estimates, which get the largest i64 if they overflow
    estimates: set[int] = field(default_factory=lambda: {abi.WORK})
    ticks: int = 0  # the first of the slots that add up the calls' cycles
    # for each loop: the slots that hold the number of its iteration
    counters: dict[Symbol, list[int]] = field(default_factory=dict)
    mid_run_plans: list[MidRunPlan] = field(default_factory=list)
    # for each symbol that changes while this segment runs: the plan that runs when it has changed
    change_plans: dict[Symbol, MidRunPlan] = field(default_factory=dict)
    required: dict[Region, list[Requirement]] = field(default_factory=dict)  # conditions to check in each iteration, or in a branch
    points: int = 0  # how many plans between calls have been made
    shapes: list[list[int]] = field(default_factory=list)  # sizes of each output, or -1 - the slot that holds the size

    def run(self, requirements: Sequence[Requirement]) -> Assembly:
        """Allot slots to inputs, constants, outputs and arenas, then make the plans and steps of each segment."""
        p = self.program
        self.require_countable()
        sizes, same = self.input_sizes()
        for readback in p.readbacks:
            self.slot_of(readback)
        inputs = [self.port(t, f"@input{i}") for i, t in enumerate(p.inputs)]
        self.numbered = {t: i for i, t in enumerate(p.constants)}
        output_slots = [self.address(t, f"@output{i}") for i, t in enumerate(p.outputs)]
        for i, segment in enumerate(p.segments):
            self.slot_of(Symbol(f"@arena{i}"))
            self.new_slots(1)  # the arena's size in bytes
            self.place(i, segment)
        count = sum(1 for s in p.segments for _ in calls(s.steps)) + sum(1 for s in p.segments for _ in paths_in(s.steps))
        self.ticks = self.new_slots(count)  # calls and the conditions of loops are numbered together
        self.shapes = [[self.size_slot(n) for n in t.shape] for t in p.outputs]
        outputs = [Port(t.name, t.dtype, tuple(s), slot) for t, s, slot in zip(p.outputs, self.shapes, output_slots, strict=True)]
        waiting = [*same, *self.divide_requirements(requirements)]
        steps: list[tuple[RunStep, ...]] = []
        specs: list[SegmentSpec] = []
        ready: set[Symbol] = {s for s in self.slots if s not in p.readbacks}
        done: set[int] = set()
        readbacks_left = list(p.readbacks)
        for i, segment in enumerate(p.segments):
            found = [q for q in readbacks_left if self.is_written_before(q.tensor, i)]
            readbacks_left = [q for q in readbacks_left if q not in found]
            ready |= set(found)
            known = [o for o, t in enumerate(p.outputs) if o not in done and self.covered(t.shape, ready)]
            done |= set(known)
            now = [r for r in waiting if ground(r.dim) <= ready]
            waiting = [r for r in waiting if r not in now]
            told: list[tuple[int, Dim]] = []
            conditions = tuple(self.condition(r, ready, told) for r in now)
            self.plan_sizes(i, segment, known, [*((c.slot, r.dim) for c, r in zip(conditions, now, strict=True)), *told])
            self.plans.setdefault(f"plan_{i}", [])
            self.change_plans = {}
            steps.append(self.without_empty(self.run_steps(segment.steps, i, ())))
            arena = self.slots[Symbol(f"@arena{i}")]
            specs.append(SegmentSpec(tuple(map(self.readback, found)), arena, tuple(known), conditions, ()))
        names = [*p.kernels, *(b.name for b in self.mid_run_plans)]
        # Rows are made last, because calls of later segments may add slots to a loop's counters.
        tables = [rows(s, {name: number for number, name in enumerate(names)}) for s in steps]
        spec = ProgramSpec(
            self.next_slot,
            tuple(inputs),
            tuple(outputs),
            tuple(self.pointers),
            tuple(self.fixed),
            tuple(sizes),
            tuple(s._replace(placed=tuple(w), steps=t) for s, w, t in zip(specs, self.placed, tables, strict=True)),
            tuple(self.call_names),
            tuple(names),
            self.ticks,
        )
        self.define()
        spec = spec._replace(slots=self.next_slot)
        require_words(spec)
        return Assembly(spec, self.plans, self.mid_run_plans, self.slots, frozenset(self.estimates))

    def define(self) -> None:
        """Let every plan begin by computing the named sizes (`Defined`) that it uses."""
        for assignments in (*self.plans.values(), *(b.assignments for b in self.mid_run_plans)):
            used = definitions(set().union(*(symbols(d) for _, d in assignments)))
            assignments[:0] = [(self.slot_of(s), s.definition) for s in used]

    # ---- slots --------------------------------------------------------------------------------------------------------------

    def new_slots(self, count: int) -> int:
        first, self.next_slot = self.next_slot, self.next_slot + count
        return first

    def slot_of(self, s: Symbol) -> int:
        if s not in self.slots:
            self.slots[s] = self.new_slots(1)
        return self.slots[s]

    def pointer(self, t: Tensor) -> int:
        """Allot a slot for the address of a constant."""
        slot = self.new_slots(1)
        self.pointers.append((slot, self.numbered[t]))
        return slot

    def address(self, t: Tensor, name: str) -> int:
        s = Symbol(name)
        self.memory[t] = value(s)
        return self.slot_of(s)

    def place(self, i: int, segment: Segment) -> None:
        """Record where the buffers of the segment's arena lie."""
        base = value(Symbol(f"@arena{i}"))
        self.placed.append([])
        for t, offset in segment.offsets.items():
            if isinstance(offset, int):
                self.places[t] = i, offset
            else:
                self.memory[t] = base + offset

    def address_of(self, t: Tensor) -> Dim:
        """Return the address of a tensor that is no constant."""
        if t not in self.places:
            return self.memory[t]
        i, offset = self.places[t]
        return value(Symbol(f"@arena{i}")) + offset

    def port(self, t: Tensor, name: str) -> Port:
        shape = tuple(n if isinstance(n, int) else -1 for n in t.shape)
        return Port(t.name, t.dtype, shape, self.address(t, name))

    def input_sizes(self) -> tuple[list[tuple[int, int, int]], list[Requirement]]:
        """Return (slot, input, axis) for each axis with a symbolic size, and the requirements that axes with one symbol have
        equal sizes.
        """
        found: list[tuple[int, int, int]] = []
        same: list[Requirement] = []
        for i, t in enumerate(self.program.inputs):
            for axis, n in enumerate(t.shape):
                s = single(n)
                if s is None:
                    continue
                if s in self.slots:
                    again = Symbol(f"{s.name}@{i}.{axis}")
                    found.append((self.slot_of(again), i, axis))
                    dim = value(again) - value(s)
                    text = f"the size {s.name} of input {t.name}, axis {axis}, differs from that of an earlier input"
                    same.append(Requirement(dim, "zero", braced(text), named=True))
                else:
                    found.append((self.slot_of(s), i, axis))
        return found, same

    def require_countable(self) -> None:
        """Raise Fail for a value whose number of bytes exceeds 64 bits whatever the symbolic sizes are."""
        for t in (*self.program.outputs, *(t for segment in self.program.segments for t in segment.offsets)):
            if any(abs(factor) > LARGEST for factor in terms(bytes_of(t)).values()):
                raise Fail(f"{t.origin or t.name}: a value of shape {list(t.shape)} has more bytes than fit in 64 bits")

    def size_slot(self, n: Dim) -> int:
        """Return n if it is a number, else -1 - the slot that will hold it."""
        if isinstance(n, int):
            return n
        s = single(n)
        if isinstance(s, Defined):
            return -1 - self.slot_of(s)
        return -1 - (self.slots[s] if s in self.slots else self.new_slots(1))

    # ---- segments -----------------------------------------------------------------------------------------------------------

    def condition(self, r: Requirement, ready: set[Symbol], told: list[tuple[int, Dim]]) -> Condition:
        """Encode a requirement for the runtime. told: this method appends (slot, size) for each size that the message shows and
        no slot holds yet.
        """
        sizes = [self.message_slot(n, told) if ground(n) <= ready else None for n in r.values]
        text, places = with_known(r.text, sizes)
        message = running(braced(r.title), text) if r.title else text
        return Condition(self.new_slots(1), r.relation == "zero", message, places, r.named)

    def message_slot(self, n: Dim, told: list[tuple[int, Dim]]) -> int:
        """Return -1 - the slot that holds a size; a formula gets a slot, and is added to `told` for the plan to compute."""
        s = single(n)
        if s in self.slots and not isinstance(s, Defined):
            return -1 - self.slots[s]
        slot = next((slot for slot, there in told if there == n), None)
        if slot is None:
            slot = self.new_slots(1)
            told.append((slot, n))
        return -1 - slot

    def is_written_before(self, t: Tensor, i: int) -> bool:
        """Is t fed, a constant, or completely written by segments before the i-th?"""
        p = self.program
        if t in p.inputs or t in p.constants:
            return True
        writers = [k for k, s in enumerate(p.segments) if any(t in c.writes for c in calls(s.steps))]
        return bool(writers) and max(writers) < i

    def covered(self, shape: Sequence[Dim], ready: set[Symbol]) -> bool:
        return all(ground(n) <= ready for n in shape)

    def readback(self, q: DataSymbol) -> Readback:
        if q.tensor in self.numbered:
            return Readback(self.slots[q], self.pointer(q.tensor), q.position, q.tensor.dtype)
        at = self.address_of(q.tensor)
        if (given := single(at)) is not None:
            return Readback(self.slots[q], self.slots[given], q.position, q.tensor.dtype)
        source = self.new_slots(1)
        before = max(j for j, s in enumerate(self.program.segments) if any(q.tensor in c.writes for c in calls(s.steps)))
        self.plans.setdefault(f"plan_{before}", []).append((source, at))
        return Readback(self.slots[q], source, q.position, q.tensor.dtype)

    def plan_sizes(
        self,
        i: int,
        segment: Segment,
        outputs: Sequence[int],
        further: Sequence[tuple[int, Dim]],
    ) -> None:
        scratch = largest([scratch_of(c, path) for c, path in calls_in(segment.steps)])
        arena = self.slots[Symbol(f"@arena{i}")]
        out: list[tuple[int, Dim]] = [(arena + 1, segment.arena), (abi.SCRATCH_BYTES, scratch), (abi.WORK, work(segment.steps))]
        out += further
        for o in outputs:
            t = self.program.outputs[o]
            for n, slot in zip(t.shape, self.shapes[o], strict=True):
                if slot < 0 and (single(n) not in self.slots or isinstance(single(n), Defined)):
                    out.append((-1 - slot, n))
        self.plans[f"sizes_{i}"] = out

    # ---- steps --------------------------------------------------------------------------------------------------------------

    def run_steps(self, steps: Sequence[Step], i: int, path: Path) -> list[RunStep]:
        out: list[RunStep] = []
        for s in steps:
            if isinstance(s, Call):
                out.append(self.call_step(s, i, path))
                continue
            out.append(self.repeat_step(s, i, path))
            if s.region.done is not None:
                out.append(self.plan_for(s.region.done))
        return out

    def call_step(self, c: Call, i: int, path: Path) -> CallStep:
        slot = self.new_slots(2 + len(c.arguments) + len(c.sizes)) + 1
        self.plan_strips(c, slot - 1, i)
        self.fixed.append((slot, len(self.call_names)))
        self.call_names.append((nodes_of(c), c.checks))
        for at, t in enumerate(c.arguments, slot + 1):
            if t in self.places:
                home, offset = self.places[t]
                self.placed[home].append((at, offset))
            elif t in self.numbered:
                self.pointers.append((at, self.numbered[t]))
            else:
                self.plans[f"plan_{i}"].append((at, self.memory[t]))
        for at, d in enumerate(c.sizes, slot + 1 + len(c.arguments)):
            if isinstance(d, int):
                self.fixed.append((at, d))
            elif (counter := single(d)) in self.counters:
                assert counter is not None
                self.counters[counter].append(at)
            else:
                self.assign(at, d, i, path)
        ticks = self.ticks + len(self.call_names) - 1 if self.timed else 0
        # A call that is timed begins when those before it have ended.
        return CallStep(c.kernel.name, slot, c.barrier or self.timed, ticks, 0 if c.single_threaded else chunks_of(c.work))

    def plan_strips(self, c: Call, slot: int, i: int) -> None:
        """Compute into how many strips the call's work is divided (codegen.chunks); 0 (no strips) if its work changes during a
        run.
        """
        strips = c.work // STRIP
        if c.single_threaded or not ground(strips).isdisjoint({*self.counters, *self.change_plans}):
            strips = 0
        if isinstance(strips, int):
            self.fixed.append((slot, min(strips, LARGEST)))
        else:
            self.plans[f"plan_{i}"].append((slot, strips))
            self.estimates.add(slot)

    def repeat_step(self, r: Repeat, i: int, path: Path) -> LoopStep:
        trip, step = self.new_slots(1), r.region.step
        self.assign(trip, r.region.trip, i, path)
        self.counters[step] = [self.slot_of(step)]
        condition = None
        if r.flag is not None:
            condition = self.new_slots(1)
            if r.flag in self.numbered:
                self.pointers.append((condition, self.numbered[r.flag]))
            else:
                self.plans[f"plan_{i}"].append((condition, self.address_of(r.flag)))
        plan = self.plan_for(step)
        self.test(self.change_plans[step], self.required.get(r.region, ()))
        steps = (plan, *self.run_steps(r.steps, i, (*path, r.region)))
        if r.region.done is not None:
            self.slots[r.region.done], self.counters[r.region.done] = self.slots[step], self.counters[step]
        return LoopStep(trip, self.counters[step], condition, steps)  # later calls may add slots to the counters

    # ---- what changes during a run --------------------------------------------------------------------------------------------

    def plan_for(self, s: Symbol) -> PlanStep:
        """Make the plan that runs whenever this symbol has changed."""
        self.points += 1
        plan = self.change_plans[s] = MidRunPlan(f"between_{self.points}", self.points)
        self.mid_run_plans.append(plan)
        return PlanStep(plan.name)

    def assign(self, slot: int, d: Dim, i: int, path: Path) -> None:
        """Assign a size to a slot: before the segment, or in the plan that runs after the last change of what it depends on.

        A size with a division inside a branch is computed in the branch, because the divisor may be zero if the branch isn't
        taken.
        """
        found = [self.change_plans[s] for s in closure(symbols(d)) if s in self.change_plans]
        if any(isinstance(a, Derived) and a.op in ("//", "%") for a in atoms_of(d)):
            found += [self.change_plans[r.step] for r in path if r.pinned]
        if found:
            max(found, key=lambda b: b.point).assignments.append((slot, d))
        else:
            self.plans[f"plan_{i}"].append((slot, d))

    def divide_requirements(self, requirements: Sequence[Requirement]) -> list[Requirement]:
        """Return the requirements that hold for a whole run, and put the others into `required`. Those about loops that aren't
        in the program are dropped.
        """
        regions = {path[-1].step: path for s in self.program.segments for path in paths_in(s.steps)}
        out = []
        for r in requirements:
            counters = {s for s in closure(symbols(r.dim)) if s in regions} | ({r.branch} if r.branch is not None else set())
            if not counters:
                out.append(r)
            elif counters <= regions.keys():
                innermost = max((regions[s] for s in counters), key=len)
                self.required.setdefault(innermost[-1], []).append(r)
        return out

    def test(self, plan: MidRunPlan, requirements: Sequence[Requirement]) -> None:
        """Let a plan check these requirements."""
        found = [r for r in requirements if all(s in self.slots for s in ground(r.dim))]
        if not found:
            return
        number, messages = len(self.call_names), []
        for code, r in enumerate(found, abi.REQUIRED + 1):
            slot, told = self.new_slots(1), [s in self.slots for n in r.values for s in ground(n)]
            shown = r.values[: abi.DETAILS] if all(told) else ()
            places = [self.new_slots(1) for _ in shown]
            plan.assignments += [(slot, r.dim), *zip(places, shown, strict=True)]
            plan.tests.append(Expected(slot, r.relation == "zero", number << 32 | code, tuple(places)))
            text, _ = with_known(r.text, [*range(len(places)), *[None] * (len(r.values) - len(places))])
            messages.append(running(braced(r.title), text) if r.title else text)
        self.call_names.append(((), tuple(messages)))

    def without_empty(self, steps: Sequence[RunStep]) -> tuple[RunStep, ...]:
        """Remove the steps whose plan has nothing to compute."""
        idle = {b.name for b in self.mid_run_plans if not b.assignments}
        self.mid_run_plans = [b for b in self.mid_run_plans if b.assignments]
        return without(steps, idle)


def nodes_of(c: Call) -> tuple[str, ...]:
    """Return the names of the nodes that a call computes; of a copy that lowering has added, those whose results it copies."""
    computed = tuple(name for name in c.origins if name)
    return computed or tuple(dict.fromkeys(t.origin for t in c.arguments if t.origin))


def without(steps: Sequence[RunStep], idle: Container[str]) -> tuple[RunStep, ...]:
    inside = [replace(s, steps=without(s.steps, idle)) if isinstance(s, LoopStep) else s for s in steps]
    return tuple(s for s in inside if not isinstance(s, PlanStep) or s.plan not in idle)


def calls_in(steps: Iterable[Step], path: Path = ()) -> Iterator[tuple[Call, Path]]:
    """Yield the calls, each with the loops around it."""
    for s in steps:
        if isinstance(s, Call):
            yield s, path
        else:
            yield from calls_in(s.steps, (*path, s.region))


def paths_in(steps: Iterable[Step], path: Path = ()) -> Iterator[Path]:
    """Yield the loops, each after the loops around it."""
    for s in steps:
        if isinstance(s, Repeat):
            yield (*path, s.region)
            yield from paths_in(s.steps, (*path, s.region))


def atoms_of(d: Dim) -> set[Atom]:
    """Collect all atoms of a size, including those in the definitions of its symbols, which may share symbols."""
    found: set[Atom] = set()
    waiting = [d]
    while waiting:
        e = waiting.pop()
        fresh = set(e.atoms) - found if isinstance(e, Int) else set()
        found |= fresh
        waiting += [a.definition for a in fresh if isinstance(a, Defined)]
    return found


def with_known(text: str, places: Sequence[int | None]) -> tuple[str, tuple[int, ...]]:
    """Replace the fields of a message whose size is unknown by `?`. -> (the message, the slots of the other fields)"""
    known = [p for p in places if p is not None]

    def field(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        place = places[int(found[1])]
        return "?" if place is None else f"{{{known.index(place)}}}"

    return _FIELD.sub(field, text), tuple(known)


_FIELD = re.compile(r"\{\{|\}\}|\{(\d+)\}")


def scratch_of(c: Call, path: Path) -> Dim:
    """Return the bytes of scratch that a thread needs for the call, at most, over the iterations of the loops around it."""
    env = dict(zip(c.kernel.sizes, c.sizes, strict=True))
    return round_up(most(substitute(scratch_bytes(c.kernel), env), path), LINE)


def largest(sizes: Iterable[Dim]) -> Dim:
    """Return the largest size; 0 if there are none. Maxima are nested as a balanced tree, so that a thousand sizes are ten
    levels deep.
    """
    left = list(dict.fromkeys(sizes))
    while len(left) > 1:
        left = list(dict.fromkeys(maximum(*left[i : i + 2]) if i + 1 < len(left) else left[i] for i in range(0, len(left), 2)))
    return left[0] if left else 0
