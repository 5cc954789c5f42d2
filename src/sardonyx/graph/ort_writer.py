"""Writing of models in ONNX Runtime's own format (.ort files): the reverse of `ort_format`.

ONNX Runtime neither verifies nor infers anything when it loads such a file, so the model must be one that `load` returned: sorted,
without functions, constants as initializers, with inferred types. It also needs the opset version that introduced each operator,
and which output of which node each input comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import onnx
import onnx.numpy_helper
import onnx_ir as ir
from flatbuffers import Builder, number_types

from sardonyx.base import errors
from sardonyx.base.model_format import IDENTIFIER
from sardonyx.graph import schemas
from sardonyx.graph.ort_format import KIND, MAP_TYPE, NAME, SEQUENCE_TYPE, SIZE, TENSOR_TYPE
from sardonyx.graph.save import to_proto

VERSION = "6"
EDGE = (12, 4)  # bytes and alignment of the struct EdgeEnd: the other node, its argument, this node's argument
NO_VALUES: Mapping[str, onnx.ValueInfoProto] = {}
Field: TypeAlias = tuple[str, Any] | None
"""A field of a table: its type, as the Builder's methods name it, and its value. Vectors, texts and tables are `Offset`s."""


def write_ort(model: ir.Model) -> bytes:
    """Return the .ort file of a model that `load` returned. Raises NotImplemented for what the format doesn't have."""
    return Writer(dict(model.opset_imports)).file(to_proto(model))


