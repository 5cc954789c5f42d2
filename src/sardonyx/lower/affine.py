"""Compute sums of products of dequantised numbers in integers: scales and zero points move out of the sum.

An operand is *affine* if it is s (q - z), where q is an integer of at most 8 bits. If s and z do not depend on the loops k of a sum,

    sum over k of sa (qa - za) sb (qb - zb)  =  sa sb (sum qa qb  -  zb sum qa  -  za sum qb  +  K za zb)        K = extent of k

becomes these values. All sums are exact in i32, since the rule is applied only where |sum (qa - za) (qb - zb)| is below 2^31.

    products[*]  = sum over k of qa qb                         a contraction, in groups of bytes (see groups)
    sum_a[*]     = sum over k of qa                            only if zb is not 0
    shift[*]     = za sum over k of (qb - zb)                  only if za is not 0; made once if b is a weight
    v[*]         = f32(products - zb sum_a - shift) sa sb      pointwise: part of the epilogue

The rule looks at expressions alone: what DequantizeLinear makes is such an operand, and so is the same arithmetic in other nodes.
Bytes whose signs do not fit the machine's instruction are moved by 128, and so is their zero point: (q + 128) - (z + 128). Products of
integers that are no dequantised numbers are moved in the same way, with s = 1 and z = 0.

An operand with a border of zeros (the padding of a convolution) is affine too: its q has a border of z, which stands for 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from sardonyx.base.dtypes import DType, f32, i32
from sardonyx.base.symbolic import Dim, product, single, value
from sardonyx.expr.region import Region
from sardonyx.expr.scalar import cast
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.loop.groups import fits
from sardonyx.loop.nodes import Cast, Const, Expr, Op, dim_elements, replace
from sardonyx.lower.constants import is_fixed
from sardonyx.lower.copies import copy_position, place_copy
from sardonyx.lower.machine import Machine
from sardonyx.lower.values import Operands, Value, extent, find_operands, inlined, operations, reads_of, zero

MOST_BITS = 8
"""The widest integers of an affine operand."""
LEAST_TERMS = 8
"""The shortest sum that pays: shorter ones take more time to correct than to add up."""
MANY_COLUMNS = 32
"""Columns from which summing each row of a beside, to correct for a sign, costs little."""
MOST_COMPARED = 1 << 16
"""The most zero points that are compared with each other."""
HALF = 128
MOST_OPERATIONS = 4
"""The most operations and loads of a scale: it is computed again for each element of the result."""


class Affine(Struct, frozen=True):
    """The number scale * (q - zero). q: a read of narrow integers; scale: f32, None for 1; zero: an integer, None for 0."""

    q: Read
    scale: Expr | None
    zero: Expr | None

    @property
    def around(self) -> list[Expr]:
        """List the scale and the zero point, those that there are."""
        return [e for e in (self.scale, self.zero) if e is not None]

    @property
    def largest(self) -> int:
        """Return an upper bound of |q - zero|."""
        bits = self.q.dtype.bits
        if self.zero is not None:
            return (1 << bits) - 1
        return 1 << (bits - 1) if self.q.dtype.kind == "int" else (1 << bits) - 1


def sum_in_integers(values: dict[Tensor, Value], machine: Machine) -> None:
    """Rewrite each contraction of two affine operands for which the machine has tiles of integers, and move bytes of sums in i32
    whose signs fit no tile."""
    rule = Rewrite(values, machine)
    wanted = (f32, i32) if machine.integer_sums else (i32,)
    for v in sorted(values.values(), key=lambda v: v.id):
        if v.fn == "add" and v.place is None and v.tensor.dtype in wanted and not v.constant:
            rule.apply(v)


# ---- finding affine operands ----------------------------------------------------------------------------------------------


class Finder(Struct, frozen=True):
    """Finds affine expressions, through values that are computed pointwise in one repeated body, or from weights."""

    values: Mapping[Tensor, Value]
    region: tuple[Region, ...]

    def affine(self, e: Expr) -> Affine | None:
        """Match e as scale * (q - zero). None if it has another form."""
        e = self.followed(e)
        if not isinstance(e, Op) or e.fn != "mul":
            return self.difference(e)
        for moved, scale in (e.args, e.args[::-1]):
            found = self.difference(moved)
            if found is not None and operations(scale) <= MOST_OPERATIONS:
                return Affine(found.q, scale, found.zero)
        return None

    def difference(self, e: Expr) -> Affine | None:
        """Match e as q - zero, in f32. None if it has another form, or if zero is no number of q's dtype."""
        e = self.followed(e)
        shift: Expr | None = None
        if isinstance(e, Op) and e.fn == "sub":
            e, shift = map(self.followed, e.args)
        if not isinstance(e, Cast) or e.dtype is not f32:
            return None
        q = e.args[0]
        if not isinstance(q, Read) or q.guard is not None or not is_narrow(q.dtype):
            return None
        if shift is None:
            return Affine(q, None, None)
        whole = as_integer(shift, q.dtype)
        return None if whole is None else Affine(q, None, unless_zero(whole))

    def followed(self, e: Expr) -> Expr:
        """Return the expression that computes what e reads; e itself unless it is a read of such a value."""
        while isinstance(e, Read) and e.guard is None:
            v = self.values[e.tensor]
            if v.body is None or v.fn or v.into or (v.region != self.region and not v.constant):
                break
            e = inlined(v, e)
        return e


