"""ONNX graphs without their weights: a tensor is replaced by a record of how to draw it again.

A record is an ordinary `TensorProto` that keeps its name, shape and dtype, says `data_location = EXTERNAL`, and
carries in its `external_data` the pairs

    location   "generated"
    generator  "<kind> <a> <b>", for instance "normal 0.0 0.05"

so the file stays a well-formed ONNX model that any viewer opens. Drawing is deterministic: the stream of each tensor
is seeded by its name alone, hence independent of order, of the other tensors and of the process.
"""

import hashlib
import lzma
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import external_data_helper, helper, numpy_helper

LOCATION = "generated"


@dataclass(frozen=True)
class Generator:
    """How a tensor is drawn; `a` and `b` mean:

    - normal: mean, standard deviation
    - uniform: low, high
    - fill: the value, unused
    - arange: start, step (elements counted in row-major order)
    """

    kind: str
    a: float
    b: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.a:.6g} {self.b:.6g}"

    @classmethod
    def parse(cls, text: str) -> "Generator":
        kind, a, b = text.split()
        return cls(kind, float(a), float(b))

    def scaled(self, factor: float) -> "Generator":
        """Return the generator of `factor` times this tensor; only for kinds that are linear in both parameters."""
        if self.kind not in ("normal", "uniform"):
            raise ValueError(f"a {self.kind} generator can't be scaled")
        return Generator(self.kind, self.a * factor, self.b * factor)


def seeded(name: str) -> np.random.Generator:
    """Return a random stream that depends on `name` only."""
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest, "little")))


def draw(generator: Generator, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Draw the tensor called `name`: dtype[shape]. Random kinds are drawn in f32 and converted. Raises ValueError for an unknown
    kind.
    """
    match generator.kind:
        case "normal":
            values = seeded(name).standard_normal(shape, dtype=np.float32)
            values *= np.float32(generator.b)
            values += np.float32(generator.a)
        case "uniform":
            values = seeded(name).random(shape, dtype=np.float32)
            values *= np.float32(generator.b - generator.a)
            values += np.float32(generator.a)
        case "fill":
            values = np.full(shape, generator.a)
        case "arange":
            values = (generator.a + generator.b * np.arange(math.prod(shape))).reshape(shape)
        case kind:
            raise ValueError(f"tensor {name!r}: unknown generator {kind!r}")
    return values.astype(dtype, copy=False)


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor: initializers, then tensor attributes of nodes (named after the node's output), including those of
    sub-graphs.
    """
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.name = attribute.t.name or node.output[0]
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from tensors(attribute.g)


def record(tensor: onnx.TensorProto) -> Generator | None:
    """Return the generator that `tensor` carries, or None if its data are stored."""
    if not external_data_helper.uses_external_data(tensor):
        return None
    return Generator.parse({entry.key: entry.value for entry in tensor.external_data}["generator"])


def set_record(tensor: onnx.TensorProto, generator: Generator) -> None:
    """Replace the data of `tensor`, in place, by `generator`."""
    bare = onnx.TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
    bare.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", LOCATION), ("generator", str(generator))):
        bare.external_data.add(key=key, value=value)
    tensor.CopyFrom(bare)


def array(tensor: onnx.TensorProto) -> np.ndarray:
    """Return the values of `tensor`, drawn if it is a record."""
    generator = record(tensor)
    if generator is None:
        return numpy_helper.to_array(tensor)
    return draw(generator, tensor.name, tuple(tensor.dims), helper.tensor_dtype_to_np_dtype(tensor.data_type))


def fill(model: onnx.ModelProto) -> None:
    """Draw every record of `model`, in place, which makes the model complete."""
    for tensor in tensors(model.graph):
        if record(tensor) is not None:
            tensor.CopyFrom(numpy_helper.from_array(array(tensor), tensor.name))


def read(path: Path) -> onnx.ModelProto:
    """Read the graph stored at `path` (xz), without drawing its records. Raises FileNotFoundError."""
    return onnx.load_model_from_string(lzma.decompress(path.read_bytes()))


def write(model: onnx.ModelProto, path: Path) -> None:
    """Store `model` at `path`, compressed with xz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(model.SerializeToString(deterministic=True), preset=9 | lzma.PRESET_EXTREME))
