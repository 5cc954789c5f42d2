from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from sardonyx.base.errors import Fail, NoSuchFile, SardonyxError
from sardonyx.base.options import EXTENDED, CompileOptions
from sardonyx.inspection.verify import LEVELS, LevelResult, verify
from tests.inspection.faulty import becomes, in_bodies, install
from tests.inspection.models import CHAIN, save

FEEDS = {"x": np.array([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]], np.float32)}


def findings(path: Path, feeds: dict[str, Any] = FEEDS) -> list[LevelResult]:
    return list(verify(path, feeds, 1e-4))


def test_the_compiled_chain_agrees_at_every_level(tmp_path: Path) -> None:
    found = findings(save(tmp_path, CHAIN))
    assert [f.level for f in found] == list(LEVELS)
    assert [(f.compared, f.difference, f.error) for f in found] == [(4, None, "")] * len(LEVELS)


def test_the_first_value_that_differs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, becomes("n2", "Sigmoid"))
    for found in findings(save(tmp_path, CHAIN)):
        difference = found.difference
        assert not found.is_agreement
        assert difference is not None
        assert (difference.value, difference.origin.node, difference.origin.operator) == ("c", "n2", "Relu")
        assert difference.inputs == (("b", "float32[2, 3]"),)
        assert (difference.expected, difference.got) == ("float32[2, 3]", "float32[2, 3]")
        assert difference.deviation.error == pytest.approx(1 / (1 + np.e), rel=1e-5)
        assert not difference.only_fused


def test_levels_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(graph: ir.Graph, options: CompileOptions) -> None:
        if options.level >= EXTENDED:
            becomes("n1", "Exp")(graph, options)

    install(monkeypatch, fault)
    assert [f.is_agreement for f in findings(save(tmp_path, CHAIN))] == [True, True, False, False, False]


def test_a_fault_that_needs_fusion_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """b is wrong as long as nobody asks for it: the first value that is seen to differ is the one after it."""

    def fault(graph: ir.Graph, options: CompileOptions) -> None:
        if "b" not in [value.name for value in graph.outputs]:
            becomes("n1", "Exp")(graph, options)

    install(monkeypatch, fault)
    for found in findings(save(tmp_path, CHAIN)):
        assert found.difference is not None
        assert found.difference.value == "c"
        assert found.difference.only_fused


def test_a_wrong_shape_is_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, becomes("n1", "Transpose"))
    model = "graph (float[2, 3] x) => (float[m, k] b) {\n a = Abs(x)\n b = Neg(a)\n}"
    difference = findings(save(tmp_path, model))[0].difference
    assert difference is not None
    assert (difference.expected, difference.got) == ("float32[2, 3]", "float32[3, 2]")


def test_a_compiler_that_fails_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(graph: ir.Graph, options: CompileOptions) -> None:
        raise Fail("no such loop")

    install(monkeypatch, fault)
    found = findings(save(tmp_path, CHAIN))
    assert ["no such loop" in f.error for f in found] == [True] * len(LEVELS)
    assert not any(f.is_agreement for f in found)


def test_random_values_are_compared_by_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = "graph (float[2, 3] x) => (float[m, k] c) {\n a = RandomNormalLike(x)\n b = Neg(a)\n c = Dropout(b)\n}"
    path = save(tmp_path, model)
    assert all(f.is_agreement for f in findings(path))
    install(monkeypatch, becomes("n1", "Transpose"))
    difference = findings(path)[0].difference
    assert difference is not None
    assert (difference.value, difference.got) == ("b", "float32[3, 2]")


