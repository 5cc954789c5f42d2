"""The list of passes: graphs with bodies that capture what stands outside are well formed after each pass, and compute the same."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto as T
from onnx import helper, numpy_helper

import sardonyx
from sardonyx.base.errors import InvalidArgument
from sardonyx.base.options import CompileOptions
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph import passes
from sardonyx.graph.load import LoadOptions, load
from sardonyx.graph.passes import PIPELINE, chosen
from sardonyx.graph.verify import verify
from tests.graph.passes.harness import Array, as_proto, by_reference, compare

WIDTH = 4
ROW = (np.arange(WIDTH) / 4 + 0.5).astype(np.float32)
CONSTANTS: dict[str, Array] = {
    "w": (np.arange(WIDTH * WIDTH).reshape(WIDTH, WIDTH) / 16 - 0.4).astype(np.float32),
    "row": ROW,
    "kernel": (np.arange(1, 5).reshape(2, 2, 1, 1) / 4).astype(np.float32),
    **{f"bn{k}": ROW + k for k in range(4)},
    **{f"channel{k}": ROW[:2] + k for k in range(4)},
    "one": np.ones((2, 1, 1), np.float32),
    "image": np.array([1, 2, -1, 2]),
    "flat": np.array([-1, WIDTH]),
}


@dataclass
class Nodes:
    """Nodes of one graph under construction; `seen` are values of shape [n, WIDTH] that it may read, those of outer graphs too."""

    draw: st.DrawFn
    names: list[int]
    seen: list[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def name(self) -> str:
        self.names[0] += 1
        return f"v{self.names[0]}"

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name := self.name()], **attributes))
        return name

    def pick(self) -> str:
        recent = self.seen[-3:]  # so that patterns come about
        return self.draw(st.sampled_from(recent if self.draw(st.booleans()) else self.seen))

    def step(self, depth: int) -> None:
        x = self.pick()
        kinds = [
            "MatMul",
            "Add",
            "Mul",
            "BatchNormalization",
            "Identity",
            "Dropout",
            "Cast",
            "Neg",
            "Conv",
            "fixed",
            *(["If"] if depth else []),
        ]
        kind = self.draw(st.sampled_from(kinds))
        if kind == "MatMul":
            made = self.add("MatMul", x, "w")
        elif kind in ("Add", "Mul"):
            made = self.add(kind, *self.draw(st.permutations([x, self.draw(st.sampled_from(["row", self.pick()]))])))
        elif kind == "BatchNormalization":
            made = self.add(kind, x, "bn0", "bn1", "bn2", "bn3")
        elif kind == "Cast":
            made = self.add("Cast", self.add("Cast", x, to=self.draw(st.sampled_from([T.DOUBLE, T.FLOAT, T.FLOAT16]))), to=T.FLOAT)
        elif kind == "Conv":
            made = self.convolution(x)
        elif kind == "fixed":
            made = self.add("Add", x, self.add("Neg", "row"))
        elif kind == "If":
            made = self.branches(depth)
        else:
            made = self.add(kind, x)
        self.seen.append(made)

    def convolution(self, x: str) -> str:
        y = self.add("Conv", self.add("Reshape", self.add("Concat", x, x, axis=0), "image"), "kernel")
        follow = self.draw(st.sampled_from(["none", "BatchNormalization", "Mul", "Add"]))
        if follow == "BatchNormalization":
            y = self.add(follow, y, *(f"channel{k}" for k in range(4)))
        elif follow != "none":
            y = self.add(follow, y, "one")
        return self.add("Slice", self.add("Reshape", y, "flat"), "first", "rows", "first")

    def branches(self, depth: int) -> str:
        graphs = []
        for name in ("then", "else"):
            inner = Nodes(self.draw, self.names, list(self.seen))
            for _ in range(self.draw(st.integers(1, 4))):
                inner.step(depth - 1)
            last = inner.nodes[-1].output[0]
            graphs.append(
                helper.make_graph(
                    inner.nodes, f"{name}{self.name()}", [], [helper.make_tensor_value_info(last, T.FLOAT, [None, WIDTH])]
                )
            )
        return self.add("If", "c", then_branch=graphs[0], else_branch=graphs[1])


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    main = Nodes(draw, [0], ["x"])
    for _ in range(draw(st.integers(2, 9))):
        main.step(2)
    made = [n.output[0] for n in main.nodes if n.output[0] in main.seen]
    outputs = [*draw(st.lists(st.sampled_from(made), min_size=1, max_size=2, unique=True)), made[-1]]
    constants = {**CONSTANTS, "first": np.array([0]), "rows": np.array([3])}
    graph = helper.make_graph(
        main.nodes,
        "g",
        [helper.make_tensor_value_info("x", T.FLOAT, [3, WIDTH]), helper.make_tensor_value_info("c", T.BOOL, [])],
        [helper.make_tensor_value_info(name, T.FLOAT, [None, WIDTH]) for name in dict.fromkeys(outputs)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(models())
def test_graphs_are_well_formed_and_compute_the_same_after_each_pass(proto: onnx.ModelProto) -> None:
    x = (np.arange(3 * WIDTH).reshape(3, WIDTH) / 8 - 0.7).astype(np.float32)
    feeds = [{"x": x, "c": np.array(condition)} for condition in (True, False)]
    wanted = [by_reference(proto, f) for f in feeds]
    model = load(proto.SerializeToString(), LoadOptions())
    verify(model)
    for step in PIPELINE:
        if step.run(model):
            verify(model)
            got = as_proto(model)
            for f, w in zip(feeds, wanted, strict=True):
                compare(by_reference(got, f), w, 2e-3)


def test_levels_and_names_choose_passes() -> None:
    everything = [step.name for step in PIPELINE]
    assert [s.name for _, s in chosen(CompileOptions())] == everything
    assert [s.name for _, s in chosen(CompileOptions(level=0))] == [s.name for s in PIPELINE if s.level == 0]
    left = [s.name for _, s in chosen(CompileOptions(disabled=frozenset({"ConvBNFusion", "identity_elimination"})))]
    assert left == [n for n in everything if n not in ("batch_normalization_folding", "identity_elimination")]


def test_numbers_and_names_end_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = [step.name for step in PIPELINE]
    for last, count in (("0", 0), ("3", 3), ("constant_folding", 5), ("pack", len(everything))):
        monkeypatch.setenv("SARDONYX_STEPS", last)
        assert [s.name for _, s in chosen(CompileOptions())] == everything[:count], "pack is a step of lowering"


def test_every_session_of_the_tests_verifies_its_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that breaks a graph is found right after it."""

    def cut(model: ir.Model) -> bool:
        node = next(iter(model.graph))
        node.replace_input_with(0, ir.Value(name="nowhere"))
        return True

    monkeypatch.setattr(passes, "PIPELINE", (passes.Pass(cut, 0),))
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n] x) => (float[n] y) { y = Neg(x) }'
    with pytest.raises(InvalidArgument, match="Node input 'nowhere' is not a graph input"):
        sardonyx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())


@pytest.mark.parametrize("step", PIPELINE, ids=lambda step: step.name)
def test_a_pass_says_nothing_changed_where_there_is_nothing_to_do(step: object) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n] x) => (float[n] y) { y = Neg(x) }'
    model = load(onnx.parser.parse_model(text).SerializeToString(), LoadOptions())
    assert not step.run(model)  # type: ignore[attr-defined]
