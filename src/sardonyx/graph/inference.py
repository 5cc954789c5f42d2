"""Inference of the types and shapes of all values, by onnx's own inference.

The inference does not use what a file claims about its values: it gets the types of graph inputs and initializers only. The
declared type of a graph output must agree with the inferred one. A declared shape need not: the inferred one is kept, and a warning
is logged where they clash, as other runtimes do. Operators outside the standard that have a record are inferred by it
(`record_schemas`). Values behind other such operators keep their declared element type, and graph outputs their declared shape.

Where the inference has no rule for an operator, the outputs get the type that its schema allows; the inference then runs again with
these types if later values still have none. A body may return one of its inputs, an initializer, or one value twice. The inference
finds types only of values that nodes make, so an Identity node is added for each of these outputs.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Iterable, Iterator, Mapping

import onnx
import onnx.onnx_cpp2py_export.shape_inference as c_inference
import onnx_ir as ir

from sardonyx.base.errors import Fail, InvalidGraph
from sardonyx.base.log import logger
from sardonyx.graph import record_schemas, schemas
from sardonyx.graph.types import kept_proto, proto_string, set_type, tensor_code, type_string
from sardonyx.ops.record import Op

# Exceptions that the inference raises for invalid models.
ERRORS = (onnx.shape_inference.InferenceError, ArithmeticError, IndexError, MemoryError, RuntimeError, TypeError, ValueError)
MOST_SIZES = 1 << 16  # longest vector of sizes whose claimed length is believed
# Operators whose rules in onnx crash the process if an input has no type.
FRAGILE = frozenset(
    {
        ("", "EyeLike"),
        ("", "RegexFullMatch"),
        (schemas.ML, "DictVectorizer"),
        (schemas.ML, "LabelEncoder"),
        (schemas.ML, "TreeEnsemble"),
    }
)
_LATER = "sardonyx.later"  # a domain for nodes that the current run of the inference shall skip
LARGEST_KNOWN = 1024  # bytes; the inference gets the values of constants up to this size
_ERROR = re.compile(r"\(op_type:(?P<op>[^,)]*)(?:, node name: (?P<name>.*?))?\): \[(?P<kind>\w+)\] (?P<text>[^\n]*)")
# Errors that only say that a value has no type, because an operator outside the standard makes it.
_UNTYPED = re.compile(
    r"expected to have type but instead is null|Element type of tensor or sparse tensor|has no type|is null\. Type info is expected"
    r"|Scan input \d+ was not a tensor|Mismatched type: inferred=(0 |\d+ declared=0\b)"
    r"|subgraph outputs should all be tensors.* but output \d+ was (not|0)"
)


def infer(model: ir.Model) -> None:
    """Set type and shape of every value that the inference can determine.

    Raises Fail, with the node's name and operator, where known shapes clash.
    """
    _infer(model)
    given = [v.name for node in _untyped(model) for v in _assign_by_schema(node, schemas.schema_of(node, model.opset_imports))]
    if given and any(True for _ in _untyped(model)):
        _infer(model, frozenset(filter(None, given)))


def _infer(model: ir.Model, given: Container[str] = ()) -> None:
    """Run the inference once. given: names of values whose types are already known"""
    with record_schemas.registered(_recorded(model)) as clashes:
        inferred, clash = _run_in_order(_stripped(model, given))
        error = clashes[0] if clashes else clash
    try:
        _assign(model.graph, inferred.graph)
    except ValueError as wrong:  # the inference returned an unknown element type
        raise InvalidGraph(f"This is an invalid model. {wrong}") from wrong
    if error is not None:
        raise error


def _untyped(model: ir.Model) -> Iterator[ir.Node]:
    """Yield the nodes that have an output of unknown type."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if any(value.name and type_string(value) is None for value in node.outputs):
            yield node