def as_integer(e: Expr, dtype: DType) -> Expr | None:
    """Return the number e: f32 as an integer of this dtype; None unless it is converted from one, or is a literal that the dtype
    holds."""
    if isinstance(e, Cast) and e.args[0].dtype is dtype:
        return uniform(e.args[0])
    if not isinstance(e, Const):
        return None
    limits = range(-(1 << (dtype.bits - 1)), 1 << (dtype.bits - 1)) if dtype.kind == "int" else range(1 << dtype.bits)
    return Const(int(e.value), dtype) if e.value in limits else None


def uniform(e: Expr) -> Expr:
    """Return a literal if e reads a weight whose bytes are all equal, such as zero points of 0 for each channel; else e."""
    data = e.tensor.data if isinstance(e, Read) and e.dtype.bits == MOST_BITS else None
    if data is None or not 0 < data.size <= MOST_COMPARED:
        return e
    numbers = data.load()
    return Const(int(numbers.flat[0]), e.dtype) if (numbers == numbers.flat[0]).all() else e


def are_exact(v: Value, a: Affine, b: Affine) -> bool:
    """Tell whether the sum v of products of a and b is long enough, and fits in i32 whatever the integers are."""
    terms = product(map(extent, v.loops))
    return isinstance(terms, int) and terms >= LEAST_TERMS and terms * a.largest * b.largest < 1 << 31


def other_sign(q: Expr, to: DType) -> Expr:
    """Move a byte by 128, from the range of i8 to that of u8 or back. -> to"""
    if isinstance(q, Const):
        return Const(int(q.value) + (HALF if to.kind == "uint" else -HALF), to)
    return Op("add", cast(q, to), Const(HALF if to.kind == "uint" else -HALF, to))  # both steps wrap


def unless_zero(e: Expr) -> Expr | None:
    """Return e, or None if it is the literal 0."""
    return None if is_zero(e) else e


def is_narrow(dtype: DType) -> bool:
    return dtype.is_integer and dtype.bits <= MOST_BITS


def is_zero(e: Expr | None) -> bool:
    return isinstance(e, Const) and e.value == 0


# ---- the rewrite ----------------------------------------------------------------------------------------------------------


