"""What code that is compiled for a target needs of the machine that runs it, in Linux's names."""

from __future__ import annotations

import platform

from sardonyx.base.errors import Unsupported
from sardonyx.codegen.features import AVX2, AVX512, NEON, SSE2, WASM, Target
from sardonyx.runtime.processor import Needs, processor

# LLVM's names of the features that it may use in code from arithmetic, loads and stores, and Linux's names of them.
# LLVM: https://github.com/llvm/llvm-project/blob/main/llvm/lib/TargetParser/Host.cpp, Linux: arch/x86/include/asm/cpufeatures.h
X86_NAMES = {
    "sse3": "pni",
    "ssse3": "ssse3",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
    "popcnt": "popcnt",
    "cx16": "cx16",
    "avx": "avx",
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "bmi": "bmi1",
    "bmi2": "bmi2",
    "lzcnt": "abm",
    "movbe": "movbe",
    **{f"avx512{name}": f"avx512{name}" for name in ("f", "bw", "dq", "vl", "cd", "ifma", "vbmi")},
    "avx512vbmi2": "avx512_vbmi2",
    "avx512vnni": "avx512_vnni",
    "avx512bitalg": "avx512_bitalg",
    "avx512vpopcntdq": "avx512_vpopcntdq",
    "avx512bf16": "avx512_bf16",
    "avx512fp16": "avx512_fp16",
    "avxvnni": "avx_vnni",
    "avxifma": "avx_ifma",
    "gfni": "gfni",
    "xop": "xop",
    "fma4": "fma4",
    "tbm": "tbm",
}
_HASWELL = ("pni", "ssse3", "sse4_1", "sse4_2", "popcnt", "cx16", "avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe")
_SKYLAKE = (*_HASWELL, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")
ROWS: dict[tuple[str, str], tuple[str, ...]] = {
    (SSE2.architecture, SSE2.cpu): (),
    (AVX2.architecture, AVX2.cpu): _HASWELL,
    (AVX512.architecture, AVX512.cpu): _SKYLAKE,
    (NEON.architecture, NEON.cpu): ("asimd",),
    (WASM.architecture, WASM.cpu): (),
}
"""The features of the processors that rows of the feature table name, by architecture and processor."""


SYSTEMS = {"x86_64": "Linux", "aarch64": "Linux", "wasm32": "WebAssembly"}
"""The system of each architecture's rows, as `platform.system()` names it where it can."""


def needs_of(target: Target) -> Needs:
    """Return the needs of code that is compiled for the target. Raises Unsupported if the system doesn't tell the processor."""
    if target.name != "host":
        return Needs(target.architecture, SYSTEMS[target.architecture], ROWS[target.architecture, target.cpu])
    if target.architecture == "x86_64":
        there = (name[1:] for name in target.features.split(",") if name.startswith("+"))
        return Needs("x86_64", platform.system(), tuple(sorted(X86_NAMES[name] for name in there if name in X86_NAMES)))
    found = processor()
    if found is None:
        raise Unsupported("this system doesn't tell which processor it has: choose a target")
    return Needs(target.architecture, platform.system(), only=found)
