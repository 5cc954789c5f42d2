"""Claims: which nodes have a compiled form, and the tensors that are kept for compiling."""

from __future__ import annotations

import onnx.parser

from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.partition import Part, extract
from sardonyx.providers.claims import claim

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def graph_of(text: str) -> ir.Graph:
    return ir.from_proto(onnx.parser.parse_model(f"{HEAD} {text}")).graph


def test_a_whole_graph_is_kept_as_tensors() -> None:
    graph = graph_of("main (float[n, 4] x) => (float[n, 4] y) <float[4] w = {1, 2, 3, 4}> { t = Add(x, w) y = Relu(t) }")
    claimed = claim(graph)
    assert [node.op_type for node in claimed.nodes] == ["Add", "Relu"]
    (piece,) = extract(graph, [Part(0, tuple(claimed.nodes))])
    imported = claimed.imported(piece)
    assert imported is not None
    assert [t.name for t in imported.inputs] == ["x"]
    assert [t.origin for t in imported.outputs] == ["y"]


def test_a_graph_with_a_refused_node_is_imported_again() -> None:
    graph = graph_of("main (float[n, 4] x) => (float[n, 4] y) { t = Relu(x) u = Unheard(t) y = Relu(u) }")
    claimed = claim(graph)
    assert [node.op_type for node in claimed.nodes] == ["Relu"]
    (piece,) = extract(graph, [Part(0, tuple(claimed.nodes))])
    assert claimed.imported(piece) is None


def test_a_part_of_a_claim_is_imported_again() -> None:
    graph = graph_of("main (float[n, 4] x) => (float[n, 4] y) { t = Relu(x) y = Tanh(t) }")
    claimed = claim(graph)
    first, _ = extract(graph, [Part(0, (node,)) for node in claimed.nodes])
    assert claimed.imported(first) is None


def test_a_constant_that_a_caller_may_override_is_an_input() -> None:
    graph = graph_of("main (float[4] x, float[4] w = {1, 2, 3, 4}) => (float[4] y) { y = Add(x, w) }")
    value = next(v for v in graph.inputs if v.name == "w")
    value.const_value = ir.tensor([1.0, 2.0, 3.0, 4.0], name="w")
    graph.initializers["w"] = value
    claimed = claim(graph)
    assert all(t.data is None for t in claimed.inputs.values())
