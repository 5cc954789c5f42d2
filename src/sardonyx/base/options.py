"""Options of the compiler: one frozen record, made from a session's options."""

from __future__ import annotations

from msgspec import Struct

# Optimisation levels, numbered as ONNX Runtime numbers them.
DISABLED, BASIC, EXTENDED, LAYOUT, ALL = 0, 1, 2, 3, 99


class CompileOptions(Struct, frozen=True):
    """Options that change what is compiled, or how it runs.

    level            graph passes up to this level run (DISABLED ... ALL)
    threads          threads of one run; 0 for as many as the process may use
    target           name of the processor to compile for; "" for this machine's
    winograd         allow algorithms with fewer operations and a slightly larger error
    integer_sums     sum products of dequantised numbers in integers, and scale the sums
    flush_denormals  treat denormal numbers as zero
    spin             let idle threads spin briefly before they sleep
    cache            keep compiled objects on disk
    timed            measure each kernel of a run, for profiles
    disabled         names of graph passes that do not run
    """

    level: int = ALL
    threads: int = 0
    target: str = ""
    winograd: bool = True
    integer_sums: bool = True
    flush_denormals: bool = False
    spin: bool = True
    cache: bool = True
    timed: bool = False
    disabled: frozenset[str] = frozenset()
