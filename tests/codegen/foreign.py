"""Runs a kernel for a processor that isn't at hand: aarch64 as a Linux program under qemu-user, wasm32 under node.

Everything that a call touches (args, context, buffers, scratch) lies in one block at a fixed address. It goes in with the program, and
comes back as the program's output.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from llvmlite import ir

from sardonyx.base.symbolic import evaluate
from sardonyx.codegen.compile import compile_kernel, compile_module
from sardonyx.codegen.features import Target
from sardonyx.codegen.llvm_types import I64, PTR, VOID
from sardonyx.codegen.scratch import scratch_bytes
from sardonyx.codegen.waiting import emit_system_call, system_calls
from sardonyx.loop.nodes import Kernel
from sardonyx.runtime import abi
from sardonyx.runtime.image import Image
from sardonyx.runtime.linker import link
from tests.codegen.harness import CALL, Array, Failed

LINE = 64
GUARD = b"\xab" * LINE  # after the scratch
CODE, PAGE = 0x400000, 65536
AARCH64, STANDARD_OUTPUT, WRITE, EXIT = 183, 1, 64, 93


@dataclass(frozen=True, slots=True)
class Block:
    """The memory of a call at address `base`, and where its parts begin in it."""

    base: int
    content: bytes
    args: int
    context: int
    scratch: int
    buffers: tuple[int, ...]


def lay_out(kernel: Kernel, arrays: Sequence[Array], sizes: Mapping[str, int], base: int) -> Block:
    need = evaluate(scratch_bytes(kernel), lambda s: sizes[s.name])
    lengths = [8 * (1 + len(arrays) + len(kernel.sizes)), 8 * abi.FIRST_SLOT, need + LINE, *(a.nbytes for a in arrays)]
    offsets = [0]
    for length in lengths:
        offsets.append(offsets[-1] + (length + LINE - 1) // LINE * LINE)
    slots = [CALL, *(base + o for o in offsets[3:-1]), *(sizes[s.name] for s in kernel.sizes)]
    content = bytearray(offsets[-1])
    parts = [np.array(slots, np.int64).tobytes(), b"", bytes(need) + GUARD, *(a.tobytes() for a in arrays)]
    for offset, part in zip(offsets, parts, strict=False):
        content[offset : offset + len(part)] = part
    return Block(base, bytes(content), base, base + offsets[1], base + offsets[2], tuple(offsets[3:-1]))


def take_back(kernel: Kernel, arrays: Sequence[Array], block: Block, content: bytes) -> None:
    """Puts what the call left in its buffers into the arrays. Raises Failed for a recorded failure."""
    assert len(content) == len(block.content), "the program did not get to its end"
    context = np.frombuffer(content, np.int64, abi.FIRST_SLOT, block.context - block.base)
    if status := int(context[abi.STATUS]):
        raise Failed((status & 0xFFFFFFFF) - 1, status >> 32, tuple(context[abi.DETAIL : abi.DETAIL + 3].tolist()))
    end = block.buffers[0] if block.buffers else len(content)
    assert GUARD in content[block.scratch - block.base : end], "scratch overrun"
    for array, offset in zip(arrays, block.buffers, strict=True):
        array[...] = np.frombuffer(content, array.dtype, array.size, offset).reshape(array.shape)


# ---- aarch64 ----------------------------------------------------------------------------------------------------------------


def run_aarch64(
    kernel: Kernel, arrays: Sequence[Array], sizes: Mapping[str, int], target: Target, threads: int, folder: Path
) -> None:
    """Runs the kernel in place over the arrays, by one simulated thread after the other."""
    block = lay_out(kernel, arrays, sizes, 1 << 32)
    driver = aarch64_driver(kernel.name, block, target, threads)
    image = link([compile_kernel(kernel, target), compile_module(driver, target)])
    program = folder / "program"
    program.write_bytes(executable(image, block))
    program.chmod(0o700)
    done = subprocess.run(["qemu-aarch64", str(program)], capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    take_back(kernel, arrays, block, done.stdout)


def aarch64_driver(name: str, block: Block, target: Target, threads: int) -> ir.Module:
    """start(): for each thread kernel(args, context, scratch, tid, threads); write(1, block); exit(0)"""
    module = ir.Module("driver")
    module.triple = target.triple
    kernel = ir.Function(module, ir.FunctionType(VOID, [PTR, PTR, PTR, I64, I64]), name)
    start = ir.Function(module, ir.FunctionType(VOID, []), "start")
    builder = ir.IRBuilder(start.append_basic_block("entry"))
    pointers = [builder.inttoptr(I64(a), PTR) for a in (block.args, block.context, block.scratch)]
    for tid in range(threads):
        builder.call(kernel, [*pointers, I64(tid), I64(threads)])
    calls = system_calls(module)
    assert calls is not None
    emit_system_call(builder, calls, WRITE, (I64(STANDARD_OUTPUT), I64(block.base), I64(len(block.content))))
    emit_system_call(builder, calls, EXIT, (I64(0),))
    builder.unreachable()
    return module


def executable(image: Image, block: Block) -> bytes:
    """A static program of two segments: the image, readable and executable, and the block, readable and writable."""
    code = PAGE, CODE + PAGE, len(image.code), 5
    data = PAGE + (len(image.code) + PAGE - 1) // PAGE * PAGE, block.base, len(block.content), 6
    start = CODE + PAGE + image.symbols["start"]
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<16sHHIQQQIHHHHHH", identity, 2, AARCH64, 1, start, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    segments = [struct.pack("<IIQQQQQQ", 1, flags, at, place, place, n, n, PAGE) for at, place, n, flags in (code, data)]
    return (b"".join([header, *segments]).ljust(PAGE, b"\0") + image.code).ljust(data[0], b"\0") + block.content


# ---- wasm32 -----------------------------------------------------------------------------------------------------------------

WASM_BASE = 1 << 24

WASM_DRIVER = """
const fs = require("fs");
const [file, blockFile, name, ...numbers] = process.argv.slice(2);
const [base, args, context, scratch, threads] = numbers.map(Number);
const block = fs.readFileSync(blockFile);
WebAssembly.instantiate(fs.readFileSync(file), {}).then(({ instance }) => {
  const { memory, __heap_base: heap } = instance.exports;
  if (heap.value > base) throw new Error("the module's own data reaches into the block");
  memory.grow(Math.ceil((base + block.length - memory.buffer.byteLength) / 65536));
  new Uint8Array(memory.buffer).set(block, base);
  for (let tid = 0; tid < threads; tid++) instance.exports[name](args, context, scratch, BigInt(tid), BigInt(threads));
  fs.writeFileSync(blockFile, new Uint8Array(memory.buffer, base, block.length));
});
"""


def run_wasm(kernel: Kernel, arrays: Sequence[Array], sizes: Mapping[str, int], target: Target, threads: int, folder: Path) -> None:
    """Runs the kernel in place over the arrays, by one simulated thread after the other."""
    block = lay_out(kernel, arrays, sizes, WASM_BASE)
    unlinked, module, content, driver = (folder / name for name in ("kernel.o", "kernel.wasm", "block", "driver.js"))
    unlinked.write_bytes(compile_kernel(kernel, target))
    content.write_bytes(block.content)
    driver.write_text(WASM_DRIVER)
    exports = [f"--export={kernel.name}", "--export=__heap_base"]
    call(["wasm-ld", "--no-entry", "--fatal-warnings", *exports, "-o", module, unlinked])
    numbers = (block.base, block.args, block.context, block.scratch, threads)
    call(["node", driver, module, content, kernel.name, *numbers])
    take_back(kernel, arrays, block, content.read_bytes())


def call(command: Sequence[object]) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


# ---- which there are --------------------------------------------------------------------------------------------------------

Run = Callable[[Kernel, Sequence[Array], Mapping[str, int], Target, int, Path], None]


@dataclass(frozen=True, slots=True)
class Emulation:
    """A way to run code of another processor, and the programs it needs: {program: the Debian package that has it}."""

    run: Run
    needs: Mapping[str, str]

    @property
    def missing(self) -> str:
        """Why it can't be used here; "" if it can."""
        absent = [f"{program} (Debian package {package})" for program, package in self.needs.items() if not shutil.which(program)]
        return f"needs {', '.join(absent)}" if absent else ""


EMULATIONS: Mapping[str, Emulation] = {
    "neon": Emulation(run_aarch64, {"qemu-aarch64": "qemu-user"}),
    "wasm": Emulation(run_wasm, {"wasm-ld": "lld", "node": "nodejs"}),
}
