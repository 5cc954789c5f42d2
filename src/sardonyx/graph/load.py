"""Loading of .onnx files: from bytes to a graph on which later steps can rely.

A model is untrusted input. Whatever its bytes say, loading ends with a valid graph or with a SardonyxError.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from typing import Any

import onnx
import onnx_ir as ir
import onnx_ir.passes.common
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from msgspec import Struct, field
from msgspec.structs import replace

from sardonyx.base import dtypes
from sardonyx.base.background import Background
from sardonyx.base.errors import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, SardonyxError
from sardonyx.base.model_format import is_ort
from sardonyx.base.replacements import NOTHING, Replacements
from sardonyx.graph import schemas
from sardonyx.graph.constants import lift_constants, tensor_of
from sardonyx.graph.external_data import ExternalData, tensor_of_bytes
from sardonyx.graph.gradient import expand_gradients
from sardonyx.graph.inference import infer
from sardonyx.graph.initializer_reader import Memory, RawData, SplitModel, split_large_tensors
from sardonyx.graph.inline import inline_functions
from sardonyx.graph.model_files import read_file, read_ort, read_whole, split_file
from sardonyx.graph.tensors import byte_count, check_raw, check_tensor, densify, element_count, tensor_dtype
from sardonyx.graph.types import has_map, set_type
from sardonyx.graph.verify import Knows, check_structure, check_types, knows_nothing
from sardonyx.runtime.memory import Bytes

NEWEST_IR_VERSION = 14
FILES = "sardonyx.files"  # key of a model's meta: {location: Identity} of the external files that it was read from
FIRST_OVERRIDABLE = 4  # in earlier IR versions initializers must be listed as inputs too; there they are constants

# onnx_ir logs warnings about models that are refused here with an error.
logging.getLogger("onnx_ir").addHandler(logging.NullHandler())


class LoadOptions(Struct, frozen=True):
    """How a model is read.

    folder: where external data are stored; by default beside the file.
    knows: whether a provider has an operator (domain, name) outside the standard.
    dimensions, denotations: sizes for input dimensions that have these names or denotations.
    reader: thread that reads large tensors while loading continues; requests for their data wait for it.
    given: tensors and files of the user that replace the model's.
    distinct: dimensions of inputs that have one name may have different sizes.
    format: see base.model_format.is_ort.
    """

    folder: str | None = None
    knows: Knows = knows_nothing
    dimensions: Mapping[str, int] = field(default_factory=dict)
    denotations: Mapping[str, int] = field(default_factory=dict)
    reader: Background | None = None
    distinct: bool = False
    given: Replacements = NOTHING
    format: str = ""


def load(source: str | os.PathLike[str] | bytes, options: LoadOptions = LoadOptions()) -> ir.Model:
    """Load a model from a file or from bytes: verify it, inline functions, sort nodes, infer types and shapes.

    Raises TypeError for a source of another type, else a SardonyxError, which begins with the file's name if there is one.
    """
    if isinstance(source, bytes):
        if is_ort(options.format, "", source):
            return from_proto(read_ort(source), options)
        split = split_large_tensors(Memory(source))
        try:
            proto = parse(split.model)
        except DecodeError as error:
            raise InvalidProtobuf("Failed to load model because protobuf parsing failed.") from error
        return from_proto(proto, options, split.tensors)
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"Unable to load from type '{type(source)}'")
    path = os.fspath(source)
    prefix = f"Load model from {path} failed:"
    beside = options if options.folder is not None else replace(options, folder=os.path.dirname(path))
    ort = is_ort(options.format, path)
    read: Callable[[FileIO], bytes | SplitModel] = read_whole if ort else lambda file: split_file(file, options.reader)
    found = read_file(path, read)
    try:
        if isinstance(found, bytes):
            return from_proto(read_ort(found), beside)
        return from_proto(parse(found.model), beside, found.tensors)
    except DecodeError as error:
        raise InvalidProtobuf(f"{prefix}Protobuf parsing failed.") from error
    except SardonyxError as error:
        raise type(error)(prefix + error.detail) from error.__cause__ or error


def parse(data: bytes) -> onnx.ModelProto:
    """Parse protobuf. Raises DecodeError for other bytes."""
    proto = onnx.ModelProto()
    proto.ParseFromString(data)
    return proto


def from_proto(
    proto: onnx.ModelProto, options: LoadOptions = LoadOptions(), tensors: Mapping[int, RawData] | None = None
) -> ir.Model:
    """Make the graph of a parsed model; `proto` is modified. tensors: see `split_large_tensors`. Raises SardonyxError."""
    try:
        return from_parsed(proto, options, tensors or {})
    except SardonyxError:
        raise
    except Exception as error:
        field = invalid_text(proto)
        if field is None:
            raise
        raise InvalidGraph(f"This is an invalid model. A text in it is not UTF-8: {field}.") from error


def from_parsed(proto: onnx.ModelProto, options: LoadOptions, tensors: Mapping[int, RawData]) -> ir.Model:
    """Make the graph of a parsed model. Texts that are not UTF-8, other than names, may raise any exception."""
    check_header(proto)
    check_names(proto)
    normalise_imports(proto)
    files = ExternalData(options.folder, options.given.files)
    external = read_tensors(proto, files, tensors, options.given)
    for graph in graphs_of(proto):
        check_definitions(graph)
    maps = take_map_types(proto.graph)
    model = convert(proto)
    model.meta[FILES] = files.identities
    place_external(model, external)
    if model.ir_version < FIRST_OVERRIDABLE:
        ir.passes.common.RemoveInitializersFromInputsPass()(model)
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.name in maps:
            set_type(value, maps[value.name])
    inline_functions(model)
    sort(model)
    check_structure(model, options.knows)
    lift_constants(model)
    free_negative_dimensions(model.graph)
    fix_dimensions(model.graph, options)
    if options.distinct:
        separate_dimensions(model.graph)
    infer(model)
    if expand_gradients(model):
        sort(model)
    check_types(model)
    return model


# ---- steps --------------------------------------------------------------------------------------------------------------


def check_header(proto: onnx.ModelProto) -> None:
    """Check that there is a graph and that its versions are known. Raises a SardonyxError."""
    if not proto.HasField("graph"):
        raise InvalidArgument("No graph was found in the protobuf.")
    if not proto.opset_import:
        raise Fail(
            "Missing opset in the model. All ModelProtos MUST have at least one entry that specifies which version of the ONNX "
            "OperatorSet is being imported."
        )
    if proto.ir_version > NEWEST_IR_VERSION:
        raise Fail(f"Unsupported model IR version: {proto.ir_version}, max supported IR version: {NEWEST_IR_VERSION}")
    newest = {"": onnx.defs.onnx_opset_version(), schemas.ML: onnx.defs.onnx_ml_opset_version()}
    for entry in proto.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if entry.version > newest.get(domain, entry.version):
            raise Fail(
                f"Opset {entry.version} of domain {domain or 'ai.onnx'} is not known. "
                f"Current official support for domain {domain or 'ai.onnx'} is till opset {newest[domain]}."
            )


def check_names(proto: onnx.ModelProto) -> None:
    """Check that names are UTF-8, because protobuf returns other names as bytes. Raises InvalidGraph."""
    try:
        "".join(entry.domain for owner in (proto, *proto.functions) for entry in owner.opset_import)
        "".join((proto.producer_name, proto.producer_version, proto.domain, proto.doc_string, proto.graph.doc_string))
        "".join(text for entry in proto.metadata_props for text in (entry.key, entry.value))
        for graph in graphs_of(proto):
            "".join((graph.name, *names_of(graph)))
            for node in graph.node:
                "".join((node.name, node.op_type, node.domain, *node.input, *node.output))
                "".join(text for attribute in node.attribute for text in (attribute.name, attribute.ref_attr_name))
    except TypeError as error:
        raise InvalidGraph("This is an invalid model. A name in it is not UTF-8.") from error


def invalid_text(proto: onnx.ModelProto) -> str | None:
    """Return the full name of a field of text that is not UTF-8, such as `onnx.NodeProto.doc_string`; None if there is none.

    This visits everything, which takes too long for models that load.
    """
    waiting: list[Any] = [proto]
    while waiting:
        for entry, found in waiting.pop().ListFields():
            values = [found] if isinstance(found, str | bytes | Message) else found
            if entry.type == entry.TYPE_MESSAGE:
                waiting.extend(values)
            elif entry.type == entry.TYPE_STRING and any(isinstance(text, bytes) for text in values):
                return str(entry.full_name)
    return None


def names_of(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[str]:
    """Yield the names that a graph or function declares, except those of nodes' outputs."""
    if isinstance(graph, onnx.FunctionProto):
        yield from (graph.domain, graph.overload, *graph.input, *graph.output, *graph.attribute)
        yield from (attribute.name for attribute in graph.attribute_proto)
        return
    for values in (graph.input, graph.output, graph.value_info, graph.initializer):
        for value in values:
            yield value.name
    yield from (sparse.values.name for sparse in graph.sparse_initializer)


