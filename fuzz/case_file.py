"""Reproducers of graphs: a model with feeds and a configuration in one .onnx file, where the latter two are entries of the model's
metadata.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fuzz.three_arithmetics import Array
from sardonyx.base.dtypes import from_numpy

LEVELS = (0, 1, 2, 3, 99)
TARGETS = ("host", "avx2", "sse2")


@dataclass(frozen=True)
class Configuration:
    """How a graph is compiled and run. peers: whether other runtimes may be given it"""

    level: int = 99
    threads: int = 1
    target: str = "host"
    winograd: bool = True
    peers: bool = True

    @classmethod
    def draw(cls, chance: random.Random, peers: bool) -> Configuration:
        level = chance.choice(LEVELS) if chance.random() < 0.6 else LEVELS[-1]
        return cls(level, chance.choice((1, 2)), chance.choice(TARGETS), chance.random() < 0.8, peers)


@dataclass(frozen=True)
class Packed:
    """A model without metadata, with several sets of feeds and a configuration."""

    model: onnx.ModelProto
    feeds: Sequence[Mapping[str, Array]]
    configuration: Configuration = field(default_factory=Configuration)

    def bytes(self) -> bytes:
        proto = onnx.ModelProto()
        proto.CopyFrom(self.model)
        feeds = [[encoded(array, name) for name, array in each.items()] for each in self.feeds]
        helper.set_model_props(proto, {"configuration": json.dumps(asdict(self.configuration)), "feeds": json.dumps(feeds)})
        return proto.SerializeToString()

    @classmethod
    def parse(cls, data: bytes) -> Packed:
        proto = onnx.ModelProto.FromString(data)
        told = {entry.key: json.loads(entry.value) for entry in proto.metadata_props}
        del proto.metadata_props[:]
        feeds = [dict(map(decoded, each)) for each in told["feeds"]]
        return cls(proto, feeds, Configuration(**told["configuration"]))

    def configured(self, **changes: object) -> Packed:
        return replace(self, configuration=replace(self.configuration, **changes))  # type: ignore[arg-type]


def encoded(array: Array, name: str) -> str:
    raw = np.ascontiguousarray(array).tobytes()
    tensor = helper.make_tensor(name, from_numpy(array.dtype).code, array.shape, raw, raw=True)
    return base64.b64encode(tensor.SerializeToString()).decode()


def decoded(text: str) -> tuple[str, Array]:
    tensor = onnx.TensorProto.FromString(base64.b64decode(text))
    return tensor.name, numpy_helper.to_array(tensor)
