"""Makes the quantised models of the benchmarks from those in f32, with ONNX Runtime's tool: bytes between QuantizeLinear and
DequantizeLinear, weights of i8 with a scale for each channel. Needs the `bench` extra.

    python -m benchmarks.quantised
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from benchmarks import models, weightless
from benchmarks.strip_weights import LARGE
from benchmarks.weightless import Generator, set_record, tensors

SAMPLES = 4


class Samples(CalibrationDataReader):
    """The feeds of a model's first case, from several seeds."""

    def __init__(self, name: str) -> None:
        case = models.MODELS[name].cases[0].name
        self.feeds: Iterator[dict[str, np.ndarray]] = iter([models.feeds(name, case, seed) for seed in range(SAMPLES)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next sample, None after the last."""
        return next(self.feeds, None)


def quantise(name: str) -> onnx.ModelProto:
    """Return the weightless quantised form of the model `name`."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = models.save(name, Path(folder)), Path(folder) / "quantised.onnx"
        kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(source, target, Samples(name), quant_format=QuantFormat.QDQ, per_channel=True, **kinds)
        model = onnx.load(target)
    strip(model)
    return model


def strip(model: onnx.ModelProto) -> None:
    """Replace all large tensors by records, in place. Scales become equal for all channels: ONNX Runtime runs a convolution in bytes only
    if the scale of its bias is the product of those of its operands.
    """
    known = {tensor.name: tensor for tensor in tensors(model.graph)}
    makers = {node.output[0]: node for node in model.graph.node}
    for node in (node for node in model.graph.node if node.op_type in ("Conv", "Gemm")):
        step, each, bias = (known[makers[name].input[1]] for name in node.input)
        factor = float(np.float32(f"{numpy_helper.to_array(each).mean():.6g}"))
        product = numpy_helper.to_array(step) * np.float32(factor)
        each.CopyFrom(numpy_helper.from_array(np.full(each.dims, factor, np.float32), each.name))
        del makers[node.input[2]].input[2:]  # its zero points are 0
        bias.CopyFrom(numpy_helper.from_array(np.full((), product, np.float32), bias.name))
    for tensor in known.values():
        if tensor.ByteSize() > LARGE:
            set_record(tensor, generator(numpy_helper.to_array(tensor)))


def generator(values: np.ndarray) -> Generator:
    """Return a generator of numbers like these: constant ones as they are, others of the same mean and deviation."""
    if (values == values.flat[0]).all():
        return Generator("fill", float(values.flat[0]))
    mean, spread = float(values.mean()), float(values.std())
    if values.dtype == np.int8:
        return Generator("uniform", -1.7 * spread, 1.7 * spread)  # as wide, without numbers beyond i8
    return Generator("normal", mean, spread)


if __name__ == "__main__":
    for made in models.QUANTISED:
        weightless.write(quantise(made.removesuffix("_qdq")), models.MODELS[made].path)