class Rewrite:
    """Applies the rule to values one by one. bordered: for each tensor with a border its integers, None if it is not affine."""

    def __init__(self, values: dict[Tensor, Value], machine: Machine) -> None:
        self.values, self.machine = values, machine
        self.bordered: dict[Tensor, tuple[Tensor, Affine] | None] = {}

    def apply(self, v: Value) -> None:
        """Rewrite v if it is a contraction of affine operands whose sums fit in i32."""
        o = find_operands(v)
        if o is None or v.body is None or not (o.rows or self.values[o.b.tensor].constant):
            return
        if v.tensor.dtype is i32:
            pair = self.of_fitting_signs(v, o, Affine(o.a, None, None), Affine(o.b, None, None))
            if pair is None or (pair[0].q, pair[1].q) == (o.a, o.b):
                return
        else:
            a, b = self.operand(o.a, v), self.operand(o.b, v)
            if a is None or b is None or not are_exact(v, a, b):
                return
            pair = self.of_fitting_signs(v, o, a, b)
            if pair is None:
                return
        self.rewrite(v, *pair)

    def rewrite(self, v: Value, a: Affine, b: Affine) -> None:
        """Make v the scaled and corrected sum of products of integers."""
        out: Expr = Read(self.products(v, a, b), v.axes)
        if b.zero is not None:
            out = Op("sub", out, Op("mul", cast(b.zero, i32), self.sum_of(v, "sum_a", cast(a.q, i32), None)))
        if a.zero is not None:
            each = cast(b.q, i32) if b.zero is None else Op("sub", cast(b.q, i32), cast(b.zero, i32))
            out = Op("sub", out, self.sum_of(v, "shift", each, cast(a.zero, i32)))
        scales = [e for e in (a.scale, b.scale) if e is not None]
        body = cast(out, v.tensor.dtype)
        if scales:
            body = Op("mul", body, scales[0] if len(scales) == 1 else Op("mul", *scales))
        v.fn, v.loops, v.body = None, (), body

    def of_fitting_signs(self, v: Value, o: Operands, a: Affine, b: Affine) -> tuple[Affine, Affine] | None:
        """Return a and b as a tile can multiply them, in the machine's preferred group. None if it has no group for them.

        Where only a sign keeps an operand out of a group, 128 is added to its integers and its zero point.
        """
        columns = extent(o.columns[0])
        many = not isinstance(columns, int) or columns >= MANY_COLUMNS
        for group in self.machine.groups:
            holds = all(fits(x.q.dtype, to) or (x.q.dtype.bits == to.bits == MOST_BITS) for x, to in ((a, group.a), (b, group.b)))
            sums_of_a = b.zero is None and not fits(b.q.dtype, group.b)  # are then needed, and were not before
            if holds and (many or not sums_of_a):
                return self.shifted(v, a, group.a), self.shifted(v, b, group.b)
        return None

    def shifted(self, v: Value, x: Affine, to: DType) -> Affine:
        """Return x with integers that `to` holds: as they are, or a byte of the other sign moved by 128."""
        if fits(x.q.dtype, to):
            return x
        source = self.values[x.q.tensor]
        moved = Tensor(to, source.shape, f"{x.q.tensor.name}.{to.name}")
        moved.id, moved.origin = copy_position(source, v, 0.05), v.tensor.origin
        made = self.add(moved)
        made.body = other_sign(Read(x.q.tensor, made.axes), to)
        place_copy(made, source, v)
        zero_point = other_sign(x.zero if x.zero is not None else Const(0, x.q.dtype), to)
        return Affine(Read(moved, x.q.indices), x.scale, unless_zero(zero_point))

    def operand(self, r: Read, v: Value) -> Affine | None:
        """Return what v reads there as an affine operand whose scale and zero point do not depend on v's loops; else None."""
        found = self.inside_border(r) if r.tensor.parts else Finder(self.values, v.region).affine(r)
        if found is None or any(not e.symbols.isdisjoint(v.loops) for e in found.around):
            return None
        return None if any(True for i in found.q.indices for _ in dim_elements(i)) else found

    def inside_border(self, r: Read) -> Affine | None:
        """Return an element of a tensor with a border of zeros as an affine operand; None if it is none."""
        if r.tensor not in self.bordered:
            self.bordered[r.tensor] = self.with_border(r.tensor)
        found = self.bordered[r.tensor]
        return found and Affine(Read(found[0], r.indices), found[1].scale, found[1].zero)

    def with_border(self, t: Tensor) -> tuple[Tensor, Affine] | None:
        """Make the integers of t if its parts are zeros and affine numbers of one scale and one zero point. None for other
        parts."""
        region, parts = self.values[t].region, [self.values[p] for p in t.parts]
        if any(p.fn or p.body is None or p.region != region for p in parts):
            return None
        find = Finder(self.values, region)
        bodies = [find.followed(p.body) for p in parts if p.body is not None]
        numbers = [None if is_zero(e) else find.affine(e) for e in bodies]
        found = [a for a in numbers if a is not None]
        if len(found) + sum(map(is_zero, bodies)) < len(parts) or not found:
            return None
        one = found[0]
        if any(e.symbols for e in one.around) or any(
            (a.scale, a.zero, a.q.dtype) != (one.scale, one.zero, one.q.dtype) for a in found
        ):
            return None
        whole = Tensor(one.q.dtype, t.shape, f"{t.name}.integers")
        whole.id, whole.origin = t.id, t.origin
        fill = one.zero if one.zero is not None else zero(one.q)
        whole.parts = tuple(self.part(p, whole, fill if a is None else a.q) for p, a in zip(parts, numbers, strict=True))
        self.add(whole).region = region
        return whole, one

    def part(self, p: Value, whole: Tensor, body: Expr) -> Tensor:
        """Add the part of `whole` that lies where p lies in its own whole. -> the part"""
        assert p.into is not None
        part = Tensor(whole.dtype, p.shape, f"{p.tensor.name}.integers")
        part.id, part.origin, part.axes, part.into = p.id, p.tensor.origin, p.axes, (whole, p.into[1])
        made = self.add(part)
        made.body, made.region = body, p.region
        return part

    def products(self, v: Value, a: Affine, b: Affine) -> Tensor:
        """Add the contraction of the integers, with v's axes and loops. -> i32[*v]"""
        made = self.beside(v, "products", i32, v.shape, 0.1)
        made.fn, made.loops = "add", v.loops
        env = {s: i for a, i in zip(v.axes, made.axes, strict=True) if (s := single(a)) is not None}
        made.body = Op("mul", *(replace(cast(x.q, i32), env) for x in (a, b)))
        return made.tensor

    def sum_of(self, v: Value, name: str, term: Expr, factor: Expr | None) -> Expr:
        """Add the sum of the term over v's loops, times the factor, over those of v's axes on which they depend. -> the element
        of it that v reads"""
        moving = [s for s in v.variables if s in term.symbols]
        sums = self.beside(v, f"{name}.sums", i32, [extent(s) for s in moving], 0.3)
        env = dict(zip(moving, sums.axes, strict=True))
        sums.fn, sums.loops, sums.body = "add", v.loops, replace(term, env)
        self.mark(sums)
        at = tuple(value(s) for s in moving)
        if factor is None:
            return Read(sums.tensor, at)
        whole = Op("mul", factor, Read(sums.tensor, at))
        moving = [s for s in v.variables if s in whole.symbols]
        out = self.beside(v, name, i32, [extent(s) for s in moving], 0.2)
        out.body = replace(whole, dict(zip(moving, out.axes, strict=True)))
        self.mark(out)
        return Read(out.tensor, tuple(value(s) for s in moving))

    def beside(self, v: Value, name: str, dtype: DType, shape: Sequence[Dim], before: float) -> Value:
        """Add a new value that is computed just before v."""
        t = Tensor(dtype, shape, f"{v.tensor.name}.{name}")
        t.id, t.origin = v.id - before, v.tensor.origin
        made = self.add(t)
        made.region = v.region
        return made

    def add(self, t: Tensor) -> Value:
        """Add t to the values."""
        made = self.values[t] = Value(t)
        return made

    def mark(self, v: Value) -> None:
        """Have v computed when the model is loaded if it depends on weights alone."""
        v.constant = is_fixed(v) and all(self.values[r.tensor].constant for r in reads_of(v))
        if v.constant:
            v.region = ()
