"""What people are told of a program: its nests, their loops, and where each value is computed."""

from __future__ import annotations

import re

from sardonyx.lower.describe import describe
from sardonyx.ops import linalg
from sardonyx.ops.pointwise import mean_along
from tests.lower.harness import compiled, reals


def test_loops_and_places() -> None:
    program = compiled(lambda x, w: [linalg.matmul(x, w), mean_along(x, [0, 1])], "f32[m, 64]", reals(64, 96))
    head, *lines = describe(program.lowered).splitlines()
    assert head == f"{program.nests()} nests, {len(program.lowered.kernels)} kernels, {len(program.lowered.segments)} segments"
    nests = [line for line in lines if not line.startswith(" ")]
    assert any(re.fullmatch(r"nest \S+: \w+ < m", line) for line in nests), "the rows of the product"
    assert any(line.endswith(": no loops") for line in nests), "one number"
    assert not any("panels outermost" in line for line in nests)
    places = {v.tensor.name: v for n in program.lowered.nests for v in n.statements}
    told = [re.fullmatch(r"    (\w+)( TILE of (\S+))?  (\S+): f32\[(.*)\]", line) for line in lines if line.startswith(" ")]
    assert len(told) == len(places)
    for match in told:
        assert match is not None
        place, _, carried, name, shape = match.groups()
        v = places[name]
        assert place == v.place
        assert carried == (v.tile.tensor.name if v.tile else None)
        assert shape == ", ".join(map(str, v.shape))
    assert any(match[2] for match in told if match), "the product is a tile"


def test_panels_that_stand_outermost_are_told() -> None:
    """Where the weights are larger than the cache, and rows are few beside them."""
    program = compiled(linalg.matmul, "f32[m, 512]", reals(512, 200), machine={"l2": 1 << 16})
    streams = [n for n in program.lowered.nests if n.panels_outermost]
    assert describe(program.lowered).count(", panels outermost") == len(streams) == 1
