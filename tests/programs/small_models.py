"""Small language models with random weights, and a tokenizer of single words, made here: nothing is fetched."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *[
        "the",
        "a",
        "cat",
        "dog",
        "house",
        "runs",
        "sleeps",
        "in",
        "on",
        "under",
        "big",
        "small",
        "red",
        "blue",
        "and",
        "or",
        "with",
        "of",
        "to",
        "is",
    ],
]


def tokenizer(folder: Path) -> None:
    """Writes the tokenizer."""
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "eos_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **special).save_pretrained(folder)


def write(folder: Path, kind: str) -> Path:
    """Writes a model and its tokenizer. kind: bert, classifier or gpt2."""
    torch.manual_seed(0)
    bert = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    gpt = GPT2Config(vocab_size=len(WORDS), n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=2, eos_token_id=3)
    makers = {
        "bert": lambda: BertModel(bert),
        "classifier": lambda: BertForSequenceClassification(bert),
        "gpt2": lambda: GPT2LMHeadModel(gpt),
    }
    makers[kind]().eval().save_pretrained(folder)
    tokenizer(folder)
    return folder
