"""Mutations that make a model hostile: of its bytes, structure, attributes and tensors."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import AttributeProto as A
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

WHOLE = (0, 1, -1, 2, 3, -2, 7, 8, 64, 127, 128, 255, -128, 1000, 65536)
HOSTILE = (2**31 - 1, 2**31, 2**32, -(2**31), 2**40, 2**61, 2**62, 2**63 - 1, -(2**63), -(2**63) + 1)
REAL = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e38, -1e38, float("inf"), float("-inf"), float("nan"), 2.0**31, 2.0**63, 2.0**64)
TEXTS = (
    "",
    "x",
    "NOTSET",
    "SAME_UPPER",
    "linear",
    "cubic",
    "reflect",
    "a" * 5000,
    "\0",
    "../../etc/passwd",
    "é",
    "-1",
    "ij,jk->ik",
    "...i,i...->",
)
PLACES = (
    "weights.bin",
    "../weights.bin",
    "/etc/passwd",
    "",
    ".",
    "..",
    "a/../b",
    "/dev/zero",
    "/proc/self/mem",
    "\0",
    "a" * 300,
    "folder",
    "pipe",
)
NUMBERS = (
    "0",
    "-1",
    "64",
    "1",
    "18446744073709551615",
    "9223372036854775807",
    "9223372036854775808",
    "1e3",
    "",
    " 4",
    "0x10",
    "4294967296",
)

LARGEST = 1 << 17  # bytes; larger parts of a model are not copied
Mutation = Callable[[onnx.ModelProto, random.Random], None]


def number(drawn: random.Random) -> int:
    return drawn.choice(WHOLE) if drawn.random() < 0.7 else drawn.choice(HOSTILE)


def mutate(model: onnx.ModelProto, inputs: list[object], drawn: random.Random) -> bytes:
    """Apply a few mutations to the model, in place, and return its bytes. inputs: values that some inputs may be fixed at"""
    if drawn.random() < 0.5:
        fix_inputs(model, inputs, drawn)
    changes = drawn.choice((0, 1, 1, 1, 2, 2, 3, 5))
    for _ in range(changes):
        drawn.choices([change for change, _ in CHANGES], [weight for _, weight in CHANGES])[0](model, drawn)
    data = model.SerializeToString()
    if changes == 0 or drawn.random() < 0.1:
        for _ in range(drawn.choice((1, 1, 2, 4, 16))):
            data = drawn.choice(BYTES)(data, drawn)
    return data


def mutate_bytes(data: bytes, drawn: random.Random) -> bytes:
    """Apply a few mutations to the bytes of a file."""
    for _ in range(drawn.choice((0, 1, 1, 1, 2, 4, 16))):
        data = drawn.choice((*BYTES, relink, relink, relink))(data, drawn)
    return data


def relink(data: bytes, drawn: random.Random) -> bytes:
    """Overwrite four aligned bytes by a small or hostile number: in a FlatBuffer, an offset, length or number."""
    at = drawn.randrange(len(data) // 4 + 1) * 4
    piece = drawn.choice((*range(0, 64, 4), drawn.randrange(len(data) + 1), 2**31 - 1, 2**32 - 1, 2**31, 2**32 - 64))
    return data[:at] + piece.to_bytes(4, "little") + data[at + 4 :]


def fix_inputs(model: onnx.ModelProto, inputs: list[object], drawn: random.Random) -> None:
    """Turn all inputs but one, or all, into constants."""
    kept = drawn.randrange(len(inputs) + 1) if inputs else 0
    for index, (info, value) in reversed(list(enumerate(zip(model.graph.input, inputs, strict=False)))):
        if index != kept and isinstance(value, np.ndarray | np.generic) and info.type.HasField("tensor_type"):
            model.graph.initializer.append(nh.from_array(np.asarray(value), info.name))
            del model.graph.input[index]


# ---- where there is something to change -------------------------------------------------------------------------------------


def graphs(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    """Return the main graph and those inside it."""
    found = [model.graph]
    for graph in found:
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == A.GRAPH:
                    found.append(attribute.g)
    return found


def a_graph(model: onnx.ModelProto, drawn: random.Random) -> onnx.GraphProto:
    return drawn.choice(graphs(model))


def a_node(model: onnx.ModelProto, drawn: random.Random) -> onnx.NodeProto | None:
    nodes = [node for owner in (*graphs(model), *model.functions) for node in owner.node]
    return drawn.choice(nodes) if nodes else None


def names(graph: onnx.GraphProto) -> list[str]:
    return [
        *(info.name for info in graph.input),
        *(tensor.name for tensor in graph.initializer),
        *(name for node in graph.node for name in node.output),
    ]


# ---- structure --------------------------------------------------------------------------------------------------------------


def rewire(model: onnx.ModelProto, drawn: random.Random) -> None:
    """Make a node read another value, none, or one more."""
    node, graph = a_node(model, drawn), a_graph(model, drawn)
    if node is None:
        return
    name = drawn.choice([*names(graph), "", "nowhere"])
    if node.input and drawn.random() < 0.8:
        node.input[drawn.randrange(len(node.input))] = name
    else:
        node.input.append(name)


def drop_or_double(model: onnx.ModelProto, drawn: random.Random) -> None:
    """Delete or duplicate an entry of a list."""
    graph = a_graph(model, drawn)
    owners: list[Message] = [graph, *graph.node, model, *model.functions]
    owner = drawn.choice(owners)
    fields = [(f, v) for f, v in owner.ListFields() if hasattr(v, "append") or hasattr(v, "add")]
    if not fields:
        return
    _, entries = drawn.choice(fields)
    index = drawn.randrange(len(entries))
    if drawn.random() < 0.5:
        del entries[index]
    else:
        entries.extend([entries[index]])


def rename_operator(model: onnx.ModelProto, drawn: random.Random) -> None:
    node = a_node(model, drawn)
    if node is None:
        return
    if drawn.random() < 0.8:
        schema = drawn.choice(SCHEMAS)
        node.op_type, node.domain = schema.name, schema.domain
    else:
        node.domain = drawn.choice(("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "own", "ai.onnx.preview.training"))


def add_node(model: onnx.ModelProto, drawn: random.Random) -> None:
    """Append a node of a random operator, whose first output becomes an output of the graph."""
    graph = a_graph(model, drawn)
    schema = drawn.choice(SCHEMAS)
    there = names(graph) or [""]
    count = drawn.randint(schema.min_input, min(schema.max_input, schema.min_input + 2))
    node = h.make_node(schema.name, [drawn.choice(there) for _ in range(count)], [f"added{len(graph.node)}"], domain=schema.domain)
    for name, attribute in schema.attributes.items():
        if attribute.required or drawn.random() < 0.2:
            node.attribute.append(an_attribute(name, attribute.type.value, drawn))
    graph.node.append(node)
    graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
    if schema.domain and schema.domain not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(h.make_opsetid(schema.domain, schema.since_version))


def versions(model: onnx.ModelProto, drawn: random.Random) -> None:
    if model.opset_import and drawn.random() < 0.8:
        entry = drawn.choice(model.opset_import)
        entry.version = drawn.randint(1, 26) if drawn.random() < 0.7 else number(drawn)
    elif drawn.random() < 0.5:
        model.opset_import.append(h.make_opsetid(drawn.choice(("", "ai.onnx", "own")), drawn.randint(-1, 30)))
    else:
        model.ir_version = drawn.choice((0, 1, 3, 7, 13, 99, -1))


def claim_sizes(model: onnx.ModelProto, drawn: random.Random) -> None:
    """Declare other sizes or another type for an input, output or inner value."""
    graph = a_graph(model, drawn)
    infos = [*graph.input, *graph.output, *graph.value_info]
    if not infos:
        return
    kind = drawn.choice(infos).type
    if drawn.random() < 0.3:
        kind.tensor_type.elem_type = drawn.choice((0, 1, 2, 6, 7, 8, 9, 10, 11, 14, 16, 17, 22, 23, 24, 99))
        return
    dims = kind.tensor_type.shape.dim
    if dims and drawn.random() < 0.7:
        size = drawn.choice(dims)
        if drawn.random() < 0.5:
            size.dim_value = number(drawn)
        else:
            size.dim_param = drawn.choice(("n", "m", "", "?", "-1", "n*m", "None"))
    elif drawn.random() < 0.5:
        dims.add().dim_param = drawn.choice(("n", "", "k"))
    elif dims:
        del dims[-1]


def wrap(model: onnx.ModelProto, drawn: random.Random) -> None:
    """Make the whole graph the body of an If or a Loop, at several levels."""
    for _ in range(drawn.choice((1, 1, 2, 3, 8))):
        graph = model.graph
        if graph.ByteSize() > LARGEST:
            return
        inner = onnx.GraphProto(name="body")
        inner.node.extend(graph.node)
        inner.output.extend(graph.output)
        outputs = [f"{info.name}_out" for info in graph.output]
        if drawn.random() < 0.5:
            node = h.make_node("If", ["wrap_c"], outputs, then_branch=inner, else_branch=inner)
            constant = nh.from_array(np.array(drawn.random() < 0.5), "wrap_c")
        else:
            inner.input.extend([h.make_tensor_value_info("wrap_i", T.INT64, []), h.make_tensor_value_info("wrap_g", T.BOOL, [])])
            inner.node.append(h.make_node("Identity", ["wrap_g"], ["wrap_go"]))
            inner.output.insert(0, h.make_tensor_value_info("wrap_go", T.BOOL, []))
            node = h.make_node("Loop", ["wrap_n", ""], outputs, body=inner)
            constant = nh.from_array(np.array(drawn.choice((0, 1, 2, 3, -1, 100))), "wrap_n")
        del graph.node[:]
        del graph.output[:]
        graph.node.append(node)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        if constant.name not in {tensor.name for tensor in graph.initializer}:
            graph.initializer.append(constant)


def repeat(model: onnx.ModelProto, drawn: random.Random) -> None:
    """Repeat a node of one output many times, as a chain."""
    graph = a_graph(model, drawn)
    singles = [index for index, node in enumerate(graph.node) if len(node.output) == 1]
    if not singles:
        return
    at = drawn.choice(singles)
    node, last = graph.node[at], graph.node[at].output[0]
    for index in range(drawn.choice((1, 2, 10, 60))):
        if node.ByteSize() > LARGEST:
            return
        copy = graph.node.add()
        copy.CopyFrom(node)
        if copy.input:
            copy.input[0] = last
        last = copy.output[0] = f"{node.output[0]}_{index}_{len(graph.node)}"
    graph.output.append(onnx.ValueInfoProto(name=last))


# ---- attributes -------------------------------------------------------------------------------------------------------------


def an_attribute(name: str, kind: int, drawn: random.Random) -> onnx.AttributeProto:
    """Make an attribute of this kind with a random value."""
    out = onnx.AttributeProto(name=name, type=kind)
    if kind == A.INT:
        out.i = number(drawn)
    elif kind == A.FLOAT:
        out.f = drawn.choice(REAL[:8])
    elif kind == A.STRING:
        out.s = drawn.choice(TEXTS).encode()
    elif kind == A.INTS:
        out.ints.extend(number(drawn) for _ in range(drawn.choice((0, 1, 2, 4))))
    elif kind == A.FLOATS:
        out.floats.extend(drawn.choice(REAL[:8]) for _ in range(drawn.choice((0, 1, 2, 4))))
    elif kind == A.STRINGS:
        out.strings.extend(drawn.choice(TEXTS).encode() for _ in range(2))
    elif kind == A.TENSOR:
        out.t.CopyFrom(nh.from_array(np.array([number(drawn)]), "t"))
    return out


def change_attribute(model: onnx.ModelProto, drawn: random.Random) -> None:
    """Change the value, length, type or name of an attribute."""
    owners = [node for owner in (*graphs(model), *model.functions) for node in owner.node if node.attribute]
    if not owners:
        return
    attribute = drawn.choice(drawn.choice(owners).attribute)
    what = drawn.random()
    if what < 0.05:
        attribute.name = drawn.choice(("axis", "axes", "value", "", "to", "k"))
    elif what < 0.12:
        attribute.type = drawn.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 14))
    elif what < 0.2:
        attribute.CopyFrom(an_attribute(attribute.name, drawn.choice((A.INT, A.FLOAT, A.STRING, A.INTS, A.FLOATS)), drawn))
    elif attribute.type == A.INTS and attribute.ints and what < 0.8:
        attribute.ints[drawn.randrange(len(attribute.ints))] = number(drawn)
    elif attribute.type == A.FLOATS and attribute.floats and what < 0.8:
        attribute.floats[drawn.randrange(len(attribute.floats))] = drawn.choice(REAL)
    elif attribute.type in (A.INT, A.FLOAT, A.STRING, A.INTS, A.FLOATS, A.STRINGS):
        attribute.CopyFrom(an_attribute(attribute.name, attribute.type, drawn))


def add_attribute(model: onnx.ModelProto, drawn: random.Random) -> None:
    """Add an attribute that the operator has and the node lacks."""
    node = a_node(model, drawn)
    if node is None or not onnx.defs.has(node.op_type, node.domain):
        return
    known = onnx.defs.get_schema(node.op_type, node.domain).attributes
    missing = sorted(set(known) - {attribute.name for attribute in node.attribute})
    if missing:
        name = drawn.choice(missing)
        node.attribute.append(an_attribute(name, known[name].type.value, drawn))


# ---- tensors ----------------------------------------------------------------------------------------------------------------


def tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    found = [tensor for graph in graphs(model) for tensor in graph.initializer]
    for owner in (*graphs(model), *model.functions):
        found += [attribute.t for node in owner.node for attribute in node.attribute if attribute.type == A.TENSOR]
    return found


def change_tensor(model: onnx.ModelProto, drawn: random.Random) -> None:
    """Make a tensor's dims or type contradict its data."""
    found = tensors(model)
    if not found:
        return
    tensor = drawn.choice(found)
    what = drawn.randrange(5)
    if what == 0 and tensor.dims:
        tensor.dims[drawn.randrange(len(tensor.dims))] = number(drawn)
    elif what == 1:
        tensor.dims.append(number(drawn))
    elif what == 2:
        tensor.data_type = drawn.choice((0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 14, 16, 17, 21, 22, 23, 24, 25, 99))
    elif what == 3:
        tensor.raw_data = drawn.randbytes(drawn.choice((0, 1, 3, 4, 8, 64, 4096)))
    else:
        tensor.float_data.append(drawn.choice(REAL))


