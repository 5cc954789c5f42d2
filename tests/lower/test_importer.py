"""Nodes as tensors: what an operator does not make is missed where it is read. Importing as such is covered by every test of a session."""

from __future__ import annotations

import pytest

from sardonyx.base.errors import Unsupported
from sardonyx.lower.importer import import_graph
from tests.graph.models import model

HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> '


@pytest.mark.parametrize(("outputs", "is_read"), [("(y, z)", True), ("(y)", False)])
def test_an_output_that_the_operator_does_not_make(outputs: str, is_read: bool) -> None:
    """FastGelu has one output."""
    text = f"g (float[2, 4] x) => {outputs} {{ y, z = com.microsoft.FastGelu (x) }}"
    found = model(text, HEAD, knows=lambda domain, name: True)
    if is_read:
        with pytest.raises(Unsupported, match="no compiled form of its output z"):
            import_graph(found.graph, found.graph.opset_imports)
    else:
        assert len(import_graph(found.graph, found.graph.opset_imports).outputs) == 1
