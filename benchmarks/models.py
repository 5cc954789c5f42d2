"""The models of the benchmarks and the inputs that each is run with.

`load` returns a complete model, `feeds` the inputs of one of its cases; both are drawn from seeds, so every process
on every machine sees the same numbers. Needs numpy and onnx only.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks import weightless
from benchmarks.agreement import TOLERANCE

GRAPHS = Path(__file__).parent / "graphs"


@dataclass(frozen=True)
class Input:
    """One input: its name, shape and what fills it.

    - image: f32[n, 3, h, w], smooth colours with some noise, zero mean and unit variance
    - normal: f32, standard normal
    - pixels: f32, integers from 0 to 16 as in scikit-learn's digits
    - tokens: i64, uniform below `limit`
    - mask: i64[n, s], row i ends in i * s // (2 n) zeros, so a single row is all ones
    """

    name: str
    shape: tuple[int, ...]
    fill: str
    limit: int = 0


@dataclass(frozen=True)
class Case:
    """A named set of inputs."""

    name: str
    inputs: tuple[Input, ...]


@dataclass(frozen=True)
class Model:
    """A model of the benchmarks; its graph is stored at `path`."""

    name: str
    cases: tuple[Case, ...]
    tolerance: float = TOLERANCE  # how far the outputs of two engines may differ, see agreement.difference

    @property
    def path(self) -> Path:
        return GRAPHS / f"{self.name}.onnx.xz"

    def case(self, name: str) -> Case:
        """Return the case called `name`. Raises KeyError, which lists the cases."""
        for case in self.cases:
            if case.name == name:
                return case
        raise KeyError(f"model {self.name!r} has no case {name!r}, only {[case.name for case in self.cases]}")


def _images(name: str, *batches: int, side: int = 224) -> tuple[Case, ...]:
    return tuple(Case(str(n), (Input(name, (n, 3, side, side), "image"),)) for n in batches)


def _rows(name: str, width: int, fill: str, *batches: int) -> tuple[Case, ...]:
    return tuple(Case(str(n), (Input(name, (n, width), fill),)) for n in batches)


def _sentences(vocabulary: int, *shapes: tuple[int, int]) -> tuple[Case, ...]:
    return tuple(
        Case(f"{n}x{s}", (Input("input_ids", (n, s), "tokens", vocabulary), Input("attention_mask", (n, s), "mask")))
        for n, s in shapes
    )


def _decoding(vocabulary: int, layers: int, heads: int, width: int, *lengths: tuple[int, int]) -> tuple[Case, ...]:
    """One case for each (new tokens, tokens in the past)."""
    return tuple(
        Case(
            f"{new}+{past}",
            (
                Input("input_ids", (1, new), "tokens", vocabulary),
                Input("attention_mask", (1, past + new), "mask"),
                *(
                    Input(f"past.{layer}.{part}", (1, heads, past, width), "normal")
                    for layer, part in itertools.product(range(layers), ("key", "value"))
                ),
            ),
        )
        for new, past in lengths
    )


_CLASSIFIER = _images("input", 1, 8)
_DETECTOR = (
    Case("640x640", (Input("input", (1, 3, 640, 640), "image"),)),
    Case("480x640", (Input("input", (1, 3, 480, 640), "image"),)),
)
_ENCODER = _sentences(30_522, (1, 128), (1, 37), (4, 64), (1, 384))
_DIFFUSION = (
    Input("sample", (1, 4, 32, 32), "normal"),
    Input("timestep", (1,), "tokens", 1000),
    Input("encoder_hidden_states", (1, 77, 256), "normal"),
)
_TAGGER = tuple(Case(f"{n}x{s}", (Input("input", (n, s), "tokens", 10_000),)) for n, s in ((1, 80), (8, 33)))

# Exported from torch twice, once by each of its exporters; the second carries the suffix `_dynamo`.
_FROM_TORCH: dict[str, tuple[Case, ...]] = {
    "resnet50": _CLASSIFIER,
    "mobilenet_v2": _CLASSIFIER,
    "convnext_tiny": _CLASSIFIER,
    "detector": _DETECTOR,
    "vit_b16": _images("input", 1),
    "bert_base": _ENCODER,
    "distilbert": _ENCODER,
    "gpt2": _decoding(50_257, 12, 12, 64, (64, 0), (1, 1), (1, 255), (1, 1000)),
    "lstm_tagger": _TAGGER,
    "mlp": _rows("input", 784, "normal", 1, 64),
    "pvt_v2": _CLASSIFIER,
    "dpt": _images("input", 1, side=384),
    "detr": _images("input", 1, side=512),
    "mpnet": _sentences(30_527, (1, 100)),
    "qwen2": _decoding(16_000, 8, 2, 64, (32, 0), (1, 200)),
    "speech2text": (Case("1x300", (Input("input", (1, 300, 80), "normal"),)),),
    "hifigan": (Case("1x80", (Input("input", (1, 80, 80), "normal"),)),),
    "unet": (Case("1", _DIFFUSION),),
    "mobilenet_v3": _CLASSIFIER,
    "super_resolution": _images("input", 1, side=128),
    "gru_lm": (Case("1x50", (Input("input", (1, 50), "tokens", 10_000),)),),
    "mixture": _rows("input", 256, "normal", 50, 1),
    "odd_chain": _rows("input", 257, "normal", 1, 31),
}
_FROM_SKLEARN = {
    "logistic_regression": _rows("X", 64, "pixels", 1, 64),
    "scaler_mlp": _rows("X", 64, "pixels", 1, 64),
    "random_forest": _rows("X", 64, "pixels", 1, 1000),
    "gradient_boosting": _rows("X", 64, "pixels", 1, 1000),
}
# The models inside the `onnx` package, and the names of their image inputs.
_LIGHT = {
    "light_bvlc_alexnet": "data_0",
    "light_densenet121": "data_0",
    "light_inception_v1": "data_0",
    "light_inception_v2": "data_0",
    "light_resnet50": "gpu_0/data_0",
    "light_shufflenet": "gpu_0/data_0",
    "light_squeezenet": "data_0",
    "light_vgg19": "data_0",
    "light_zfnet512": "gpu_0/data_0",
}
# Made by benchmarks.quantised from the models of the same names. Their outputs are dequantised bytes. An accumulator that lies at the
# edge between two bytes may be rounded to either, so all engines differ from each other by a step or two of about 1 %.
STEPS = 0.03
QUANTISED = {name + "_qdq": _images("input", 1) for name in ("resnet50", "mobilenet_v2")}

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        *(Model(name + suffix, cases) for name, cases in _FROM_TORCH.items() for suffix in ("", "_dynamo")),
        *(Model(name, cases) for name, cases in _FROM_SKLEARN.items()),
        *(Model(name, cases, STEPS) for name, cases in QUANTISED.items()),
        *(Model(name, _images(image, 1)) for name, image in _LIGHT.items()),
    )
}


def load(name: str) -> onnx.ModelProto:
    """Return the complete model `name`, with its weights drawn. Raises KeyError for an unknown model."""
    model = weightless.read(MODELS[name].path)
    weightless.fill(model)
    return model


def save(name: str, folder: Path) -> Path:
    """Write the complete model `name` (up to 700 MB) into `folder` as one .onnx file, and return its path."""
    path = folder / f"{name}.onnx"
    path.write_bytes(load(name).SerializeToString())
    return path


def feeds(name: str, case: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Return the inputs of one case of the model `name`; another seed gives other numbers. Raises KeyError for an unknown model or
    case.
    """
    return {item.name: _values(item, seed) for item in MODELS[name].case(case).inputs}


def _values(item: Input, seed: int) -> np.ndarray:
    random = weightless.seeded(f"{item.name} {item.shape} {seed}")
    match item.fill:
        case "image":
            return _image(random, item.shape)
        case "normal":
            return random.standard_normal(item.shape, dtype=np.float32)
        case "pixels":
            return random.integers(0, 17, item.shape).astype(np.float32)
        case "tokens":
            return random.integers(0, item.limit, item.shape, dtype=np.int64)
        case "mask":
            rows, columns = item.shape
            lengths = columns - np.arange(rows) * columns // (2 * rows)
            return (np.arange(columns) < lengths[:, None]).astype(np.int64)
        case fill:
            raise ValueError(f"input {item.name!r}: unknown fill {fill!r}")


def _image(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """f32[n, 3, h, w] with h and w multiples of 32: a coarse grid of colours, each square 32 pixels wide, and noise."""
    n, channels, h, w = shape
    coarse = random.standard_normal((n, channels, h // 32, w // 32), dtype=np.float32)
    noise = random.standard_normal(shape, dtype=np.float32)
    return np.float32(0.9) * coarse.repeat(32, axis=2).repeat(32, axis=3) + np.float32(0.4) * noise
