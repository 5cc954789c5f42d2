"""Copy the operands of a contraction of integers into groups of neighbours along k (see loop.groups).

    A'[batch, i, k.., q G + g]       = A[batch, i, k.., q G + g]
    B'[batch, p, k.., q, j, g]       = B[batch, k.., q G + g, p W + j]          W columns in a panel, G elements in a group
    sum over k.., q, g of A' B'

Both are zero where q G + g is past the end of the last loop of k. A is always copied: its elements must lie side by side along k,
and get the dtype of the group. What computes A, such as a quantisation, becomes part of the copy. Copies of weights are made once,
when the model is loaded.
"""

from __future__ import annotations

from sardonyx.base.symbolic import Dim, Symbol, ceil_divide, product, strides, substitute, value
from sardonyx.expr.scalar import apply, cast
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.loop.groups import Group
from sardonyx.loop.nodes import Expr, Index, Op
from sardonyx.lower.copies import copy_position, place_copy
from sardonyx.lower.machine import Machine
from sardonyx.lower.values import Operands, Panels, Value, extent


def group_operands(values: dict[Tensor, Value], v: Value, o: Operands, group: Group, machine: Machine) -> None:
    """Make contraction v multiply groups: rewrite it as a sum over copies of both operands."""
    *outer, k = o.k
    quads, inside = Symbol(f"{k.name}.groups", ceil_divide(extent(k), group.count)), Symbol(f"{k.name}.inside", group.count)
    a = grouped_rows(values, v, o, group, (quads, inside))
    b = grouped_panels(values, v, o, group, (quads, inside), machine)
    assert v.body is not None
    v.body = Op("mul", cast(a, v.body.dtype), cast(b, v.body.dtype))
    v.loops = (*outer, quads, inside)
    v.contracts = True


def grouped_rows(values: dict[Tensor, Value], v: Value, o: Operands, group: Group, along: tuple[Symbol, Symbol]) -> Read:
    """Copy A. -> the read of the copy. along: the loops over groups, and inside a group"""
    *outer, k = o.k
    loops = [s for s in (*o.batch, *o.rows, *outer) if s in o.a.symbols]
    groups, inside = along
    shape = [*map(extent, loops), extent(groups) * group.count]
    dense = Tensor(group.a, shape, f"{o.a.tensor.name}.groups")
    source = values[o.a.tensor]
    dense.id, dense.origin = copy_position(source, v, 0.2), v.tensor.origin
    copy = values[dense] = Value(dense)
    copy.has_layout, copy.strides, copy.allocated = True, strides(shape), product(shape)
    at = copy.axes[-1]
    env: dict[Symbol, Dim] = {k: at, **dict(zip(loops, copy.axes, strict=False))}
    copy.body = cast(Read(o.a.tensor, tuple(substitute(i, env) for i in o.a.indices), inside_of(k, at, group)), group.a)
    place_copy(copy, source, v)
    return Read(dense, (*map(value, loops), value(groups) * group.count + value(inside)))


def grouped_panels(
    values: dict[Tensor, Value], v: Value, o: Operands, group: Group, along: tuple[Symbol, Symbol], machine: Machine
) -> Read:
    """Copy B into panels. -> the read of the copy"""
    *outer, k = o.k
    column = o.columns[0]
    assert v.body is not None
    n, dtype = extent(column), v.body.dtype
    width = machine.vectors(n, dtype) * machine.lanes_of(dtype)
    batch = [s for s in o.batch if s in o.b.symbols]
    shape: list[Dim] = [*map(extent, batch), ceil_divide(n, width), *map(extent, outer), extent(along[0]), width, group.count]
    packed = Panels(group.b, shape, f"{o.b.tensor.name}.panels")
    source = values[o.b.tensor]
    packed.id, packed.origin = copy_position(source, v, 0.1), v.tensor.origin
    copy = values[packed] = Value(packed)
    copy.has_layout, copy.strides, copy.allocated = True, strides(shape), product(shape)
    panel, lane, groups, inside = (copy.axes[i] for i in (len(batch), -2, -3, -1))
    at, along_k = panel * width + lane, groups * group.count + inside
    env = {column: at, k: along_k, **dict(zip(batch, copy.axes, strict=False))}
    env |= dict(zip(outer, copy.axes[len(batch) + 1 : -3], strict=True))
    guards = [g for g in (inside_of(k, along_k, group), None if is_multiple(n, width) else apply("lt", Index(at), Index(n))) if g]
    guard = None if not guards else guards[0] if len(guards) == 1 else apply("and", *guards)
    copy.body = cast(Read(o.b.tensor, tuple(substitute(i, env) for i in o.b.indices), guard), group.b)
    place_copy(copy, source, v)
    here = value(column)
    return Read(packed, (*map(value, batch), here // width, *map(value, outer), value(along[0]), here % width, value(along[1])))


def inside_of(k: Symbol, at: Dim, group: Group) -> Expr | None:
    """Return the guard that `at` is below k's extent; None if whole groups fill the loop."""
    return None if is_multiple(extent(k), group.count) else apply("lt", Index(at), Index(extent(k)))


def is_multiple(n: Dim, of: int) -> bool:
    """Tell whether n is a number and a multiple of `of`."""
    return isinstance(n, int) and n % of == 0
