"""A session's parts as bytes, for the cache, and back: JSON, machine code, and arrays that lie in a block of their own.

    manifest   length of the JSON | JSON | the team's image | the image of each step
    block      the steps' constants, packed as their kernels read them, then the constants that the model gives out

Only what is compiled as a whole is kept: every step a native program, every constant an array of numbers.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from sardonyx.base import dtypes
from sardonyx.providers.native import NativeGraph
from sardonyx.runtime import blocks, execution, records
from sardonyx.runtime.arrays import Array
from sardonyx.runtime.image import Image
from sardonyx.runtime.memory import Bytes
from sardonyx.runtime.records import element_type, fields, listed, text, whole
from sardonyx.runtime.team import Team, configure
from sardonyx.session.built import Built
from sardonyx.session.feeds import Feeds, InputSpec
from sardonyx.session.metadata import ModelMetadata, NodeArg, OrtEpAssignedNode, OrtEpAssignedSubgraph
from sardonyx.session.program import Program, Step

Find = Callable[[Sequence[int], str], list[Bytes] | None]  # (sizes, checksum) -> the arrays of the block

_LENGTH = struct.Struct("<Q")


def encode(built: Built, most: int) -> tuple[bytes, list[Bytes]] | None:
    """The manifest and the block's arrays; None if a part is not native, or the arrays take more than `most` bytes."""
    graphs = [step.executable for step in built.program.steps if isinstance(step.executable, NativeGraph)]
    constants = {name: array for name, value in built.program.constants.items() if (array := numbers(value)) is not None}
    if len(graphs) < len(built.program.steps) or len(constants) < len(built.program.constants):
        return None
    pieces = [raw(array) for graph in graphs for array in graph.program.constants]
    pieces += [raw(array) for array in constants.values()]
    if sum(piece.size for piece in pieces) > most:
        return None
    images = [graph.program.image.copy().to_bytes() for graph in graphs]
    if graphs:
        images.insert(0, graphs[0].program.team.image.copy().to_bytes())
    head = {
        "inputs": [argument_record(a) for a in built.inputs],
        "overridable": [argument_record(a) for a in built.overridable],
        "outputs": [argument_record(a) for a in built.outputs],
        "metadata": metadata_record(built.metadata),
        "assignment": [[part.ep_name, [[n.name, n.domain, n.op_type] for n in part.nodes]] for part in built.assignment],
        "feeds": [[spec_record(s) for s in built.feeds.inputs], [spec_record(s) for s in built.feeds.overridable.values()]],
        "program": [built.program.inputs, built.program.outputs],
        "steps": [step_record(step, graph) for step, graph in zip(built.program.steps, graphs, strict=True)],
        "constants": [[name, dtypes.from_numpy(a.dtype).name, a.shape] for name, a in constants.items()],
        "images": [len(image) for image in images],
        "pieces": [piece.size for piece in pieces],
        "checksum": blocks.checksum(pieces),
    }
    told = json.dumps(head, separators=(",", ":")).encode("ascii")
    return b"".join([_LENGTH.pack(len(told)), told, *images]), pieces


def decode(manifest: bytes, find: Find, threads: int) -> Built | None:
    """The parts that `encode` was given, to run on so many threads; None if the block isn't there or is damaged.

    Raises ValueError or ImageError for anything that `encode` doesn't write.
    """
    head, images = divided(manifest)
    sizes = listed(head["pieces"], lambda size: whole(size, 0))
    pieces = find(sizes, text(head["checksum"]))
    if pieces is None:
        return None
    rest = iter(pieces)
    team = configure(Image.from_bytes(next(images))) if head["images"] else None
    steps = listed(head["steps"], lambda record: step(record, rest, images, team, threads))
    constants = dict(listed(head["constants"], lambda record: constant(record, rest)))
    inputs, outputs = fields(head["program"], 2)
    fed, overridable = fields(head["feeds"], 2)
    return Built(
        Program(listed(inputs, text), listed(outputs, text), constants, steps),
        list(listed(head["inputs"], argument)),
        list(listed(head["overridable"], argument)),
        list(listed(head["outputs"], argument)),
        metadata(head["metadata"]),
        list(listed(head["assignment"], assigned)),
        Feeds(listed(fed, spec), listed(overridable, spec)),
    )


