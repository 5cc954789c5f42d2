from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from sardonyx.inspection.random_values import random_values

TYPES = "float[2, 3] x, bool yes, int64 trips"
BODY = "(int64 i, bool going, float[2, 3] p, float[2, 3] q) => (bool still, float[2, 3] r, float[2, 3] s, float[2, 3] row)"


def loop(still: str = "Identity(going)", r: str = "Neg(p)", s: str = "Neg(q)", row: str = "Abs(x)") -> str:
    nodes = f"still = {still}\n r = {r}\n s = {s}\n row = {row}"
    return f"a, b, rows = Loop (trips, yes, x, x) <body = body {BODY} {{ {nodes} }}>"


def scan(first: str, row: str, given: str = "x") -> str:
    body = f"(float[3] p, float[3] e) => (float[3] q, float[3] o) {{ q = {first}\n o = {row} }}"
    return f"z = ReduceSum <keepdims = 0> (x, zero)\n a, b = Scan (z, {given}) <num_scan_inputs = 1, body = body {body}>"


def branches(then: str, other: str, condition: str = "yes") -> str:
    graphs = f"then_branch = t () => (float[2, 3] u) {{ u = {then} }}, else_branch = e () => (float[2, 3] v) {{ v = {other} }}"
    return f"a = If ({condition}) <{graphs}>"


def found(nodes: str, opset: int = 21) -> set[str]:
    """Names of the random values of a graph (x: float[2, 3], yes: bool, trips: int64), those of bodies left out."""
    text = f'<ir_version: 10, opset_import: ["" : {opset}]>\ngraph ({TYPES}) => () <int64[1] zero = {{0}}> {{ {nodes} }}'
    model = ir.from_proto(onnx.parser.parse_model(text))
    written = {value.name for node in model.graph for value in node.outputs}
    return {str(value.name) for value in random_values(model.graph) if value.name in written}


NOISE = "RandomNormalLike(x)"
CASES = {
    "a chain": (f"a = {NOISE}\n b = Neg(a)\n c = Abs(x)", {"a", "b"}),
    "dropout at inference": ("a = Dropout(x)", set()),
    "dropout in training": ("r = Constant <value_float = 0.5> ()\n a = Dropout(x, r, yes)", {"a"}),
    "a function that draws nothing": ("s = Shape(x)\n a = AffineGrid(x, s)", set()),
    "a function that draws": ("a = Bernoulli(x)", {"a"}),
    "a loop that draws nothing": (loop(), set()),
    "state that is drawn": (loop(r=NOISE), {"a"}),
    "state that becomes random one iteration later": (loop(r="Neg(q)", s=NOISE), {"a", "b"}),
    "a scan output that is drawn": (loop(row=NOISE), {"rows"}),
    "a captured random value": (f"n = {NOISE}\n" + loop(row="Abs(n)"), {"n", "rows"}),
    "a random condition": ("h = Cast <to = 1> (yes)\n n = Bernoulli(h)\n m = Cast <to = 9> (n)\n" + loop(still="Not(m)"),
                           {"n", "m", "a", "b", "rows"}),
    "a random number of iterations": ("h = Cast <to = 1> (yes)\n n = Bernoulli(h)\n m = Cast <to = 7> (n)\n"
                                      + loop().replace("(trips", "(m"), {"n", "m", "a", "b", "rows"}),
    "a random initial state": (f"n = {NOISE}\n" + loop().replace("yes, x, x", "yes, n, x"), {"n", "a"}),
    "a scan that draws nothing": (scan("Neg(p)", "Abs(e)"), set()),
    "a scan's state": (scan("RandomNormalLike(p)", "Abs(e)"), {"a"}),
    "a scan's rows": (scan("Neg(p)", "RandomNormalLike(e)"), {"b"}),
    "a scan over random rows": (f"n = {NOISE}\n" + scan("Add(p, e)", "Identity(p)", "n"), {"n", "a", "b"}),
    "branches that draw nothing": (branches("Neg(x)", "Abs(x)"), set()),
    "a branch that draws": (branches("Neg(x)", NOISE), {"a"}),
    "a random choice": ("h = Cast <to = 1> (yes)\n n = Bernoulli(h)\n m = Cast <to = 9> (n)\n" + branches("Neg(x)", "Abs(x)", "m"),
                        {"n", "m", "a"}),
    "a loop in a branch": (branches(NOISE, "Abs(x)").replace("v = Abs(x)", loop() + " v = Neg(a)"), {"a"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_random_values(name: str) -> None:
    nodes, expected = CASES[name]
    assert found(nodes) == expected


def test_a_proof_that_nothing_was_drawn() -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 21]>\ngraph (float[2] x, bool t, float r) => () { a = Dropout(x, r, t)\n b = Neg(a) }'
    )
    graph = ir.from_proto(onnx.parser.parse_model(text)).graph
    assert {value.name for value in random_values(graph)} == {"a", "b"}
    assert random_values(graph, lambda node: node.op_type == "Dropout") == frozenset()