def test_what_was_not_drawn_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout may draw numbers; at inference it draws none."""
    install(monkeypatch, becomes("n1", "Exp"))
    model = "graph (float[2, 3] x) => (float[2, 3] b) {\n a = Dropout(x)\n b = Abs(a)\n}"
    difference = findings(save(tmp_path, model))[0].difference
    assert difference is not None
    assert difference.value == "b"


LOOP = """
graph (float[2, 3] x) => (float[2, 3] y, float[2, 3] noise, float[2, 3] z)
<int64 five = {5}, bool yes = {1}, int64 two = {2}> {
    noise, y = Loop (five, yes, x, x) <body = body
        (int64 i, bool going, float[2, 3] n, float[2, 3] v) => (bool still, float[2, 3] m, float[2, 3] w) {
            still = Identity(going)
            m = RandomNormalLike(n)
            w = Loop (two, going, v) <body = inner
                (int64 j, bool go, float[2, 3] a) => (bool on, float[2, 3] b) {
                    on = Identity(go)
                    b = Relu(a)
                }>
        }>
    z = Neg(y)
}
"""


def test_values_of_nested_loops_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault two bodies deep, in a Loop that also draws random numbers."""
    path = save(tmp_path, LOOP)
    install(monkeypatch, in_bodies("Relu", "Relu"))
    assert all(f.is_agreement for f in findings(path))
    install(monkeypatch, in_bodies("Relu", "Sigmoid"))
    for found in findings(path):
        assert found.difference is not None
        assert (found.difference.value, found.difference.origin.operator) == ("y", "Loop")


def test_what_is_not_compared_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """y and z are compared; noise is random; the bodies hold still, m, w, on and b."""
    install(monkeypatch, in_bodies("Relu", "Relu"))
    found = findings(save(tmp_path, LOOP))[0]
    assert (found.compared, found.random, found.inside) == (2, ("noise",), 5)


@pytest.mark.parametrize("operator", ["If", "Scan"])
def test_values_of_branches_and_scans_are_compared(operator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    branch = "then_branch = t () => (float[2, 3] u) {{ u = Relu(x) }}, else_branch = e () => (float[2, 3] u) {{ u = Abs(x) }}"
    scanned = "num_scan_inputs = 1, body = b (float[3] s, float[3] r) => (float[3] t, float[3] o) {{ t = Relu(s)  o = Add(s, r) }}"
    text = (
        {"If": f"y = If (yes) <{branch}>", "Scan": f"last, y = Scan (zeros, x) <{scanned}>"}[operator]
        .replace("{{", "{")
        .replace("}}", "}")
    )
    initial = "<bool yes = {1}, float[3] zeros = {0, -1, 2}>"
    path = save(tmp_path, f"graph (float[2, 3] x) => (float[2, 3] y) {initial} {{\n {text}\n}}")
    assert all(f.is_agreement for f in findings(path))
    install(monkeypatch, in_bodies("Relu", "Exp"))
    assert not any(f.is_agreement for f in findings(path))


def test_an_output_that_no_node_writes_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(graph: ir.Graph, options: CompileOptions) -> None:
        for value in graph.initializers.values():
            value.const_value = ir.tensor(np.array([3.0, 5.0], np.float32))

    path = save(tmp_path, "graph (float[2] v) => (float[2] a, float[2] c) <float[2] c = {3.0, 4.0}> {\n a = Add(v, c)\n}")
    feeds = {"v": np.ones(2, np.float32)}
    assert findings(path, feeds)[0].compared == 2
    install(monkeypatch, fault)
    assert not findings(path, feeds)[0].is_agreement


def test_nodes_left_to_the_reference_are_listed(tmp_path: Path) -> None:
    model = 'graph (string[2] x) => (string[2] y) {\n y = StringNormalizer <case_change_action = "UPPER"> (x)\n}'
    (first, *_) = findings(save(tmp_path, model), {"x": np.array(["a", "b"], object)})
    assert first.is_agreement
    assert first.interpreted == ("StringNormalizer 'n0'",)


def test_inputs_that_the_reference_refuses(tmp_path: Path) -> None:
    path = save(tmp_path, CHAIN)
    with pytest.raises(ValueError, match="missing from input feed"):
        findings(path, {})
    with pytest.raises(SardonyxError, match="Invalid rank"):
        findings(path, {"x": np.zeros(3, np.float32)})


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NoSuchFile):
        findings(tmp_path / "none.onnx")
