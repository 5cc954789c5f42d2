"""Compiles a kernel to an object: emission of LLVM IR, three passes, and LLVM's code generator."""

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
"""The default level of LLVM's code generator, of 0 to 3."""
_lock = threading.RLock()  # llvmlite's lock guards single calls only, but parsing, passes and code generation belong together
if hasattr(os, "register_at_fork"):  # a fork waits until no thread holds the lock: the child could never acquire it
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def compile_kernel(kernel: Kernel, target: Target) -> bytes:
    """Compile the kernel to a relocatable object with one global symbol, its name. Raises Unsupported for what can't be emitted."""
    return compile_text(kernel_text(kernel, target, False), target)


def compile_module(module: ir.Module, target: Target, level: int = OPTIMISED) -> bytes:
    """Compile a module to a relocatable object."""
    return compile_text(str(module), target, level)


def kernel_text(kernel: Kernel, target: Target, tiles_elsewhere: bool) -> str:
    """Return the kernel's LLVM IR as it is emitted, before passes.

    tiles_elsewhere: declare the tiles that it calls instead of defining them (see `tile.library`). Raises Unsupported for
    what can't be emitted.
    """
    try:
        return print_module(emit(kernel, target, tiles_elsewhere))
    except RecursionError:
        raise Unsupported(f"{kernel.name}: its expressions are nested too deeply") from None


def print_module(module: ir.Module) -> str:
    """Return the module's LLVM IR, and break the references inside the module.

    llvmlite's functions, blocks and instructions refer to each other in cycles. Without the cycles they are freed at once,
    and no garbage collection has to find them.
    """
    text = str(module)
    for function in module.functions:
        for block in function.blocks:
            block.instructions.clear()
            block.terminator = None
        function.blocks.clear()
        function.args = ()
    module.globals.clear()
    return text


def compile_text(text: str, target: Target, level: int = OPTIMISED) -> bytes:
    """Compile LLVM IR to a relocatable object. LLVM releases the GIL, so that other threads go on.

    level: of LLVM's code generator; at 0 no passes run either.
    """
    with _lock:
        machine = _machine(target, level)
        code: bytes = machine.emit_object(_optimised(text, machine) if level else _parsed(text))
    return code


def ir_text(kernel: Kernel, target: Target, optimised: bool = False) -> str:
    """Return the kernel's LLVM IR, as emitted or after the passes."""
    text = str(emit(kernel, target))
    if not optimised:
        return text
    with _lock:
        return str(_optimised(text, _machine(target)))


def assembly(kernel: Kernel, target: Target) -> str:
    """Return the kernel's assembly."""
    with _lock:
        machine = _machine(target)
        text: str = machine.emit_assembly(_optimised(str(emit(kernel, target)), machine))
    return text


def _optimised(text: str, machine: Any) -> Any:
    """Parse LLVM IR and run SROA, instcombine and simplifycfg on it. Emission has already hoisted invariants and unrolled loops."""
    parsed = _parsed(text)
    passes, builder = _passes(machine)
    passes.run(parsed, builder)
    return parsed


@functools.cache
def _passes(machine: Any) -> tuple[Any, Any]:
    """Return the pass manager and pass builder for a machine."""
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
    """Return LLVM's code generator for a target. Its code is position independent."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    found = llvm.Target.from_triple(target.triple)
    return found.create_target_machine(cpu=target.cpu, features=target.features, opt=level, reloc="pic", codemodel="small")
