"""Lowers tensors, compiles and runs them, and compares with their meaning in numpy.

    program = compiled(lambda x, w: matmul(x, w), "f32[m, 64]", reals(64, 96))
    program.check(reals(7, 64))

A string is the dtype and shape of an input, an array a constant. `check` feeds the inputs and compares, with `expr.evaluate`'s numbers,
those of the compiled program at one and two threads (which agree bit by bit) and those of its kernels under the interpreter, which
finds accesses outside a buffer, reads of memory nobody wrote, and conflicts. `audit` looks at memory and barriers.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
from msgspec.structs import replace

from sardonyx.base import dtypes
from sardonyx.base.background import Background
from sardonyx.base.dtypes import from_numpy
from sardonyx.base.options import CompileOptions
from sardonyx.base.symbolic import Defined, Dim, Symbol, evaluate, single, symbol
from sardonyx.codegen import features
from sardonyx.codegen.features import Target
from sardonyx.expr import evaluate as oracle
from sardonyx.expr import require
from sardonyx.expr.known import DataSymbol
from sardonyx.expr.require import Requirement
from sardonyx.expr.tensor import Tensor, constant, input_tensor
from sardonyx.loop import interpreter
from sardonyx.lower.lowered import Lowered
from sardonyx.lower.machine import Machine
from sardonyx.lower.schedule import Call, Repeat, Segment, Step, bytes_of
from sardonyx.providers import cpu
from sardonyx.providers.cpu import Compiler
from sardonyx.providers.objects import Objects
from sardonyx.runtime import execution, memory

Array = np.ndarray[Any, np.dtype[Any]]
MOST_INTERPRETED = 40_000
"""Elements of a run's kernels' results that are worth interpreting."""


# ---- numbers ------------------------------------------------------------------------------------------------------------


def reals(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """Quarters between -2 and 2: their sums and products are exact in any order."""
    generator = np.random.default_rng([seed, *shape])
    return (generator.integers(-8, 9, shape) / 4).astype(dtype)


def integers(*shape: int, low: int = -5, high: int = 6, dtype: Any = np.int64, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).integers(low, high, shape).astype(dtype)


def assert_close(got: Sequence[Array], wanted: Sequence[Array], tolerance: float) -> None:
    """Integers and bools are equal; floats within `tolerance` (or a few roundings of theirs) of the largest of their array."""
    assert len(got) == len(wanted)
    for i, (g, w) in enumerate(zip(got, wanted, strict=True)):
        assert g.dtype == w.dtype, f"output {i}"
        assert g.shape == w.shape, f"output {i}"
        dtype = from_numpy(w.dtype)
        if not dtype.is_float:
            np.testing.assert_array_equal(g, w, err_msg=f"output {i}")
            continue
        wide = w.astype(np.float64)
        finite = np.abs(wide[np.isfinite(wide)])
        scale = float(finite.max()) if finite.size else 0.0
        precision = {"f64": 1e-11, "f32": tolerance, "f16": 4e-3, "bf16": 2e-2}.get(dtype.name, 0.2)
        np.testing.assert_allclose(g.astype(np.float64), wide, precision, precision * scale, err_msg=f"output {i}")


# ---- programs -----------------------------------------------------------------------------------------------------------


def parse(signature: str, name: str) -> Tensor:
    """ "f32[m, 64]": an input of this dtype, its sizes numbers or names."""
    found = re.fullmatch(r"(\w+)\[(.*)\]", signature)
    assert found, signature
    sizes = [s.strip() for s in found[2].split(",")] if found[2].strip() else []
    (dtype,) = [d for d in dtypes.BY_CODE.values() if d.name == found[1]]
    return input_tensor(name, dtype, [int(s) if s.isdigit() else symbol(s) for s in sizes])


def machine_for(target: Target, **changes: Any) -> Machine:
    """The provider's, without Winograd's products unless they are asked for."""
    return replace(cpu.machine_for(target, CompileOptions(winograd=False)), **changes)


@dataclass
class Compiled:
    """A program, the one that prepares its constants, and the tensors that say what both mean."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    lowered: Lowered
    preparation: Lowered | None
    requirements: list[Requirement]
    program: execution.Program
    constants: list[Array]

    def run(self, *feeds: Array, threads: int = 1) -> list[Array]:
        """The compiled program's outputs; its memory holds NaNs before."""
        self.program.idle.clear()
        with mock.patch.object(execution, "allocate", poisoned):
            return self.program.run([np.ascontiguousarray(f) for f in feeds], threads)

    def meaning(self, *feeds: Array) -> list[Array]:
        """The outputs by numpy."""
        return oracle.evaluate(self.outputs, dict(zip(self.inputs, feeds, strict=True)), self.sizes(feeds))

    def sizes(self, feeds: Sequence[Array]) -> dict[Symbol, int]:
        pairs = [(n, size) for t, f in zip(self.inputs, feeds, strict=True) for n, size in zip(t.shape, f.shape, strict=True)]
        return {s: size for n, size in pairs if (s := single(n)) is not None}

    def check(self, *feeds: Array, tolerance: float = 2e-6, interpreted: bool = True) -> list[Array]:
        """Asserts that compiled code, the interpreter and numpy agree; returns the outputs."""
        wanted = self.meaning(*feeds)
        run = Interpreted(self.lowered, feeds, self.sizes(feeds), self.constants)
        if interpreted and run.work() <= MOST_INTERPRETED:  # first: it says what lies outside
            assert_close(run.outputs(), wanted, tolerance)
        one, two = self.run(*feeds), self.run(*feeds, threads=2)
        assert [a.tobytes() for a in one] == [a.tobytes() for a in two], "one and two threads differ"
        assert_close(one, wanted, tolerance)
        again = self.program.run([np.ascontiguousarray(f) for f in feeds], 2)  # in the memory of the run before
        assert [a.tobytes() for a in one] == [a.tobytes() for a in again], "a second run differs"
        return one

    def places(self) -> dict[str, str]:
        """The place of each statement, by its tensor's name."""
        return {
            v.tensor.name: f"{v.place}{' stored' if v.stored else ''}{' TILE' if v.tile else ''}"
            for n in self.lowered.nests
            for v in n.statements
        }

    def nests(self) -> int:
        return len(self.lowered.nests)


