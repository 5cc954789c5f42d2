"""Einsum, computed as products of two operands at a time, from left to right.

After each product, the indices that neither later operands nor the output use are summed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from sardonyx.base.dtypes import DType
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.index import at, broadcast
from sardonyx.expr.tensor import Tensor, compute
from sardonyx.loop.nodes import Expr
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.pointwise import cast, reduce
from sardonyx.ops.record import Case, Op

ELLIPSIS = "..."
"""Einsum's notation for axes without a letter."""


class Term(Struct, frozen=True):
    """An operand and the labels of its axes. Axes that an ellipsis stands for are labelled "0", "1", ..., counted from the last."""

    tensor: Tensor
    labels: tuple[str, ...]


def einsum(*operands: Tensor, equation: str) -> Tensor:
    """Compute Einsum. operands: T[*d] each -> T[*o]

    Raises Fail if the equation is malformed or does not fit the operands.
    """
    inputs, _, output = equation.replace(" ", "").partition("->")
    subscripts = inputs.split(",")
    if len(subscripts) != len(operands):
        raise Fail(f"equation {equation} does not have {len(operands)} operands")
    terms = [Term(x, labels_of(s, x.rank, equation)) for s, x in zip(subscripts, operands, strict=True)]
    out = output_labels(output, terms, equation) if "->" in equation else implicit_output(terms)
    return contract_all(terms, out, operands[0].dtype)


def labels_of(subscript: str, rank: int, equation: str) -> tuple[str, ...]:
    """Return the labels of an operand's axes. Raises Fail if the subscript does not fit the operand's rank."""
    before, dots, after = subscript.partition(ELLIPSIS)
    hidden = rank - len(before) - len(after)
    letters = before + after
    if (letters and not letters.isalpha()) or hidden < 0 or (hidden > 0 and not dots):
        raise Fail(f"equation {equation}: {subscript!r} does not fit an operand of rank {rank}")
    return (*before, *(str(k) for k in reversed(range(hidden))), *after)


def implicit_output(terms: Sequence[Term]) -> tuple[str, ...]:
    """Return the output's labels of an equation without "->": the axes of ellipses, then the letters that occur once, sorted."""
    count = Counter(label for t in terms for label in t.labels)
    return (*ellipsis_labels(terms), *sorted(label for label, n in count.items() if n == 1 and label.isalpha()))


def ellipsis_labels(terms: Sequence[Term]) -> list[str]:
    """Return the labels of all axes that ellipses stand for, first axis first."""
    found = {label for t in terms for label in t.labels if label.isdigit()}
    return sorted(found, key=int, reverse=True)


def output_labels(output: str, terms: Sequence[Term], equation: str) -> tuple[str, ...]:
    """Return the labels of the output that the equation gives. Raises Fail if one occurs twice, or in no operand."""
    before, dots, after = output.partition(ELLIPSIS)
    labels = (*before, *(ellipsis_labels(terms) if dots else ()), *after)
    known = {label for t in terms for label in t.labels}
    if len(set(labels)) < len(labels) or not known.issuperset(labels):
        raise Fail(f"equation {equation}: the output {output!r} names an index twice, or one that no operand has")
    return labels


def contract_all(terms: Sequence[Term], out: tuple[str, ...], dtype: DType) -> Tensor:
    """Multiply the operands, two at a time, in the accumulator dtype of `dtype`, and sum over all labels that are not in `out`."""
    compute_dtype = scalar.wide(dtype)
    sizes = {label: broadcast(*([n] for n in label_sizes(terms, label)))[0] for t in terms for label in t.labels}
    rest = list(terms)
    while len(rest) > 2:
        wanted = {label for t in rest[2:] for label in t.labels} | set(out)
        kept = tuple(dict.fromkeys(label for t in rest[:2] for label in t.labels if label in wanted))
        rest[:2] = [Term(contract(rest[:2], kept, sizes, compute_dtype), kept)]
    return cast(contract(rest, out, sizes, compute_dtype), dtype)


def label_sizes(terms: Sequence[Term], label: str) -> list[Dim]:
    """Return the sizes of all axes that have this label."""
    return [n for t in terms for own, n in zip(t.labels, t.tensor.shape, strict=True) if own == label]


def contract(terms: Sequence[Term], out: tuple[str, ...], sizes: dict[str, Dim], dtype: DType) -> Tensor:
    """Multiply one or two operands and sum over the labels that are not in `out`. -> dtype[*out]"""
    over = tuple(dict.fromkeys(label for t in terms for label in t.labels if label not in out))

    def body(*i: Dim) -> Expr:
        index = dict(zip((*out, *over), i, strict=True))
        factors = [scalar.cast(at(t.tensor, [index[label] for label in t.labels]), dtype) for t in terms]
        return factors[0] if len(factors) == 1 else scalar.mul(*factors)

    shape = [sizes[label] for label in out]
    return reduce("add", dtype, shape, [sizes[label] for label in over], body) if over else compute(dtype, shape, body)


SQUARE = reals(4, 4)

OPS = (
    Op(
        "Einsum",
        since=12,
        lower=einsum,
        tolerance=1e-5,
        cases=(
            Case((reals(3, 4), reals(4, 5)), {"equation": "ij,jk->ik"}, "matmul"),
            Case((reals(2, 3, 4), reals(2, 5, 4)), {"equation": "b i d, b j d -> b i j"}, "scores"),
            Case((reals(2, 3, 4), reals(4, 5)), {"equation": "...ij,jk"}, "implicit"),
            Case((SQUARE,), {"equation": "ii->i"}, "diagonal"),
            Case((SQUARE,), {"equation": "ii"}, "trace"),
            Case((reals(3), reals(4)), {"equation": "i,j->ij"}, "outer"),
            Case((reals(2, 1, 3, 4), reals(1, 5, 4, 2)), {"equation": "...ij,...jk->...ki"}, "broadcast"),
            Case((reals(3, 4), reals(4, 5), reals(5, 2)), {"equation": "ij,jk,kl->li"}, "three"),
            Case((integers(3, 4), integers(3, 4)), {"equation": "ij,ij->j"}, "integers"),
        ),
    ),
)
