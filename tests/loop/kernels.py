"""Small kernels that several tests look at, made under any names."""

from __future__ import annotations

from sardonyx.base.dtypes import DType, f32, i64
from sardonyx.base.symbolic import Symbol, value
from sardonyx.loop.nodes import Alloc, Buffer, Const, Element, For, If, Index, Kernel, Kind, Load, Op, Reduce, Seq, Store


def softmax(names: tuple[str, ...] = ("x", "y", "n", "row", "column", "k"), kind: Kind = "vector", dtype: DType = f32) -> Kernel:
    """y[row, :] = exp(x[row, :] - max) / sum, in rows of 64; the exponentials stay in a scratch."""
    x, y, n, row, column, k = names
    source, target = Buffer(x, dtype, readonly=True), Buffer(y, dtype)
    scratch = Buffer(f"{x}.{y}", dtype, "scratch")
    size, i, j, r = Symbol(n), Symbol(row), Symbol(column, 64), Symbol(k, 64)
    start = value(i) * 64
    largest = Reduce("max", ((r, kind),), Load(source, start + value(r)))
    total = Reduce("add", ((r, kind),), Load(scratch, value(r)))
    exponentials = Store(scratch, value(j), Op("exp", Op("sub", Load(source, start + value(j)), largest)))
    quotients = Store(target, start + value(j), Op("div", Load(scratch, value(j)), total))
    loops = Seq((For(j, 0, 64, kind, exponentials), For(j, 0, 64, kind, quotients)))
    body = For(i, 0, value(size), "parallel", Alloc(scratch, 64, loops))
    return Kernel(f"softmax of {x}", (source, target), (size,), body, (x, y))


def gather(code: int = 7) -> Kernel:
    """y[i] = x[indices[i]], checked against n."""
    x, indices, y = Buffer("x", f32, readonly=True), Buffer("indices", i64, readonly=True), Buffer("y", f32)
    n, m, i = Symbol("n"), Symbol("m"), Symbol("i")
    element = value(Element(Load(indices, value(i)), value(n), code))
    body = For(i, 0, value(m), "serial", Store(y, value(i), Load(x, element)))
    return Kernel("gather", (x, indices, y), (n, m), body)


def relu_in_place(guarded: bool = True) -> Kernel:
    """x[i] = 0 where x[i] < 0, for the even i."""
    x, n, i = Buffer("x", f32), Symbol("n"), Symbol("i")
    here = Load(x, value(i))
    even = Op("eq", Op("and", Index(value(i)), Const(1, i64)), Const(0, i64))
    store = Store(x, value(i), Const(0, f32), guard=even if guarded else None)
    return Kernel("relu", (x,), (n,), For(i, 0, value(n), "serial", If(Op("lt", here, Const(0, f32)), store)))
