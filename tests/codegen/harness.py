"""Compile a kernel for a target, run it on this machine as simulated threads in turn, look at what it left."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sardonyx.base.symbolic import evaluate
from sardonyx.codegen.compile import compile_kernel
from sardonyx.codegen.features import AVX2, SSE2, Target, host
from sardonyx.codegen.scratch import scratch_bytes
from sardonyx.loop.nodes import Kernel
from sardonyx.runtime import abi
from sardonyx.runtime.linker import link
from sardonyx.runtime.loader import load

TARGETS: Sequence[Target] = (host(), AVX2, SSE2)
ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
CALL = 7
Array = np.ndarray[Any, Any]


class Failed(Exception):
    """A kernel recorded a failed check: (code, call, details)."""


def aligned(size: int) -> Array:
    """Bytes on a 64-byte line."""
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


def run(
    kernel: Kernel,
    arrays: Sequence[Array],
    sizes: Mapping[str, int] | None = None,
    target: Target | None = None,
    threads: int = 1,
    should_stop: int = 0,
) -> None:
    """Run a kernel in place over arrays, one per buffer: part after part. should_stop: address of a function that it may ask.

    Linking fails if the object refers to anything outside.
    """
    loaded = load(link([compile_kernel(kernel, target or host())]))
    entry = ENTRY(loaded.address(kernel.name))
    numbers = [(sizes or {})[s.name] for s in kernel.sizes]
    for a in arrays:
        assert a.flags.c_contiguous or a.size < 2
    args = np.array([CALL, *(a.ctypes.data for a in arrays), *numbers], np.int64)
    context = aligned(8 * abi.FIRST_SLOT).view(np.int64)
    context[abi.STOP_FUNCTION] = should_stop
    need = evaluate(scratch_bytes(kernel), lambda s: (sizes or {})[s.name])

    def thread(tid: int) -> None:
        scratch = aligned(need + 64)
        scratch[:] = 0xAB
        entry(args.ctypes.data, context.ctypes.data, scratch.ctypes.data, tid, threads)
        assert (scratch[need:] == 0xAB).all(), "scratch overrun"

    for tid in range(threads):
        thread(tid)
    status = int(context[abi.STATUS])
    loaded.close()
    if status:
        details = tuple(int(d) for d in context[abi.DETAIL : abi.DETAIL + 3])
        raise Failed((status & 0xFFFFFFFF) - 1, status >> 32, details)
