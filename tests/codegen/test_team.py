"""The team's native code, on every target that they are emitted for."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
from llvmlite import ir

from sardonyx.codegen.llvm_types import I32, I64, PTR, VOID
from sardonyx.codegen.stop import emit_should_stop
from sardonyx.codegen.team import emit_team
from sardonyx.codegen.tickets import emit_await, emit_finish, emit_take
from sardonyx.codegen.waiting import emit_sleep, emit_system_call, emit_wake, emit_yield, system_calls
from sardonyx.runtime import abi
from sardonyx.runtime.linker import link
from sardonyx.runtime.loader import load
from tests.runtime.objects import (
    HOST,
    LINUX,
    compile_module,
    emulator,
    function,
    new_module,
    run_program,
)

ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
EXIT = {"x86_64": 60, "aarch64": 93}


@pytest.mark.parametrize("triple", LINUX.values())
def test_team_refers_to_nothing_outside(triple):
    image = link([compile_module(emit_team(triple))])
    assert set(image.symbols) == {"worker", "dispatch", "stop", "walk", "should_stop", "replay"}


@pytest.mark.parametrize("triple", ["wasm32-unknown-unknown", "thumbv7m-none-eabi", "riscv64-unknown-linux-gnu"])
def test_turns_compile_where_nothing_can_sleep(triple):
    module = new_module(triple)
    take, finish, await_ = emit_take(module), emit_finish(module), emit_await(module, emit_should_stop(module))
    made, builder = function(module, "run", VOID, PTR, I64)
    builder.call(await_, [*made.args, made.args[0]])
    builder.call(finish, [made.args[0], builder.call(take, [*made.args, I64(1)])])
    builder.ret_void()
    assert b"run" in compile_module(module)


def test_module_without_a_triple_is_refused():
    module = ir.Module("nameless")
    should_stop = emit_should_stop(module)
    with pytest.raises(ValueError, match="no target triple"):
        emit_await(module, should_stop)


@pytest.mark.parametrize("arch", LINUX)
def test_system_calls(arch, tmp_path: Path):
    """A whole program of them: yield, wake nobody, sleep on a word that differs, exit with 42."""
    if emulator(arch) is None:
        pytest.skip(f"qemu-{arch} is not installed")
    module = new_module(LINUX[arch])
    made, builder = function(module, "start", VOID)
    made.attributes.alignstack = 16
    word = builder.alloca(I32)
    builder.store(I32(41), word)
    emit_yield(builder)
    emit_wake(builder, word, 1)
    emit_sleep(builder, word, I32(7))
    status = builder.add(builder.zext(builder.load(word, typ=I32), I64), I64(1))
    emit_system_call(builder, system_calls(module), EXIT[arch], (status,))
    builder.unreachable()
    assert run_program(link([compile_module(module)]), tmp_path) == 42


@pytest.mark.parametrize(("flags", "mode"), [(0, 0x1F80), (abi.FLUSH, 0x9FC0)])
def test_float_mode_is_the_runs(flags: int, mode: int):
    """dispatch gives an entry the run's mode, whatever the caller's, and the caller its own mode back."""
    if not HOST.startswith("x86_64"):
        pytest.skip("the test reads MXCSR, which is x86's")
    own = 0x1F80 | 0x6000  # rounds to zero
    words = np.zeros(4 + 2 * (abi.FIRST_SLOT + 1), np.uint32)
    words[0] = own
    words[4 + 2 * abi.FLAGS] = flags
    control = np.zeros(abi.control_bytes(1), np.uint8)
    image = load(link([compile_module(mode_module())]))
    outer = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(image.address("outer"))
    outer(control.ctypes.data, words.ctypes.data)
    image.close()
    in_entry, afterwards = (int(word) & ~0x3F for word in (words[-2], words[2]))  # less the marks of what happened
    assert (in_entry, afterwards) == (mode, own)


def mode_module() -> ir.Module:
    """`outer(control, words)`: in mode words[0], dispatch what stores its mode to the slot of the context that begins at words[4];
    words[2] is the mode then."""
    module = emit_team(HOST)
    load_mode, store_mode = (module.globals[f"llvm.x86.sse.{name}"] for name in ("ldmxcsr", "stmxcsr"))
    inner, builder = function(module, "inner", VOID, PTR, I64, I64)
    builder.call(store_mode, [builder.gep(inner.args[0], [I64(abi.FIRST_SLOT)], source_etype=I64)])
    builder.ret_void()
    outer, builder = function(module, "outer", VOID, PTR, PTR)
    control, words = outer.args
    at = [builder.gep(words, [I64(index)], source_etype=I32) for index in range(5)]
    builder.call(store_mode, [at[3]])
    builder.call(load_mode, [at[0]])
    builder.call(module.globals["dispatch"], [control, builder.ptrtoint(inner, I64), at[4], I64(1)])
    builder.call(store_mode, [at[2]])
    builder.call(load_mode, [at[3]])
    builder.ret_void()
    return module
