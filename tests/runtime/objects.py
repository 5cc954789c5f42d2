"""Small pieces of machine code for the tests of the runtime, made with llvmlite."""

from __future__ import annotations

import functools
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

import llvmlite.binding as llvm
from llvmlite import ir

from sardonyx.codegen.llvm_types import I64, PTR, VOID
from sardonyx.codegen.team import emit_team
from sardonyx.codegen.waiting import emit_yield
from sardonyx.runtime import abi
from sardonyx.runtime.image import Image
from sardonyx.runtime.linker import link
from sardonyx.runtime.loader import host_architecture

LINUX = {arch: f"{arch}-unknown-linux-gnu" for arch in ("x86_64", "aarch64")}
HOST = LINUX[host_architecture()]


def compile_module(module: ir.Module, *, reloc: str = "pic", optimise: bool = True) -> bytes:
    """An object for the module's target."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    target = llvm.Target.from_triple(module.triple)
    machine = target.create_target_machine(opt=2, reloc=reloc, codemodel="default")
    if optimise:
        builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
        builder.getModulePassManager().run(parsed, builder)
    return machine.emit_object(parsed)


def new_module(triple: str = HOST) -> ir.Module:
    module = ir.Module("test")
    module.triple = triple
    return module


def function(module: ir.Module, name: str, result: ir.Type, *arguments: ir.Type) -> tuple[ir.Function, ir.IRBuilder]:
    """A new function and a builder at its start."""
    made = ir.Function(module, ir.FunctionType(result, arguments), name)
    made.attributes.add("nounwind")
    return made, ir.IRBuilder(made.append_basic_block("entry"))


def executable(image: Image, entry: str) -> bytes:
    """A static Linux program that starts at `entry`, with the whole image readable and executable."""
    machine = {"x86_64": 62, "aarch64": 183}[image.arch]
    base, page = 0x400000, 65536
    size = len(image.code)
    start = base + page + image.symbols[entry]
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<16sHHIQQQIHHHHHH", identity, 2, machine, 1, start, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, page, base + page, base + page, size, size, page)
    return (header + segment).ljust(page, b"\0") + image.code


def emulator(arch: str) -> list[str] | None:
    """The command that runs a Linux program of this architecture here; None if there is none."""
    if arch == host_architecture():
        return []
    found = shutil.which(f"qemu-{arch}")
    return [found] if found else None


def run_program(image: Image, folder: Path) -> int:
    """Exit status of the image as a program; its entry is called start."""
    program = folder / "program"
    program.write_bytes(executable(image, "start"))
    program.chmod(0o700)
    command = emulator(image.arch)
    assert command is not None
    return subprocess.run([*command, str(program)], timeout=60, check=False).returncode


@functools.cache
def team_image() -> Image:
    return link([compile_module(emit_team(HOST))])


ROUNDS = 20
FIRST = abi.FIRST_SLOT  # counts[tid] of the entry below
MEETING = FIRST + 65


@functools.cache
def rounds_image() -> Image:
    """`rounds(context, tid, nt)`: ROUNDS times, everybody adds 1 to its own count, all meet, and each checks that all
    counts have the round's value, then all meet again. A count that lags or runs ahead adds 1 to the status.

    Slots from FIRST on are the counts; the slot after the 64th is set to nt, the one after that counts who arrives to meet.
    """
    module = new_module()
    barrier = _barrier(module)
    made, builder = function(module, "rounds", VOID, PTR, I64, I64)
    context, tid, nt = made.args
    slot = functools.partial(_slot, context=context)
    meeting = slot(builder, I64(MEETING))
    builder.store(nt, slot(builder, I64(FIRST + 64)))
    with Loop(builder, I64(ROUNDS)) as index:
        own = slot(builder, builder.add(tid, I64(FIRST)))
        builder.store(builder.add(builder.load(own, typ=I64), I64(1)), own)
        met = builder.mul(builder.mul(index, I64(2)), nt)
        builder.call(barrier, [meeting, builder.add(met, nt)])
        with Loop(builder, nt) as other:
            seen = builder.load(slot(builder, builder.add(other, I64(FIRST))), typ=I64)
            wrong = builder.icmp_signed("!=", seen, builder.add(index, I64(1)))
            builder.atomic_rmw("add", slot(builder, I64(abi.STATUS)), builder.zext(wrong, I64), "monotonic")
        builder.call(barrier, [meeting, builder.add(met, builder.mul(nt, I64(2)))])
    builder.ret_void()
    return link([compile_module(module)])


def _barrier(module: ir.Module) -> ir.Function:
    """`void barrier(ptr count, i64 target)`: counts itself, and returns when so many have."""
    made, builder = function(module, "barrier", VOID, PTR, I64)
    count, target = made.args
    wait, again, done = map(made.append_basic_block, ("wait", "again", "done"))
    builder.atomic_rmw("add", count, I64(1), "acq_rel")
    builder.branch(wait)
    builder.position_at_end(wait)
    here = builder.load_atomic(count, "acquire", 8, typ=I64)
    builder.cbranch(builder.icmp_signed(">=", here, target), done, again)
    builder.position_at_end(again)
    emit_yield(builder)
    builder.branch(wait)
    builder.position_at_end(done)
    builder.ret_void()
    return made


def _slot(builder: ir.IRBuilder, index: ir.Value, context: ir.Value) -> ir.Value:
    return builder.gep(context, [index], source_etype=I64)


class Loop:
    """for index in range(count), count at least 1."""

    def __init__(self, builder: ir.IRBuilder, count: ir.Value) -> None:
        self.builder, self.count = builder, count

    def __enter__(self) -> ir.Value:
        before = self.builder.block
        self.body = self.builder.append_basic_block("body")
        self.builder.branch(self.body)
        self.builder.position_at_end(self.body)
        self.index = self.builder.phi(I64)
        self.index.add_incoming(I64(0), before)
        return self.index

    def __exit__(self, *_: object) -> None:
        following = self.builder.add(self.index, I64(1))
        self.index.add_incoming(following, self.builder.block)
        done = self.builder.append_basic_block("done")
        self.builder.cbranch(self.builder.icmp_signed("<", following, self.count), self.body, done)
        self.builder.position_at_end(done)


def wait_for(child: int) -> int:
    """A forked child's exit status; -1 for one that does not end, and is killed."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -1
