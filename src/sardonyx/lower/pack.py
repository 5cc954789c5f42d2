"""Copy the right-hand side B of each contraction into panels of whole vectors, in the order in which a tile reads it.

    packed[batch, p, k, j] = B[batch, k, p W + j], zero past the last column

Weights are copied once, when the model is loaded; transposed keys and narrow floats are packed in each run. No copy is made
if B is not a weight and already has contiguous columns in whole vectors. If B is contiguous along k and there may be few
rows, the decision is made when a run starts: with few rows the copy is empty, and dot products along k read B itself.

    sum over k of A[batch, i, k] * (B[batch, k, j] if rows <= few else packed[batch, j // W, k, j % W])
"""

from __future__ import annotations

from collections.abc import Container

from sardonyx.base.dtypes import DType
from sardonyx.base.symbolic import Dim, Int, ceil_divide, coefficient, minimum, product, strides, substitute, symbols, value
from sardonyx.expr.scalar import cast, wide
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.loop.nodes import Expr, Index, Op, Select
from sardonyx.lower.copies import copy_position, place_copy
from sardonyx.lower.groups import group_operands
from sardonyx.lower.machine import Machine
from sardonyx.lower.values import Operands, Panels, Value, address, extent, find_operands

COPIED = 10
"""Elements that are packed in the time of one element's product in a dot product along k, most of which goes into adding up
its lanes."""
MOST_FEW = 8
"""Upper bound on the rows that count as few, however long k is."""


def pack(values: dict[Tensor, Value], machine: Machine, plain: Container[Tensor] = ()) -> None:
    """Prepare every contraction for tiles: pack B where it does not lie well, and copy A where a tile can't read it. plain:
    dense inputs."""
    for v in list(values.values()):
        o = find_operands(v) if v.fn and v.place is None else None
        if o is not None and not o.rows and not lies_well(values, o, machine) and not values[o.b.tensor].constant:
            continue  # with one row, packing B costs more than the sums
        if o is not None and (dtypes := (o.a.dtype, o.b.dtype))[0].is_integer:
            group = machine.group(*dtypes)
            if group is not None:
                group_operands(values, v, o, group, machine)
            continue
        if o is not None and not (is_affine(o) and machine.feeds(o.a.dtype)):
            copy_rows(values, v, o)
            o = find_operands(v)
        if o is None:
            continue
        v.contracts = True
        if not lies_well(values, o, machine):
            copy_panels(values, v, o, machine, few_rows(values, v, o, plain))


def is_affine(o: Operands) -> bool:
    """Tell whether each index of A moves by a constant step along each loop."""
    loops = {*o.batch, *o.rows, *o.k}
    return all(coefficient(i, s) is not None for i in o.a.indices for s in symbols(i) & loops)


def copy_rows(values: dict[Tensor, Value], v: Value, o: Operands) -> None:
    """Copy A to a dense tensor over batch, rows and k in the dtype of the products, because a tile can't read it as it is."""
    loops = [s for s in (*o.batch, *o.rows, *o.k) if s in o.a.symbols]
    dtype = product_dtype(o)
    dense = Tensor(dtype, [extent(s) for s in loops], f"{o.a.tensor.name}.rows")
    dense.id, dense.origin = copy_position(values[o.a.tensor], v, 0.2), v.tensor.origin
    copy = values[dense] = Value(dense)
    env = dict(zip(loops, copy.axes, strict=True))
    copy.body = cast(Read(o.a.tensor, tuple(substitute(i, env) for i in o.a.indices)), dtype)
    place_copy(copy, values[o.a.tensor], v)
    here = Read(dense, tuple(map(value, loops)))
    assert v.body is not None
    v.body = Op("mul", *(here if factor is o.a or o.a in factor.args else factor for factor in v.body.args))


def width(o: Operands, machine: Machine) -> int:
    """Return the number of columns in a panel."""
    dtype = product_dtype(o)
    return machine.vectors(extent(o.columns[0]), dtype) * machine.lanes_of(dtype)


