from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from sardonyx.base.errors import Fail, NoSuchFile, SardonyxError
from sardonyx.base.options import EXTENDED, CompileOptions
from sardonyx.inspection.verify import LEVELS, Finding, verify
from tests.inspection.faulty import becomes, install
from tests.inspection.models import CHAIN, save

FEEDS = {"x": np.array([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]], np.float32)}


def findings(path: Path, feeds: dict[str, Any] = FEEDS) -> list[Finding]:
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
