"""Random graphs: what the compiler makes of them gives what the reference gives, in all configurations.

`python -m fuzz.graphs` runs more of them, of other seeds, for as long as it is told.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fuzz.case_file import Configuration, Packed
from fuzz.drawing.model import draw
from fuzz.graphs import Graphs, check, evaluate
from fuzz.shrink import smaller
from sardonyx import InferenceSession
from sardonyx.graph.load import load

ROOT = Path(__file__).parents[2]
GRAPHS = int(os.environ.get("FUZZ_GRAPHS", "250"))


def drawn(number: int) -> Packed:
    return draw(random.Random(f"test {number}"))


def nodes(graph: onnx.GraphProto, depth: int = 0) -> Iterator[tuple[onnx.NodeProto, int]]:
    """(node, how many bodies deep it is)"""
    for node in graph.node:
        yield node, depth
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes(attribute.g, depth + 1)


def test_random_graphs(tmp_path: Path) -> None:
    """A campaign in a process of its own, whose executions are in children."""
    command = [
        sys.executable,
        "-m",
        "fuzz.graphs",
        "--executions",
        str(GRAPHS),
        "--seed",
        "1",
        "--state",
        str(tmp_path),
        "--jobs",
        "2",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{GRAPHS} executions" in done.stdout
    assert "no findings" in done.stdout


# ---- the fuzzer itself --------------------------------------------------------------------------------------------------------


def test_a_graph_depends_on_its_seed_alone() -> None:
    assert drawn(3).bytes() == drawn(3).bytes()
    assert drawn(3).bytes() != drawn(4).bytes()


def test_a_graph_is_a_valid_model_and_comes_back_from_its_file() -> None:
    for number in range(20):
        packed = drawn(number)
        load(packed.model.SerializeToString())
        again = Packed.parse(packed.bytes())
        assert again.model == packed.model
        assert again.configuration == packed.configuration
        for before, after in zip(packed.feeds, again.feeds, strict=True):
            assert {n: (x.dtype, x.tobytes()) for n, x in before.items()} == {n: (x.dtype, x.tobytes()) for n, x in after.items()}


def test_what_the_graphs_reach() -> None:
    """Every family, bodies in bodies, all configurations, sizes with names: in 300 graphs."""
    operators, configurations, dtypes, deepest, named = Counter[str](), set(), set(), 0, 0
    for number in range(300):
        packed = drawn(number)
        for node, depth in nodes(packed.model.graph):
            operators[node.op_type] += 1
            deepest = max(deepest, depth)
        configurations.add((packed.configuration.threads, packed.configuration.target))
        dtypes |= {x.dtype.name for x in packed.feeds[0].values()}
        named += any(d.dim_param for i in packed.model.graph.input for d in i.type.tensor_type.shape.dim)
    wanted = "Loop Scan If Einsum MatMul Gemm Conv MaxPool Gather ScatterElements TopK NonZero CumSum Pad Slice Concat Split Cast Resize "
    wanted += (
        "Range ConstantOfShape Expand Reshape Tile Softmax LayerNormalization ReduceSum Where BitShift Mod Trilu OneHot Unique"
    )
    assert [name for name in wanted.split() if not operators[name]] == []
    assert len(operators) > 110
    assert len(configurations) == 6
    assert {"float16", "bfloat16", "float64", "int8", "uint64", "int64", "bool"} <= dtypes
    assert deepest >= 3
    assert named > 120


# ---- what it finds ------------------------------------------------------------------------------------------------------------


class Faulty:
    """A session whose results are another model's, or change from run to run."""

    def __init__(self, session: InferenceSession, fault: str) -> None:
        self.session, self.fault, self.runs = session, fault, 0

    def run(self, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:  # type: ignore[type-arg]
        self.runs += 1
        results = [x.copy() for x in self.session.run(names, feeds)]
        if self.fault == "an element" or (self.fault == "now and then" and self.runs == 3):
            results[0].reshape(-1)[-1] += 1
        if self.fault == "a shape":
            results[0] = results[0][None]
        if self.fault == "an error":
            raise KeyError("node1[0]")
        return results

    def get_provider_graph_assignment_info(self) -> list[object]:
        return []


def plain() -> Packed:
    value = helper.make_tensor_value_info
    chain = [helper.make_node("Exp", ["x"], ["a"], "n0"), helper.make_node("Abs", ["x"], ["c"], "n1")]
    chain += [helper.make_node("Add", ["a", "w"], ["b"], "n2")]
    weights = [numpy_helper.from_array(np.ones(3, np.float32), "w")]
    outputs = [value("b", 1, None), value("c", 1, None)]
    graph = helper.make_graph(chain, "graph", [value("x", 1, ["n", 3])], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    feeds = [{"x": np.linspace(-1, 1, 3 * n, dtype=np.float32).reshape(n, 3)} for n in (2, 5)]
    return Packed(model, feeds, Configuration())


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        ("an element", "differs: Add f32 compiled; onnxruntime agrees with the reference"),
        ("a shape", "differs: Add f32 compiled; onnxruntime agrees with the reference"),
        ("now and then", "not the same bits: output 0"),
        ("an error", "raised: KeyError"),
    ],
)
def test_a_faulty_session_is_found(fault: str, finding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(plain()).label == "the same"
    monkeypatch.setattr("fuzz.graphs.InferenceSession", lambda *a: Faulty(InferenceSession(*a), fault))
    assert check(plain()).finding.startswith(finding)


def test_a_finding_gets_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """What shows a wrong Exp is left with Exp alone, one set of feeds, one thread."""

    def wrong(packed: Packed) -> bool:
        return any(node.op_type == "Exp" for node in packed.model.graph.node)

    packed = plain().configured(threads=2, target="sse2")
    found = packed.bytes()
    while (smallest := next((c for c in smaller(Packed.parse(found), evaluate) if wrong(Packed.parse(c))), None)) is not None:
        found = smallest
    small = Packed.parse(found)
    assert [node.op_type for node in small.model.graph.node] == ["Exp"]
    assert [v.name for v in small.model.graph.output] == ["a"]
    assert len(small.feeds) == 1
    assert not small.model.graph.initializer
    assert small.configuration == Configuration(level=0, winograd=False)


def test_bodies_get_smaller() -> None:
    """Of a Loop whose rows are not read, the rows go; so does what only they needed."""
    value = helper.make_tensor_value_info
    inner = [
        helper.make_node("Identity", ["go"], ["on"]),
        helper.make_node("Neg", ["s"], ["t"]),
        helper.make_node("Exp", ["s"], ["row"]),
    ]
    outputs = [value("on", 9, []), value("t", 1, None), value("row", 1, None)]
    body = helper.make_graph(inner, "body", [value("i", 7, []), value("go", 9, []), value("s", 1, [3])], outputs)
    loop = helper.make_node("Loop", ["trips", "", "x"], ["y", "rows"], "n0", body=body)
    trips = [numpy_helper.from_array(np.array(2), "trips")]
    graph = helper.make_graph([loop], "graph", [value("x", 1, [3])], [value("y", 1, None)], trips)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    found = Packed(model, [{"x": np.ones(3, np.float32)}]).bytes()

    def still(data: bytes) -> bool:
        return any(node.op_type == "Neg" for node, _ in nodes(Packed.parse(data).model.graph))

    while (smallest := next((c for c in smaller(Packed.parse(found), evaluate) if still(c)), None)) is not None:
        found = smallest
    assert sorted(node.op_type for node, _ in nodes(Packed.parse(found).model.graph)) == ["Identity", "Loop", "Neg"]


def test_the_fuzzer_draws_and_runs() -> None:
    fuzzer = Graphs()
    assert fuzzer.name == "graphs"
    assert fuzzer.run(fuzzer.make(random.Random("test 1"))).label in ("the same", "with nodes in numpy")