def product_dtype(o: Operands) -> DType:
    """Return the dtype in which the products are computed."""
    return wide(o.a.dtype)


def lies_well(values: dict[Tensor, Value], o: Operands, machine: Machine) -> bool:
    """Tell whether a tile can read B without a copy: not a weight, computed here, contiguous columns in whole panels, of A's
    dtype."""
    b, column = values[o.b.tensor], o.columns[0]
    n = extent(column)
    made_here = b.body is not None or bool(b.tensor.parts)
    if b.constant or not isinstance(n, int) or n % machine.lanes or not made_here or b.into or b.tensor.dtype is not o.a.dtype:
        return False
    if not machine.feeds(b.tensor.dtype):
        return False
    if coefficient(o.b.indices[-1], column) != 1 or any(column in symbols(i) for i in o.b.indices[:-1]):
        return False
    return n % width(o, machine) == 0


def few_rows(values: dict[Tensor, Value], v: Value, o: Operands, plain: Container[Tensor]) -> Dim:
    """Return the number of rows up to which dot products are faster than packing B.

    0 if B is not contiguous along k, is computed in this program, or would be packed once for many iterations of a loop.
    Without batches for threads to share, only packing has work for all threads: then one row counts as few.
    """
    b, k = values[o.b.tensor], o.k[-1]
    in_memory = b.tensor in plain and b.body is None and not b.constant and b.region == v.region
    along_k = coefficient(address(o.b.indices, b.strides), k) == 1
    if not in_memory or not along_k or b.tensor.dtype is not product_dtype(o) or not isinstance(rows_of(o), Int):
        return 0
    return minimum(extent(k) // COPIED, MOST_FEW if o.batch else 1)


def rows_of(o: Operands) -> Dim:
    """Return the number of rows of the contraction."""
    return product(map(extent, o.rows))


def copy_panels(values: dict[Tensor, Value], v: Value, o: Operands, machine: Machine, few: Dim) -> None:
    """Make contraction v read a packed copy of its operand B: panels of as many columns as the tile is wide.

    few: at run time, if there are at most this many rows, packing costs more than it saves: the copy is then empty and v reads B
    itself.
    """
    column = o.columns[0]
    n, w = extent(column), width(o, machine)
    batch = [s for s in o.batch if s in o.b.symbols]
    around, panels, inside = [extent(s) for s in batch], ceil_divide(n, w), [*map(extent, o.k), w]
    needed = panels if few == 0 else panels * minimum(rows_of(o) // (few + 1), 1)
    assert v.body is not None
    dtype = v.body.dtype
    packed = Panels(dtype, [*around, needed, *inside], f"{o.b.tensor.name}.panels")
    b = values[o.b.tensor]
    packed.id, packed.origin = copy_position(b, v, 0.1), v.tensor.origin
    copy = values[packed] = Value(packed)
    full = [*around, panels, *inside]
    copy.has_layout, copy.strides, copy.allocated = True, strides(full), product(full)
    panel, lane = copy.axes[len(batch)], copy.axes[-1]
    at = panel * w + lane
    env = {column: at, **dict(zip(batch, copy.axes, strict=False)), **dict(zip(o.k, copy.axes[len(batch) + 1 : -1], strict=True))}
    guard = None if isinstance(n, int) and n % w == 0 else Op("lt", Index(at), Index(n))
    copy.body = cast(Read(o.b.tensor, tuple(substitute(i, env) for i in o.b.indices), guard), dtype)
    place_copy(copy, b, v)
    here = value(column)
    read: Expr = Read(packed, (*map(value, batch), here // w, *map(value, o.k), here % w))
    if few != 0:
        read = Select(Op("le", Index(rows_of(o)), Index(few)), o.b, read)
    v.body = Op("mul", cast(o.a, dtype), read)
