"""Matrix operators: MatMul, Gemm, Transpose, Det."""

from __future__ import annotations

from typing import Any

import numpy as np

from sardonyx.base.dtypes import DType, boolean, f64, i64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.index import at, broadcast, element
from sardonyx.expr.region import scan
from sardonyx.expr.require import require_equal
from sardonyx.expr.tensor import Tensor, compute, constant
from sardonyx.loop.nodes import Expr
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.pointwise import add, cast, expand_to, full_like, mul, pointwise, reduce, view
from sardonyx.ops.ranks import require_rank_from, require_ranks
from sardonyx.ops.record import Case, Op
from sardonyx.ops.reference import products


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Multiply matrices as numpy.matmul does. a: T[*batch, m, k], b: T[*batch, k, n] -> T[*batch, m, n]

    A vector a counts as one row and a vector b as one column; that axis is dropped from the result.
    Raises Fail if the inner sizes are known and differ.
    """
    return without_vector_axes(product(as_rows(a), as_columns(b), a.dtype), a, b)


def as_rows(a: Tensor) -> Tensor:
    """Return a vector as a matrix of one row, any other tensor unchanged."""
    return view(a, (1, *a.shape), lambda _, k: (k,)) if a.rank == 1 else a


def as_columns(b: Tensor) -> Tensor:
    """Return a vector as a matrix of one column, any other tensor unchanged."""
    return view(b, (*b.shape, 1), lambda k, _: (k,)) if b.rank == 1 else b


def without_vector_axes(y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Drop the axes that `as_rows` and `as_columns` added: the row axis of y: T[*batch, m, n] if a is a vector, the column axis if
    b is.
    """
    if a.rank == 1:
        y = view(y, (*y.shape[:-2], y.shape[-1]), lambda *i: (*i[:-1], 0, i[-1]))
    return view(y, y.shape[:-1], lambda *i: (*i, 0)) if b.rank == 1 else y


def product(a: Tensor, b: Tensor, dtype: DType) -> Tensor:
    """Multiply matrices. a: T[*batch, m, k], b: T[*batch, k, n] -> dtype[*batch, m, n], summed in the accumulator dtype of `dtype`."""
    k = common_size(a, b)
    batch = broadcast(a.shape[:-2], b.shape[:-2]) if a.rank > 2 or b.rank > 2 else []

    def body(*i: Dim) -> Expr:
        left, right = at(a, (*i[:-2], i[-1])), at(b, (*i[:-3], i[-1], i[-2]))
        compute_dtype = scalar.wide(dtype)
        return scalar.mul(scalar.cast(left, compute_dtype), scalar.cast(right, compute_dtype))

    return reduce("add", dtype, [*batch, a.shape[-2], b.shape[-1]], [k], body)


def common_size(a: Tensor, b: Tensor) -> Dim:
    """Return k of a: [*batch, m, k] and b: [*batch, k, n]. Raises Fail if the sizes differ or a tensor has too few axes."""
    if a.rank == 0 or b.rank < 2:
        raise Fail(f"[ShapeInferenceError] Incompatible dimensions for matrix multiplication: {list(a.shape)} and {list(b.shape)}")
    m, n = a.shape[-1], b.shape[-2]
    require_equal(m, n, "Incompatible dimensions for matrix multiplication: {} and {}", a.shape, b.shape)
    return m if isinstance(m, int) else n


def transpose(x: Tensor, perm: list[int] | None = None) -> Tensor:
    """Permute the axes of x: output axis a is input axis perm[a]. Without perm the axes are reversed. x: T[*d] -> T[d[perm[0]],
    d[perm[1]], ...]
    """
    order = perm if perm is not None else list(range(x.rank))[::-1]
    if sorted(order) != list(range(x.rank)):
        raise Fail(f"[ShapeInferenceError] Transpose of a tensor of rank {x.rank} with the axes in the order {order}")
    return view(x, [x.shape[p] for p in order], lambda *i: tuple(i[order.index(a)] for a in range(x.rank)))


