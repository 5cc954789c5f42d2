"""Emits symbolic integers (offsets, bounds, sizes) as native integers.

integer(frame, dim)         one index; each part is computed in the outermost scope that knows its symbols
lane_integers(frame, dim)   a vector of indices, one per lane of the enclosing vector loop
"""

from __future__ import annotations

from collections.abc import Callable

from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import (
    Atom,
    Derived,
    Dim,
    Int,
    Symbol,
    coefficient,
    is_nonnegative,
    largest,
    polynomial,
    symbols,
    value,
)
from sardonyx.codegen.llvm_types import I32, Value, constant_of, lanes_of, vector_type
from sardonyx.codegen.scopes import Frame
from sardonyx.loop.nodes import Element


def integer(f: Frame, dim: Dim) -> Value:
    """Return the value of dim as an index, emitting it unless an enclosing scope has it."""
    w = f.builder
    if not isinstance(dim, Int):
        return w.number(dim)
    reads = f.dim_reads(dim)
    level = f.level(dim.symbols, reads)
    found = f.known(dim, level)
    if found is None:
        with f.at(level):
            found = _sum(f, dim, level)
        f.remember(level, dim, found, reads)
    return found


def _sum(f: Frame, dim: Int, level: int) -> Value:
    """Emit dim in the scope at `level`: this scope's variables times integers of outer scopes, plus an integer of outer scopes."""
    w = f.builder
    inner, outer = split_by_level(f, dim, level)
    total = integer(f, outer) if level else w.number(0)
    rest = inner if level else dim
    for symbol in sorted(f.scopes[level].bound.keys() & symbols(rest)) if level else ():
        factor = coefficient(rest, symbol)
        if factor is not None:
            total = w.add(total, w.mul(integer(f, factor), symbol_value(f, symbol)))
            rest = rest - factor * Int({(symbol,): 1})
    for monomial, factor in rest.terms.items() if isinstance(rest, Int) else ():
        total = w.add(total, _product(f, monomial, factor, level))
    return total if isinstance(rest, Int) else w.add(total, w.number(rest))


def _product(f: Frame, monomial: tuple[Atom, ...], factor: int, level: int) -> Value:
    """Emit a monomial times its factor. Atoms that outer scopes know are multiplied with each other there."""
    w = f.builder
    here = [a for a in monomial if level == 0 or atom_level(f, a) == level]
    rest = tuple(a for a in monomial if a not in here)
    product = integer(f, polynomial({rest: factor})) if rest else w.number(factor)
    for atom in here:
        product = w.mul(product, _atom(f, atom))
    return product


def atom_level(f: Frame, atom: Atom) -> int:
    """Return the level of the outermost scope in which the atom can be computed."""
    return f.home[atom] if isinstance(atom, Symbol) else f.level(atom.symbols, f.dim_reads(value(atom)))


def split_by_level(f: Frame, dim: Dim, level: int) -> tuple[Dim, Dim]:
    """Split dim into (terms that can only be computed in the scope at `level`, the other terms)."""
    if not isinstance(dim, Int):
        return 0, dim
    here = {m: c for m, c in dim.terms.items() if any(atom_level(f, a) >= level for a in m)}
    inner = polynomial(here) if here else 0
    return inner, dim - inner


def symbol_value(f: Frame, symbol: Symbol) -> Value:
    """Return the value that a symbol is bound to."""
    bound = f.scopes[f.home[symbol]].bound[symbol]
    return f.builder.add(bound.value, f.builder.number(bound.shift)) if bound.shift else bound.value


def _atom(f: Frame, atom: Atom) -> Value:
    if isinstance(atom, Symbol):
        return symbol_value(f, atom)
    if isinstance(atom, Derived):
        return derive(f, atom, integer)
    if isinstance(atom, Element):
        return f.element(f, atom)
    raise Unsupported(f"kernels can't compute the integer {atom!r}")


def derive(f: Frame, atom: Derived, value_of: Callable[[Frame, Dim], Value]) -> Value:
    """Emit op(left, right) for a quotient, remainder, minimum, maximum or comparison; `value_of` makes both sides indices or
    vectors.

    Quotients and remainders are floored, as in Python.
    """
    b = f.builder.b
    left, right = value_of(f, atom.left), value_of(f, atom.right)
    if atom.op in ("min", "max"):
        return b.select(b.icmp_signed("<" if atom.op == "min" else ">", left, right), left, right)
    if atom.op == "==":
        return b.zext(b.icmp_signed("==", left, right), left.type)
    if not isinstance(atom.right, Int) and atom.right & (atom.right - 1) == 0:
        return _by_power_of_two(f, atom.op, left, atom.right)
    if atom.op == "%":  # reuses the quotient, which is often computed anyway
        return b.sub(left, b.mul(value_of(f, value(Derived("//", atom.left, atom.right))), right))
    if isinstance(atom.right, Int):  # it may be zero where this is hoisted out of a region that doesn't run
        right = b.select(b.icmp_signed("<", right, _one(f, right)), _one(f, right), right)
    if is_nonnegative(atom.left):
        return _small_quotients(f, atom, left, right) or b.udiv(left, right)
    quotient = b.sdiv(left, right)
    rest = b.sub(left, b.mul(quotient, right))
    return b.select(b.icmp_signed("<", rest, f.builder.zero(rest.type)), b.sub(quotient, _one(f, quotient)), quotient)