def change_numbers(model: onnx.ModelProto, drawn: random.Random) -> None:
    """Make a few of a tensor's numbers hostile; sizes, axes, bounds and indices are such numbers."""
    found = [
        tensor
        for tensor in tensors(model)
        if tensor.data_type in (T.INT64, T.INT32, T.FLOAT, T.UINT8, T.INT8) and tensor.data_location != T.EXTERNAL
    ]
    if not found:
        return
    tensor = drawn.choice(found)
    try:
        array = nh.to_array(tensor).copy()
    except (ValueError, TypeError, OverflowError):
        return
    if array.size == 0 or array.size > 10_000:
        return
    for _ in range(drawn.choice((1, 1, 2, array.size))):
        at = drawn.randrange(array.size)
        with np.errstate(all="ignore"):
            array.reshape(-1)[at] = np.array(drawn.choice(REAL) if array.dtype.kind == "f" else number(drawn)).astype(array.dtype)
    tensor.CopyFrom(nh.from_array(array, tensor.name))


def place_elsewhere(model: onnx.ModelProto, drawn: random.Random) -> None:
    """Declare that a tensor's data are in another file."""
    found = tensors(model)
    if not found:
        return
    tensor = drawn.choice(found)
    tensor.data_location = T.EXTERNAL
    del tensor.external_data[:]
    for key, choice in (("location", PLACES), ("offset", NUMBERS), ("length", NUMBERS)):
        if drawn.random() < 0.8:
            tensor.external_data.add(key=key, value=drawn.choice(choice))