BODIES = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def graphs_of(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Yield the main graph, the functions, and all graphs in their nodes' attributes. Raises InvalidGraph for a graph by reference."""
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type in BODIES:
                    if attribute.ref_attr_name:
                        raise InvalidGraph(
                            f"This is an invalid model. Attribute '{attribute.name}' of node '{node.name}' refers to a graph by the "
                            f"name '{attribute.ref_attr_name}'."
                        )
                    waiting.append(attribute.g)
                    waiting.extend(attribute.graphs)


def read_tensors(
    proto: onnx.ModelProto, data: ExternalData, split: Mapping[int, RawData], given: Replacements = NOTHING
) -> dict[str, ir.TensorProtocol]:
    """Check every tensor. Sparse tensors become dense.

    Tensors in other files, and those that were split off from the main graph's initializers, are returned by key; their key
    replaces their location in `proto`.
    """
    external: dict[str, ir.TensorProtocol] = {}

    def read(tensor: onnx.TensorProto, raw: RawData | None = None) -> None:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            found = with_data(tensor, raw) if raw is not None else None
            if found is not None:
                place(tensor, found)
            else:
                check_tensor(tensor)
            return
        dtype = tensor_dtype(tensor)
        expected = byte_count(element_count(tensor.dims, dtype, tensor.name), dtype)
        if dtype.kind == "string":
            raise InvalidGraph(f"Tensor '{tensor.name}' of strings can't lie in another file.")
        place(tensor, data.tensor(tensor, expected))

    def place(tensor: onnx.TensorProto, found: ir.TensorProtocol) -> None:
        key = str(len(external))
        external[key] = found
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=key)

    for depth, graph in enumerate(graphs_of(proto)):
        if isinstance(graph, onnx.GraphProto):
            graph.initializer.extend(densify(sparse) for sparse in graph.sparse_initializer)
            del graph.sparse_initializer[:]
            replaced = replacements(graph, given) if depth == 0 and given is not NOTHING else {}
            for number, tensor in enumerate(graph.initializer):
                if tensor.name in replaced:
                    place(tensor, replaced[tensor.name])
                else:
                    read(tensor, split.get(number) if depth == 0 else None)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.SPARSE_TENSOR:
                    make_dense(node, attribute)
                if attribute.type == onnx.AttributeProto.TENSOR:
                    read(attribute.t)
                for tensor in attribute.tensors:
                    read(tensor)
    return external


