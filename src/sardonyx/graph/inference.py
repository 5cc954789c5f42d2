"""Types and shapes of all values, by the standard's own inference.

What a file claims about its values is not taken on trust: only the types of graph inputs and initializers are given to the inference.
A declared type of a graph output must agree with the inferred one; a declared shape need not (the inferred one is kept, and
where they clash a warning is logged), as in other runtimes. Operators outside the standard that have a record are inferred by it
(`record_schemas`); values behind others keep their declared element type, and graph outputs their declared shape.

Where the inference has no rule for an operator, its outputs get the type that its schema allows, and the inference is run once more,
with these types given, if values after them have none. A body may return what it was given, an initializer, or one value twice: for
the inference an Identity node stands there, since it finds types only of what a node makes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Iterable, Iterator, Mapping

import onnx
import onnx_ir as ir

from sardonyx.base.errors import Fail, InvalidGraph
from sardonyx.base.log import logger
from sardonyx.graph import record_schemas, schemas
from sardonyx.graph.types import kept_proto, proto_string, set_type, tensor_code, type_string
from sardonyx.ops.record import Op

# What the inference raises on models that don't make sense.
ERRORS = (onnx.shape_inference.InferenceError, ArithmeticError, IndexError, MemoryError, RuntimeError, TypeError, ValueError)
MOST_SIZES = 1 << 16  # that a vector may have for all that a file says
# Operators whose rules read the type of an input that has none, and end the process.
FRAGILE = frozenset(
    {
        ("", "EyeLike"),
        ("", "RegexFullMatch"),
        (schemas.ML, "DictVectorizer"),
        (schemas.ML, "LabelEncoder"),
        (schemas.ML, "TreeEnsemble"),
    }
)
_LATER = "sardonyx.later"  # the domain of nodes that don't take part yet
LARGEST_KNOWN = 1024  # bytes of a constant whose value is shown to the inference
_ERROR = re.compile(r"\(op_type:(?P<op>[^,)]*)(?:, node name: (?P<name>.*?))?\): \[(?P<kind>\w+)\] (?P<text>[^\n]*)")
# Complaints that follow from an operator outside the standard, whose outputs have no type.
_UNTYPED = re.compile(
    r"expected to have type but instead is null|Element type of tensor or sparse tensor|has no type|is null\. Type info is expected"
    r"|subgraph outputs should all be tensors.* but output \d+ was (not|0)"
)


def infer(model: ir.Model) -> None:
    """Sets type and shape of every value that the inference can reach.

    Raises Fail, naming node and operator, where shapes that are known clash.
    """
    _infer(model)
    given = [v.name for node in _untyped(model) for v in _assign_by_schema(node, schemas.schema_of(node, model.opset_imports))]
    if given and any(True for _ in _untyped(model)):
        _infer(model, frozenset(filter(None, given)))


def _infer(model: ir.Model, given: Container[str] = ()) -> None:
    """One run of the inference. given: names of values whose types are known before."""
    with record_schemas.registered(_recorded(model)) as clashes:
        inferred, clash = _run_in_turn(_stripped(model, given))
        error = clashes[0] if clashes else clash
    try:
        _assign(model.graph, inferred.graph)
    except ValueError as wrong:  # an element type that there is not
        raise InvalidGraph(f"This is an invalid model. {wrong}") from wrong
    if error is not None:
        raise error


def _untyped(model: ir.Model) -> Iterator[ir.Node]:
    """The nodes with an output of unknown type."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if any(value.name and type_string(value) is None for value in node.outputs):
            yield node


def _recorded(model: ir.Model) -> Iterator[Op]:
    """The records that stand in for schemas of the standard."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        version = schemas.version_of(node, model.opset_imports)
        if version is not None and (op := record_schemas.find(node.domain, node.op_type, version)) is not None:
            yield op


def _run_in_turn(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, Fail | None]:
    """`_run`, in which nodes of FRAGILE operators take part only when the types of what they read have been found."""
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
    """The nodes of a graph and of those inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in _graphs(attribute):
                yield from _nodes(inner)


def _typed(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto | onnx.TensorProto]:
    """The values of a graph, and of those inside it, whose types are known."""
    yield from graph.initializer
    for infos in (graph.input, graph.value_info, graph.output):
        yield from (info for info in infos if info.type.WhichOneof("value") and not _is_of_no_type(info.type))
    for node in graph.node:
        for attribute in node.attribute:
            for inner in _graphs(attribute):
                yield from _typed(inner)


