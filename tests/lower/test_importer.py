"""Nodes as tensors: what an operator does not make is missed where it is read. Importing as such is covered by every test of a session."""

from __future__ import annotations

import pytest

from sardonyx.base.errors import Unsupported
from sardonyx.lower import importer
from tests.graph.models import model


@pytest.mark.parametrize(("outputs", "is_read"), [("(y, z)", True), ("(y)", False)])
@pytest.mark.parametrize("rest", [[], [None]])
def test_an_output_that_the_operator_does_not_make(
    outputs: str, is_read: bool, rest: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that gives values without their places."""
    found = model(f"g (float[2, 4] x) => {outputs} <int64[1] k = {{2}}> {{ y, z = TopK (x, k) }}")
    monkeypatch.setattr(importer, "call", lambda op, inputs, node: [inputs[0], *rest])
    if is_read:
        with pytest.raises(Unsupported, match="TopK node 'y': no compiled form of its output z"):
            importer.import_graph(found.graph, found.graph.opset_imports)
    else:
        assert len(importer.import_graph(found.graph, found.graph.opset_imports).outputs) == 1