def replacements(graph: onnx.GraphProto, given: Replacements) -> dict[str, ir.TensorProtocol]:
    """Return the user's tensors by the names of the initializers that they replace. Raises Fail for those that don't fit."""
    there = {tensor.name: tensor for tensor in graph.initializer}
    for name in given.external:
        if name not in there:
            raise Fail(f"Failed to find existing initializer with name {name}.")
        if there[name].data_location != onnx.TensorProto.EXTERNAL:
            raise Fail(f"Trying to replace non-external initializer {name} with external data")
    found: dict[str, ir.TensorProtocol] = {}
    for name, array in (*given.initializers.items(), *given.external.items()):
        if name not in there:
            continue
        kind = dtypes.from_numpy(array.dtype)
        if kind.code != there[name].data_type:
            raise Fail(
                f"Replacement tensor's data type does not match: initializer {name} is of another type than {kind.onnx_name}."
            )
        if list(array.shape) != list(there[name].dims):
            raise Fail(
                f"Replacement tensor's dimensions do not match: initializer {name} is {list(there[name].dims)}, not {list(array.shape)}."
            )
        if kind is dtypes.string:
            texts = [text.encode() for text in array.reshape(-1).tolist()]
            found[name] = ir.StringTensor(texts, shape=ir.Shape(array.shape), name=name)
        else:
            found[name] = ir.Tensor(array, ir.DataType(kind.code), name=name)
    return found


