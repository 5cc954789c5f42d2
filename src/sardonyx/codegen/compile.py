"""Kernels to objects: emission, a few passes, LLVM's code generator."""

from __future__ import annotations

import functools
import os
import threading
from typing import Any

from llvmlite import binding as llvm
from llvmlite import ir

from sardonyx.base.errors import Unsupported
from sardonyx.codegen.emit import emit
from sardonyx.codegen.features import Target
from sardonyx.loop.nodes import Kernel

OPTIMISED = 2
_lock = threading.RLock()  # llvmlite's own lock guards single calls; a pass pipeline is several
if hasattr(os, "register_at_fork"):  # a child would find the lock of another thread closed for good, and LLVM half way
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def compile_kernel(kernel: Kernel, target: Target) -> bytes:
    """The kernel as a relocatable object with one global symbol, its name. Raises Unsupported for what can't be emitted."""
    return compile_text(kernel_text(kernel, target, False), target)


def compile_module(module: ir.Module, target: Target, level: int = OPTIMISED) -> bytes:
    """A module as a relocatable object."""
    return compile_text(str(module), target, level)


def kernel_text(kernel: Kernel, target: Target, tiles_elsewhere: bool) -> str:
    """The kernel's LLVM IR as emitted. Raises Unsupported for what can't be."""
    try:
        return str(emit(kernel, target, tiles_elsewhere))
    except RecursionError:
        raise Unsupported(f"{kernel.name}: expressions inside each other too deeply") from None


def compile_text(text: str, target: Target, level: int = OPTIMISED) -> bytes:
    """LLVM IR as a relocatable object. Nearly all of it is LLVM's work, which other threads need not wait for.

    level: of LLVM's code generator; at 0 there are no passes either.
    """
    with _lock:
        machine = _machine(target, level)
        code: bytes = machine.emit_object(_optimised(text, machine) if level else _parsed(text))
    return code


def ir_text(kernel: Kernel, target: Target, optimised: bool = False) -> str:
    """The kernel's LLVM IR, as emitted or after the passes."""
    text = str(emit(kernel, target))
    if not optimised:
        return text
    with _lock:
        return str(_optimised(text, _machine(target)))


def assembly(kernel: Kernel, target: Target) -> str:
    """The kernel's assembly."""
    with _lock:
        machine = _machine(target)
        text: str = machine.emit_assembly(_optimised(str(emit(kernel, target)), machine))
    return text


def _optimised(text: str, machine: Any) -> Any:
    """Parsed, and through the passes: what they don't do (loop-invariant code, unrolling), emission has done."""
    parsed = _parsed(text)
    passes, builder = _passes(machine)
    passes.run(parsed, builder)
    return parsed


@functools.cache
def _passes(machine: Any) -> tuple[Any, Any]:
    """They run on each function of a module."""
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    return passes, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())


def _parsed(text: str) -> Any:
    parsed = llvm.parse_assembly(text)
    parsed.verify()
    return parsed


@functools.cache
def _machine(target: Target, level: int = OPTIMISED) -> Any:
    """LLVM's code generator for a target; its code may be placed anywhere."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    found = llvm.Target.from_triple(target.triple)
    return found.create_target_machine(cpu=target.cpu, features=target.features, opt=level, reloc="pic", codemodel="small")