def poisoned(size: int) -> memory.Bytes:
    """Memory in which every float is a NaN; the context is cleared by its owner."""
    found = memory.allocate(size)
    found[:] = 0xFF
    return found


def compiled(
    build_outputs: Callable[..., Tensor | Sequence[Tensor]],
    *arguments: str | Array,
    target: Target | None = None,
    machine: Mapping[str, Any] | None = None,
) -> Compiled:
    """The program that computes build_outputs of the arguments. machine: changed fields of the target's Machine."""
    target = target or features.host()
    inputs: list[Tensor] = []
    given: list[Tensor] = []
    with require.collect() as requirements:
        for i, a in enumerate(arguments):
            given.append(parse(a, f"x{i}") if isinstance(a, str) else constant(a, f"c{i}"))
            if isinstance(a, str):
                inputs.append(given[-1])
        made = build_outputs(*given)
    outputs = [made] if isinstance(made, Tensor) else list(made)
    return compile_tensors(inputs, outputs, requirements, target, machine_for(target, **(machine or {})))


def compile_tensors(
    inputs: list[Tensor], outputs: list[Tensor], requirements: list[Requirement], target: Target, machine: Machine
) -> Compiled:
    meaning = list(outputs)
    with Background("sardonyx-compile") as background:
        compiler = Compiler(Objects(background, None), target, machine, threads=1)
        program, lowered, preparation = compiler.run(inputs, outputs, requirements)
    return Compiled(list(inputs), meaning, lowered, preparation, list(requirements), program, program.constants)


# ---- a program under the interpreter ------------------------------------------------------------------------------------


