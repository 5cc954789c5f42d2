"""The table of operators, generated from their records: `python -m sardonyx.inspection.operators docs/operators.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx
from msgspec import Struct

from sardonyx import ops
from sardonyx.graph import schemas
from sardonyx.lower.control import CONTROL
from sardonyx.ops.record import Op, Rule

# Opset versions of the table. They are fixed, so that a newer onnx package gives the same table.
OPSETS: Mapping[str, int] = {"": 28, schemas.ML: 5}
TITLES = {"": "ai.onnx", schemas.ML: "ai.onnx.ml", schemas.MICROSOFT: "com.microsoft"}
REFERENCE, HOST = "reference", "host step"

ONNXRUNTIME = """
    Attention AttnLSTM BiasGelu BifurcationDetector BranchwiseRMSNorm CDist CausalConvWithState ConvTransposeWithDynamicPads
    CropAndResize DecoderMaskedMultiHeadAttention DequantizeLinear DynamicQuantizeLSTM DynamicQuantizeMatMul DynamicTimeWarping
    EmbedLayerNormalization EngramGate ExpandDims FastGelu FusedConv FusedGemm FusedMatMul GatedAdd GatedDeltaNet GatedRMSNorm
    GatherBlockQuantized GatherND GatherPacked Gelu GridSample GroupQueryAttention HyperConnectionPostMix HyperConnectionPreMix Inverse
    LinearAttention LinearAttentionGate MRotaryEmbedding MatMulBnb4 MatMulFpQ4 MatMulInteger16 MatMulIntegerToFloat MatMulNBits
    MaxpoolWithMask MoE MoEGroupRouter MultiHeadAttention MurmurHash3 NGramHashMapping NGramRepeatBlock NhwcMaxPool Pad QAttention
    QEmbedLayerNormalization QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu
    QLinearMul QLinearSigmoid QLinearSoftmax QLinearWhere QMoE QuantizeLinear QuickGelu Range RotaryEmbedding SampleOp ScaledSiLU
    SkipLayerNormalization SkipSimplifiedLayerNormalization SparseAttention SparseToDenseMatMul Tokenizer TransposeMatMul Trilu
    UnfoldTensor Unique VarlenCausalConvWithState VarlenNGramHashMapping WordConvEmbedding
""".split()  # noqa: SIM905
"""Operators of com.microsoft that onnxruntime 1.32 runs on a CPU, less those that generate text (BeamSearch, GreedySearch, Sampling,
WhisperBeamSearch)."""

HEAD = """\
# Operators

Made from the operators' records by `python -m sardonyx.inspection.operators docs/operators.md`; a test keeps it current.

| way | what happens to such a node |
|---|---|
| expansion | compiled: written in terms of other operators |
| expressions | compiled: written as tensor expressions |
| loops | compiled: written with the loop builder |
| repeated body | compiled: its sub-graphs become loops of the program |
| at load | replaced by its value when the model is loaded |
| host step | runs in Python between compiled parts: strings, sequences, optionals |
| reference | not compiled yet: the reference provider interprets it in numpy, and the session says so |

*from* is the oldest opset version whose form of the operator has this way; older forms, and forms of it that the compiler refuses, go to
the reference provider. *gradient* and *quantised* say what the record holds for training and for the quantiser.
"""


class Row(Struct, frozen=True):
    """One line of the table. since: None for an operator without a record"""

    name: str
    since: int | None
    way: str
    gradient: str = ""
    quantised: str = ""


def way(op: Op) -> str:
    """Return how a record defines the operator: a value of the table's column "way"."""
    named = (("expansion", op.expand), ("expressions", op.lower), ("loops", op.kernel))
    return next((name for name, meaning in named if meaning is not None), HOST)


def rule(found: object) -> str:
    """Return the text for a record's gradient or quantisation rule."""
    return found.value if isinstance(found, Rule) else "a rule"


def row(name: str, records: Sequence[Op], domain: str = "") -> Row:
    """Return the operator's line: that of its newest record, with the oldest version of the same way."""
    if not domain and name in CONTROL:
        return Row(name, 1, "repeated body")
    if not domain and name == "Constant":
        return Row(name, 1, "at load")
    if not records:
        return Row(name, None, REFERENCE)
    newest = max(records, key=lambda op: op.since)
    since = min(op.since for op in records if (way(op) == HOST) == (way(newest) == HOST))
    return Row(name, since, way(newest), rule(newest.gradient), rule(newest.quantised))


def standard_names(domain: str, version: int) -> list[str]:
    """Return the operators that the domain has at this version, without deprecated ones."""
    names = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == domain}
    found = {name: schemas.find(domain, name, version) for name in names}
    return sorted(name for name, schema in found.items() if schema is not None and not schema.deprecated)


def rows(domain: str) -> list[Row]:
    """Return the lines of all operators of a domain: those of the standard, or else those that have records."""
    recorded = {op.name: ops.records(domain, op.name) for op in ops.every() if op.domain == domain}
    names = standard_names(domain, OPSETS[domain]) if domain in OPSETS else sorted(recorded)
    return [row(name, recorded.get(name, ()), domain) for name in names]


def page() -> str:
    """Return the whole page as Markdown."""
    return "\n".join([HEAD, *(line for domain in TITLES if rows(domain) for line in section(domain))])


def section(domain: str) -> Iterator[str]:
    """Yield the lines of a domain's section."""
    found = rows(domain)
    version = f", opset {OPSETS[domain]}" if domain in OPSETS else ""
    interpreted = sum(r.way == REFERENCE for r in found)
    on_host = sum(r.way == HOST for r in found)
    yield f"## {TITLES[domain]}{version}\n"
    yield (
        f"{len(found)} operators: {len(found) - interpreted - on_host} compiled, {on_host} host steps, {interpreted} left to the reference "
        "provider.\n"
    )
    if domain == schemas.MICROSOFT:
        yield coverage([r.name for r in found])
    yield "| operator | from | way | gradient | quantised |"
    yield "|---|---|---|---|---|"
    for r in found:
        yield f"| {r.name} | {'' if r.since is None else r.since} | {r.way} | {r.gradient} | {r.quantised} |"
    yield ""


def coverage(names: Sequence[str]) -> str:
    """How many of onnxruntime's operators these are, and which of them are missing."""
    missing = [name for name in ONNXRUNTIME if name not in names]
    count = len(ONNXRUNTIME) - len(missing)
    text = f"{count} of the {len(ONNXRUNTIME)} that onnxruntime 1.32 runs on a CPU, not counting those that generate text"
    return f"{text}{'; missing: ' + ', '.join(missing) if missing else ''}.\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
