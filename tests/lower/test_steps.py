"""The list of steps: whichever of the optional ones are left out, a program computes the same numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import sardonyx
from sardonyx.base.dtypes import f32
from sardonyx.base.options import CompileOptions
from sardonyx.graph.passes import NAMES as PASSES
from sardonyx.inspection.loops import kernels_of, lowered_parts
from sardonyx.loop.nodes import Const, Op
from sardonyx.loop.printer import text
from sardonyx.lower import lowered, sharing
from sardonyx.lower.lowered import NAMES, PROGRAM, VALUES, WholeGraph
from sardonyx.lower.nest import build
from sardonyx.lower.printer import program_text
from sardonyx.lower.steps import Step, run_list

LINKS = "".join(f"a{i} = Sin(m{i}) b{i} = Mul(a{i}, m{i}) m{i + 1} = Add(b{i}, a{i})\n    " for i in range(30))
TEXT = """<ir_version: 10, opset_import: ["" : 21]>
everything (float[n, 16, 20, 20] image, float[rows, 32] x, float16[rows, 32] narrow, float[70000] long, float[4, 4] m0, float[1, 24, 56, 56] wide, float[rows] trip, int64 count)
=> (float[n, 16, 20, 20] filtered, float[rows, k] attended, float16[rows, 32] kept, float total, float[rows, 5] best, float[5, rows] tiny,
    float[rows] looped, float[m, 32] chosen, float[rows, 64] both, float[4, 4] m30, float[1, 24, 56, 56] narrowed, float[rows, 4] summed)