class Writer:
    """Writes the parts of a model, inner parts first, as FlatBuffers require. Its methods return offsets."""

    def __init__(self, imports: Mapping[str, int]) -> None:
        self.builder, self.imports = Builder(1 << 16), imports
        self.used: dict[tuple[str, str, int], schemas.Schema] = {}

    def file(self, model: onnx.ModelProto) -> bytes:
        written = offset(self.model(model))
        kernels = self.table(self.offsets([self.operator(*found) for found in sorted(self.used.items())]))
        session = self.table(self.text(VERSION), written, None, offset(kernels))
        self.builder.Finish(session, file_identifier=IDENTIFIER)
        return bytes(self.builder.Output())

    # ---- parts of FlatBuffers -----------------------------------------------------------------------------------------------

    def table(self, *fields: Field) -> int:
        self.builder.StartObject(len(fields))
        for index, found in enumerate(fields):
            if found is not None:
                add: Callable[[int, Any, Any], None] = getattr(self.builder, f"Prepend{found[0]}Slot")
                add(index, found[1], 0 if found[1] else None)
        return int(self.builder.EndObject())

    def text(self, value: str | bytes) -> Field:
        return offset(int(self.builder.CreateSharedString(value)))

    def texts(self, values: Iterable[str | bytes]) -> Field:
        return self.offsets([int(self.builder.CreateSharedString(value)) for value in values])

    def offsets(self, places: Sequence[int]) -> Field:
        self.builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            self.builder.PrependUOffsetTRelative(place)
        return offset(int(self.builder.EndVector()))

    def numbers(self, values: Sequence[float], kind: Any, add: str) -> Field:
        self.builder.StartVector(kind.bytewidth, len(values), kind.bytewidth)
        for value in reversed(values):
            getattr(self.builder, f"Prepend{add}")(value)
        return offset(int(self.builder.EndVector()))

    def wholes(self, values: Sequence[int]) -> Field:
        return self.numbers(values, number_types.Int64Flags, "Int64")

    # ---- parts of a model ---------------------------------------------------------------------------------------------------

    def model(self, model: onnx.ModelProto) -> int:
        imports = [self.table(self.text(entry.domain), ("Int64", entry.version)) for entry in model.opset_import]
        said = [self.table(self.text(entry.key), self.text(entry.value)) for entry in model.metadata_props]
        return self.table(
            ("Int64", model.ir_version),
            self.offsets(imports),
            self.text(model.producer_name),
            self.text(model.producer_version),
            self.text(model.domain),
            ("Int64", model.model_version),
            self.text(model.doc_string),
            offset(self.graph(model.graph)),
            self.text(model.graph.doc_string),
            self.offsets(said),
        )

    def graph(self, graph: onnx.GraphProto, outer: Mapping[str, onnx.ValueInfoProto] = NO_VALUES) -> int:
        """Write a graph; outer: the values of the graphs around it"""
        described = {value.name: value for value in (*graph.value_info, *graph.output, *graph.input)}
        for tensor in graph.initializer:
            described.setdefault(tensor.name, onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        for node in graph.node:
            for name in (*node.input, *captures(node), *node.output):
                described.setdefault(name, outer.get(name, onnx.ValueInfoProto(name=name)))
        initializers = self.offsets(list(map(self.tensor, graph.initializer)))
        arguments = self.offsets(list(map(self.value, described.values())))
        nodes = self.offsets([self.node(node, index, described) for index, node in enumerate(graph.node)])
        edges = self.edges(graph)
        inputs, outputs = (self.texts(value.name for value in values) for values in (graph.input, graph.output))
        return self.table(initializers, arguments, nodes, ("Uint32", len(graph.node)), edges, inputs, outputs)

    def node(self, node: onnx.NodeProto, index: int, scope: Mapping[str, onnx.ValueInfoProto]) -> int:
        schema = schemas.find(node.domain, node.op_type, self.imports.get(node.domain, schemas.IMPLIED.get(node.domain, 1)))
        if schema is None or node.domain not in schemas.STANDARD:
            raise errors.NotImplemented(
                f"{node.op_type} node '{node.name}' is of domain {node.domain}: only operators of the standard can be written in the ORT "
                "format, because it names the types of kernels, which other domains' schemas don't state here."
            )
        self.used[schema.domain, schema.name, schema.since] = schema
        captured = sorted(captures(node))
        counts = argument_counts(node, schema)
        return self.table(
            self.text(node.name),
            self.text(node.doc_string),
            self.text(node.domain),
            ("Int32", schema.since),
            ("Uint32", index),
            self.text(node.op_type),
            ("Int32", 0),
            None,
            self.texts(node.input),
            self.texts(node.output),
            self.offsets([self.attribute(attribute, scope) for attribute in node.attribute]),
            self.numbers(counts, number_types.Int32Flags, "Int32"),
            self.texts(captured),
        )

    def operator(self, name: tuple[str, str, int], schema: schemas.Schema) -> int:
        """Write which inputs (0) and outputs (1) of an operator have each of its types: so ONNX Runtime finds kernels."""
        letters = {constraint.type_param_str for constraint in schema.raw.type_constraints}
        places: dict[str, list[tuple[int, int]]] = {}
        for kind, parameters in enumerate((schema.inputs, schema.outputs)):
            for index, found in enumerate(parameters):
                places.setdefault(found.letter if found.letter in letters else found.name, []).append((kind, index))
        entries = []
        for letter, found_at in sorted(places.items()):
            ends = self.offsets([self.table(("Int8", kind), ("Uint32", index)) for kind, index in found_at])
            entries.append(self.table(self.text(letter), ends))
        return self.table(self.text(":".join(map(str, name))), self.offsets(entries))

    def edges(self, graph: onnx.GraphProto) -> Field:
        """Write, for each node, which nodes its inputs come from and which its outputs go to."""
        makers = {name: (index, place) for index, node in enumerate(graph.node) for place, name in enumerate(node.output) if name}
        incoming: list[list[tuple[int, int, int]]] = [[] for _ in graph.node]
        outgoing: list[list[tuple[int, int, int]]] = [[] for _ in graph.node]
        for index, node in enumerate(graph.node):
            for place, name in enumerate((*node.input, *sorted(captures(node)))):
                if name in makers:
                    maker, output = makers[name]
                    incoming[index].append((maker, output, place))
                    outgoing[maker].append((index, output, place))
        return self.offsets(
            [
                self.table(("Uint32", index), self.ends(ends), self.ends(others))
                for index, (ends, others) in enumerate(zip(incoming, outgoing, strict=True))
            ]
        )

    def ends(self, ends: Sequence[tuple[int, int, int]]) -> Field:
        self.builder.StartVector(EDGE[0], len(ends), EDGE[1])
        for node, source, target in reversed(ends):
            self.builder.Prep(EDGE[1], EDGE[0])
            self.builder.PrependInt32(target)
            self.builder.PrependInt32(source)
            self.builder.PrependUint32(node)
        return offset(int(self.builder.EndVector()))

    def attribute(self, attribute: onnx.AttributeProto, scope: Mapping[str, onnx.ValueInfoProto]) -> int:
        values: dict[int, Field] = {}
        if attribute.type == KIND.FLOAT:
            values[3] = ("Float32", attribute.f)
        elif attribute.type == KIND.INT:
            values[4] = ("Int64", attribute.i)
        elif attribute.type == KIND.STRING:
            values[5] = self.text(attribute.s)
        elif attribute.type == KIND.TENSOR:
            values[6] = offset(self.tensor(attribute.t))
        elif attribute.type == KIND.GRAPH:
            values[7] = offset(self.graph(attribute.g, scope))
        elif attribute.type == KIND.FLOATS:
            values[8] = self.numbers(attribute.floats, number_types.Float32Flags, "Float32")
        elif attribute.type == KIND.INTS:
            values[9] = self.wholes(attribute.ints)
        elif attribute.type == KIND.STRINGS:
            values[10] = self.texts(attribute.strings)
        elif attribute.type == KIND.TENSORS:
            values[11] = self.offsets(list(map(self.tensor, attribute.tensors)))
        elif attribute.type == KIND.GRAPHS:
            values[12] = self.offsets([self.graph(graph, scope) for graph in attribute.graphs])
        else:
            raise NotImplementedError(f"The ORT format has no attribute of type {KIND.AttributeType.Name(attribute.type)}.")
        head = self.text(attribute.name), self.text(attribute.doc_string), ("Int32", attribute.type)
        return self.table(*head, *(values.get(number) for number in range(3, 13)))

    def tensor(self, tensor: onnx.TensorProto) -> int:
        data = texts = None
        if tensor.data_type == onnx.TensorProto.STRING:
            texts = self.texts(tensor.string_data)
        else:
            raw = tensor.raw_data if tensor.HasField("raw_data") else ir.serde.deserialize_tensor(tensor).tobytes()
            data = offset(int(self.builder.CreateByteVector(raw)))
        return self.table(
            *(self.text(tensor.name), self.text(tensor.doc_string), self.wholes(tensor.dims), ("Int32", tensor.data_type)),
            *(data, texts),
        )

    # ---- types --------------------------------------------------------------------------------------------------------------

    def value(self, value: onnx.ValueInfoProto) -> int:
        kind = offset(self.type(value.type)) if value.HasField("type") else None
        return self.table(self.text(value.name), self.text(value.doc_string), kind)

    def type(self, kind: onnx.TypeProto) -> int:
        if kind.HasField("tensor_type"):
            member, made = TENSOR_TYPE, self.tensor_type(kind.tensor_type)
        elif kind.HasField("sequence_type"):
            member, made = SEQUENCE_TYPE, self.table(offset(self.type(kind.sequence_type.elem_type)))
        elif kind.HasField("map_type"):
            inner = offset(self.type(kind.map_type.value_type))
            member, made = MAP_TYPE, self.table(("Int32", kind.map_type.key_type), inner)
        else:
            raise NotImplementedError(f"The ORT format has no values of {kind.WhichOneof('value') or 'unknown type'}.")
        return self.table(self.text(kind.denotation), ("Uint8", member), offset(made))

    def tensor_type(self, kind: onnx.TypeProto.Tensor) -> int:
        shape = None
        if kind.HasField("shape"):
            shape = offset(self.table(self.offsets(list(map(self.dimension, kind.shape.dim)))))
        return self.table(("Int32", kind.elem_type), shape)

    def dimension(self, size: onnx.TensorShapeProto.Dimension) -> int:
        if size.HasField("dim_value"):
            value = self.table(("Int8", SIZE), ("Int64", size.dim_value))
        elif size.dim_param:
            value = self.table(("Int8", NAME), None, self.text(size.dim_param))
        else:
            value = self.table(("Int8", 0))
        return self.table(offset(value), self.text(size.denotation) if size.denotation else None)


def offset(place: int) -> Field:
    return "UOffsetTRelative", place


def captures(node: onnx.NodeProto) -> set[str]:
    """Return the names of the values that the node's bodies read from outside."""
    bodies = [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs) if graph.node or graph.output]
    return set().union(*(free_names(graph) for graph in bodies)) if bodies else set()


def free_names(graph: onnx.GraphProto) -> set[str]:
    """Return the names that a graph reads and doesn't define."""
    own = {value.name for value in (*graph.input, *graph.initializer)} | {name for node in graph.node for name in node.output}
    read = {name for node in graph.node for name in (*node.input, *captures(node)) if name}
    return (read | {value.name for value in graph.output}) - own


def argument_counts(node: onnx.NodeProto, schema: schemas.Schema) -> list[int]:
    """Return how many inputs each parameter of the operator gets."""
    count = len(node.input)
    if not schema.inputs:
        return []
    if not schema.inputs[-1].variadic:
        return [1 if index < count else 0 for index in range(len(schema.inputs))]
    single = len(schema.inputs) - 1
    return [1 if index < count else 0 for index in range(single)] + [max(count - single, 0)]