def gemm(
    a: Tensor, b: Tensor, c: Tensor | None = None, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> Tensor:
    """Compute alpha A B + beta C, with A and B transposed where transA and transB say so.

    a: T[m, k] (or T[k, m]), b: T[k, n] (or T[n, k]), c: broadcast to T[m, n] -> T[m, n]
    Integers times a factor with a fraction are computed in f64, and the result loses its fraction.
    """
    require_ranks("Gemm of {} and {}, which are not both matrices", (a, 2), (b, 2))
    y = product(transpose(a) if transA else a, transpose(b) if transB else b, a.dtype)
    if a.dtype.is_integer and not (float(alpha).is_integer() and float(beta).is_integer()):
        y, c = cast(y, f64), None if c is None else cast(c, f64)
    y = times(y, alpha)
    return cast(y if c is None else add(y, times(c, beta)), a.dtype)


def times(x: Tensor, factor: float) -> Tensor:
    """Multiply x by a number. For integer x the number must be an integer and is taken modulo 2^bits."""
    if factor == 1:
        return x
    numpy = x.dtype.numpy
    return mul(x, full_like(x, np.uint64(int(factor) % (1 << 64)).astype(numpy) if x.dtype.is_integer else factor))


def gemm_1(a: Tensor, b: Tensor, c: Tensor, broadcast: int = 0, **attributes: Any) -> Tensor:
    """Gemm before opset 7, where broadcasting c had to be requested by an attribute; c is broadcast here in any case."""
    return gemm(a, b, c, **attributes)


def det(x: Tensor) -> Tensor:
    """Compute determinants. x: T[*d, n, n] -> T[*d]

    Gaussian elimination with partial pivoting, one column in each iteration; the result is the product of the pivots, negated at
    each exchange of rows.
    """
    require_rank_from("the determinant of {}, which is not a matrix", x, 2)
    n = x.shape[-1]
    require_equal(x.shape[-2], n, "the determinant of {}, which is not square", x.shape)
    start = cast(x, scalar.wide(x.dtype))
    one = expand_to(constant(np.ones((), start.dtype.numpy)), x.shape[:-2])

    def step(t: Dim, a: Tensor, value: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        row = pivot_row(a, t)
        pivot = compute(a.dtype, one.shape, lambda *i: at(a, (*i, element(at(row, i), n), t)))
        stays = compute(boolean, one.shape, lambda *i: scalar.apply("eq", at(row, i), scalar.index(t)))
        signed = pointwise(lambda p, s: scalar.select(s, p, scalar.negate(p)), pivot, stays)
        return [eliminated(a, t, row, pivot), mul(value, signed)], []

    (_, value), _ = scan(n, [start, one], step)
    return cast(value, x.dtype)


def pivot_row(a: Tensor, t: Dim) -> Tensor:
    """Return the first row from t on whose element in column t has the largest magnitude. a: T[*d, n, n] -> i64[*d]"""
    n = a.shape[-1]

    def size(*i: Dim) -> Expr:
        left_over = scalar.apply("ge", scalar.index(i[-1]), scalar.index(t))
        return scalar.select(left_over, scalar.apply("abs", at(a, (*i, t))), -1)

    largest = reduce("max", a.dtype, a.shape[:-2], [n], size)

    def candidate(*i: Dim) -> Expr:
        return scalar.select(scalar.apply("eq", size(*i), at(largest, i[:-1])), scalar.index(i[-1]), scalar.index(n - 1))

    return reduce("min", i64, a.shape[:-2], [n], candidate)


def eliminated(a: Tensor, t: Dim, row: Tensor, pivot: Tensor) -> Tensor:
    """Return a after one elimination step: rows t and `row` exchanged, and column t made zero below row t by subtracting multiples
    of row t.
    """
    n = a.shape[-1]

    def body(*index: Dim) -> Expr:
        *outer, i, j = index
        chosen = element(at(row, outer), n)
        is_chosen = scalar.apply("eq", scalar.index(i), at(row, outer))
        own = scalar.select(is_chosen, at(a, (*outer, t, j)), at(a, (*outer, i, j)))
        head = scalar.select(is_chosen, at(a, (*outer, t, t)), at(a, (*outer, i, t)))
        divisor = at(pivot, outer)
        factor = scalar.select(scalar.apply("eq", divisor, 0), 0, scalar.div(head, divisor))
        below = scalar.sub(own, scalar.mul(factor, at(a, (*outer, chosen, j))))
        return scalar.select(scalar.apply("gt", scalar.index(i), scalar.index(t)), below, own)

    return compute(a.dtype, a.shape, body)


A, B = reals(2, 3, 4), reals(4, 5)
INTEGERS = integers(4, 2)

OPS = (
    Op(
        "MatMul",
        since=1,
        lower=matmul,
        tolerance=1e-5,
        cases=(
            Case((A, B)),
            Case((A[0, 0], B), name="row"),
            Case((A, B[:, 0]), name="column"),
            Case((A[0, 0], B[:, 0]), name="vectors"),
            Case((reals(2, 1, 3, 4), reals(5, 4, 2)), name="broadcast"),
            Case((integers(3, 4), integers(4, 2)), name="integers"),
            Case((reals(3, 4, dtype=np.float16), reals(4, 2, dtype=np.float16)), name="f16"),
            Case((reals(3, 0), reals(0, 2)), name="nothing_to_sum"),
        ),
    ),
    Op(
        "Gemm",
        since=7,
        lower=gemm,
        tolerance=1e-5,
        cases=(
            Case((A[0], B, reals(5)), {"alpha": 0.5, "beta": 2.0}),
            Case((A[0].T.copy(), B.T.copy()), {"transA": 1, "transB": 1}),
            Case((A[0], B, reals(3, 1))),
            Case((A[0], B, np.float32(3) * np.ones((), np.float32))),
            Case((integers(3, 4), INTEGERS, INTEGERS[0]), {"alpha": 2.0, "beta": -1.0}, name="integers"),
            Case((integers(3, 4), INTEGERS, INTEGERS[0]), {"alpha": 0.5, "beta": 0.25}, name="integers_by_fractions"),
            Case((integers(3, 4), INTEGERS), {"alpha": 0.5}, name="integers_by_a_fraction"),
        ),
        reference=products.gemm,
    ),
    Op("Gemm", since=1, lower=gemm_1, reference=products.gemm_1),
    Op("Transpose", since=1, lower=transpose, cases=(Case((A,)), Case((integers(2, 3, 4),), {"perm": [1, 2, 0]}))),
    Op(
        "Det",
        since=11,
        lower=det,
        tolerance=1e-4,
        cases=(
            Case((reals(3, 4, 4),)),
            Case((np.array([[0, 2, 1], [1, 0, 3], [2, 1, 0]], np.float32),), name="exchanges"),
            Case((np.ones((2, 2), np.float64),), name="singular"),
        ),
    ),
)