def with_data(tensor: onnx.TensorProto, raw: RawData) -> ir.TensorProtocol | None:
    """Return the checked tensor whose raw_data is `raw`, without a copy. For types where that is impossible, put the data back and
    return None.
    """
    dtype, name = tensor_dtype(tensor), tensor.name

    def read() -> Bytes:
        try:
            return raw.read()
        except OSError as error:
            raise Fail(f"Initializer '{name}' cannot be read: {error}") from error

    if dtype.bits < 8 or dtype.kind in ("bool", "string"):
        tensor.raw_data = read().tobytes()
        return None
    check_raw(tensor, dtype, element_count(tensor.dims, dtype, name), raw.size)
    kind, shape = ir.DataType(tensor.data_type), ir.Shape(tensor.dims)
    return ir.LazyTensor(lambda: tensor_of_bytes(read(), kind, shape, name), kind, shape, name=name)


def make_dense(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> None:
    """Replace Constant(sparse_value=...) by Constant(value=...). Raises InvalidGraph for sparse tensors elsewhere."""
    if node.op_type != "Constant" or attribute.name != "sparse_value":
        raise InvalidGraph(f"Node '{node.name}' ({node.op_type}) has a sparse tensor in attribute '{attribute.name}'.")
    attribute.t.CopyFrom(densify(attribute.sparse_tensor))
    attribute.ClearField("sparse_tensor")
    attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR


def check_definitions(graph: onnx.GraphProto | onnx.FunctionProto) -> None:
    """Check that no two inputs share a name and that no node defines an existing name. Raises Fail."""
    function = isinstance(graph, onnx.FunctionProto)
    names: set[str] = set()
    for entry in graph.input:
        name = entry if function else entry.name
        if name in names:
            raise Fail(f"Error: Duplicate definition-site for ({name}).")
        names.add(name)
    if not function:
        names.update(tensor.name for tensor in graph.initializer)
    for node in graph.node:
        for name in node.output:
            if name and name in names:
                raise Fail(f"This is an invalid model. Error: Duplicate definition of name ({name}).")
            names.add(name)
    if function and (missing := [name for name in graph.output if name not in names]):
        raise Fail(f"This is an invalid model. Output ({missing[0]}) of function {graph.name} does not exist.")
    if function:
        check_reads(graph, names)


def check_reads(function: onnx.FunctionProto, names: set[str]) -> None:
    """Check that all values exist that the nodes of a function and of their bodies read. names: the function's own values. Raises
    Fail.
    """
    waiting: list[tuple[onnx.GraphProto | onnx.FunctionProto, set[str]]] = [(function, names)]
    while waiting:
        graph, there = waiting.pop()
        for node in graph.node:
            if missing := [name for name in node.input if name and name not in there]:
                raise Fail(f"This is an invalid model. Input ({missing[0]}) of a node in function {function.name} does not exist.")
            inner = [g for a in node.attribute for g in (*((a.g,) if a.type == onnx.AttributeProto.GRAPH else ()), *a.graphs)]
            for body in inner:
                own = (v.name for values in (body.input, body.initializer) for v in values)
                waiting.append((body, {*there, *own, *(name for n in body.node for name in n.output)}))


def take_map_types(graph: onnx.GraphProto) -> dict[str, onnx.TypeProto]:
    """Remove types that contain maps, which onnx_ir can't represent, from the graph's inputs and outputs. Returns {name: type}"""
    taken: dict[str, onnx.TypeProto] = {}
    for infos in (graph.input, graph.output, graph.value_info):
        for info in infos:
            if has_map(info.type):
                taken[info.name] = onnx.TypeProto()
                taken[info.name].CopyFrom(info.type)
                info.ClearField("type")
    return taken


def convert(proto: onnx.ModelProto) -> ir.Model:
    """Convert protobuf to onnx_ir's model. Raises InvalidGraph."""
    try:
        return ir.serde.deserialize_model(proto)
    except (ir.serde.SerdeError, ValueError, TypeError, NotImplementedError, KeyError, UnicodeDecodeError) as error:
        raise InvalidGraph(f"This is an invalid model. {root_cause(error)}") from error


def root_cause(error: BaseException) -> str:
    """Return the text of the exception that started a chain of exceptions."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def normalise_imports(proto: onnx.ModelProto) -> None:
    """Keep one import for each domain, the last one. `ai.onnx` becomes the empty domain; a model that does not import it means its
    newest version.
    """
    for owner in (proto, *proto.functions):
        versions = {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in owner.opset_import}
        if owner is proto:
            versions.setdefault("", onnx.defs.onnx_opset_version())
        del owner.opset_import[:]
        owner.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in versions.items())


def place_external(model: ir.Model, external: dict[str, ir.TensorProtocol]) -> None:
    """Put tensors where `read_tensors` left their keys."""
    if not external:
        return

    def placed(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        return external[str(tensor.location)] if isinstance(tensor, ir.ExternalTensor) else tensor

    for root in (model.graph, *(function.graph for function in model.functions.values())):
        for graph in (root, *root.subgraphs()):
            for value in graph.initializers.values():
                if value.const_value is not None:
                    value.const_value = placed(value.const_value)
        for node in root.all_nodes():
            for name, attribute in node.attributes.items():
                if attribute.is_ref():
                    continue
                if attribute.type == ir.AttributeType.TENSOR:
                    node.attributes[name] = ir.AttrTensor(name, placed(tensor_of(attribute)))
                elif attribute.type == ir.AttributeType.TENSORS:
                    node.attributes[name] = ir.AttrTensors(name, [placed(t) for t in attribute.as_tensors()])


def free_negative_dimensions(graph: ir.Graph) -> None:
    """Treat negative sizes as unknown ones: some exporters write them so."""
    for inner in (graph, *graph.subgraphs()):
        for value in (*inner.inputs, *inner.outputs):
            if value.shape is not None and any(isinstance(size, int) and size < 0 for size in value.shape):
                value.shape = ir.Shape([None if isinstance(size, int) and size < 0 else size for size in value.shape])


def fix_dimensions(graph: ir.Graph, options: LoadOptions) -> None:
    """Give input dimensions the sizes that the user has fixed."""
    for value in graph.inputs:
        if value.shape is None or not (options.dimensions or options.denotations):
            continue
        sizes: list[int | ir.SymbolicDim] = []
        for index, size in enumerate(value.shape):
            fixed = options.denotations.get(value.shape.get_denotation(index) or "")
            if isinstance(size, ir.SymbolicDim) and size.value is not None:
                fixed = options.dimensions.get(size.value, fixed)
            sizes.append(size if fixed is None else fixed)
        value.shape = ir.Shape(sizes)


def separate_dimensions(graph: ir.Graph) -> None:
    """Give each dimension of the inputs a name of its own, and remove the names of the outputs' dimensions, which are only claims."""
    for value in graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape([n if isinstance(n, int) else f"{value.name}.{axis}" for axis, n in enumerate(value.shape)])
    for value in graph.outputs:
        if value.shape is not None and not value.is_graph_input():
            value.shape = ir.Shape([n if isinstance(n, int) else None for n in value.shape])


def sort(model: ir.Model) -> None:
    """Sort nodes topologically. Raises Fail if the graph has a cycle."""
    try:
        model.graph.sort()
    except ValueError as error:
        raise Fail("This is an invalid model. Error: the graph is not acyclic.") from error