def _recorded(model: ir.Model) -> Iterator[Op]:
    """Yield the records of operators outside the standard that the model uses."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        version = schemas.version_of(node, model.opset_imports)
        if version is not None and (op := record_schemas.find(node.domain, node.op_type, version)) is not None:
            yield op


def _run_in_order(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, Fail | None]:
    """Run the inference as `_run` does, but let nodes of FRAGILE operators take part only when the types of their inputs are known."""
    waiting = [(node, node.domain) for node in _nodes(proto.graph) if (node.domain, node.op_type) in FRAGILE]
    for node, _ in waiting:
        node.domain = _LATER
    if not waiting:
        return _run(proto)
    proto.opset_import.append(onnx.helper.make_opsetid(_LATER, 1))
    while True:
        inferred, clash = _run(proto)
        typed = {value.name for value in _typed(inferred.graph)}
        ready = [entry for entry in waiting if typed.issuperset(filter(None, entry[0].input))]
        if not ready:
            return inferred, clash
        waiting = [entry for entry in waiting if not any(entry[0] is node for node, _ in ready)]
        for node, domain in ready:
            node.domain = domain


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of its bodies."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in _graphs(attribute):
                yield from _nodes(inner)


def _typed(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto | onnx.TensorProto]:
    """Yield the values of a graph, and of its bodies, whose types are known."""
    yield from graph.initializer
    for infos in (graph.input, graph.value_info, graph.output):
        yield from (info for info in infos if info.type.WhichOneof("value") and not _is_of_no_type(info.type))
    for node in graph.node:
        for attribute in node.attribute:
            for inner in _graphs(attribute):
                yield from _typed(inner)


def _is_of_no_type(kind: onnx.TypeProto) -> bool:
    """Return whether this is a tensor type without an element type."""
    return kind.WhichOneof("value") == "tensor_type" and not kind.tensor_type.elem_type


def _run(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, Fail | None]:
    """Run onnx's inference. Returns the annotated model, and the first clash if there is one.

    Data propagation is off: a claim that a vector has 2**62 elements would otherwise take as much time and memory.
    """
    try:
        return _annotated(proto, strict=True), None
    except ERRORS as error:
        clash = _clash(str(error))
    try:
        return _annotated(proto, strict=False), clash
    except ERRORS as error:
        return proto, clash or Fail(f"[ShapeInferenceError] {error}")


def _annotated(proto: onnx.ModelProto, strict: bool) -> onnx.ModelProto:
    """Return the model with the types that onnx infers. strict: raise one of ERRORS where a rule fails.

    This is onnx.shape_inference.infer_shapes without the import of onnx's converters to JSON and text, with which that function
    reads the result.
    """
    inferred = onnx.ModelProto()
    inferred.ParseFromString(c_inference.infer_shapes(proto.SerializeToString(), False, strict, False))
    return inferred


def _clash(text: str) -> Fail | None:
    """Return the first clash that an inference error reports, None if it reports missing types only."""
    for found in _ERROR.finditer(text):
        if not _UNTYPED.search(found["text"]) and "Inference error(s)" not in found["text"]:
            return Fail(f"Node ({found['name'] or ''}) Op ({found['op']}) [{found['kind']}] {found['text']}")
    return None


# ---- into the standard's form -----------------------------------------------------------------------------------------------


def _stripped(model: ir.Model, given: Container[str] = ()) -> onnx.ModelProto:
    """Serialise the model for the inference: large constants become inputs, and claims about values that are not `given` are
    removed.
    """
    graph = model.graph
    small = [v for v in graph.initializers.values() if not v.is_graph_input() and _is_small(v)]
    known = {id(v) for v in small} | {id(v) for v in graph.inputs}
    large = [v for v in graph.initializers.values() if id(v) not in known]
    view = ir.GraphView([*graph.inputs, *large], graph.outputs, nodes=graph, initializers=small, name=graph.name or "graph")
    imports = {
        domain: min(max(version, 1), schemas.LARGEST_VERSION)
        for domain, version in {**schemas.IMPLIED, **model.opset_imports}.items()
    }
    proto = onnx.ModelProto(ir_version=max(model.ir_version, 8), graph=ir.serde.serialize_graph(view))  # type: ignore[arg-type]
    proto.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in imports.items())
    for value, info in zip(graph.inputs, proto.graph.input, strict=False):
        if (kept := kept_proto(value)) is not None:
            info.type.CopyFrom(kept)
        _forget_length(info.type.tensor_type)
    _strip_claims(proto.graph, given, itertools.count())
    return proto


def _forget_length(claimed: onnx.TypeProto.Tensor) -> None:
    """Remove the claimed length of an integer vector if it is large: the inference would make an axis for each element, in case the
    elements are sizes.
    """
    if claimed.elem_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32) and len(claimed.shape.dim) == 1:
        length = claimed.shape.dim[0]
        if length.dim_value > MOST_SIZES:
            length.ClearField("dim_value")


def _is_small(value: ir.Value) -> bool:
    """Return whether the inference gets the constant's value."""
    tensor = value.const_value
    return tensor is not None and tensor.dtype != ir.DataType.STRING and tensor.nbytes <= LARGEST_KNOWN


def _strip_claims(graph: onnx.GraphProto, given: Container[str], numbers: Iterator[int]) -> None:
    """Remove the types and shapes that the file claims. numbers: makes unused names"""
    claims = [info for info in graph.value_info if info.name in given]
    del graph.value_info[:]
    graph.value_info.extend(claims)
    for output in graph.output:
        output.ClearField("type")
    for node in graph.node:
        for attribute in node.attribute:
            for inner in _graphs(attribute):
                _strip_claims(inner, given, numbers)
                _copy_what_is_returned(inner, numbers)
                for value in inner.input:
                    value.type.tensor_type.ClearField("shape")
                    if not value.type.tensor_type.elem_type:
                        value.ClearField("type")