def _small_quotients(f: Frame, atom: Derived, left: Value, right: Value) -> Value | None:
    """Divide lanes that fit 32 bits by a constant in 32 bits, for which LLVM has vector multiplications. None if they may not
    fit.
    """
    b, lanes, most = f.builder.b, lanes_of(left), largest(atom.left)
    if lanes is None or isinstance(atom.right, Int) or isinstance(most, Int) or most is None or max(most, atom.right) >= 1 << 31:
        return None
    small = vector_type(I32, lanes)
    if left.type == small:
        return None
    return b.zext(b.udiv(b.trunc(left, small), b.trunc(right, small)), left.type)


def _one(f: Frame, like: Value) -> Value:
    """Return 1 with as many lanes as `like` has."""
    one = f.builder.number(1)
    lanes = lanes_of(like)
    return one if lanes is None else f.builder.splat(one, lanes)


def _by_power_of_two(f: Frame, op: str, left: Value, divisor: int) -> Value:
    """Emit a quotient or remainder by a power of two as a shift or a mask."""
    b, w, lanes = f.builder.b, f.builder, lanes_of(left)
    right = w.number(divisor.bit_length() - 1 if op == "//" else divisor - 1)
    right = right if lanes is None else w.splat(right, lanes)
    return b.ashr(left, right) if op == "//" else b.and_(left, right)


# ---- lanes ----------------------------------------------------------------------------------------------------------------


def lane_integers(f: Frame, dim: Dim) -> Value:
    """Return dim as a vector of indices, one per lane of the enclosing vector loop."""
    assert f.vector is not None
    lanes = f.vector.count
    if f.vector.symbol not in symbols(dim):
        return f.builder.splat(integer(f, dim), lanes)
    assert isinstance(dim, Int)
    reads = f.dim_reads(dim)
    level = f.level(dim.symbols, reads)
    key = ("lanes", dim)
    found = f.known(key, level)
    if found is None:
        with f.at(level):
            found = _lane_sum(f, dim, lanes)
        f.remember(level, key, found, reads)
    return found


def _lane_sum(f: Frame, dim: Int, lanes: int) -> Value:
    """Emit dim in every lane: if the loop's variable has one factor, a scalar plus multiples of the lane number; else term by
    term.
    """
    w, symbol = f.builder, f.vector.symbol  # type: ignore[union-attr]
    factor = coefficient(dim, symbol)
    if factor is not None:
        return w.b.add(w.splat(integer(f, dim), lanes), lane_steps(f, factor, lanes))
    uniform = polynomial({m: c for m, c in dim.terms.items() if not any(symbol in a.symbols for a in m)})
    varying = dim - uniform
    assert isinstance(varying, Int)
    total = w.splat(integer(f, uniform), lanes) if uniform != 0 else None
    for monomial, c in varying.terms.items():
        moving = [a for a in monomial if symbol in a.symbols]
        fixed = polynomial({tuple(a for a in monomial if symbol not in a.symbols): c})
        product = _lane_atom(f, moving[0])
        for atom in moving[1:]:
            product = w.b.mul(product, _lane_atom(f, atom))
        if fixed != 1:
            product = w.b.mul(product, w.splat(integer(f, fixed), lanes))
        total = product if total is None else w.b.add(total, product)
    return total


def lane_steps(f: Frame, factor: Dim, lanes: int) -> Value:
    """Return factor * lane number in every lane."""
    w = f.builder
    step = integer(f, factor)
    known = constant_of(step)
    if known is not None:
        return w.listed(w.index, [known * i for i in range(lanes)])
    return w.b.mul(w.splat(step, lanes), w.iota(w.index, lanes))


def _lane_atom(f: Frame, atom: Atom) -> Value:
    if isinstance(atom, Derived):
        return derive(f, atom, lane_integers)
    if isinstance(atom, Element):
        return f.element(f, atom)
    return lane_integers(f, Int({(atom,): 1}))
