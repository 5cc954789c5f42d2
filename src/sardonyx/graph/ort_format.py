"""Reading of ONNX Runtime's own format of models (.ort files): a FlatBuffer with the same content as an ONNX model.

Tables and their fields, numbered from 0, are those of the published schema ort.fbs, of which versions 4 to 6 are read. What only
ONNX Runtime's loader needs is ignored: edges between nodes, hashes of kernels, recorded optimisations.
"""

from __future__ import annotations

import onnx
from flatbuffers import packer

from sardonyx.base.errors import Fail
from sardonyx.base.model_format import IDENTIFIER
from sardonyx.graph.flatbuffer import Reader, Table, damaged

VERSIONS = ("4", "5", "6")
TENSOR_TYPE, SEQUENCE_TYPE, MAP_TYPE = 1, 2, 3  # members of the union TypeInfoValue
SIZE, NAME = 1, 2  # kinds of a DimensionValue
FUSED = 1  # the kind of a node that stands for compiled code
KIND = onnx.AttributeProto


def read_ort(data: bytes) -> onnx.ModelProto:
    """Convert an .ort file to a model. Raises Fail for bytes that are damaged or of another version."""
    if data[4:8] != IDENTIFIER:
        raise damaged("the bytes don't begin as an ORT format model")
    session = Reader.of(data).root()
    version, model = session.text(0), session.table(1)
    if version not in VERSIONS:
        raise Fail(f"The ORT format model version [{version}] is not supported; versions {', '.join(VERSIONS)} are.")
    if model is None:
        raise Fail("Missing Model. Invalid ORT format model.")
    return model_of(model)


def model_of(table: Table) -> onnx.ModelProto:
    out = onnx.ModelProto(
        ir_version=table.whole(0),
        producer_name=table.text(2),
        producer_version=table.text(3),
        domain=table.text(4),
        model_version=table.whole(5),
        doc_string=table.text(6),
    )
    for entry in table.tables(1):
        version = entry.whole(1)
        out.opset_import.add(domain=entry.text(0), version=version)
    graph = table.table(7)
    if graph is None:
        raise Fail("Missing Graph. Invalid ORT format model.")
    out.graph.CopyFrom(graph.inside(graph_of))
    out.graph.doc_string = table.text(8)
    for entry in table.tables(9):
        out.metadata_props.add(key=entry.text(0), value=entry.text(1))
    return out


def graph_of(table: Table) -> onnx.GraphProto:
    out = onnx.GraphProto(name="graph")
    values = {value.name: value for value in map(value_of, table.tables(1))}
    inputs, outputs = table.texts(5), table.texts(6)
    for names, place in ((inputs, out.input), (outputs, out.output)):
        place.extend(values.get(name, onnx.ValueInfoProto(name=name)) for name in names)
    out.initializer.extend(map(tensor_of, table.tables(0)))
    out.sparse_initializer.extend(map(sparse_of, table.tables(7)))
    apart = {*inputs, *outputs, *(tensor.name for tensor in out.initializer), ""}
    out.value_info.extend(value for name, value in values.items() if name not in apart and value.HasField("type"))
    out.node.extend(map(node_of, table.tables(2)))
    return out


def node_of(table: Table) -> onnx.NodeProto:
    out = onnx.NodeProto(name=table.text(0), doc_string=table.text(1), domain=table.text(2), op_type=table.text(5))
    if table.code(6) == FUSED:
        raise Fail(f"The ORT format model has a node '{out.name}' of compiled code, which only the runtime that wrote it can run.")
    out.input.extend(table.texts(8))
    out.output.extend(table.texts(9))
    out.attribute.extend(map(attribute_of, table.tables(10)))
    return out


