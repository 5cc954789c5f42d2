"""Schemas: which version is meant, what implied domains mean, and the parameters of variadic operators."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx import helper as h

from sardonyx.graph import schemas


@pytest.mark.parametrize(("version", "since"), [(1, 1), (5, 1), (6, 6), (10, 6), (11, 11), (12, 12), (13, 13), (28, 13)])
def test_an_import_means_the_last_version_before_it(version: int, since: int) -> None:
    found = schemas.find("", "Clip", version)
    assert found is not None
    assert found.since == since


def test_what_is_not_there() -> None:
    assert schemas.find("", "Unheard", 21) is None
    assert schemas.find("", "Gelu", 19) is None
    assert schemas.find("unheard", "Relu", 1) is None


def test_every_operator_of_the_standard_can_be_looked_up() -> None:
    for raw in onnx.defs.get_all_schemas_with_history():
        found = schemas.find(raw.domain, raw.name, raw.since_version)
        assert found is not None, raw.name
        assert (found.name, found.domain) == (raw.name, raw.domain)
        assert found.min_input <= found.max_input
        assert set(found.required) <= set(found.attributes)


def test_the_last_parameter_of_a_variadic_operator_takes_the_rest() -> None:
    concat = schemas.find("", "Concat", 13)
    assert concat is not None
    assert concat.input(0) is concat.input(9)
    assert concat.input(9).variadic
    clip = schemas.find("", "Clip", 13)
    assert clip is not None
    assert [clip.input(i).optional for i in range(3)] == [False, True, True]


def test_inputs_that_must_agree_share_a_letter() -> None:
    add = schemas.find("", "Add", 14)
    assert add is not None
    assert add.input(0).letter == add.input(1).letter == add.output(0).letter
    assert "tensor(float)" in add.input(0).types
    assert "tensor(string)" not in add.input(0).types


def test_implied_domains_have_a_version_without_an_import() -> None:
    node = ir.from_proto(h.make_node("Normalizer", ["x"], ["y"], domain="ai.onnx.ml"))
    assert schemas.version_of(node, {"": 21}) == schemas.IMPLIED["ai.onnx.ml"]
    assert schemas.version_of(node, {"": 21, "ai.onnx.ml": 1}) == 1
    foreign = ir.from_proto(h.make_node("Foo", ["x"], ["y"], domain="mine"))
    assert schemas.version_of(foreign, {"": 21}) is None
    assert schemas.schema_of(foreign, {"": 21}) is None


@pytest.mark.parametrize(("name", "random"), [("RandomNormal", True), ("Bernoulli", True), ("Relu", False), ("Gemm", False)])
def test_which_operators_draw(name: str, random: bool) -> None:
    found = schemas.find("", name, 21)
    assert found is not None
    assert found.deterministic is not random
