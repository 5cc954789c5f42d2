"""Sub-graphs whose form a run decides: the right answers, natively, with one program for each form."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto
from onnx import helper as h

import sardonyx as sx
from sardonyx.session.late import LateSubgraph
from tests.session.models import model

Array = np.ndarray[Any, Any]


def ones(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def providers(session: sx.InferenceSession) -> set[str]:
    return {part.ep_name for part in session.get_provider_graph_assignment_info()}


def late(session: sx.InferenceSession) -> LateSubgraph:
    (found,) = (s.executable for s in session._built.program.steps if isinstance(s.executable, LateSubgraph))
    return found


def old(text: str) -> bytes:
    """A model of opset 11, whose Squeeze has its axes as an attribute."""
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 11]> {text}').SerializeToString()


SQUEEZE = old("g (float[a,b,1] x) => (float y) { r = Relu (x) q = Squeeze (r) s = Sigmoid (q) y = Exp (s) }")
NO_SHAPE = "g (float[] x) => (float[] y) { r = Relu (x) t = Transpose (r) y = Exp (t) }"


def compared(source: bytes, feeds: list[dict[str, Array]]) -> sx.InferenceSession:
    """The session, after each of the feeds gave what onnxruntime gives."""
    mine, theirs = sx.InferenceSession(source), ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    for feed in feeds:
        for got, expected in zip(mine.run(None, feed), theirs.run(None, feed), strict=True):
            assert got.shape == expected.shape
            assert got.dtype == expected.dtype
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    return mine


def test_squeeze_without_axes() -> None:
    shapes = [(2, 3, 1), (1, 3, 1), (2, 1, 1), (1, 1, 1), (4, 5, 1), (0, 1, 1), (2, 3, 1)]
    session = compared(SQUEEZE, [{"x": ones(*s)} for s in shapes])
    assert providers(session) == {"CPUExecutionProvider"}
    assert len(late(session).variants) == 4, "one for each set of axes of one element"


def test_an_input_of_any_rank() -> None:
    source = onnx.load_from_string(model("g (float[a] x) => (float[b] y) { r = Relu (x) t = Transpose (r) y = Exp (t) }"))
    for value in (*source.graph.input, *source.graph.output):
        value.type.tensor_type.ClearField("shape")
    session = compared(source.SerializeToString(), [{"x": ones(*s)} for s in ((3,), (2, 3), (4, 5), (2, 3, 4), (), (2, 0, 3))])
    assert providers(session) == {"CPUExecutionProvider"}
    assert len(late(session).variants) == 4


def if_model(condition: list[onnx.NodeProto], then: list[onnx.NodeProto], other: list[onnx.NodeProto], opset: int = 16) -> bytes:
    """y = Exp(Relu(If(c) { then: a } else { other: b })), x: f32[n, m]; `flag`: bool[]; `one`: i64[1] = {1}."""
    branches = {
        name: h.make_graph(nodes, name, [], [h.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)])
        for name, nodes in (("then_branch", then), ("else_branch", other))
    }
    graph = h.make_graph(
        [
            *condition,
            h.make_node("If", ["c"], ["q"], "choice", **branches),
            h.make_node("Relu", ["q"], ["r"]),
            h.make_node("Exp", ["r"], ["y"]),
        ],
        "g",
        [h.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "m"]), h.make_tensor_value_info("flag", TensorProto.BOOL, [])],
        [h.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [h.make_tensor("one", TensorProto.INT64, [1], [1])],
    )
    made: bytes = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=8).SerializeToString()
    return made


BY_SIZE = [
    h.make_node("Shape", ["x"], ["s"]),
    h.make_node("Gather", ["s", "one"], ["n"]),
    h.make_node("Equal", ["n", "one"], ["c"]),
]
BY_VALUE = [h.make_node("Not", ["flag"], ["c"])]
SQUEEZED = [h.make_node("Squeeze", ["x", "one"], ["a"])]
SAME = [h.make_node("Identity", ["x"], ["b"])]
SUMMED = [h.make_node("ReduceSum", ["x"], ["b"], keepdims=0)]


def flagged(*shape: int, flag: bool = False) -> dict[str, Array]:
    return {"x": ones(*shape), "flag": np.array(flag)}


def test_branches_of_two_ranks_by_a_size() -> None:
    """PyTorch's squeeze(1)."""
    session = compared(if_model(BY_SIZE, SQUEEZED, SAME), [flagged(2, 1), flagged(2, 3), flagged(5, 1), flagged(1, 1)])
    assert providers(session) == {"CPUExecutionProvider"}


