"""Questions that the passes ask about values. What becomes of graphs by them is tested with each pass."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sardonyx.graph.passes import rewrite
from tests.graph.models import model, values

BODIES = """g (float[4] x, bool c) => (float[4] y) <float[4] w = {1, 2, 3, 4}> {
    a = Sin(x)
    b = Neg(a)
    d = Cos(b)
    y = If(c) <then_branch = t () => (float[4] o) { e = Mul(d, w) o = Neg(e) }, else_branch = f () => (float[4] p) { p = Neg(x) }>
}"""


def test_the_only_reader_stands_in_the_same_graph() -> None:
    found = model(BODIES)
    there = values(found)
    assert rewrite.only_reader(there["a"]) is there["b"].producer()
    assert rewrite.only_reader(there["d"]) is None  # a body
    assert rewrite.only_reader(there["y"]) is None  # an output
    inner = next(n for g in found.graph.subgraphs() for n in g if n.op_type == "Mul")
    reader = rewrite.only_reader(inner.outputs[0])
    assert reader is not None
    assert reader.op_type == "Neg"


def test_constants_are_those_that_no_caller_overrides() -> None:
    text = "g (float[2] x, float[2] v) => (float[2] y) <float[2] w = {1, 2}, float[2] v = {3, 4}> { a = Add(x, w) y = Add(a, v) }"
    there = values(model(text))
    assert rewrite.tensor_of(there["w"]) is not None
    assert rewrite.tensor_of(there["v"]) is None
    assert rewrite.tensor_of(there["x"]) is None
    assert rewrite.tensor_of(None) is None


def test_new_constants_have_names_of_their_own() -> None:
    found = model(BODIES)
    for taken in ("w", "x", "a", "o", "e", "fresh"):
        made = rewrite.add_constant(found.graph, taken, ir.tensor(np.zeros(2, np.float32)))
        assert (made.name == taken) == (taken == "fresh")
        assert found.graph.initializers[str(made.name)] is made


def test_sizes_that_are_known() -> None:
    there = values(model("g (float[n,3] x) => (float[n,3] y) { y = Neg(x) }"))
    assert rewrite.size_of(there["x"], -1) == 3
    assert rewrite.size_of(there["x"], 0) is None
    assert rewrite.size_of(there["x"], 2) is None
    assert rewrite.rank_of(there["x"]) == 2
    assert rewrite.rank_of(None) is None