def attribute_of(table: Table) -> onnx.AttributeProto:
    kind = table.code(2)
    if kind not in KIND.AttributeType.values():
        raise damaged(f"the attribute '{table.text(0)}' has the unknown type {kind}")
    out = onnx.AttributeProto(name=table.text(0), doc_string=table.text(1), type=KIND.AttributeType.Name(kind))
    if kind == KIND.FLOAT:
        out.f = table.number(3, packer.float32)
    elif kind == KIND.INT:
        out.i = table.whole(4)
    elif kind == KIND.STRING:
        out.s = table.text(5).encode()
    elif kind == KIND.TENSOR:
        out.t.CopyFrom(tensor_of(needed(table.table(6), out)))
    elif kind == KIND.GRAPH:
        out.g.CopyFrom(needed(table.table(7), out).inside(graph_of))
    elif kind == KIND.FLOATS:
        out.floats.extend(table.array(8, "<f4").tolist())
    elif kind == KIND.INTS:
        out.ints.extend(table.array(9, "<i8").tolist())
    elif kind == KIND.STRINGS:
        out.strings.extend(text.encode() for text in table.texts(10))
    elif kind == KIND.TENSORS:
        out.tensors.extend(map(tensor_of, table.tables(11)))
    elif kind == KIND.GRAPHS:
        out.graphs.extend(graph.inside(graph_of) for graph in table.tables(12))
    else:
        raise damaged(f"the attribute '{out.name}' has the type {KIND.AttributeType.Name(kind)}, which the format doesn't have")
    return out


def needed(table: Table | None, attribute: onnx.AttributeProto) -> Table:
    if table is None:
        raise damaged(f"the attribute '{attribute.name}' has no value")
    return table


def tensor_of(table: Table) -> onnx.TensorProto:
    out = onnx.TensorProto(name=table.text(0), doc_string=table.text(1), data_type=table.code(3))
    if table.whole(6, -1) >= 0:
        raise Fail(f"The ORT format model keeps tensor '{out.name}' in another file, which is not supported.")
    out.dims.extend(table.array(2, "<i8").tolist())
    if out.data_type == onnx.TensorProto.STRING:
        out.string_data.extend(text.encode() for text in table.texts(5))
    else:
        out.raw_data = table.array(4, "<u1").tobytes()
    return out


def sparse_of(table: Table) -> onnx.SparseTensorProto:
    out = onnx.SparseTensorProto()
    values, indices = table.table(0), table.table(1)
    if values is None or indices is None:
        raise damaged("a sparse initializer has no values or no indices")
    out.values.CopyFrom(tensor_of(values))
    out.indices.CopyFrom(tensor_of(indices))
    out.dims.extend(table.array(2, "<i8").tolist())
    return out


# ---- types ----------------------------------------------------------------------------------------------------------------------


def value_of(table: Table) -> onnx.ValueInfoProto:
    out = onnx.ValueInfoProto(name=table.text(0), doc_string=table.text(1))
    kind = table.table(2)
    if kind is not None:
        out.type.CopyFrom(kind.inside(type_of))
    return out


def type_of(table: Table) -> onnx.TypeProto:
    out = onnx.TypeProto(denotation=table.text(0))
    member, value = int(table.number(1, packer.uint8)), table.table(2)
    if value is None:
        raise damaged("a type has no value")
    if member == TENSOR_TYPE:
        fill_tensor_type(out.tensor_type, value)
    elif member == SEQUENCE_TYPE:
        out.sequence_type.elem_type.CopyFrom(element_type(value, 0))
    elif member == MAP_TYPE:
        out.map_type.key_type = value.code(0)
        out.map_type.value_type.CopyFrom(element_type(value, 1))
    else:
        raise damaged(f"a type is of the unknown kind {member}")
    return out


def element_type(table: Table, field: int) -> onnx.TypeProto:
    inner = table.table(field)
    if inner is None:
        raise damaged("a sequence or map has no type of its elements")
    return inner.inside(type_of)


def fill_tensor_type(out: onnx.TypeProto.Tensor, table: Table) -> None:
    out.elem_type = table.code(0)
    shape = table.table(1)
    if shape is None:
        return
    out.shape.SetInParent()
    for dimension in shape.tables(0):
        size = out.shape.dim.add(denotation=dimension.text(1))
        value = dimension.table(0)
        kind = 0 if value is None else int(value.number(0, packer.int8))
        if value is not None and kind == SIZE:
            size.dim_value = value.whole(1)
        elif value is not None and kind == NAME:
            size.dim_param = value.text(2)