def divided(manifest: bytes) -> tuple[dict[str, Any], Iterator[bytes]]:
    """The JSON, and the images in turn."""
    if len(manifest) < _LENGTH.size:
        raise ValueError("no manifest")
    (length,) = _LENGTH.unpack_from(manifest)
    start = _LENGTH.size + length
    head = json.loads(manifest[_LENGTH.size : start])
    if not isinstance(head, dict) or set(head) != KEYS:
        raise ValueError("no manifest")
    sizes = listed(head["images"], lambda size: whole(size, 0))

    def images() -> Iterator[bytes]:
        at = start
        for size in sizes:
            yield manifest[at : at + size]
            at += size

    return head, images()


KEYS = {
    *("inputs", "overridable", "outputs", "metadata", "assignment", "feeds"),
    *("program", "steps", "constants", "images", "pieces", "checksum"),
}


# ---- programs ---------------------------------------------------------------------------------------------------------------


def step_record(step: Step, graph: NativeGraph) -> list[Any]:
    spec = records.encode(graph.program.spec)
    return [step.provider, step.inputs, step.outputs, graph.describe(), len(graph.program.constants), spec]


def step(record: object, pieces: Iterator[Bytes], images: Iterator[bytes], team: Team | None, threads: int) -> Step:
    provider, inputs, outputs, described, count, coded = fields(record, 6)
    description = text(described)
    spec = records.decode(coded, whole(count, 0))
    image = next(images, None)
    constants = [piece for _, piece in zip(range(count), pieces, strict=False)]
    if team is None or image is None or len(constants) < count:
        raise ValueError("a step without its code or its constants")
    program = execution.Program(spec, Image.from_bytes(image), team, constants)
    return Step(text(provider), NativeGraph(program, threads, lambda: description), listed(inputs, text), listed(outputs, text))


def constant(record: object, pieces: Iterator[Bytes]) -> tuple[str, Array]:
    name, kind, sizes = fields(record, 3)
    dtype, shape = element_type(kind), listed(sizes, lambda size: whole(size, 0))
    piece = next(pieces, None)
    if piece is None or piece.size != math.prod(shape) * dtype.numpy.itemsize or not dtype.is_number:
        raise ValueError("a constant without its numbers")
    return text(name), piece.view(dtype.numpy).reshape(shape)


def numbers(value: Any) -> Array | None:
    """An array of numbers that compiled code could hold; None for anything else."""
    if not isinstance(value, np.ndarray) or value.dtype.hasobject:
        return None
    return value if dtypes.from_numpy(value.dtype).is_number else None


def raw(array: Array) -> Bytes:
    """The array's bytes, in the order of its elements."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


# ---- what the model says ----------------------------------------------------------------------------------------------------


def argument_record(argument: NodeArg) -> list[Any]:
    return [argument.name, argument.type, argument.shape]


def argument(record: object) -> NodeArg:
    name, kind, shape = fields(record, 3)
    return NodeArg(text(name), text(kind), list(listed(shape, shown_size)))


def shown_size(size: object) -> int | str | None:
    return size if size is None or isinstance(size, str) else whole(size, -1 << 63)


def spec_record(spec: InputSpec) -> list[Any]:
    return [spec.name, spec.type, spec.dtype is not None, spec.sizes]


def spec(record: object) -> InputSpec:
    """The numpy type follows from the type that users see."""
    name, kind, plain, sizes = fields(record, 4)
    dtype = element_type(_BY_TYPE.get(text(kind))).numpy if plain else None
    fixed = None if sizes is None else listed(sizes, lambda size: None if size is None else whole(size, 0))
    return InputSpec(text(name), text(kind), dtype, fixed)


_BY_TYPE = {f"tensor({dtype.onnx_name})": dtype.name for dtype in dtypes.ALL}


def metadata_record(said: ModelMetadata) -> list[Any]:
    texts = [said.description, said.domain, said.graph_description, said.graph_name, said.producer_name]
    return [said.custom_metadata_map, *texts, said.version]


def metadata(record: object) -> ModelMetadata:
    custom, description, domain, graph_description, graph_name, producer, version = fields(record, 7)
    if not isinstance(custom, dict):
        raise ValueError("no metadata")
    return ModelMetadata(
        {key: text(value) for key, value in custom.items()},
        text(description),
        text(domain),
        text(graph_description),
        text(graph_name),
        text(producer),
        whole(version, -1 << 63),
    )


def assigned(record: object) -> OrtEpAssignedSubgraph:
    name, nodes = fields(record, 2)
    return OrtEpAssignedSubgraph(text(name), listed(nodes, lambda node: OrtEpAssignedNode(*map(text, fields(node, 3)))))
