"""Encodes the parts of a session for the cache, and decodes them: JSON, machine code, and arrays in a separate block.

manifest   length of the JSON | JSON | the team's image | the image of each native step
block      constants: those that are outputs of the model, and those of the steps, packed as kernels read them
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sardonyx.base import dtypes
from sardonyx.runtime import blocks
from sardonyx.runtime.image import Image
from sardonyx.runtime.memory import Bytes
from sardonyx.runtime.records import element_type, fields, listed, text, whole
from sardonyx.runtime.team import configure
from sardonyx.session.cache_entry import pack, unpack
from sardonyx.session.feeds import Feeds, InputSpec
from sardonyx.session.metadata import ModelMetadata, NodeArg, assignment_record, read_assignment
from sardonyx.session.session_parts import SessionParts
from sardonyx.session.stored_models import Reader, RebuildStep, Writer
from sardonyx.session.stored_values import Unstorable

Find = Callable[[Sequence[int], str], list[Bytes] | None]  # (sizes, checksum) -> the block's arrays


def encode(built: SessionParts, most: int | None = None, alone: bool = False) -> tuple[bytes, list[Bytes]] | None:
    """Return the manifest and the block's arrays; None if a part can't be stored, or if the arrays take more than `most` bytes.

    alone: refuse parts that would have to be built again from the model.
    """
    writer = Writer(alone)
    try:
        program = writer.program(built.program)
    except Unstorable:
        return None
    if most is not None and sum(piece.size for piece in writer.pieces) > most:
        return None
    head = {
        "inputs": [argument_record(a) for a in built.inputs],
        "overridable": [argument_record(a) for a in built.overridable],
        "outputs": [argument_record(a) for a in built.outputs],
        "metadata": metadata_record(built.metadata),
        "assignment": assignment_record(built.assignment),
        "feeds": [[spec_record(s) for s in built.feeds.inputs], [spec_record(s) for s in built.feeds.overridable.values()]],
        "program": program,
        "pieces": [piece.size for piece in writer.pieces],
        "checksum": blocks.checksum(writer.pieces),
    }
    return pack(head, writer.all_images()), writer.pieces


def decode(manifest: bytes, find: Find, threads: int, rebuilder: RebuildStep | None = None) -> SessionParts | None:
    """Return the parts that `encode` was given, to run on `threads` threads; None if the block is missing or damaged.

    rebuilder: builds parts that are not stored. Raises ValueError or ImageError for anything that `encode` doesn't write.
    """
    head, images = unpack(manifest, KEYS)
    sizes = listed(head["pieces"], lambda size: whole(size, 0))
    pieces = find(sizes, text(head["checksum"]))
    if pieces is None:
        return None
    team = configure(Image.from_bytes(next(images))) if head["images"] else None
    fed, overridable = fields(head["feeds"], 2)
    return SessionParts(
        Reader(images, iter(pieces), team, threads, rebuilder).program(head["program"]),
        list(listed(head["inputs"], argument)),
        list(listed(head["overridable"], argument)),
        list(listed(head["outputs"], argument)),
        metadata(head["metadata"]),
        list(read_assignment(head["assignment"])),
        Feeds(listed(fed, spec), listed(overridable, spec)),
    )


KEYS = {
    *("inputs", "overridable", "outputs", "metadata", "assignment", "feeds"),
    *("program", "images", "pieces", "checksum"),
}


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
    """Read an InputSpec. Its numpy dtype follows from the type that users see."""
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
        raise ValueError("not a record of metadata")
    return ModelMetadata(
        {key: text(value) for key, value in custom.items()},
        text(description),
        text(domain),
        text(graph_description),
        text(graph_name),
        text(producer),
        whole(version, -1 << 63),
    )
