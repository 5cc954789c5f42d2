"""Kernels to objects: emission, a few passes, LLVM's code generator."""

from __future__ import annotations

import functools
import threading
from typing import Any

from llvmlite import binding as llvm
from llvmlite import ir

from sardonyx.base.errors import Unsupported
from sardonyx.codegen.emit import emit
from sardonyx.codegen.features import Target
from sardonyx.loop.nodes import Kernel

_lock = threading.RLock()  # llvmlite's own lock guards single calls; a pass pipeline is several


def compile_kernel(kernel: Kernel, target: Target) -> bytes:
    """The kernel as a relocatable object with one global symbol, its name. Raises Unsupported for what can't be emitted."""
    try:
        module = emit(kernel, target)
    except RecursionError:
        raise Unsupported(f"{kernel.name}: expressions inside each other too deeply") from None
    return compile_module(module, target)


def compile_module(module: ir.Module, target: Target) -> bytes:
    """A module as a relocatable object."""
    with _lock:
        machine = _machine(target)
        code: bytes = machine.emit_object(_optimised(module, machine))
    return code


def ir_text(kernel: Kernel, target: Target, optimised: bool = False) -> str:
    """The kernel's LLVM IR, as emitted or after the passes."""
    module = emit(kernel, target)
    if not optimised:
        return str(module)
    with _lock:
        return str(_optimised(module, _machine(target)))


def assembly(kernel: Kernel, target: Target) -> str:
    """The kernel's assembly."""
    with _lock:
        machine = _machine(target)
        text: str = machine.emit_assembly(_optimised(emit(kernel, target), machine))
    return text


def _optimised(module: ir.Module, machine: Any) -> Any:
    """Parsed, verified, and through the passes: what they don't do (loop-invariant code, unrolling), emission has done."""
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())
    passes = llvm.create_new_function_pass_manager()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    for function in parsed.functions:
        if not function.is_declaration:
            passes.run(function, builder)
    return parsed


@functools.cache
def _machine(target: Target) -> Any:
    """LLVM's code generator for a target; its code may be placed anywhere."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    found = llvm.Target.from_triple(target.triple)
    return found.create_target_machine(cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="small")
