"""How a thread waits: pausing, yielding, sleeping on a word and waking, emitted for the target of a module.

Linux sleeps by futex, through raw system calls, so that compiled objects refer to no external symbol. Where no way to
sleep is known a waiter spins on; a further system is a further row here.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from sardonyx.codegen.llvm_types import I8, I32, I64, PTR, VOID

PAUSES = 4000  # rounds of the processor's pause before sleep: 50 to 200 us
FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE = 128, 129
EVERYONE = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class SystemCalls:
    """Linux system calls of one architecture: numbers, and the machine code of

    `i64 system_call(i64 number, i64 a, i64 b, i64 c, i64 d)`, which moves its arguments to the kernel's registers. It
    stands here as bytes because inline assembly needs LLVM's assembler, which llvmlite offers for the host only:
    without it LLVM ends the process.
    """

    futex: int
    sched_yield: int
    clock_gettime: int
    gettid: int
    getpid: int
    code: bytes


SYSTEM_CALLS = {
    "x86_64": SystemCalls(
        202,
        24,
        228,
        186,
        39,
        bytes.fromhex(
            "4889f8"  # mov rax, rdi
            "4889f7"  # mov rdi, rsi
            "4889d6"  # mov rsi, rdx
            "4889ca"  # mov rdx, rcx
            "4d89c2"  # mov r10, r8
            "0f05"  # syscall
            "c3"  # ret
        ),
    ),
    "aarch64": SystemCalls(
        98,
        124,
        113,
        178,
        172,
        bytes.fromhex(
            "e80300aa"  # mov x8, x0
            "e00301aa"  # mov x0, x1
            "e10302aa"  # mov x1, x2
            "e20303aa"  # mov x2, x3
            "e30304aa"  # mov x3, x4
            "010000d4"  # svc #0
            "c0035fd6"  # ret
        ),
    ),
}

PAUSE: dict[str, tuple[str, tuple[int, ...]]] = {  # intrinsic and its i32 arguments
    "x86_64": ("llvm.x86.sse2.pause", ()),
    "aarch64": ("llvm.aarch64.isb", (15,)),
}


def architecture(module: ir.Module) -> str:
    """First part of the module's triple. Raises ValueError where the module has none."""
    name = str(module.triple).split("-")[0]
    if name in ("", "unknown"):
        raise ValueError(f"module {module.name!r} has no target triple")
    return name


def system_calls(module: ir.Module) -> SystemCalls | None:
    """The row of the module's target; None where it has no system calls we know."""
    return SYSTEM_CALLS.get(architecture(module)) if "linux" in str(module.triple) else None


def internal_function(module: ir.Module, name: str, result: ir.Type, arguments: tuple[ir.Type, ...]) -> ir.Function:
    """A function of the module's own, never unwound through."""
    function = ir.Function(module, ir.FunctionType(result, arguments), name)
    function.linkage = "internal"
    function.attributes.add("nounwind")
    return function


def intrinsic(module: ir.Module, name: str, result: ir.Type, arguments: tuple[ir.Type, ...]) -> ir.Function:
    """The declaration of an LLVM intrinsic, made once a module."""
    found = module.globals.get(name)
    return found if found is not None else ir.Function(module, ir.FunctionType(result, arguments), name)


def byte_offset(builder: ir.IRBuilder, pointer: ir.Value, offset: int | ir.Value) -> ir.Value:
    """pointer + offset, in bytes."""
    index = I64(offset) if isinstance(offset, int) else offset
    return builder.gep(pointer, [index], source_etype=I8)


def emit_words(builder: ir.IRBuilder, count: int) -> ir.Value:
    """The address of so many i64 on the stack."""
    words = builder.alloca(ir.ArrayType(I64, count))
    words.type = PTR  # llvmlite still gives it a typed pointer
    return words


def emit_pause(builder: ir.IRBuilder) -> None:
    """Tell the processor that this thread spins."""
    row = PAUSE.get(architecture(builder.module))
    if row is None:
        return
    name, arguments = row
    pause = intrinsic(builder.module, name, VOID, (I32,) * len(arguments))
    builder.call(pause, [I32(value) for value in arguments])


