"""Records of operators on strings, sequences, optional values and encoded images, which run in Python between compiled segments."""

from __future__ import annotations

from msgspec.structs import replace

from sardonyx.ops.record import Op, Rule
from sardonyx.ops.reference import tensors


def host(name: str, since: int) -> Op:
    """Make the record of an operator that runs in Python."""
    return Op(name, since=since, host=True, gradient=Rule.NONE, quantised=Rule.NONE)


OPS = (
    host("ImageDecoder", 20),
    host("StringNormalizer", 10),
    host("StringConcat", 20),
    host("StringSplit", 20),
    host("RegexFullMatch", 20),
    host("TfIdfVectorizer", 9),
    host("SequenceEmpty", 11),
    host("SequenceConstruct", 11),
    host("SequenceAt", 11),
    host("SequenceInsert", 11),
    host("SequenceErase", 11),
    host("SequenceLength", 11),
    host("SequenceMap", 17),
    host("SplitToSequence", 11),
    host("ConcatFromSequence", 11),
    replace(host("Optional", 15), reference=tensors.optional),
    host("OptionalGetElement", 15),
    host("OptionalHasElement", 15),
)
