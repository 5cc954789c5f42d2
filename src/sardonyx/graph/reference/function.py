"""Operators that the standard defines by a function: a call of the function, as a graph of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common

from sardonyx.base.context import RunContext
from sardonyx.graph.attributes import defaults
from sardonyx.graph.constants import lift_constants
from sardonyx.graph.reference.control import Body
from sardonyx.graph.schemas import Schema

Types: TypeAlias = tuple[tuple[np.dtype[Any], tuple[int, ...]] | None, ...]
"""dtype and shape of each input, None for an absent one."""


class FunctionBody:
    """The function's nodes with the attributes of the calling node, ready to run."""

    def __init__(
        self,
        node: ir.Node,
        schema: Schema,
        imports: Mapping[str, int],
        proto: onnx.FunctionProto,
        prepare: Callable[[ir.Graph, Mapping[str, int]], Body],
    ) -> None:
        function = ir.serde.deserialize_function(proto)
        given = {**defaults(schema), **node.attributes}
        # The function was made for this node and already contains its graphs.
        attributes = [a for n, a in given.items() if n in function.attributes and a.type != ir.AttributeType.GRAPH]
        inputs = [ir.Value(name=f"in{i}") if value is not None else None for i, value in enumerate(node.inputs)]
        present = [value for value in inputs if value is not None]
        call = ir.Node(
            function.domain,
            function.name,
            inputs,
            attributes,
            overload=function.overload,
            num_outputs=len(function.outputs),
        )
        imports = {**imports, **function.opset_imports}
        function.opset_imports.update(imports)
        graph = ir.Graph(present, call.outputs, nodes=[call], opset_imports=imports, name=function.name)
        model = ir.Model(graph, ir_version=10, functions=[function])
        ir.passes.common.InlinePass()(model)
        lift_constants(model)
        graph.sort()
        self._body = prepare(graph, imports)

    def run(self, inputs: Sequence[Any], context: RunContext) -> list[Any]:
        """Run the function. Absent inputs are None in `inputs`; the graph does not have them."""
        return self._body.run([value for value in inputs if value is not None], context)


def typed_function(node: ir.Node, schema: Schema, types: Types) -> onnx.FunctionProto:
    """Return the function of an operator whose definition depends on the types and shapes of its inputs."""
    protos = []
    for found in types:
        proto = onnx.TypeProto()
        if found is not None:
            code = onnx.helper.np_dtype_to_tensor_dtype(found[0])
            proto = onnx.helper.make_tensor_type_proto(code, found[1])
        protos.append(proto.SerializeToString())
    given = ir.serde.serialize_node(node).SerializeToString()
    function = onnx.FunctionProto()
    function.ParseFromString(schema.raw.get_context_dependent_function(given, protos))
    return function