class Interpreted:
    """A lowered program, run by the loop interpreter in the memory that the plan gives it.

    Along the way the plan is audited: what is alive does not overlap, and between steps that share memory stands a barrier.
    """

    def __init__(self, program: Lowered, feeds: Sequence[Array], sizes: Mapping[Symbol, int], constants: Sequence[Array]) -> None:
        self.program = program
        self.sizes = dict(sizes)
        self.memory: dict[Tensor, Array] = {}
        for t, a in (*zip(program.inputs, feeds, strict=True), *zip(program.constants, constants, strict=True)):
            self.memory[t] = np.ascontiguousarray(a).reshape(-1)
        self.arenas: list[Array] = []

    def number(self, d: Dim) -> int:
        return evaluate(d, self.lookup)

    def lookup(self, s: Symbol) -> int:
        if isinstance(s, Defined):
            return self.number(s.definition)
        if isinstance(s, DataSymbol):
            return int(self.memory[s.tensor][s.position])
        return self.sizes[s]

    def work(self) -> int:
        """Elements that the first segment's steps write, or many where data decide."""
        if len(self.program.segments) > 1:
            return 0
        written = ((s.sizes.get(t, bytes_of(t)), t) for s in self.program.segments for q in s.steps for t in q.writes)
        return sum(self.number(size) // t.dtype.itemsize for size, t in written)

    def outputs(self) -> list[Array]:
        for segment in self.program.segments:
            self.segment(segment)
        shapes = [[self.number(n) for n in t.shape] for t in self.program.outputs]
        return [self.memory[t].reshape(s) for t, s in zip(self.program.outputs, shapes, strict=True)]

    def segment(self, segment: Segment) -> None:
        arena = np.full(self.number(segment.arena), 0xFF, np.uint8)
        self.arenas.append(arena)
        for t in {t for q in segment.steps for t in q.writes}:
            if t in self.memory:
                continue  # of an earlier segment, which wrote a part of it
            if t not in segment.offsets:
                self.memory[t] = interpreter.undefined(int(np.prod([self.number(n) for n in t.shape], dtype=object)), t.dtype)
                continue
            start, size = self.number(segment.offsets[t]), self.number(segment.sizes[t])
            assert start >= 0
            assert start + size <= arena.nbytes, f"{t} lies outside the arena"
            self.memory[t] = arena[start : start + size].view(t.dtype.numpy)
        audit_barriers(list(self.unrolled(segment.steps)))
        self.steps(segment.steps)

    def unrolled(self, steps: Sequence[Step]) -> Iterator[tuple[Call, bool, dict[Tensor, Array]]]:
        """The calls, a repeated body's twice, and whether a barrier stands before each."""
        for s in steps:
            if isinstance(s, Call):
                yield s, s.barrier, {t: self.memory[t] for t in s.arguments}
                continue
            for _ in range(2):
                for at, (call, barrier, where) in enumerate(self.unrolled(s.steps)):
                    yield call, barrier or at == 0, where

    def steps(self, steps: Sequence[Step]) -> None:
        for s in steps:
            if isinstance(s, Call):
                self.call(s)
            else:
                self.repeat(s)

    def repeat(self, s: Repeat) -> None:
        trip, turn = self.number(s.region.trip), 0
        while turn < trip and (s.flag is None or self.memory[s.flag][turn % 2]):
            self.sizes[s.region.step] = turn
            self.steps(s.steps)
            turn += 1
        self.sizes[s.region.step] = turn
        if s.region.done is not None:
            self.sizes[s.region.done] = turn

    def call(self, c: Call) -> None:
        arrays = {b.name: self.memory[t] for b, t in zip(c.kernel.buffers, c.arguments, strict=True)}
        sizes = {s.name: self.number(d) for s, d in zip(c.kernel.sizes, c.sizes, strict=True)}
        assert len(sizes) == len(c.kernel.sizes), "two sizes of one name"
        with np.errstate(all="ignore"):
            failure = interpreter.run(c.kernel, arrays, sizes, threads=2)
        assert failure is None, failure


def audit_barriers(steps: Sequence[tuple[Call, bool, dict[Tensor, Array]]]) -> None:
    """Asserts that of two calls with no barrier between, none writes memory that the other touches; parts of one whole excepted, and calls
    that one thread does alone, one after the other."""
    since: list[tuple[Call, dict[Tensor, Array]]] = []
    for call, barrier, where in steps:
        if barrier:
            since = []
        row = len(since) - sum(1 for _ in itertools.takewhile(lambda s: s[0].single_threaded, reversed(since)))
        for at, (other, there) in enumerate(since):
            if call.single_threaded and at >= row:
                continue
            for t, a in where.items():
                for u, b in there.items():
                    written = t in call.writes or u in other.writes
                    parts = t is u and t in call.writes and u in other.writes
                    if written and not parts and overlap(a, b):
                        raise AssertionError(f"no barrier between {call.origins} and {other.origins}, which share {t} and {u}")
        since.append((call, where))


def overlap(a: Array, b: Array) -> bool:
    return bool(a.size and b.size and np.shares_memory(a, b))
