"""The rate of f32 fused multiply-adds that this machine reaches, measured by a loop that does nothing else."""

import ctypes
import platform
import threading
import time
from dataclasses import dataclass

import llvmlite.binding as llvm
from llvmlite import ir

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


@dataclass(frozen=True)
class FmaPeak:
    """The compiled loop: `tracker` owns the code at `address`."""

    tracker: llvm.ResourceTracker
    address: int
    lanes: int

    @classmethod
    def compile(cls, lanes: int | None = None) -> "FmaPeak":
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
        return prototype(self.address)(iterations, x, y)

    def rate(self, threads: int, repeats: int = 20) -> float:
        """Measure operations per second, two for each multiply-add, of `threads` threads that run at once.

        Each thread repeats a loop of about a millisecond; its best time counts, because a thread may share a core at first.
        """
        started = threading.Barrier(threads)
        best = [0.0] * threads

        def work(thread: int) -> None:
            started.wait()
            for _ in range(repeats):
                start = time.perf_counter()
                self.chains(ITERATIONS, 0.5, 1.0)
                best[thread] = max(best[thread], 1 / (time.perf_counter() - start))

        team = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()
        return 2.0 * ITERATIONS * CHAINS * UNROLLED * self.lanes * sum(best)
