"""The peaks of this machine, measured: f32 fused multiply-adds by a loop that does nothing else, and bytes copied in memory."""

from __future__ import annotations

import ctypes
import platform
import threading
import time
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from msgspec import Struct

from sardonyx.runtime.cores import available_cores

F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)

# Independent chains: more than latency x multiply-adds a cycle (4 x 2 on current cores), few enough for 16 registers.
CHAINS = 12
# Multiply-adds of each chain in one iteration of the loop.
UNROLLED = 8
# Iterations of the loop in one measurement, about a millisecond.
ITERATIONS = 70_000


def vector_lanes() -> int:
    """Return the f32 lanes of this processor's widest vectors with multiply-add. Raises NotImplementedError if there are none."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 16
    if features.get("fma"):
        return 8
    if platform.machine() in ("aarch64", "arm64"):
        return 4
    raise NotImplementedError(f"no fused multiply-add on this {platform.machine()} processor")


def emit(lanes: int) -> str:
    """LLVM IR of `f32 chains(i64 iterations, f32 x, f32 y)`:

    acc[CHAINS] = 0, 1, 2, ...                        # vectors of `lanes`
    repeat iterations times, UNROLLED times each:
      acc[i] = fma(acc[i], x, y)  for all i
    return lane 0 of the sum of acc
    """
    vector = ir.VectorType(F32, lanes)
    module = ir.Module("peak")
    function = ir.Function(module, ir.FunctionType(F32, [I64, F32, F32]), "chains")
    fma = ir.Function(module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f32")
    iterations, *factors = function.args
    entry, loop, end = (function.append_basic_block(name) for name in ("entry", "loop", "end"))

    builder = ir.IRBuilder(entry)
    x, y = (_splat(builder, factor, vector) for factor in factors)
    builder.branch(loop)

    builder.position_at_end(loop)
    turn = builder.phi(I64)
    starts = [builder.phi(vector) for _ in range(CHAINS)]
    chains: list[ir.Value] = list(starts)
    for _ in range(UNROLLED):
        chains = [builder.call(fma, [chain, x, y]) for chain in chains]
    following = builder.add(turn, I64(1))
    turn.add_incoming(I64(0), entry)
    turn.add_incoming(following, loop)
    for index, (start, chain) in enumerate(zip(starts, chains, strict=True)):
        start.add_incoming(ir.Constant(vector, [float(index)] * lanes), entry)
        start.add_incoming(chain, loop)
    builder.cbranch(builder.icmp_signed("<", following, iterations), loop, end)

    builder.position_at_end(end)
    total = chains[0]
    for chain in chains[1:]:
        total = builder.fadd(total, chain)
    builder.ret(builder.extract_element(total, I32(0)))
    return str(module)


def _splat(builder: ir.IRBuilder, scalar: ir.Value, vector: ir.VectorType) -> ir.Value:
    undefined = ir.Constant(vector, ir.Undefined)
    lane = builder.insert_element(undefined, scalar, I32(0))
    return builder.shuffle_vector(lane, undefined, ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count))


class FmaPeak(Struct, frozen=True):
    """The compiled loop: `tracker` owns the code at `address`."""

    tracker: Any
    address: int
    lanes: int

    @classmethod
    def compile(cls, lanes: int | None = None) -> FmaPeak:
        """Compile the loop for this processor and vectors of this many lanes, by default the widest. Raises NotImplementedError if
        it has no fused multiply-add.
        """
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2, jit=True
        )
        lanes = lanes or vector_lanes()
        compiler = llvm.create_lljit_compiler(machine)
        library = llvm.JITLibraryBuilder().add_ir(emit(lanes)).export_symbol("chains")
        tracker = library.link(compiler, "peak")
        return cls(tracker, tracker["chains"], lanes)

    def chains(self, iterations: int, x: float, y: float) -> float:
        """Run the loop; ctypes releases the interpreter's lock meanwhile."""
        prototype = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64, ctypes.c_float, ctypes.c_float)
        return float(prototype(self.address)(iterations, x, y))

    def rate(self, threads: int, repeats: int = 20) -> float:
        """Measure operations per second, two for each multiply-add, of `threads` threads that run at once.

        Each thread repeats a loop of about a millisecond; its best time counts, because a thread may share a core at first.
        """
        best = together(threads, lambda thread: best_rate(lambda: self.chains(ITERATIONS, 0.5, 1.0), repeats))
        return 2.0 * ITERATIONS * CHAINS * UNROLLED * self.lanes * sum(best)


COPIED = 32 << 20
"""Bytes that each thread copies to measure the memory's rate: more than fit in its share of the caches."""


class Peak(Struct, frozen=True):
    """What this machine reaches on so many threads: GFLOP/s, and GB/s read and written together."""

    gflops: float
    gbytes: float
    threads: int


def measured_peak(threads: int = 0) -> Peak | None:
    """Measure the peaks; it takes some tenths of a second. None on a processor without fused multiply-adds.

    threads: 0 for as many as the process may use.
    """
    count = min(threads or available_cores(), available_cores())
    try:
        vector_lanes()
    except NotImplementedError:
        return None
    return Peak(FmaPeak.compile().rate(count) / 1e9, copy_rate(count) / 1e9, count)


def copy_rate(threads: int, repeats: int = 5) -> float:
    """Measure the bytes per second that threads read and write when each copies memory of its own."""
    pairs = [(np.ones(COPIED, np.uint8), np.empty(COPIED, np.uint8)) for _ in range(threads)]
    best = together(threads, lambda thread: best_rate(lambda: np.copyto(pairs[thread][1], pairs[thread][0]), repeats))
    return 2.0 * COPIED * sum(best)


def best_rate(work: Callable[[], object], repeats: int) -> float:
    """Return how often per second the work is done, at best."""
    best = 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = max(best, 1 / (time.perf_counter() - start))
    return best


def together(threads: int, measure: Callable[[int], float]) -> list[float]:
    """Let threads measure at once, each with its number. -> what each measured"""
    started = threading.Barrier(threads)
    found = [0.0] * threads

    def work(thread: int) -> None:
        started.wait()
        found[thread] = measure(thread)

    team = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    return found
