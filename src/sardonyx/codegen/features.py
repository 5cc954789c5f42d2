"""Target processors, each described by one record of data. Lowering and emission read the record and never ask which processor it
is.

Registers of a contraction tile: rows x vectors sums, `vectors` vectors of B, one broadcast element of A, and one more for the
product on targets without fma.
"""

from __future__ import annotations

import functools
import os
from types import MappingProxyType

from llvmlite import binding as llvm
from msgspec import Struct
from msgspec.structs import replace

from sardonyx.base.dtypes import DType, f32
from sardonyx.loop.groups import PAIRS, QUADS, Group
from sardonyx.runtime.caches import Caches, caches

ENVIRONMENT = "SARDONYX_TARGET"
TYPICAL = Caches()
"""Cache sizes that are assumed for targets other than the host."""
CLOCK = 3e9
"""Clock rate of a core under full load, in Hz, for estimates."""


class Target(Struct, frozen=True):
    """A processor as the compiler sees it.

    masked_bits: element widths for which a masked load or store is one instruction.
    fma: has fused multiply-add of f32 and f64. f16_convert: converts between f16 and f32 in hardware. rounding: has floor,
    ceil, trunc and rint in hardware.
    index_bits: width of an address.
    tile_shapes: (vectors per row, most rows) of the contraction tile, the preferred shape first.
    caches: the caches of one core.
    groups: neighbours along k that a tile of integers multiplies in one instruction, the preferred ones first.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bits: int
    vector_registers: int
    masked_bits: frozenset[int]
    fma: bool
    f16_convert: bool
    rounding: bool
    index_bits: int
    tile_shapes: tuple[tuple[int, int], ...]
    caches: Caches = TYPICAL
    groups: tuple[Group, ...] = ()

    @property
    def flops(self) -> float:
        """Estimate f32 operations per second of one core: two vector multiply-adds per cycle, or one product and one sum without
        fma.

        A 512-bit vector counts as 384 bits, because such processors join two pipes for it or lower their clock.
        """
        vectors = 4 if self.fma else 2
        return min(self.vector_bits, 384) // 32 * vectors * CLOCK

    @property
    def architecture(self) -> str:
        """The first part of the triple, such as x86_64."""
        return self.triple.split("-")[0]

    @property
    def key(self) -> str:
        """A text of all that a compiled object depends on: triple, cpu and features."""
        return f"{self.triple} {self.cpu} {self.features}"

    def lanes(self, dtype: DType) -> int:
        """Return the number of elements of dtype in a vector register."""
        return self.vector_bits // dtype.bits

    def tile_rows(self, vectors: int) -> int:
        """Return the most rows of a tile of `vectors` vectors for which sums, B and the broadcast stay in registers."""
        return dict(self.tile_shapes).get(vectors) or rows_in_registers(self.vector_registers, vectors, self.fma)

    def tile_vectors(self, columns: int | None, dtype: DType = f32) -> int:
        """Choose the vectors per panel for this many columns (None: unknown): the preferred width that divides them, else the
        whole row if it fits, else the preferred width.
        """
        if columns is None:
            return self.tile_shapes[0][0]
        vectors = -(-columns // self.lanes(dtype))
        fitting = [v for v, _ in self.tile_shapes if vectors % v == 0 and v > 1]
        if fitting:
            return fitting[0]
        widest = max(v for v, _ in self.tile_shapes)
        return vectors if vectors <= widest else self.tile_shapes[0][0]


def rows_in_registers(registers: int, vectors: int, fma: bool) -> int:
    """Return the most rows of sums that fit beside `vectors` vectors of B and the broadcast."""
    spare = vectors + (1 if fma else 2)
    return max(1, (registers - spare) // vectors)


AVX512 = Target(
    name="avx512",
    triple="x86_64-unknown-linux-gnu",
    cpu="skylake-avx512",
    features="-prefer-256-bit",
    vector_bits=512,
    vector_registers=32,
    masked_bits=frozenset((8, 16, 32, 64)),
    fma=True,
    f16_convert=True,
    rounding=True,
    index_bits=64,
    tile_shapes=((3, 8), (2, 14), (4, 6), (1, 14), (5, 5), (6, 4)),
    groups=(PAIRS,),
)
AVX2 = Target(
    name="avx2",
    triple="x86_64-unknown-linux-gnu",
    cpu="haswell",
    features="",
    vector_bits=256,
    vector_registers=16,
    masked_bits=frozenset((32, 64)),
    fma=True,
    f16_convert=True,
    rounding=True,
    index_bits=64,
    tile_shapes=((2, 6), (3, 4), (1, 8), (4, 2)),
    groups=(PAIRS,),
)
SSE2 = Target(
    name="sse2",
    triple="x86_64-unknown-linux-gnu",
    cpu="x86-64",
    features="",
    vector_bits=128,
    vector_registers=16,
    masked_bits=frozenset(),
    fma=False,
    f16_convert=False,
    rounding=False,
    index_bits=64,
    tile_shapes=((2, 5), (3, 3), (1, 8), (4, 2)),
    groups=(PAIRS,),
)
NEON = Target(
    name="neon",
    triple="aarch64-unknown-linux-gnu",
    cpu="generic",
    features="+neon",
    vector_bits=128,
    vector_registers=32,
    masked_bits=frozenset(),
    fma=True,
    f16_convert=True,
    rounding=True,
    index_bits=64,
    tile_shapes=((4, 6), (3, 8), (2, 12), (1, 16), (6, 4)),
)
WASM = Target(
    name="wasm",
    triple="wasm32-unknown-unknown",
    cpu="generic",
    features="+simd128,+nontrapping-fptoint,+sign-ext,+bulk-memory",
    vector_bits=128,
    vector_registers=16,
    masked_bits=frozenset(),
    fma=False,
    f16_convert=False,
    rounding=True,
    index_bits=32,
    tile_shapes=((2, 5), (3, 3), (1, 8), (4, 2)),
)

TARGETS = MappingProxyType({t.name: t for t in (AVX512, AVX2, SSE2, NEON, WASM)})


@functools.cache
def host() -> Target:
    """Return the target for this processor: the widest feature row that it supports, with the host's CPU name, features and
    caches.

    Raises RuntimeError on an architecture without a feature row.
    """
    triple = llvm.get_default_triple()
    if not triple.startswith("x86_64"):
        row = NEON if triple.startswith(("aarch64", "arm64")) else None
        if row is None:
            raise RuntimeError(f"there is no feature row for the processor {triple}")
        return replace(row, name="host", triple=triple, cpu=llvm.get_host_cpu_name(), caches=caches())
    found = llvm.get_host_cpu_features()
    wide = all(found.get(f) for f in ("avx512f", "avx512bw", "avx512dq", "avx512vl"))
    row = AVX512 if wide else AVX2 if all(found.get(f) for f in ("avx2", "fma", "f16c")) else SSE2
    features = found.flatten() + (",-prefer-256-bit" if wide else "")
    has_quads = found.get("avx512vnni") if wide else row is AVX2 and found.get("avxvnni")
    groups = (QUADS, *row.groups) if has_quads else row.groups
    return replace(row, name="host", triple=triple, cpu=llvm.get_host_cpu_name(), features=features, caches=caches(), groups=groups)


@functools.cache
def baseline() -> Target:
    """Return a target whose code runs on any processor of the host's architecture. Raises RuntimeError like `host`."""
    rows = {row.architecture: row for row in (SSE2, NEON)}
    return replace(rows[host().architecture], name="baseline", triple=host().triple)


def select(name: str | None = None) -> Target:
    """Return the target of this name; None: the one that SARDONYX_TARGET names, else the host. Raises ValueError for an unknown
    name.
    """
    name = name or os.environ.get(ENVIRONMENT) or "host"
    if name == "host":
        return host()
    if name not in TARGETS:
        raise ValueError(f"there is no target {name}: choose one of host, {', '.join(TARGETS)}")
    return TARGETS[name]
