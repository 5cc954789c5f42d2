"""Writing a graph to a file."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from sardonyx.base.atomic_file import replacing
from sardonyx.graph.types import kept_proto


def save(model: ir.Model, path: str) -> None:
    """Write the model, weights included, to `path`, completely or not at all. Raises OSError, or ValueError if it exceeds
    protobuf's 2 GB.
    """
    with replacing(path) as file:
        file.write(to_proto(model).SerializeToString())


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """Convert the model to protobuf, with the types that onnx_ir can't represent."""
    proto = ir.serde.serialize_model(model)
    for values, infos in ((model.graph.inputs, proto.graph.input), (model.graph.outputs, proto.graph.output)):
        for value, info in zip(values, infos, strict=True):
            kept = kept_proto(value)
            if kept is not None:
                info.type.CopyFrom(kept)
    return proto
