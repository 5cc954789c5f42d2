"""The right-hand side of each contraction as a placed copy: panels of whole vectors, in the order in which a tile reads them.

    packed[batch, p, k, j] = B[batch, k, p W + j], zero past the last column

It serves weights (copied once, when the model is loaded), transposed keys and narrow floats alike. No copy is made where B already
lies so: unit stride along whole vectors of columns, and not a weight.
"""

from __future__ import annotations

from sardonyx.base.dtypes import DType
from sardonyx.base.symbolic import Dim, ceil_divide, coefficient, strides, substitute, symbols, value
from sardonyx.expr.scalar import cast, wide
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.loop.nodes import Index, Op
from sardonyx.lower.machine import Machine
from sardonyx.lower.values import Operands, Panels, Value, extent, find_operands, transform


def pack(values: dict[Tensor, Value], machine: Machine) -> None:
    """Gives every contraction whose B does not lie well a packed copy to read instead."""
    for v in list(values.values()):
        o = find_operands(v) if v.fn and v.place is None else None
        if o is not None and not o.rows and not lies_well(values, o, machine) and not values[o.b.tensor].constant:
            continue  # one row: copying B would cost more than the sums
        if o is not None and not is_affine(o):
            copy_rows(values, v, o)
            o = find_operands(v)
        if o is None:
            continue
        v.contracts = True
        if not lies_well(values, o, machine):
            copy_panels(values, v, o, machine)


def is_affine(o: Operands) -> bool:
    """Does every index of A move evenly with each loop?"""
    loops = {*o.batch, *o.rows, *o.k}
    return all(coefficient(i, s) is not None for i in o.a.indices for s in symbols(i) & loops)


def copy_rows(values: dict[Tensor, Value], v: Value, o: Operands) -> None:
    """A as a dense tensor over batch, rows and k, where its addresses would not move evenly."""
    loops = [s for s in (*o.batch, *o.rows, *o.k) if s in o.a.symbols]
    dense = Tensor(o.a.dtype, [extent(s) for s in loops], f"{o.a.tensor.name}.rows")
    dense.id, dense.origin = o.a.tensor.id + 0.2, v.tensor.origin
    copy = values[dense] = Value(dense)
    env = dict(zip(loops, copy.axes, strict=True))
    copy.body = Read(o.a.tensor, tuple(substitute(i, env) for i in o.a.indices))
    stand(copy, values[o.a.tensor], v)
    here = Read(dense, tuple(map(value, loops)))
    assert v.body is not None
    v.body = transform(v.body, lambda r: here if r is o.a else r)


def stand(copy: Value, source: Value, reader: Value) -> None:
    """A copy is made once, if its source and what part of it is read are fixed, or in those loops of the reader that change either."""
    assert copy.body is not None
    moving = copy.body.symbols - set(copy.variables)
    copy.constant = source.constant and not moving and all(isinstance(n, int) for n in copy.shape)
    copy.region = tuple(r for r in reader.region if r in source.region or r.step in moving)


def width(o: Operands, machine: Machine) -> int:
    """Columns of a panel."""
    dtype = product_dtype(o)
    return machine.vectors(extent(o.columns[0]), dtype) * machine.lanes_of(dtype)


def product_dtype(o: Operands) -> DType:
    """What the products are computed in."""
    return wide(o.a.dtype)


def lies_well(values: dict[Tensor, Value], o: Operands, machine: Machine) -> bool:
    b, column = values[o.b.tensor], o.columns[0]
    n = extent(column)
    made_here = b.body is not None or bool(b.tensor.parts)
    if b.constant or not isinstance(n, int) or n % machine.lanes or not made_here or b.into or b.tensor.dtype is not o.a.dtype:
        return False
    if coefficient(o.b.indices[-1], column) != 1 or any(column in symbols(i) for i in o.b.indices[:-1]):
        return False
    return n % width(o, machine) == 0


def copy_panels(values: dict[Tensor, Value], v: Value, o: Operands, machine: Machine) -> None:
    column = o.columns[0]
    n, w = extent(column), width(o, machine)
    batch = [s for s in o.batch if s in o.b.symbols]
    shape: list[Dim] = [*(extent(s) for s in batch), ceil_divide(n, w), *(extent(s) for s in o.k), w]
    assert v.body is not None
    dtype = v.body.dtype
    packed = Panels(dtype, shape, f"{o.b.tensor.name}.panels")
    b = values[o.b.tensor]
    packed.id, packed.origin = b.id + 0.1, v.tensor.origin
    copy = values[packed] = Value(packed)
    copy.laid, copy.strides = True, strides(shape)
    panel, lane = copy.axes[len(batch)], copy.axes[-1]
    at = panel * w + lane
    env = {column: at, **dict(zip(batch, copy.axes, strict=False)), **dict(zip(o.k, copy.axes[len(batch) + 1 : -1], strict=True))}
    guard = None if isinstance(n, int) and n % w == 0 else Op("lt", Index(at), Index(n))
    copy.body = cast(Read(o.b.tensor, tuple(substitute(i, env) for i in o.b.indices), guard), dtype)
    stand(copy, b, v)
    here = value(column)
    read = Read(packed, (*map(value, batch), here // w, *map(value, o.k), here % w))
    v.body = Op("mul", cast(o.a, dtype), read)
