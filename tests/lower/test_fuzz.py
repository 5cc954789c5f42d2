"""Random graphs: the compiled program and the interpreted one agree with numpy. SARDONYX_FUZZ=1000 runs more of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sardonyx.codegen import features
from sardonyx.expr import require
from tests.lower.graphs import Graph, Made, graphs
from tests.lower.harness import Array, Interpreted, compile_tensors, machine_for

EXAMPLES = int(os.environ.get("SARDONYX_FUZZ", "40"))
HARDWARE = [features.host(), features.AVX2, features.SSE2]
SETTINGS = settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 40, suppress_health_check=list(HealthCheck))


@SETTINGS
@given(st.data())
def test_random_graphs(data: st.DataObject) -> None:
    with require.collect() as requirements:
        graph, outputs = data.draw(graphs())
    target = data.draw(st.sampled_from(HARDWARE))
    changes = {"l2": data.draw(st.sampled_from((2 << 20, 4096))), "typical": data.draw(st.sampled_from((256, 4)))}
    program = compile_tensors(graph.inputs, [m.tensor for m in outputs], requirements, target, machine_for(target, **changes))
    wanted = program.meaning(*graph.feeds)
    one, two = program.run(*graph.feeds), program.run(*graph.feeds, threads=2)
    assert [a.tobytes() for a in one] == [a.tobytes() for a in two]
    compare(one, wanted, outputs, graph)
    interpreted = Interpreted(program.lowered, graph.feeds, program.sizes(graph.feeds), program.constants)
    compare(interpreted.outputs(), wanted, outputs, graph)


def compare(got: Sequence[Array], wanted: Sequence[Array], outputs: Sequence[Made], graph: Graph) -> None:
    for g, w, m in zip(got, wanted, outputs, strict=True):
        np.testing.assert_allclose(g, w, 0, 0 if m.exact else 3e-6 * max(m.bound, 1), err_msg=f"{graph.sizes}")
