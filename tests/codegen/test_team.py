"""The barrier and the team's native code, on every target that they are emitted for."""

from __future__ import annotations

import ctypes
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from llvmlite import ir

from sardonyx.codegen.team import emit_barrier, emit_team
from sardonyx.codegen.waiting import emit_sleep, emit_system_call, emit_wake, emit_yield, system_calls
from sardonyx.codegen.words import I32, I64, PTR, VOID
from sardonyx.runtime import abi
from sardonyx.runtime.linker import link
from sardonyx.runtime.loader import load
from tests.runtime.objects import (
    FIRST,
    HOST,
    LINUX,
    ROUNDS,
    compile_module,
    emulator,
    function,
    new_module,
    rounds_image,
    run_program,
)

ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
EXIT = {"x86_64": 60, "aarch64": 93}


@pytest.fixture(scope="module")
def rounds():
    image = load(rounds_image())
    yield ENTRY(image.address("rounds"))
    image.close()


def new_context() -> np.ndarray:
    memory = np.zeros((FIRST + 128) * 8 + 64, np.uint8)
    return memory[-memory.ctypes.data % 64 :][: (FIRST + 128) * 8].view(np.int64)


@pytest.mark.parametrize("triple", LINUX.values())
def test_team_refers_to_nothing_outside(triple):
    image = link([compile_module(emit_team(triple))])
    assert set(image.symbols) == {"worker", "dispatch", "stop", "walk", "replay"}


@pytest.mark.parametrize("triple", ["wasm32-unknown-unknown", "thumbv7m-none-eabi", "riscv64-unknown-linux-gnu"])
def test_barrier_compiles_where_nothing_can_sleep(triple):
    module = new_module(triple)
    barrier = emit_barrier(module)
    made, builder = function(module, "run", VOID, PTR, I64)
    builder.call(barrier, made.args)
    builder.ret_void()
    assert b"run" in compile_module(module)


def test_barrier_is_emitted_once():
    module = new_module()
    assert emit_barrier(module) is emit_barrier(module)


def test_module_without_a_triple_is_refused():
    with pytest.raises(ValueError, match="no target triple"):
        emit_barrier(ir.Module("nameless"))


@pytest.mark.parametrize(("threads", "no_spin"), [(1, 0), (2, 0), (3, 0), (4, 0), (3, 1)])
def test_barrier_holds_threads_together(rounds, threads: int, no_spin: int):
    context = new_context()
    context.view(np.int32)[(abi.SYNC * 8 + abi.SYNC_NO_SPIN) // 4] = no_spin
    for _ in range(20):
        context[FIRST:] = 0
        run_together(rounds, context, threads)
        assert context[abi.STATUS] == 0
        assert context[FIRST : FIRST + threads].tolist() == [ROUNDS] * threads
    assert sync_word(context, abi.SYNC_ARRIVED) == 0
    assert sync_word(context, abi.SYNC_SLEEPERS) == 0
    assert sync_word(context, abi.SYNC_GENERATION) == (0 if threads == 1 else 20 * 2 * ROUNDS)


def test_barrier_sleeps_until_the_last_arrives(rounds):
    context = new_context()
    early = threading.Thread(target=rounds, args=(context.ctypes.data, 0, 2))
    early.start()
    wait_until(lambda: sync_word(context, abi.SYNC_SLEEPERS) == 1)
    assert sync_word(context, abi.SYNC_GENERATION) == 0
    rounds(context.ctypes.data, 1, 2)
    early.join(30)
    assert not early.is_alive()
    assert context[FIRST : FIRST + 2].tolist() == [ROUNDS] * 2


@pytest.mark.parametrize("arch", LINUX)
def test_system_calls(arch, tmp_path: Path):
    """A whole program of them: barrier of one, yield, wake nobody, sleep on a word that differs, exit with 42."""
    if emulator(arch) is None:
        pytest.skip(f"qemu-{arch} is not installed")
    module = new_module(LINUX[arch])
    barrier = emit_barrier(module)
    made, builder = function(module, "start", VOID)
    made.attributes.alignstack = 16
    word = builder.alloca(I32)
    builder.store(I32(41), word)
    builder.call(barrier, [word, I64(1)])
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
    words = np.array([own, 0, 0, 0], np.uint32)
    control = np.zeros(abi.control_bytes(1), np.uint8)
    image = load(link([compile_module(mode_module())]))
    outer = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(image.address("outer"))
    outer(control.ctypes.data, words.ctypes.data, flags)
    image.close()
    in_entry, afterwards = (int(word) & ~0x3F for word in words[1:3])  # less the marks of what happened
    assert (in_entry, afterwards) == (mode, own)


def mode_module() -> ir.Module:
    """`outer(control, words, flags)`: in mode words[0], dispatch what stores its mode to words[1]; words[2] is the mode then."""
    module = emit_team(HOST)
    load_mode, store_mode = (module.globals[f"llvm.x86.sse.{name}"] for name in ("ldmxcsr", "stmxcsr"))
    inner, builder = function(module, "inner", VOID, PTR, I64, I64)
    builder.call(store_mode, [inner.args[0]])
    builder.ret_void()
    outer, builder = function(module, "outer", VOID, PTR, PTR, I64)
    control, words, flags = outer.args
    at = [builder.gep(words, [I64(index)], source_etype=I32) for index in range(4)]
    builder.call(store_mode, [at[3]])
    builder.call(load_mode, [at[0]])
    builder.call(module.globals["dispatch"], [control, builder.ptrtoint(inner, I64), at[1], I64(1), flags])
    builder.call(store_mode, [at[2]])
    builder.call(load_mode, [at[3]])
    builder.ret_void()
    return module


def run_together(entry, context: np.ndarray, threads: int) -> None:
    others = [threading.Thread(target=entry, args=(context.ctypes.data, tid, threads)) for tid in range(1, threads)]
    for thread in others:
        thread.start()
    entry(context.ctypes.data, 0, threads)
    for thread in others:
        thread.join(30)
        assert not thread.is_alive()


def sync_word(context: np.ndarray, offset: int) -> int:
    return int(context.view(np.int32)[(abi.SYNC * 8 + offset) // 4])


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
