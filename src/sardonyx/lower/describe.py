"""Describe a lowered program in text for people to read."""

from __future__ import annotations

from sardonyx.lower.lowered import Lowered
from sardonyx.lower.place import Nest
from sardonyx.lower.values import extent


def describe(program: Lowered) -> str:
    """Return one paragraph per nest: its loops, its statements and where each is placed."""
    head = f"{len(program.nests)} nests, {len(program.kernels)} kernels, {len(program.segments)} segments"
    return "\n".join([head, *(describe_nest(n) for n in program.nests)])


def describe_nest(nest: Nest) -> str:
    """Return the lines of one nest."""
    loops = ", ".join(f"{s.name} < {extent(s)}" for s in nest.band) or "no loops"
    lines = [f"nest {nest.root.tensor.name}: {loops}{', panels outermost' if nest.panels_outermost else ''}"]
    for v in nest.statements:
        carried = f" of {v.tile.tensor.name}" if v.tile else ""
        lines.append(f"    {v.place}{' TILE' + carried if v.tile else ''}  {v.tensor.name}: {v.tensor.dtype}{list(v.shape)}")
    return "\n".join(lines)
