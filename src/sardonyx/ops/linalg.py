"""Matrix products: MatMul, Gemm."""

from __future__ import annotations

from sardonyx.base.dtypes import DType
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.index import at, broadcast
from sardonyx.expr.require import require_equal
from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import Expr
from sardonyx.ops.pointwise import add, full_like, mul, reduce, view
from sardonyx.ops.record import Op


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """numpy.matmul. a: T[*batch, m, k], b: T[*batch, k, n] -> T[*batch, m, n]; a vector is a row or a column, and its axis is dropped.

    Raises Fail if the inner sizes are fixed and differ.
    """
    rows = view(a, (1, *a.shape), lambda _, k: (k,)) if a.rank == 1 else a
    columns = view(b, (*b.shape, 1), lambda k, _: (k,)) if b.rank == 1 else b
    out = product(rows, columns, a.dtype)
    if a.rank == 1:
        out = view(out, (*out.shape[:-2], out.shape[-1]), lambda *i: (*i[:-1], 0, i[-1]))
    if b.rank == 1:
        out = view(out, out.shape[:-1], lambda *i: (*i, 0))
    return out


def product(a: Tensor, b: Tensor, dtype: DType) -> Tensor:
    """a: T[*batch, m, k], b: T[*batch, k, n] -> dtype[*batch, m, n], summed in the dtype that arithmetic on `dtype` runs in."""
    k = common_size(a, b)
    batch = broadcast(a.shape[:-2], b.shape[:-2]) if a.rank > 2 or b.rank > 2 else []

    def body(*i: Dim) -> Expr:
        left, right = at(a, (*i[:-2], i[-1])), at(b, (*i[:-3], i[-1], i[-2]))
        carrier = scalar.wide(dtype)
        return scalar.mul(scalar.cast(left, carrier), scalar.cast(right, carrier))

    return reduce("add", dtype, [*batch, a.shape[-2], b.shape[-1]], [k], body)


def common_size(a: Tensor, b: Tensor) -> Dim:
    """The size that both a's columns and b's rows have."""
    m, n = a.shape[-1], b.shape[-2]
    require_equal(m, n, f"Incompatible dimensions for matrix multiplication: {list(a.shape)} and {list(b.shape)}")
    return m if isinstance(m, int) else n


def transpose(x: Tensor, perm: list[int] | None = None) -> Tensor:
    """x: T[*d] -> T[d[perm[0]], d[perm[1]], ...]; the axes reversed if no perm is given."""
    order = perm if perm is not None else list(range(x.rank))[::-1]
    return view(x, [x.shape[p] for p in order], lambda *i: tuple(i[order.index(a)] for a in range(x.rank)))


def gemm(
    a: Tensor, b: Tensor, c: Tensor | None = None, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> Tensor:
    """alpha A B + beta C. a: T[m, k] (or T[k, m] with transA), b: T[k, n], c broadcast to T[m, n] -> T[m, n]"""
    y = product(transpose(a) if transA else a, transpose(b) if transB else b, a.dtype)
    if alpha != 1:
        y = mul(y, full_like(y, alpha))
    if c is None:
        return y
    return add(y, c if beta == 1 else mul(c, full_like(c, beta)))


OPS = (
    Op("MatMul", since=1, lower=matmul),
    Op("Gemm", since=1, lower=gemm),
    Op("Transpose", since=1, lower=transpose),
)
