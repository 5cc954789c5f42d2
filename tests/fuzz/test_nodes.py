"""fuzz/nodes.py: single nodes of any operator, run or refused as documented; and that the form of inputs is what it changes."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import onnx
import pytest

from fuzz.campaign import Campaign
from fuzz.nodes import Nodes, model_of, schemas

EXECUTIONS = 150


@pytest.fixture(scope="module")
def nodes() -> Nodes:
    made = Nodes()
    made.load()
    return made


def test_a_bounded_campaign(nodes: Nodes, tmp_path: Path) -> None:
    with Campaign(nodes, 0, tmp_path) as campaign:
        assert campaign.run(EXECUTIONS, jobs=2) == []
    labels = campaign.state.labels
    assert labels["ran"] > EXECUTIONS / 8, labels  # it reaches what it is for
    assert labels["loading: Fail"] > EXECUTIONS / 8, labels


def test_an_operator_that_does_not_look_at_its_inputs(nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it raises then is found."""
    from sardonyx.expr import known

    monkeypatch.setattr(known, "only", lambda t, what: known.elements(t).item())
    monkeypatch.setattr("sardonyx.ops.sort.only", known.only)
    (schema,) = (s for s in schemas() if s.name == "TopK" and s.since_version == 11)
    monkeypatch.setattr("fuzz.nodes.schemas", lambda: [schema])
    with Campaign(nodes, 1, tmp_path) as campaign:
        found = campaign.run(40, jobs=2)
    assert any("ValueError" in finding for finding in found)


def test_all_operators_are_drawn_in_many_forms() -> None:
    everything = schemas()
    assert len(everything) > 600
    assert {"", "ai.onnx.ml", "com.microsoft"} <= {schema.domain for schema in everything}
    ranks: Counter[int] = Counter()
    for number, schema in enumerate(everything):
        drawn, again = (model_of(schema, random.Random(number)) for _ in range(2))
        assert drawn == again
        assert drawn.graph.node[0].op_type == schema.name
        ranks.update(len(info.type.tensor_type.shape.dim) for info in drawn.graph.input)
        onnx.ModelProto.FromString(drawn.SerializeToString())
    assert all(ranks[rank] > 20 for rank in range(6))
