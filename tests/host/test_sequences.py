"""Sequences and optionals: positions, ends, errors, and that no list is changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import pytest

import sardonyx as sx
from sardonyx.base.errors import InvalidArgument
from sardonyx.host import find

HEAD = '<ir_version: 8, opset_import: ["" : 18]>'
A, B, C = (np.full(2, i, np.float32) for i in range(3))


def run(name: str, *inputs: Any, **attributes: Any) -> Any:
    prepare = find("", name, 18)
    assert prepare is not None
    return prepare(**attributes)(*inputs)


def at(number: int) -> np.ndarray[Any, Any]:
    return np.array(number, np.int64)


def test_positions_count_from_either_end():
    there = [A, B, C]
    assert run("SequenceAt", there, at(-1)) is C
    assert run("SequenceErase", there, at(-3)) == [B, C]
    assert run("SequenceErase", there) == [A, B]
    assert run("SequenceInsert", there, A, at(-1)) == [A, B, A, C]
    assert run("SequenceInsert", there, A, at(3)) == [A, B, C, A]
    assert run("SequenceInsert", there, A) == [A, B, C, A]
    assert there == [A, B, C]
    assert run("SequenceLength", there) == 3
    assert run("SequenceConstruct", A, B) == [A, B]


@pytest.mark.parametrize(
    ("name", "rest"),
    [("SequenceAt", [at(3)]), ("SequenceAt", [at(-4)]), ("SequenceErase", [at(3)]), ("SequenceInsert", [A, at(4)])],
)
def test_positions_outside_are_errors(name: str, rest: list[Any]):
    with pytest.raises(InvalidArgument, match="Invalid sequence index"):
        run(name, [A, B, C], *rest)


def test_an_empty_sequence_has_nothing_to_give():
    for name, attributes in (("SequenceErase", {}), ("ConcatFromSequence", {"axis": 0})):
        with pytest.raises(InvalidArgument):
            run(name, [], **attributes)


def test_elements_side_by_side():
    np.testing.assert_array_equal(run("ConcatFromSequence", [A, B], axis=-1), [0, 0, 1, 1])
    np.testing.assert_array_equal(run("ConcatFromSequence", [A, B], axis=-1, new_axis=1), [[0, 1], [0, 1]])


def test_optionals():
    assert run("OptionalHasElement", A)
    assert not run("OptionalHasElement", None)
    assert not run("OptionalHasElement")
    assert run("OptionalGetElement", A) is A
    with pytest.raises(InvalidArgument):
        run("OptionalGetElement", None)


def test_an_element_that_is_an_output_too_is_another_array():
    text = f"""{HEAD} g (string[n] x, int64[k] i) => (string[k] y, seq(string[k]) s, string[k] z)
    {{ y = Gather(x, i) s = SequenceConstruct(y, y) z = Identity(y) }}"""
    source = onnx.parser.parse_model(text).SerializeToString()
    session = sx.InferenceSession(source, disabled_optimizers=["identity_elimination"])
    y, s, z = session.run(None, {"x": np.array(["a", "b"], object), "i": np.array([1])})
    y[:] = "changed"
    s[0][:] = "too"
    assert (y.tolist(), s[1].tolist(), z.tolist()) == (["changed"], ["b"], ["b"])


def test_numbers_before_and_after_a_sequence_are_compiled():
    text = f"""{HEAD} g (float[n] x) => (float[m] y) <int64 p = {{-1}}>
    {{ a = Neg(x) s = SequenceConstruct(x, a) e = SequenceAt(s, p) c = ConcatFromSequence<axis = 0>(s) t = Add(e, x) y = Concat<axis = 0>(c, t) }}"""
    session = sx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    (found,) = session.run(None, {"x": B})
    np.testing.assert_array_equal(found, [1, 1, -1, -1, 0, 0])
    parts = session.get_provider_graph_assignment_info()
    assert {part.ep_name for part in parts} == {"CPUExecutionProvider"}
    assert "in Python: " in session.describe()
