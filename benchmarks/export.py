"""Exports the graphs of `benchmarks.models` again: `python -m benchmarks.export [NAME ...]`.

Needs the `export` extra. Nothing is downloaded: the networks are built from their default configurations with random weights, which
are dropped at once; scikit-learn's models are trained on its own digits and keep their few weights.
"""

import inspect
import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import diffusers
import onnx
import torch
import transformers
import typer
from onnx.backend.test import data as onnx_data
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from benchmarks import architectures, models, weightless
from benchmarks.calibrate import calibrate
from benchmarks.strip_weights import strip


class HiddenState(nn.Module):
    """A transformers encoder: (i64[n, s] tokens, i64[n, s] mask) -> f32[n, s, width]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


class Fields(nn.Module):
    """Wraps a model of transformers or diffusers that returns a record: returns the named fields of the record, in order."""

    def __init__(self, model: nn.Module, *fields: str) -> None:
        super().__init__()
        self.model = model
        self.fields = fields

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        result = self.model(*inputs)
        return tuple(result[field] for field in self.fields)


class Decoder(nn.Module):
    """A transformers decoder with its cache laid open.

    (i64[n, s] tokens, i64[n, p + s] mask, key and value f32[n, heads, p, width] of each layer)
    -> (f32[n, s, vocabulary], key and value f32[n, heads, p + s, width] of each layer)
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        cache = DynamicCache()
        for layer in range(len(past) // 2):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        result = self.model(input_ids=input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True)
        present = (part for layer in result.past_key_values.layers for part in (layer.keys, layer.values))
        return (result.logits, *present)


@dataclass(frozen=True)
class TorchNetwork:
    """How a torch network is built and traced.

    `build` takes the attention implementation (only transformers' models heed it). `example` and `axes` stand in the
    order of the arguments; axes names the dynamic dimensions of each.
    """

    build: Callable[[str], nn.Module]
    example: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    axes: tuple[dict[int, str], ...]
    output_axes: tuple[dict[int, str], ...]


def _single(
    build: Callable[[str], nn.Module],
    example: Tensor,
    axes: dict[int, str],
    output_axes: dict[int, str] | None = None,
) -> TorchNetwork:
    """Describe a network of one input and one output, which has the same dynamic dimensions unless others are given."""
    return TorchNetwork(build, (example,), ("input",), ("output",), (axes,), (output_axes or axes,))


def _image_network(build: Callable[[str], nn.Module], side: int = 224) -> TorchNetwork:
    return _single(build, torch.randn(2, 3, side, side), {0: "batch"})


def _detector_network() -> TorchNetwork:
    axes, output_axes = {0: "batch", 2: "height", 3: "width"}, {0: "batch", 1: "boxes"}
    return TorchNetwork(
        build=lambda _: architectures.Detector(),
        example=(torch.randn(2, 3, 320, 320),),
        inputs=("input",),
        outputs=("boxes", "scores"),
        axes=(axes,),
        output_axes=(output_axes, output_axes),
    )


def _encoder_network(build: Callable[[str], nn.Module]) -> TorchNetwork:
    axes = {0: "batch", 1: "sequence"}
    example = (torch.randint(0, 1000, (2, 7)), torch.ones(2, 7, dtype=torch.int64))
    return TorchNetwork(build, example, ("input_ids", "attention_mask"), ("last_hidden_state",), (axes, axes), (axes,))


def _vit(attention: str) -> nn.Module:
    config = transformers.ViTConfig(num_labels=1000, attn_implementation=attention)
    return Fields(transformers.ViTForImageClassification(config), "logits")


def _bert(attention: str) -> nn.Module:
    config = transformers.BertConfig(attn_implementation=attention)
    return HiddenState(transformers.BertModel(config, add_pooling_layer=False))


def _distilbert(attention: str) -> nn.Module:
    return HiddenState(transformers.DistilBertModel(transformers.DistilBertConfig(attn_implementation=attention)))


def _gpt2(attention: str) -> nn.Module:
    return Decoder(transformers.GPT2LMHeadModel(transformers.GPT2Config(attn_implementation=attention)))


def _qwen2(attention: str) -> nn.Module:
    """Build Qwen2 with an eighth of the default width."""
    config = transformers.Qwen2Config(
        vocab_size=16_000,
        hidden_size=512,
        intermediate_size=2752,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2,
        attn_implementation=attention,
    )
    return Decoder(transformers.Qwen2ForCausalLM(config))


def _mpnet() -> nn.Module:
    return HiddenState(transformers.MPNetModel(transformers.MPNetConfig(), add_pooling_layer=False))


def _pvt_v2() -> nn.Module:
    config = transformers.PvtV2Config(num_labels=1000)
    return Fields(transformers.PvtV2ForImageClassification(config), "logits")


def _dpt(attention: str) -> nn.Module:
    config = transformers.DPTConfig(num_hidden_layers=6, backbone_out_indices=[1, 2, 4, 5], attn_implementation=attention)
    return Fields(transformers.DPTForDepthEstimation(config), "predicted_depth")


def _detr(attention: str) -> nn.Module:
    backbone = transformers.ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"])
    model = transformers.DetrForObjectDetection(transformers.DetrConfig(backbone_config=backbone))
    model.set_attn_implementation({"": attention, "backbone_config": "eager"})
    return Fields(model, "logits", "pred_boxes")


def _detr_network() -> TorchNetwork:
    rows, sides = {0: "batch"}, {0: "batch", 2: "height", 3: "width"}
    example = (torch.randn(2, 3, 256, 320),)
    return TorchNetwork(_detr, example, ("input",), ("logits", "boxes"), (sides,), (rows, rows))


def _speech2text() -> nn.Module:
    return Fields(transformers.Speech2TextModel(transformers.Speech2TextConfig()).get_encoder(), "last_hidden_state")


def _hifigan() -> nn.Module:
    return transformers.SpeechT5HifiGan(transformers.SpeechT5HifiGanConfig())


def _unet(attention: str) -> nn.Module:
    model = diffusers.UNet2DConditionModel(
        block_out_channels=(64, 128, 256),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=256,
    )
    if attention == "eager":
        model.set_default_attn_processor()
    return Fields(model, "sample")


def _unet_network() -> TorchNetwork:
    sides = {0: "batch", 2: "height", 3: "width"}
    return TorchNetwork(
        build=_unet,
        example=(torch.randn(2, 4, 32, 48), torch.tensor([7]), torch.randn(2, 20, 256)),
        inputs=("sample", "timestep", "encoder_hidden_states"),
        outputs=("noise",),
        axes=(sides, {}, {0: "batch", 1: "sequence"}),
        output_axes=(sides,),
    )


def _decoder_network(build: Callable[[str], nn.Module], layers: int, heads: int) -> TorchNetwork:
    parts = [f"{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
    tokens, total = {0: "batch", 1: "sequence"}, {0: "batch", 1: "total"}
    return TorchNetwork(
        build=build,
        example=(
            torch.randint(0, 1000, (2, 7)),
            torch.ones(2, 12, dtype=torch.int64),
            *(torch.randn(2, heads, 5, 64) for _ in parts),
        ),
        inputs=("input_ids", "attention_mask", *(f"past.{part}" for part in parts)),
        outputs=("logits", *(f"present.{part}" for part in parts)),
        axes=(tokens, total, *({0: "batch", 2: "past"} for _ in parts)),
        output_axes=(tokens, *({0: "batch", 2: "total"} for _ in parts)),
    )


def _networks() -> dict[str, TorchNetwork]:
    """Return the torch networks by name."""
    rows = {0: "batch"}
    tokens = {0: "batch", 1: "sequence"}
    frames, states, samples = ({0: "batch", 1: name} for name in ("frames", "states", "samples"))
    sides, doubled = {0: "batch", 2: "height", 3: "width"}, {0: "batch", 2: "rows", 3: "columns"}
    return {
        "resnet50": _image_network(lambda _: architectures.ResNet50()),
        "mobilenet_v2": _image_network(lambda _: architectures.MobileNetV2()),
        "convnext_tiny": _image_network(lambda _: architectures.ConvNextTiny()),
        "detector": _detector_network(),
        "vit_b16": _image_network(_vit),
        "bert_base": _encoder_network(_bert),
        "distilbert": _encoder_network(_distilbert),
        "gpt2": _decoder_network(_gpt2, layers=12, heads=12),
        "lstm_tagger": _single(lambda _: architectures.LstmTagger(), torch.randint(0, 1000, (2, 7)), tokens),
        "mlp": _single(lambda _: architectures.mlp(), torch.randn(2, 784), rows),
        "pvt_v2": _image_network(lambda _: _pvt_v2()),
        "dpt": _image_network(_dpt, 384),
        "detr": _detr_network(),
        "mpnet": _encoder_network(lambda _: _mpnet()),
        "qwen2": _decoder_network(_qwen2, layers=8, heads=2),
        "speech2text": _single(lambda _: _speech2text(), torch.randn(2, 90, 80), frames, states),
        "hifigan": _single(lambda _: _hifigan(), torch.randn(2, 20, 80), frames, samples),
        "unet": _unet_network(),
        "mobilenet_v3": _image_network(lambda _: architectures.MobileNetV3()),
        "super_resolution": _single(lambda _: architectures.SuperResolution(), torch.randn(2, 3, 64, 96), sides, doubled),
        "gru_lm": _single(lambda _: architectures.GruLanguageModel(), torch.randint(0, 1000, (2, 7)), tokens),
        "mixture": _single(lambda _: architectures.Mixture(), torch.randn(9, 256), rows),
        "odd_chain": _single(lambda _: architectures.odd_chain(), torch.randn(2, 257), rows),
    }


def _torchscript(network: TorchNetwork) -> onnx.ModelProto:
    """Export by tracing, with attention in its plain form."""
    buffer = io.BytesIO()
    names = (*network.inputs, *network.outputs)
    axes = (*network.axes, *network.output_axes)
    torch.onnx.export(
        _perturbed(network.build("eager")),
        network.example,
        buffer,
        dynamo=False,
        input_names=list(network.inputs),
        output_names=list(network.outputs),
        dynamic_axes=dict(zip(names, axes, strict=True)),
    )
    return onnx.load_model_from_string(buffer.getvalue())


def _dynamo(network: TorchNetwork) -> onnx.ModelProto:
    """Export through torch.export, with attention as torch's scaled_dot_product_attention."""
    module = _perturbed(network.build("sdpa"))
    parameters = inspect.signature(module.forward).parameters.values()
    named = sum(parameter.kind is not parameter.VAR_POSITIONAL for parameter in parameters)
    rest = network.axes[named:]
    program = torch.onnx.export(
        module,
        network.example,
        dynamo=True,
        input_names=list(network.inputs),
        output_names=list(network.outputs),
        dynamic_shapes=(*network.axes[:named], rest) if rest else network.axes,
        verbose=False,
    )
    return program.model_proto


def _perturbed(module: nn.Module) -> nn.Module:
    """Prepare `module` for inference and make its vectors unequal, because exporters merge tensors of equal content."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.ndim == 1 and tensor.is_floating_point():
                tensor += 0.1 * torch.rand_like(tensor)
    return module.eval()


def _from_torch(name: str) -> onnx.ModelProto:
    network = _networks()[name.removesuffix("_dynamo")]
    torch.manual_seed(0)
    with torch.no_grad():
        model = _dynamo(network) if name.endswith("_dynamo") else _torchscript(network)
    strip(model)
    calibrate(model, models.feeds(name, models.MODELS[name].cases[0].name))
    return model


def _from_sklearn(name: str) -> onnx.ModelProto:
    """Train a classifier of scikit-learn's digits: f32[n, 64] -> (i64[n] label, f32[n, classes] probabilities).

    There are ten classes, but gradient boosting separates even from odd digits only, because each class would need trees of its
    own.
    """
    pixels, labels = load_digits(return_X_y=True)
    pixels = pixels.astype("float32")
    estimators = {
        "logistic_regression": LogisticRegression(C=0.001, max_iter=5000),
        "scaler_mlp": make_pipeline(StandardScaler(), MLPClassifier((64,), alpha=20.0, random_state=0, max_iter=500)),
        "random_forest": RandomForestClassifier(100, max_leaf_nodes=64, random_state=0),
        "gradient_boosting": GradientBoostingClassifier(n_estimators=300, random_state=0),
    }
    estimator = estimators[name].fit(pixels, labels % 2 if name == "gradient_boosting" else labels)
    return to_onnx(estimator, pixels[:1].copy(), options={"zipmap": False})


def _from_onnx_package(name: str) -> onnx.ModelProto:
    """Return one of the `light_*` models of the onnx package, with its constant weights replaced by drawn ones."""
    model = onnx.load(Path(onnx_data.__path__[0]) / "light" / f"{name}.onnx")
    strip(model)
    calibrate(model, models.feeds(name, "1"))
    return model


def export(name: str) -> onnx.ModelProto:
    """Return the weightless graph of the model `name`. Raises KeyError for an unknown model."""
    if name not in models.MODELS:
        raise KeyError(f"no model {name!r}, only {list(models.MODELS)}")
    if name.startswith("light_"):
        return _from_onnx_package(name)
    if name.removesuffix("_dynamo") in _networks():
        return _from_torch(name)
    return _from_sklearn(name)


def main(
    names: Annotated[list[str] | None, typer.Argument(help="models to export, all if none is named")] = None,
) -> None:
    """Export models and store their graphs without weights. Quantised ones are made from these by benchmarks.quantised."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    for name in names or [name for name in models.MODELS if name not in models.QUANTISED]:
        path = models.MODELS[name].path
        weightless.write(export(name), path)
        typer.echo(f"{name}: {path.stat().st_size / 1000:.1f} kB")


if __name__ == "__main__":
    typer.run(main)
