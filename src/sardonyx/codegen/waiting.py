"""How a thread waits: spin, yield, sleep on a word in memory, and be woken; emitted for the target of the module.

On Linux a thread sleeps by the futex system call, made directly, so that compiled objects refer to no external symbol. On a
target without a row in SYSTEM_CALLS a thread spins instead of sleeping.
"""

from __future__ import annotations

from llvmlite import ir
from msgspec import Struct

from sardonyx.codegen.llvm_types import I8, I32, I64, PTR, VOID

PAUSES = 4000
"""Rounds of the processor's pause instruction before a thread sleeps: 50 to 200 us."""
FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE = 128, 129
EVERYONE = 0x7FFFFFFF


class SystemCalls(Struct, frozen=True):
    """Linux system calls of one architecture: their numbers, and the machine code of `i64 system_call(i64 number, i64 a, i64 b,
    i64 c, i64 d)`, which moves its arguments to the kernel's registers.

    The code is given as bytes because inline assembly needs LLVM's assembler, which llvmlite offers for the host only: for
    another target LLVM would abort the process.
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
    """Return the first part of the module's triple, such as x86_64. Raises ValueError if the module has no triple."""
    name = str(module.triple).split("-")[0]
    if name in ("", "unknown"):
        raise ValueError(f"module {module.name!r} has no target triple")
    return name


def system_calls(module: ir.Module) -> SystemCalls | None:
    """Return the system calls of the module's target; None if it is not Linux or its architecture has no row."""
    return SYSTEM_CALLS.get(architecture(module)) if "linux" in str(module.triple) else None


def internal_function(module: ir.Module, name: str, result: ir.Type, arguments: tuple[ir.Type, ...]) -> ir.Function:
    """Declare a function that is internal to the module and never unwinds."""
    function = ir.Function(module, ir.FunctionType(result, arguments), name)
    function.linkage = "internal"
    function.attributes.add("nounwind")
    return function


def intrinsic(module: ir.Module, name: str, result: ir.Type, arguments: tuple[ir.Type, ...]) -> ir.Function:
    """Return the declaration of an LLVM intrinsic, which is made once per module."""
    found = module.globals.get(name)
    return found if found is not None else ir.Function(module, ir.FunctionType(result, arguments), name)


def byte_offset(builder: ir.IRBuilder, pointer: ir.Value, offset: int | ir.Value) -> ir.Value:
    """Return pointer + offset, in bytes."""
    index = I64(offset) if isinstance(offset, int) else offset
    return builder.gep(pointer, [index], source_etype=I8)


def emit_words(builder: ir.IRBuilder, count: int) -> ir.Value:
    """Return the address of `count` i64 on the stack."""
    words = builder.alloca(ir.ArrayType(I64, count))
    words.type = PTR  # llvmlite still gives it a typed pointer
    return words


def emit_pause(builder: ir.IRBuilder) -> None:
    """Emit the instruction that tells the processor that this thread spins."""
    row = PAUSE.get(architecture(builder.module))
    if row is None:
        return
    name, arguments = row
    pause = intrinsic(builder.module, name, VOID, (I32,) * len(arguments))
    builder.call(pause, [I32(value) for value in arguments])


def is_flag(builder: ir.IRBuilder, flags: ir.Value, flag: int) -> ir.Value:
    """Test whether `flag` is set in `flags`; i1."""
    return builder.icmp_unsigned("!=", builder.and_(flags, flags.type(flag)), flags.type(0))


def spin_rounds(builder: ir.IRBuilder, never: ir.Value) -> ir.Value:
    """Return the rounds to spin, as `emit_spin`'s function takes them: 0 where `never` (i1) is true, else PAUSES."""
    return builder.select(never, I32(0), I32(PAUSES))


def emit_yield(builder: ir.IRBuilder) -> None:
    """Let another thread run on this core."""
    calls = system_calls(builder.module)
    if calls is None:
        emit_pause(builder)
    else:
        emit_system_call(builder, calls, calls.sched_yield, ())


def emit_sleep(builder: ir.IRBuilder, word: ir.Value, expected: ir.Value, most: ir.Value | None = None) -> None:
    """Sleep while the i32 at `word` equals `expected`. It may return early, so the caller has to test again.

    most: address of the longest time to sleep, as seconds and nanoseconds (two i64); null for no limit.
    """
    calls = system_calls(builder.module)
    if calls is None:
        emit_pause(builder)
    else:
        limit = I64(0) if most is None else builder.ptrtoint(most, I64)
        operands = (builder.ptrtoint(word, I64), I64(FUTEX_WAIT_PRIVATE), builder.zext(expected, I64), limit)
        emit_system_call(builder, calls, calls.futex, operands)


def emit_wake(builder: ir.IRBuilder, word: ir.Value, most: int) -> None:
    """Wake at most `most` threads that sleep on `word`."""
    calls = system_calls(builder.module)
    if calls is not None:
        operands = (builder.ptrtoint(word, I64), I64(FUTEX_WAKE_PRIVATE), I64(most))
        emit_system_call(builder, calls, calls.futex, operands)


def emit_spin(module: ir.Module) -> ir.Function:
    """Emit `i32 spin(ptr word, i32 value, i32 rounds)`: spin until the word differs from `value`, at most `rounds` rounds; return
    the word.

    for round in range(rounds + 1):
        if load acquire word != value: break
        pause, except in the last round
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
    """Make a system call with at most four i64 operands. -> i64, negative for an error"""
    padded = operands + (I64(0),) * (4 - len(operands))
    signature = ir.FunctionType(I64, (I64,) * 5)
    address = builder.ptrtoint(_machine_code(builder.module, calls.code), I64)
    callee = builder.inttoptr(address, signature.as_pointer())
    return builder.call(callee, [I64(number), *padded], attrs=("nounwind",))


def _machine_code(module: ir.Module, code: bytes) -> ir.GlobalVariable:
    """Return the bytes as a constant in the module's .text section, which linkers make executable; it is placed once."""
    found = module.globals.get("system_call")
    if found is not None:
        return found
    kind = ir.ArrayType(I8, len(code))
    constant = ir.GlobalVariable(module, kind, "system_call")
    constant.linkage, constant.global_constant, constant.section, constant.align = "internal", True, ".text", 16
    constant.initializer = ir.Constant(kind, bytearray(code))
    return constant