# ---- bytes ------------------------------------------------------------------------------------------------------------------


def flip(data: bytes, drawn: random.Random) -> bytes:
    if not data:
        return b"\0"
    at = drawn.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << drawn.randrange(8)]) + data[at + 1 :]


def overwrite(data: bytes, drawn: random.Random) -> bytes:
    at = drawn.randrange(len(data) + 1)
    piece = drawn.choice((b"\xff" * 10 + b"\x01", b"\0\0\0\0", b"\xff\xff\xff\xff\x0f", drawn.randbytes(4)))
    return data[:at] + piece + data[at + len(piece) :]


def cut(data: bytes, drawn: random.Random) -> bytes:
    at = drawn.randrange(len(data) + 1)
    return data[:at] + data[at + drawn.choice((1, 2, 8, 100)) :]


def truncate(data: bytes, drawn: random.Random) -> bytes:
    return data[: drawn.randrange(len(data) + 1)]


def again(data: bytes, drawn: random.Random) -> bytes:
    """Duplicate a piece of the bytes; protobuf merges duplicate fields."""
    at, to = sorted((drawn.randrange(len(data) + 1), drawn.randrange(len(data) + 1)))
    return data[:to] + data[at:to] + data[to:]


BYTES = (flip, flip, overwrite, cut, truncate, again)
CHANGES: tuple[tuple[Mutation, int], ...] = (
    (rewire, 4),
    (drop_or_double, 3),
    (rename_operator, 3),
    (add_node, 6),
    (versions, 1),
    (claim_sizes, 4),
    (wrap, 2),
    (repeat, 1),
    (change_attribute, 6),
    (add_attribute, 4),
    (change_tensor, 3),
    (change_numbers, 7),
    (place_elsewhere, 1),
)
SCHEMAS = [schema for schema in onnx.defs.get_all_schemas() if not schema.deprecated]


# ---- smaller models ---------------------------------------------------------------------------------------------------------


def smaller(data: bytes) -> Iterator[bytes]:
    """Yield the model without one of its parts, large parts first; if the bytes are no model, the bytes without a piece."""
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception:  # protobuf's own DecodeError has no stable home
        size = len(data) // 2
        while size:
            yield from (data[:at] + data[at + size :] for at in range(0, len(data), size))
            size //= 2
        return
    yield from without_parts(model, model)


def without_parts(model: onnx.ModelProto, part: Message) -> Iterator[bytes]:
    """Yield the model's bytes without each entry of the lists in `part` and, recursively, in their entries."""
    for _, entries in part.ListFields():
        if isinstance(entries, Message):
            yield from without_parts(model, entries)
        elif isinstance(entries, str | bytes | int | float):
            continue
        else:
            for index in reversed(range(len(entries))):
                saved = list(entries)
                del entries[index]
                yield model.SerializeToString()
                del entries[:]
                entries.extend(saved)
            for entry in list(entries):
                if isinstance(entry, Message):
                    yield from without_parts(model, entry)