def is_flag(builder: ir.IRBuilder, flags: ir.Value, flag: int) -> ir.Value:
    """i1: is this one of the flags?"""
    return builder.icmp_unsigned("!=", builder.and_(flags, flags.type(flag)), flags.type(0))


def spin_rounds(builder: ir.IRBuilder, never: ir.Value) -> ir.Value:
    """How long to spin, for `emit_spin`'s function; never: i1, whether not at all."""
    return builder.select(never, I32(0), I32(PAUSES))


def emit_yield(builder: ir.IRBuilder) -> None:
    """Let another thread of this processor run."""
    calls = system_calls(builder.module)
    if calls is None:
        emit_pause(builder)
    else:
        emit_system_call(builder, calls, calls.sched_yield, ())


def emit_sleep(builder: ir.IRBuilder, word: ir.Value, expected: ir.Value, most: ir.Value | None = None) -> None:
    """Sleep while the i32 at `word` is `expected`; may return early, so the caller looks again. most: address of the longest time to
    sleep, as seconds and nanoseconds; null: there is none."""
    calls = system_calls(builder.module)
    if calls is None:
        emit_pause(builder)
    else:
        limit = I64(0) if most is None else builder.ptrtoint(most, I64)
        operands = (builder.ptrtoint(word, I64), I64(FUTEX_WAIT_PRIVATE), builder.zext(expected, I64), limit)
        emit_system_call(builder, calls, calls.futex, operands)


def emit_wake(builder: ir.IRBuilder, word: ir.Value, most: int) -> None:
    """Wake at most this many threads that sleep on `word`."""
    calls = system_calls(builder.module)
    if calls is not None:
        operands = (builder.ptrtoint(word, I64), I64(FUTEX_WAKE_PRIVATE), I64(most))
        emit_system_call(builder, calls, calls.futex, operands)


def emit_spin(module: ir.Module) -> ir.Function:
    """`i32 spin(ptr word, i32 value, i32 rounds)`: wait briefly for the word to be other than value; returns what it is.

    for round in range(rounds + 1):
        if load acquire word != value: break
        pause, but for the last round
    return what was loaded last
    """
    found = module.globals.get("spin")
    if found is not None:
        return found
    function = internal_function(module, "spin", I32, (PTR, I32, I32))
    function.attributes.add("noinline")
    word, value, most = function.args
    entry, look, again, pause, done = map(function.append_basic_block, ("entry", "look", "again", "pause", "done"))
    ir.IRBuilder(entry).branch(look)

    builder = ir.IRBuilder(look)
    rounds = builder.phi(I32)
    seen = builder.load_atomic(word, "acquire", 4, typ=I32)
    builder.cbranch(builder.icmp_unsigned("==", seen, value), again, done)
    builder.position_at_end(again)
    builder.cbranch(builder.icmp_unsigned("<", rounds, most), pause, done)
    builder.position_at_end(pause)
    emit_pause(builder)
    rounds.add_incoming(I32(0), entry)
    rounds.add_incoming(builder.add(rounds, I32(1)), pause)
    builder.branch(look)

    builder.position_at_end(done)
    builder.ret(seen)
    return function


def emit_system_call(builder: ir.IRBuilder, calls: SystemCalls, number: int, operands: tuple[ir.Value, ...]) -> ir.Value:
    """Call the kernel with at most four i64 operands; i64, negative for an error."""
    padded = operands + (I64(0),) * (4 - len(operands))
    signature = ir.FunctionType(I64, (I64,) * 5)
    address = builder.ptrtoint(_machine_code(builder.module, calls.code), I64)
    callee = builder.inttoptr(address, signature.as_pointer())
    return builder.call(callee, [I64(number), *padded], attrs=("nounwind",))


def _machine_code(module: ir.Module, code: bytes) -> ir.GlobalVariable:
    """The bytes as a constant among the module's code, placed once; linkers make what is called .text executable."""
    found = module.globals.get("system_call")
    if found is not None:
        return found
    kind = ir.ArrayType(I8, len(code))
    constant = ir.GlobalVariable(module, kind, "system_call")
    constant.linkage, constant.global_constant, constant.section, constant.align = "internal", True, ".text", 16
    constant.initializer = ir.Constant(kind, bytearray(code))
    return constant