def _copy_what_is_returned(body: onnx.GraphProto, numbers: Iterator[int]) -> None:
    """Add an Identity node for each output of the body that no node makes, or that is returned twice."""
    unreturned = {name for node in body.node for name in node.output}
    for output in body.output:
        if output.name in unreturned:
            unreturned.remove(output.name)
        else:
            copy = f"{output.name}#{next(numbers)}"
            body.node.append(onnx.helper.make_node("Identity", [output.name], [copy]))
            output.name = copy


def _graphs(attribute: onnx.AttributeProto) -> Iterable[onnx.GraphProto]:
    """Return the graphs in an attribute."""
    if attribute.type == onnx.AttributeProto.GRAPH:
        return [attribute.g]
    return list(attribute.graphs)


# ---- and back ------------------------------------------------------------------------------------------------------------


def _assign(graph: ir.Graph, inferred: onnx.GraphProto) -> None:
    """Write the inferred types and shapes into the values of a graph and of its bodies."""
    outputs = {id(v) for v in graph.outputs}
    types = {info.name: info.type for infos in (inferred.value_info, inferred.output) for info in infos}
    for node, proto in zip(graph, inferred.node, strict=False):  # the Identity nodes that were added to a body follow its own nodes
        for value in node.outputs:
            _assign_value(value, types, node, id(value) in outputs)
        attributes = {attribute.name: attribute for attribute in proto.attribute}
        for name, attribute in node.attributes.items():
            if attribute.type == ir.AttributeType.GRAPH:
                _assign(attribute.as_graph(), attributes[name].g)
            elif attribute.type == ir.AttributeType.GRAPHS:
                for inner, inner_proto in zip(attribute.as_graphs(), attributes[name].graphs, strict=True):
                    _assign(inner, inner_proto)


def _assign_value(value: ir.Value, types: Mapping[str, onnx.TypeProto], node: ir.Node, is_output: bool) -> None:
    """Write the inferred type and shape into a value. Raises Fail if a graph output is declared with another type."""
    found = types.get(value.name or "")
    declared = type_string(value)
    if found is None or proto_string(found) is None:
        if not is_output:
            value.shape = None
        return
    if is_output and declared not in (None, proto_string(found)):
        raise Fail(
            f"Type Error: Type ({declared}) of output arg ({value.name}) of node ({node.name}) "
            f"does not match expected type ({proto_string(found)})."
        )
    set_type(value, found)
    shape = ir.serde.deserialize_type_proto_for_shape(found) if kept_proto(value) is None else None
    value.shape = _merged(value, shape) if is_output else shape


def _assign_by_schema(node: ir.Node, schema: schemas.Schema | None) -> Iterator[ir.Value]:
    """Give outputs without a type the one that the schema allows, or that of the inputs with which they must agree. Yields these
    outputs.
    """
    if schema is None:
        return
    bound = {}
    for index, value in enumerate(node.inputs):
        if value is not None and schema.input(index).agrees:
            bound[schema.input(index).letter] = value
    for index, output in enumerate(node.outputs):
        parameter = schema.output(index)
        if type_string(output) is not None or not output.name:
            continue
        if parameter.agrees and parameter.letter in bound:
            output.type = bound[parameter.letter].type
        elif len(parameter.types) == 1 and (code := tensor_code(next(iter(parameter.types)))) is not None:
            output.type = ir.TensorType(ir.DataType(code))
        if output.type is not None:
            yield output


def _merged(value: ir.Value, inferred: ir.Shape | None) -> ir.Shape | None:
    """Return the shape of a graph output: inferred sizes, with declared names where the inference has none."""
    declared = value.shape
    if inferred is None or declared is None:
        return inferred if inferred is not None else declared
    if len(declared) != len(inferred):
        logger.warning("Output %s is declared with shape %s, but has shape %s.", value.name, declared, inferred)
        return inferred
    return ir.Shape([_merged_size(value, a, b) for a, b in zip(declared, inferred, strict=True)])


def _merged_size(value: ir.Value, declared: int | ir.SymbolicDim, inferred: int | ir.SymbolicDim) -> int | ir.SymbolicDim:
    """Return one size of a graph output, see `_merged`. A fixed size that is declared differently is logged."""
    if isinstance(inferred, int):
        if isinstance(declared, int) and declared != inferred:
            logger.warning("Output %s is declared with size %s where it has %s.", value.name, declared, inferred)
        return inferred
    if isinstance(declared, int) or declared.value is not None:
        return declared
    return inferred
