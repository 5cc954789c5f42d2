"""What the compiler uses on this machine: versions, target, caches, threads."""

from __future__ import annotations

from importlib import metadata

from llvmlite import binding as llvm

import sardonyx
from sardonyx.base import debug
from sardonyx.codegen import features
from sardonyx.runtime.cache import Cache
from sardonyx.runtime.caches import Caches
from sardonyx.runtime.cores import available_cores

PACKAGES = ("numpy", "onnx", "onnx-ir", "llvmlite", "ml_dtypes")


def facts() -> dict[str, str]:
    """Return {fact: text}. Raises ValueError if the environment names an unknown target, RuntimeError for an unknown processor."""
    target = features.select()
    cache = Cache.from_environment()
    return {
        "version": sardonyx.__version__,
        "packages": ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES),
        "llvm": ".".join(map(str, llvm.llvm_version_info)),
        "target": f"{target.name}: {target.triple}, {target.cpu}",
        "vectors": f"{target.vector_registers} registers of {target.vector_bits} bits{', fma' if target.fma else ''}",
        "tiles": ", ".join(f"{rows} rows x {vectors} vectors" for vectors, rows in target.tile_shapes),
        "caches": describe(target.caches),
        "threads": str(available_cores()),
        "cache": cache.folder or f"none: {cache.problem}",
        "debug": f"level {debug.level()}",
    }


def describe(caches: Caches) -> str:
    """Return the sizes of a core's caches: "L1 48 KiB in 12 ways, L2 2 MiB, L3 300 MiB"."""
    l1, l2, l3 = (f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB" for size in (caches.l1, caches.l2, caches.l3))
    return f"L1 {l1} in {caches.ways} ways, L2 {l2}, L3 {l3}"