def _is_of_no_type(kind: onnx.TypeProto) -> bool:
    return kind.WhichOneof("value") == "tensor_type" and not kind.tensor_type.elem_type


def _run(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, Fail | None]:
    """The annotated model, and the first clash there was.

    Without propagating data: a claim that a vector has 2**62 elements would then take as much time and memory.
    """
    try:
        return onnx.shape_inference.infer_shapes(proto, strict_mode=True), None
    except ERRORS as error:
        clash = _clash(str(error))
    try:
        return onnx.shape_inference.infer_shapes(proto), clash
    except ERRORS as error:
        return proto, clash or Fail(f"[ShapeInferenceError] {error}")


def _clash(text: str) -> Fail | None:
    """The first clash that an inference error tells of; None if it only tells of missing types."""
    for found in _ERROR.finditer(text):
        if not _UNTYPED.search(found["text"]) and "Inference error(s)" not in found["text"]:
            return Fail(f"Node ({found['name'] or ''}) Op ({found['op']}) [{found['kind']}] {found['text']}")
    return None


# ---- into the standard's form -----------------------------------------------------------------------------------------------


def _stripped(model: ir.Model, given: Container[str] = ()) -> onnx.ModelProto:
    """The model without large constants (they become inputs) and without claims about values that are not `given`."""
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
    """A vector that may be sizes is of no known length if it claims a large one: the inference writes down an axis for each of them."""
    if claimed.elem_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32) and len(claimed.shape.dim) == 1:
        length = claimed.shape.dim[0]
        if length.dim_value > MOST_SIZES:
            length.ClearField("dim_value")


def _is_small(value: ir.Value) -> bool:
    tensor = value.const_value
    return tensor is not None and tensor.dtype != ir.DataType.STRING and tensor.nbytes <= LARGEST_KNOWN


def _strip_claims(graph: onnx.GraphProto, given: Container[str], numbers: Iterator[int]) -> None:
    """Forgets what the file says of values. numbers: for names that are not in use."""
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
    """Each output of the body that no node makes, or that it returns before, becomes that of an Identity node."""
    free = {name for node in body.node for name in node.output}
    for output in body.output:
        if output.name in free:
            free.remove(output.name)
        else:
            copy = f"{output.name}#{next(numbers)}"
            body.node.append(onnx.helper.make_node("Identity", [output.name], [copy]))
            output.name = copy


def _graphs(attribute: onnx.AttributeProto) -> Iterable[onnx.GraphProto]:
    if attribute.type == onnx.AttributeProto.GRAPH:
        return [attribute.g]
    return list(attribute.graphs)


# ---- and back ------------------------------------------------------------------------------------------------------------


def _assign(graph: ir.Graph, inferred: onnx.GraphProto) -> None:
    """Writes what was inferred for a graph, and for those inside it, into its values."""
    outputs = {id(v) for v in graph.outputs}
    types = {info.name: info.type for infos in (inferred.value_info, inferred.output) for info in infos}
    for node, proto in zip(graph, inferred.node, strict=False):  # copies of what a body returns come after its own nodes
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
    """Gives outputs without a type the only one that the schema allows, or that of the inputs they must agree with. -> which"""
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
    """The shape of a graph output: inferred sizes, with declared names where the inference has none of its own."""
    declared = value.shape
    if inferred is None or declared is None:
        return inferred if inferred is not None else declared
    if len(declared) != len(inferred):
        logger.warning("Output %s is declared with shape %s, but has shape %s.", value.name, declared, inferred)
        return inferred
    return ir.Shape([_merged_size(value, a, b) for a, b in zip(declared, inferred, strict=True)])


def _merged_size(value: ir.Value, declared: int | ir.SymbolicDim, inferred: int | ir.SymbolicDim) -> int | ir.SymbolicDim:
    if isinstance(inferred, int):
        if isinstance(declared, int) and declared != inferred:
            logger.warning("Output %s is declared with size %s where it has %s.", value.name, declared, inferred)
        return inferred
    if isinstance(declared, int) or declared.value is not None:
        return declared
    return inferred