<float[16, 16, 3, 3] kernel, float[144, 24, 1, 1] widen, float[144, 1, 3, 3] windows, float[24, 144, 1, 1] narrow_again, float[32, 32] w, float[32, 32] v, float[32] b, int64[1] five = {5}, int64[1] one = {1}, int64[1] first = {0},
 float half = {0.5}, float third = {0.3}, uint8 zero_point = {9}, int8[32, 4] weight_bytes, bool yes = {1}> {
    convolved = Conv <pads = [1, 1, 1, 1]> (image, kernel)
    filtered = Relu(convolved)
    q = MatMul(x, w)
    turned = Transpose(q)
    scores = MatMul(x, turned)
    p = Softmax(scores)
    mixed = MatMul(p, x)
    projected = MatMul(mixed, v)
    attended = Add(projected, b)
    doubled = Add(narrow, narrow)
    cube = Mul(doubled, narrow)
    kept = Sub(cube, doubled)
    squares = Mul(long, long)
    total = ReduceSum <keepdims = 0> (squares)
    best, where = TopK (attended, five)
    t0 = Transpose(best)
    t1 = Mul(t0, half)
    t2 = Sin(t1)
    t3 = Sub(t2, t0)
    tiny = Abs(t3)
    looped = Loop (count, yes, trip) <body = body (int64 i, bool go, float[rows] s) => (bool still, float[rows] next) {
        still = Identity(go)
        h = Mul(s, half)
        next = Add(h, s)
    }>
    picked = Greater(trip, half)
    places = NonZero(picked)
    index = Squeeze(places, first)
    chosen = Gather <axis = 0> (attended, index)
    both = Concat <axis = 1> (attended, mixed)
    CHAIN
    widened = Conv(wide, widen)
    expanded = Relu(widened)
    slid = Conv <group = 144, pads = [1, 1, 1, 1]> (expanded, windows)
    filtered_again = Relu(slid)
    narrowed = Conv(filtered_again, narrow_again)
    bytes = QuantizeLinear(x, third, zero_point)
    numbers = DequantizeLinear(bytes, third, zero_point)
    weights = DequantizeLinear(weight_bytes, half)
    summed = MatMul(numbers, weights)
}""".replace("CHAIN", LINKS)


def everything() -> onnx.ModelProto:
    """A model in which every step of lowering has something to do."""
    made = onnx.parser.parse_model(TEXT)
    generator = np.random.default_rng(0)
    for info in made.graph.value_info:
        shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
        numbers = generator.standard_normal(shape)
        weights = (numbers / 8).astype(np.float32) if info.type.tensor_type.elem_type == 1 else (numbers * 40).astype(np.int8)
        made.graph.initializer.append(numpy_helper.from_array(weights, info.name))
    return made


@pytest.fixture(scope="module")
def model() -> bytes:
    return everything().SerializeToString()  # type: ignore[no-any-return]


def feeds() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    shapes = {"image": (2, 16, 20, 20), "x": (7, 32), "narrow": (7, 32), "long": (70_000,), "trip": (7,)}
    shapes |= {"m0": (4, 4), "wide": (1, 24, 56, 56)}
    out = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return {**out, "narrow": out["narrow"].astype(np.float16), "count": np.array(3)}


def outputs(model: bytes) -> list[np.ndarray]:
    options = sardonyx.SessionOptions()
    options.intra_op_num_threads = 2
    session = sardonyx.InferenceSession(model, options)
    assert {part.ep_name for part in session.get_provider_graph_assignment_info()} == {"CPUExecutionProvider"}
    return session.run(None, feeds())


@pytest.fixture(scope="module")
def whole(model: bytes) -> list[np.ndarray]:
    return outputs(model)


OPTIONAL = [step.name for step in (*VALUES, *PROGRAM) if step.optional]


@pytest.mark.parametrize("last", ["0", PASSES[-1], *OPTIONAL])
def test_no_optional_step_is_needed_for_the_numbers(
    last: str, model: bytes, whole: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SARDONYX_STEPS", last)
    for found, wanted in zip(outputs(model), whole, strict=True):
        assert found.dtype == wanted.dtype
        tolerance = 1e-2 if found.dtype == np.float16 else 2e-5
        np.testing.assert_allclose(found.astype(np.float64), wanted.astype(np.float64), tolerance, tolerance)


@pytest.mark.parametrize("name", [name for name in OPTIONAL if name != "share_kernels"])
def test_each_optional_step_changes_something_here(
    name: str, model: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """So that leaving it out is tried. Without what data decide: its kernels are another program's."""
    made = onnx.load_from_string(model)
    nodes = [node for node in made.graph.node if node.output[0] not in ("picked", "places", "index", "chosen")]
    outputs = [output for output in made.graph.output if output.name != "chosen"]
    del made.graph.node[:], made.graph.output[:]
    made.graph.node.extend(nodes)
    made.graph.output.extend(outputs)
    texts = []
    for last in (NAMES.index(name), NAMES.index(name), NAMES.index(name) + 1):
        monkeypatch.setenv("SARDONYX_STEPS", str(last))
        texts.append(loops_and_order(made.SerializeToString()))
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_without_sharing_each_nest_is_built(model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    monkeypatch.setattr(sharing, "build", lambda *arguments: (built.append(1), build(*arguments))[1])
    counts: list[int] = []
    for last in (NAMES.index("share_kernels"), NAMES.index("share_kernels") + 1):
        built.clear()
        monkeypatch.setenv("SARDONYX_STEPS", str(last))
        lowered_parts(model, CompileOptions(target="avx2"))
        counts.append(len(built))
    assert counts[0] > counts[1]


def loops_and_order(model: bytes) -> str:
    """The kernels of a model, their calls, barriers and memory."""
    parts = lowered_parts(model, CompileOptions(target="avx2", winograd=True))
    words = "\n".join(f"{program_text(p.segments)} {[text(k) for k, _ in kernels_of(p)]}" for p in parts)
    return re.sub(r"#\d+|(?<=\bt)\d+(?=\.state)", "", words)  # numbers of tensors, which go on in the process


@dataclass
class Letters:
    found: list[str] = field(default_factory=list)

    def text(self) -> str:
        return "".join(self.found)


def test_a_step_left_out_is_checked_all_the_same_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[Step[Letters]] = [
        Step("a", lambda s: s.found.append("a")),
        Step("b", lambda s: s.found.append("b"), optional=True, check=lambda s: s.found.append("?")),
        Step("c", lambda s: s.found.append("c"), optional=True),
        Step("d", lambda s: s.found.append("d")),
    ]
    told = {}
    monkeypatch.setenv("SARDONYX_DEBUG", "1")
    for last in (10, 11, 12, 13):
        letters = Letters()
        run_list(steps, letters, 11, last, "letters")
        told[last] = letters.text()
        assert ("b, left out" in capsys.readouterr().err) == (last < 12)
    assert told == {10: "a?d", 11: "a?d", 12: "ab?d", 13: "ab?cd"}


def test_the_steps_have_names_of_their_own() -> None:
    assert len(set(NAMES)) == len(NAMES)


def test_a_step_that_there_is_not_is_an_error(model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARDONYX_STEPS", "fold_everything")
    with pytest.raises(Exception, match="SARDONYX_STEPS is 'fold_everything', neither a number nor one of the steps"):
        outputs(model)


@pytest.mark.parametrize("broken", [name for name in OPTIONAL if name in {step.name for step in VALUES}])
def test_a_step_that_breaks_numbers_is_found_by_halving(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/compiler.md tells users to."""

    def wrong(graph: WholeGraph) -> None:
        for v in graph.values.values():
            if v.body is not None and v.tensor.dtype is f32:
                v.body = Op("add", v.body, Const(1, f32))

    steps = tuple(Step(s.name, wrong, optional=True) if s.name == broken else s for s in VALUES)
    monkeypatch.setattr(lowered, "VALUES", steps)
    source = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 4] x) => (float[n, 4] y) { y = Exp(x) }'
    model, x = onnx.parser.parse_model(source).SerializeToString(), np.zeros((2, 4), np.float32)

    def right(last: int) -> bool:
        monkeypatch.setenv("SARDONYX_STEPS", str(last))
        return bool(np.all(sardonyx.InferenceSession(model).run(None, {"x": x})[0] == 1))

    low, high = 0, len(NAMES)  # right after `low` steps, wrong after `high`
    assert right(low)
    assert not right(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if right(middle) else (low, middle)
    assert NAMES[high - 1] == broken