def test_branches_of_two_ranks_by_a_value() -> None:
    feeds = [flagged(2, 3, flag=f) for f in (True, False, True, False)]
    session = compared(if_model(BY_VALUE, SUMMED, SAME), feeds)
    assert providers(session) == {"CPUExecutionProvider"}
    assert len(late(session).variants) == 2


def test_what_a_branch_demands_of_sizes_is_not_asked_of_the_other() -> None:
    """x: f32[n, 7] can't be cut into rows of 4; the branch that would is not taken."""
    rows = [h.make_node("Constant", [], ["k"], value_ints=[-1, 4]), h.make_node("Reshape", ["x", "k"], ["a"])]
    other = [h.make_node("Neg", ["x"], ["b"])]
    source = if_model(BY_VALUE, rows, other)
    compared(source, [flagged(2, 7, flag=True), flagged(2, 4, flag=True), flagged(2, 4), flagged(2, 6)])
    session = sx.InferenceSession(source)
    with pytest.raises(Exception, match="Reshape|reshape"):
        session.run(None, flagged(2, 7))
    assert session.run(None, flagged(2, 7, flag=True))[0].shape == (2, 7)


def test_inner_conditions_on_sizes() -> None:
    """An If whose branch has an If on a shape: as in torch.jit's squeeze inside of a branch."""
    inner = h.make_node(
        "If",
        ["d"],
        ["e"],
        "inner",
        then_branch=h.make_graph(SQUEEZED, "t", [], [h.make_tensor_value_info("a", TensorProto.FLOAT, None)]),
        else_branch=h.make_graph(SAME, "e", [], [h.make_tensor_value_info("b", TensorProto.FLOAT, None)]),
    )
    size = [
        h.make_node("Shape", ["x"], ["s"]),
        h.make_node("Gather", ["s", "one"], ["m"]),
        h.make_node("Equal", ["m", "one"], ["d"]),
    ]
    source = if_model(BY_VALUE, [*size, inner, h.make_node("Neg", ["e"], ["f"])], [h.make_node("Abs", ["x"], ["b"])])
    session = compared(source, [flagged(2, n, flag=f) for n in (1, 3) for f in (True, False)])
    assert providers(session) == {"CPUExecutionProvider"}


def test_outputs_by_name_and_several_threads() -> None:
    session = sx.InferenceSession(SQUEEZE)
    assert session.run(["s"], {"x": ones(2, 1, 1)})[0].shape == (2,)
    feeds = [{"x": ones(n, m, 1)} for n in (1, 2) for m in (1, 3)] * 8
    fresh = sx.InferenceSession(SQUEEZE)
    with ThreadPoolExecutor(4) as pool:
        shapes = list(pool.map(lambda feed: fresh.run(None, feed)[0].shape, feeds))
    assert shapes == [(), (3,), (2,), (2, 3)] * 8
    assert len(late(fresh).variants) == 4


def test_closing_ends_the_variants() -> None:
    session = sx.InferenceSession(SQUEEZE)
    session.run(None, {"x": ones(2, 1, 1)})
    program = late(session)
    session.close()
    assert program.variants == []
    with pytest.raises(Exception, match="closed"):
        session.run(None, {"x": ones(2, 1, 1)})


def test_a_target_of_so_many_sizes_as_a_run_brings() -> None:
    """The rank of a ConstantOfShape, of a Reshape and of an Expand is the number of elements of an input."""
    source = model(
        "g (float[n] x, int64[r] s) => (float[] y, float[] z, float[] w)"
        "{ y = ConstantOfShape (s) z = Reshape (x, s) e = Expand (x, s) w = Exp (e) }".replace("float[] ", "float[?] ")
    )
    loose = onnx.load_from_string(source)
    for value in loose.graph.output:
        value.type.tensor_type.ClearField("shape")
    feeds = [{"x": ones(int(np.prod(s))), "s": np.array(s)} for s in ((6,), (1, 6), (1, 1, 6), (1, 4), (1, 4))]
    session = compared(loose.SerializeToString(), feeds)
    assert providers(session) == {"CPUExecutionProvider"}
    assert len(late(session).variants) == 3
