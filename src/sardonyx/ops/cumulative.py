"""Cumulative sums and products along an axis: CumSum, CumProd."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from sardonyx.base.dtypes import DType
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, ceil_divide, minimum, product
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.known import only
from sardonyx.expr.tensor import Tensor, compute, kernel_outputs
from sardonyx.loop.builder import KernelBuilder
from sardonyx.loop.nodes import Expr, Kernel
from sardonyx.loop.values import op
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.pointwise import normal_axis
from sardonyx.ops.record import Case, Op, Rule

BLOCK = 64
"""Number of neighbouring columns that one thread processes at a time."""


@functools.cache
def running_kernel(fn: str, dtype: DType, reverse: bool, exclusive: bool) -> Kernel:
    """Build the kernel of a cumulative sum or product: y[o, j, i] = fn over x[o, 0 .. j, i]. Narrow floats are accumulated in f32.

        parallel for block of columns:
          total[..] = neutral
          for j:
            vector for i in block:  total[i] = fn(total[i], x[j, i]);  y[j, i] = total[i]

    reverse: j runs from the end. exclusive: y gets the total before x[j, i] is added.
    """
    b = KernelBuilder(f"running {fn} of {dtype}")
    outer, n, inner = (b.size(s) for s in ("outer", "n", "inner"))
    x, y = b.input("x", dtype, outer * n * inner), b.output("y", dtype, outer * n * inner)
    compute_dtype = scalar.wide(dtype)
    blocks = ceil_divide(inner, BLOCK)
    with b.loop("block", outer * blocks, kind="parallel") as block:
        o, lo = block // blocks, block % blocks * BLOCK
        total = b.scratch("total", compute_dtype, BLOCK)
        width = minimum(inner - lo, BLOCK)
        with b.loop("i", width, kind="vector") as i:
            total[i] = 0 if fn == "add" else 1
        with b.loop("j", n) as j:
            row = (o * n + (n - 1 - j if reverse else j)) * inner + lo
            with b.loop("i", width, kind="vector") as i:
                if exclusive:
                    y[row + i] = total[i].cast(dtype)
                total[i] = op(fn, total[i], x[row + i].cast(compute_dtype))
                if not exclusive:
                    y[row + i] = total[i].cast(dtype)
    return b.build()


def running(x: Tensor, axis: int, fn: str, reverse: bool = False, exclusive: bool = False) -> Tensor:
    """Compute fn over all elements up to each one along the axis. x: T[*d] -> T[*d]; see `running_kernel` for reverse and
    exclusive.
    """
    along = normal_axis(axis, x.rank)
    sizes = [product(x.shape[:along]), x.shape[along], product(x.shape[along + 1 :])]
    kernel = running_kernel(fn, x.dtype, reverse, exclusive)
    (y,) = kernel_outputs(kernel, [x], [(x.dtype, x.shape)], sizes)
    return y


def cumulative(fn: str) -> Callable[..., Tensor]:
    """Return the operator CumSum ("add") or CumProd ("mul"). x: T[*d], axis: i64[] -> T[*d]

    An axis that only the run knows is chosen among the results for all axes.
    """

    def meaning(x: Tensor, axis: Tensor, exclusive: int = 0, reverse: int = 0) -> Tensor:
        number = only(axis, "the axis of a running sum")
        if isinstance(number, int):
            return running(x, number, fn, bool(reverse), bool(exclusive))
        if x.rank == 0:
            raise Fail(f"axis {number} is out of range for a tensor of rank 0")
        return along_unknown(x, axis, [running(x, a, fn, bool(reverse), bool(exclusive)) for a in range(x.rank)])

    return meaning


def along_unknown(x: Tensor, axis: Tensor, results: list[Tensor]) -> Tensor:
    """Select the result for an axis that only the run knows. results: one tensor for each axis of x"""
    read = at(axis, [0] * axis.rank)
    own = scalar.select(scalar.apply("lt", read, 0), scalar.add(read, x.rank), read)

    def body(*i: Dim) -> Expr:
        out = at(results[0], i)
        for a, y in enumerate(results[1:], 1):
            out = scalar.select(scalar.apply("eq", own, a), at(y, i), out)
        return out

    return compute(x.dtype, x.shape, body)


def axis_number(n: int) -> np.ndarray:
    return np.array(n, np.int64)


CASES = (
    Case((reals(3, 4, 5), axis_number(1))),
    Case((reals(3, 4, 70), axis_number(0)), {"reverse": 1}),
    Case((integers(4, 5, dtype=np.int32), axis_number(-1)), {"exclusive": 1}),
    Case((reals(6, dtype=np.float64), axis_number(0)), {"exclusive": 1, "reverse": 1}),
    Case((reals(3, 0, 2), axis_number(1))),
)

OPS = (
    Op("CumSum", since=11, kernel=cumulative("add"), quantised=Rule.NONE, tolerance=1e-5, cases=CASES),
    Op("CumProd", since=26, kernel=cumulative("mul"), quantised=Rule.NONE, tolerance=1e-5, cases=CASES),
)
