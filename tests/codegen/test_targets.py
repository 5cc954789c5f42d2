"""Every kernel of the digit classifier, compiled for other processors and run there, against the interpreter."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from llvmlite import binding as llvm

from sardonyx.base.symbolic import Defined, Dim, evaluate
from sardonyx.codegen.features import TARGETS, Target
from sardonyx.expr.tensor import Tensor
from sardonyx.graph.load import load
from sardonyx.loop import interpreter
from sardonyx.loop.nodes import Kernel
from sardonyx.lower.importer import import_graph
from sardonyx.lower.lowered import lower
from sardonyx.lower.machine import Machine
from sardonyx.lower.schedule import SLACK, Call, bytes_of, calls
from tests.codegen import harness
from tests.codegen.foreign import EMULATIONS
from tests.codegen.harness import Array

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.onnx"
BATCH, THREADS = 3, 2
TOLERANCE = 1e-5  # of a buffer's largest number: sums go in another order, or round twice where there is no fma


@dataclass(frozen=True, slots=True)
class Job:
    """A call of a kernel with the batch at hand. elements: of each buffer, without the slack after it."""

    kernel: Kernel
    sizes: dict[str, int]
    elements: tuple[int, ...]

    def arrays(self) -> list[Array]:
        """Random content, the same each time, aligned, with slack after it."""
        generator = np.random.default_rng(7)
        out = []
        for buffer, n in zip(self.kernel.buffers, self.elements, strict=True):
            room = n + SLACK // buffer.dtype.itemsize
            array = harness.aligned(room * buffer.dtype.itemsize).view(buffer.dtype.numpy)
            array[:] = generator.normal(size=room).astype(buffer.dtype.numpy)
            out.append(array)
        return out


@functools.cache
def jobs(target: Target) -> tuple[Job, ...]:
    """The classifier's kernels as they are for this target, those that prepare weights included, each once."""
    graph = load(DIGITS).graph
    imported = import_graph(graph, graph.opset_imports)
    program, preparation = lower(imported.inputs, imported.outputs, Machine(target.vector_bits // 32, target.tile_shapes))
    assert preparation is not None
    segments = [s for lowered in (preparation, program) for s in lowered.segments]
    planned = {t: size for s in segments for t, size in s.sizes.items()}
    return tuple({call.kernel.name: job(call, planned) for s in segments for call in calls(s.steps)}.values())


def job(call: Call, planned: Mapping[Tensor, Dim]) -> Job:
    """planned: bytes of buffers whose rows may lie apart."""
    numbers = [number(d) for d in call.sizes]
    sizes = {s.name: n for s, n in zip(call.kernel.sizes, numbers, strict=True)}
    elements = tuple(number(planned.get(t, bytes_of(t))) // t.dtype.itemsize for t in call.arguments)
    return Job(call.kernel, sizes, elements)


def number(d: Dim) -> int:
    return evaluate(d, lambda s: number(s.definition) if isinstance(s, Defined) else BATCH)


def expected(work: Job) -> list[Array]:
    arrays = work.arrays()
    failure = interpreter.run(
        work.kernel, {b.name: a for b, a in zip(work.kernel.buffers, arrays, strict=True)}, work.sizes, THREADS
    )
    assert failure is None
    return arrays


def assert_equal(work: Job, got: list[Array]) -> None:
    wanted = expected(work)
    changed = False
    for buffer, n, a, b, before in zip(work.kernel.buffers, work.elements, got, wanted, work.arrays(), strict=True):
        error = np.abs(a[:n] - b[:n]).max(initial=0)
        assert error <= TOLERANCE * np.abs(b[:n]).max(initial=0), f"{work.kernel.name}, buffer {buffer}: {error}"
        changed = changed or not np.array_equal(b[:n], before[:n])
    assert changed, f"{work.kernel.name} does nothing"


def targets() -> Iterator[object]:
    features = llvm.get_host_cpu_features() if llvm.get_default_triple().startswith("x86_64") else {}
    needs = {"avx512": "avx512vl", "avx2": "avx2", "sse2": "sse2"}
    for target in TARGETS.values():
        reason = ""
        if target.name in needs and not features.get(needs[target.name]):
            reason = f"this processor has no {target.name}"
        elif target.name in EMULATIONS:
            reason = EMULATIONS[target.name].missing
        yield pytest.param(target, id=target.name, marks=pytest.mark.skipif(bool(reason), reason=reason))


@pytest.mark.parametrize("target", list(targets()))
def test_every_kernel_of_the_classifier(target: Target, tmp_path: Path) -> None:
    """Two threads, one after the other."""
    for work in jobs(target):
        arrays = work.arrays()
        if target.name in EMULATIONS:
            EMULATIONS[target.name].run(work.kernel, arrays, work.sizes, target, THREADS, tmp_path)
        else:
            harness.run(work.kernel, arrays, work.sizes, target, THREADS)
        assert_equal(work, arrays)


def test_targets_differ_in_their_kernels() -> None:
    """Vector widths and tile shapes reach the loops: no two widths share all kernels."""
    names = {target.name: {work.kernel.name for work in jobs(target)} for target in TARGETS.values()}
    assert all(len(found) > 5 for found in names.values())
    assert names["avx512"] != names["avx2"] != names["sse2"]
