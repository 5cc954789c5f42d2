"""The operators: one record each, in one file per family.

Docstrings describe tensors as dtype[shape]. T, S, U and V are any dtypes, `*d` is any number of sizes: x: T[n, c, *d] -> T[n, c,
*o] takes a tensor of rank 2 or more and returns one of the same dtype and the same first two sizes.
"""

from sardonyx.ops import (
    activation,
    attention,
    casts,
    contrib,
    contrib_attention,
    contrib_blocks,
    contrib_embedding,
    contrib_gates,
    contrib_quantized,
    contrib_tensors,
    conv,
    conv_transpose,
    cumulative,
    detection,
    einsum,
    experimental,
    gather,
    host_operators,
    integer_products,
    linalg,
    logic,
    loss,
    math,
    ml,
    movement,
    norm,
    opset_1,
    pool,
    quantize,
    quantized_rnn,
    random,
    recurrent_attention,
    reduce,
    resize,
    rnn,
    sample,
    scatter,
    shape,
    signal,
    softmax,
    sort,
    svm,
    tree,
)
from sardonyx.ops.record import Op

FAMILIES = (
    activation.OPS,
    attention.OPS,
    casts.OPS,
    contrib.OPS,
    contrib_attention.OPS,
    contrib_blocks.OPS,
    contrib_embedding.OPS,
    contrib_gates.OPS,
    contrib_quantized.OPS,
    contrib_tensors.OPS,
    conv.OPS,
    conv_transpose.OPS,
    cumulative.OPS,
    detection.OPS,
    einsum.OPS,
    experimental.OPS,
    gather.OPS,
    host_operators.OPS,
    integer_products.OPS,
    linalg.OPS,
    logic.OPS,
    loss.OPS,
    math.OPS,
    ml.OPS,
    movement.OPS,
    norm.OPS,
    opset_1.OPS,
    pool.OPS,
    quantize.OPS,
    quantized_rnn.OPS,
    random.OPS,
    recurrent_attention.OPS,
    reduce.OPS,
    resize.OPS,
    rnn.OPS,
    sample.OPS,
    scatter.OPS,
    shape.OPS,
    signal.OPS,
    softmax.OPS,
    sort.OPS,
    svm.OPS,
    tree.OPS,
)
"""The records of every family."""


def find(domain: str, name: str, version: int) -> Op | None:
    """Return the record of an operator that applies to this opset version of its domain, or None if there is none."""
    return max((op for op in RECORDS.get((domain, name), ()) if op.since <= version), key=lambda op: op.since, default=None)


def _by_name() -> dict[tuple[str, str], list[Op]]:
    out: dict[tuple[str, str], list[Op]] = {}
    for family in FAMILIES:
        for op in family:
            out.setdefault((op.domain, op.name), []).append(op)
    return out


RECORDS = _by_name()
