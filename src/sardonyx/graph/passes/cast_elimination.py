"""Removes casts that change nothing. `A <= B` means that type B can represent every number of type A.

1. Cast(x: A, to=A) -> x
2. Cast(Cast(x: A, to=B), to=A) -> x             where A <= B
3. Cast(Cast(x: A, to=B), to=C) -> Cast(x, to=C)  where A <= B
"""

from __future__ import annotations

import onnx_ir as ir

from sardonyx.base.dtypes import BY_CODE, DType
from sardonyx.graph.passes.rewrite import bypass

# Bits of a float's significand, with the hidden one: integers of at most this many bits are exact.
_SIGNIFICANDS = {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}
_WIDER = {("f16", "f32"), ("f16", "f64"), ("bf16", "f32"), ("bf16", "f64"), ("f32", "f64")}


def eliminate_casts(model: ir.Model) -> bool:
    """Apply the rules at the head of this file (1 to 3) to the whole model. Returns whether it changed."""
    changed = False
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain == "" and node.op_type == "Cast" and node.inputs[0] is not None:
            changed |= shorten(node) | remove_if_idle(node)
    return changed


def remove_if_idle(node: ir.Node) -> bool:
    """Apply rule 1."""
    source = node.inputs[0]
    assert source is not None
    return source.dtype is not None and int(source.dtype) == target(node) and bypass(node, source)


def shorten(node: ir.Node) -> bool:
    """Apply rule 2 or 3: the node reads the input of the cast before it."""
    middle = node.inputs[0]
    before = middle.producer() if middle is not None else None
    if before is None or before.op_type != "Cast" or before.domain != "":
        return False
    source = before.inputs[0]
    if source is None or source.dtype is None or not holds(source.dtype, target(before)):
        return False
    node.replace_input_with(0, source)
    return True


def target(node: ir.Node) -> int:
    """Return the element type that a Cast gives; UNDEFINED before opset 6, where the attribute is a name."""
    to = node.attributes["to"]
    return to.as_int() if to.type == ir.AttributeType.INT else int(ir.DataType.UNDEFINED)


def holds(narrow: ir.DataType, wide: int) -> bool:
    """Return whether narrow <= wide."""
    if int(narrow) not in BY_CODE or wide not in BY_CODE:
        return False
    a, b = BY_CODE[int(narrow)], BY_CODE[wide]
    return a is b or (a.name, b.name) in _WIDER or integer_holds(a, b)


def integer_holds(a: DType, b: DType) -> bool:
    """Return whether a <= b, for an integer or boolean type a."""
    bits = {"bool": 1, "uint": a.bits, "int": a.bits - 1}.get(a.kind)
    if bits is None:
        return False
    if b.name in _SIGNIFICANDS:
        return bits <= _SIGNIFICANDS[b.name]
    room = {"uint": b.bits if a.kind != "int" else -1, "int": b.bits - 1}.get(b.kind, -1)
    return bits <= room
