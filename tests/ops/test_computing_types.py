"""Attributes that name the dtype to compute in: only floats of at least 16 bits fit, others are refused by name."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

import sardonyx
from sardonyx.base.errors import Fail

FLOAT = TensorProto.FLOAT
NODES = {
    "Attention": (["q", "q", "q"], "softmax_precision", {}),
    "LayerNormalization": (["x", "s"], "stash_type", {}),
    "RMSNormalization": (["x", "s"], "stash_type", {}),
    "GroupNormalization": (["x", "s", "s"], "stash_type", {"num_groups": 1}),
    "Range": (["h", "h", "h"], "stash_type", {}),
    "QuantizeLinear": (["x", "one"], "precision", {}),
}
"""Inputs, the attribute, and other attributes."""
INPUTS = {"q": (FLOAT, [1, 2, 3, 4]), "x": (FLOAT, [2, 4]), "s": (FLOAT, [4]), "one": (FLOAT, []), "h": (TensorProto.FLOAT16, [])}


def model(op: str, code: int) -> bytes:
    inputs, attribute, others = NODES[op]
    node = helper.make_node(op, inputs, ["y"], name="it", **{attribute: code}, **others)
    given = [helper.make_tensor_value_info(n, *INPUTS[n]) for n in dict.fromkeys(inputs)]
    graph = helper.make_graph([node], "g", given, [helper.make_empty_tensor_value_info("y")])
    opset = helper.make_opsetid("", 27 if op == "Range" else 25)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString())


@pytest.mark.parametrize(
    "code", [TensorProto.INT8, TensorProto.UINT64, TensorProto.BOOL, TensorProto.FLOAT8E5M2, TensorProto.STRING, 999]
)
@pytest.mark.parametrize("op", NODES)
def test_others_are_refused(op: str, code: int) -> None:
    with pytest.raises(Fail) as raised:
        sardonyx.InferenceSession(model(op, code))
    assert not getattr(raised.value, "defect", False), raised.value


@pytest.mark.parametrize("op", NODES)
def test_floats_are_taken(op: str) -> None:
    assert sardonyx.InferenceSession(model(op, TensorProto.FLOAT)).get_outputs()
