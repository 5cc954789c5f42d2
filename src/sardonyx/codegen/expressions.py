"""Emits expressions as LLVM values. Each is computed once, in the outermost scope in which its operands are known
(codegen.scopes).

Inside a vector loop a value is a scalar if it is the same in all lanes, else a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sardonyx.base.dtypes import DType
from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import Dim, Symbol, value
from sardonyx.codegen import arithmetic, casts, checks, loops
from sardonyx.codegen.guards import Guarded, under
from sardonyx.codegen.integers import integer, lane_integers
from sardonyx.codegen.llvm_types import I64, Value, lanes_of, register_type, vector_type
from sardonyx.codegen.loop_analysis import is_short, lanes_for, masks_fit
from sardonyx.codegen.loops import Reduction, SerialLoop, States, VectorLoop
from sardonyx.codegen.memory import load_element, load_lanes, varies
from sardonyx.codegen.polling import at_most, at_once, poll_interval, reduction
from sardonyx.codegen.scopes import Frame
from sardonyx.loop import functions
from sardonyx.loop.casts import convert
from sardonyx.loop.nodes import (
    FUNCTIONS,
    TRUSTED,
    Bitcast,
    Cast,
    Const,
    Element,
    Expr,
    Index,
    Kind,
    Load,
    Op,
    Reduce,
    Select,
    replace,
)


def evaluate(f: Frame, expr: Expr) -> Value:
    """Return the value of expr, emitting it unless an enclosing scope has it. Raises Unsupported for what this target can't
    compute.
    """
    if isinstance(expr, Const):
        return f.builder.const(register_type(expr.dtype), literal(expr))
    reads = f.reads(expr)
    level = f.level(expr.symbols, reads)
    found = f.known(expr, level)
    if found is None:
        with f.at(level):
            found = EMITTERS[type(expr)](f, expr)
        f.remember(level, expr, found, reads)
    return found


def literal(expr: Const) -> float | int | bool:
    """Return the number that represents a constant in a register: the bits of an f16, bf16 or narrower float, else its value."""
    dtype = expr.dtype
    if not dtype.is_float or dtype.bits >= 32:
        return expr.value
    bits = np.asarray(expr.value, np.float64).astype(dtype.numpy).view(np.uint16 if dtype.bits == 16 else np.uint8)
    return int(bits)


def in_lanes(f: Frame, expr: Expr) -> bool:
    """Does expr differ between the lanes of the enclosing vector loop?"""
    return f.vector is not None and f.vector.symbol in expr.symbols


# ---- kinds of expressions -------------------------------------------------------------------------------------------------


def _index(f: Frame, expr: Index) -> Value:
    v = lane_integers(f, expr.dim) if varies(f, expr.dim) else integer(f, expr.dim)
    return widened(f, v)


def widened(f: Frame, v: Value) -> Value:
    """Sign-extend an index to i64."""
    t = vector_type(I64, lanes_of(v))
    return v if v.type == t else f.builder.b.sext(v, t)


def _load(f: Frame, expr: Load) -> Value:
    guard = None if expr.guard is None else evaluate(f, expr.guard)
    offset = under(expr.offset, expr.guard)
    if varies(f, offset) or (guard is not None and lanes_of(guard) is not None):
        return load_lanes(f, expr.buffer, offset, guard)
    return load_element(f, expr.buffer, offset, guard)


def _op(f: Frame, expr: Op) -> Value:
    if expr.fn in FUNCTIONS:
        return evaluate(f, functions.function(expr))
    args = tuple(evaluate(f, a) for a in expr.args)
    return arithmetic.emit(f.builder, expr.fn, expr.args[0].dtype, args)


def _select(f: Frame, expr: Select) -> Value:
    condition, then, otherwise = f.builder.alike(*(evaluate(f, a) for a in expr.args))
    return f.builder.b.select(condition, then, otherwise)


def _cast(f: Frame, expr: Cast) -> Value:
    """Emit a cast as an instruction, or as integer arithmetic where the target has none."""
    x = expr.args[0]
    spelled = convert(x, expr.dtype, lambda source, to: casts.is_native(source, to, f.target))
    if spelled is not expr:
        return evaluate(f, spelled)
    return casts.cast(f.builder, evaluate(f, x), x.dtype, expr.dtype)


def _bitcast(f: Frame, expr: Bitcast) -> Value:
    return casts.bitcast(f.builder, evaluate(f, expr.args[0]), expr.args[0].dtype, expr.dtype)


# ---- reductions -----------------------------------------------------------------------------------------------------------

Loops = tuple[tuple[Symbol, Kind], ...]


def _reduce(f: Frame, expr: Reduce) -> Value:
    """Emit a reduction whose totals are carried in registers.

    Inside a vector loop each lane has a total of its own. Otherwise, if the reduction has a loop of kind vector, each of that
    loop's lanes has a total, and the totals are combined at the end.
    """
    vectorised = next((i for i, (_, kind) in enumerate(expr.loops) if kind == "vector"), None)
    if f.vector is not None or vectorised is None:
        lanes = f.vector.count if f.vector is not None and in_lanes(f, expr) else None
        start = arithmetic.neutral(f.builder, expr.fn, expr.dtype, lanes)
        return _nest(f, expr, expr.loops, expr.body, [start], None)[0]
    loop = _vector_loop(f, expr, *expr.loops[vectorised])
    states = _nest(f, expr, expr.loops, expr.body, loops.begin(f, loop), loop)
    return loops.finish(f, loop.reductions[0], states[0], states[1] if loop.has_tail else None)


def _vector_loop(f: Frame, expr: Reduce, symbol: Symbol, kind: Kind) -> VectorLoop:
    """Describe the vectorised loop of a reduction: its lanes, remainder and unrolling."""
    lanes = lanes_for(f.target, symbol, [expr.body])
    innermost = expr.loops[-1][0] == symbol
    return VectorLoop(
        symbol,
        0,
        extent(symbol),
        lanes,
        frozenset(),
        (Reduction(expr.fn, expr.dtype),),
        masks_fit(f.target, symbol, [expr.body]),
        unroll=4 if innermost and is_short([expr.body]) else 1,
        poll_interval=_poll_interval(expr, symbol, kind),
    )


def _poll_interval(expr: Reduce, symbol: Symbol, kind: Kind) -> int | None:
    """Return the polling interval of one loop of a reduction (codegen.polling)."""
    outer = [s for s, _ in expr.loops].index(symbol)
    return poll_interval(at_most(extent(symbol)), reduction(expr, outer + 1), at_once(kind))


def extent(symbol: Symbol) -> Dim:
    """Return the extent of a reduction's variable. Raises Unsupported if it has none."""
    if symbol.extent is None:
        raise Unsupported(f"the extent of the reduction over {symbol} is unknown")
    return symbol.extent


def _nest(f: Frame, expr: Reduce, left: Loops, body: Expr, states: States, loop: VectorLoop | None) -> States:
    """Emit the loops `left` around body, and return the states after them. states: [total], or the accumulators of the vector
    loop that is being emitted.
    """
    if not left:
        v = evaluate(f, body)
        if loop is not None:
            mask = f.vector.mask if f.vector is not None else None
            return [arithmetic.combine(f.builder, expr.fn, expr.dtype, states[0], v, mask)]
        return [arithmetic.accumulate(f.builder, expr.fn, expr.dtype, states[0], v)]
    (symbol, kind), *rest = left
    inner = tuple(rest)
    if kind == "unrolled":
        return _unrolled(f, expr, symbol, inner, body, states, loop)

    def iteration(states: States) -> States:
        return _nest(f, expr, inner, body, states, loop)

    if loop is not None and symbol == loop.symbol:
        condition = loops.nonempty(f, 0, loop.hi)
        return loops.region(f, condition, states, lambda s: loops.vector(f, loop, s, iteration))
    counted = SerialLoop(symbol, 0, extent(symbol), frozenset(), _poll_interval(expr, symbol, "serial"))
    return loops.serial(f, counted, states, iteration)


def _unrolled(f: Frame, expr: Reduce, symbol: Symbol, inner: Loops, body: Expr, states: States, loop: VectorLoop | None) -> States:
    """Emit one body per iteration of an unrolled loop. Raises Unsupported if the number of iterations isn't known."""
    trips = extent(symbol)
    if not isinstance(trips, int):
        raise Unsupported(f"a reduction of {trips} iterations can't be unrolled: their number must be known")
    for i in range(trips):
        known: Mapping[Symbol, Dim] = {symbol: i}
        states = _nest(f, expr, _with_known(inner, known), replace(body, known), states, loop)
    return states


def _with_known(inner: Loops, known: Mapping[Symbol, Dim]) -> Loops:
    """Return `inner` if no extent depends on the variables of `known`. Raises Unsupported otherwise."""
    for symbol, _ in inner:
        if symbol.extent is not None and not isinstance(symbol.extent, int) and not known.keys().isdisjoint(symbol.extent.symbols):
            raise Unsupported(f"the loop {symbol} < {symbol.extent} depends on an unrolled loop around it")
    return inner


# ---- indices from data ----------------------------------------------------------------------------------------------------


def element(f: Frame, atom: Element) -> Value:
    """Return an Element (an index that was read from data) as an index, or one per lane.

    A negative one counts from the end; the result is checked against the extent, then clamped so that memory accesses stay in
    bounds.
    """
    reads = f.dim_reads(value(atom))
    level = f.level(atom.symbols, reads)
    found = f.known(atom, level)
    if found is None:
        with f.at(level):
            found = _checked(f, atom)
        f.remember(level, atom, found, reads)
    return found


def _checked(f: Frame, atom: Element) -> Value:
    """Emit an Element: wrap a negative index, record a failure if it is out of range, and clamp it."""
    w, b = f.builder, f.builder.b
    assert atom.extent is not None
    v = _as_i64(f, evaluate(f, atom.expr), atom.expr.dtype)
    if atom.code == TRUSTED:
        return _as_index(f, v)
    bound: Value = widened(f, integer(f, atom.extent))
    v, bound = w.alike(v, bound)
    zero = w.zero(v.type)
    whole = b.select(b.icmp_signed("<", v, zero), b.add(v, bound), v)
    good = b.icmp_unsigned("<", whole, bound)
    if isinstance(atom, Guarded):
        looked_at, fine = w.alike(evaluate(f, atom.guard), good)
        checks.unless(f, b.or_(fine, b.not_(looked_at)), atom.code, [v, bound])
    else:
        checks.unless(f, good, atom.code, [v, bound])
    top = b.sub(bound, w.const(v.type, 1))
    clamped = b.select(b.icmp_signed("<", whole, zero), zero, b.select(good, whole, top))
    clamped = b.select(b.icmp_signed("<", clamped, zero), zero, clamped)
    return _as_index(f, clamped)


def _as_index(f: Frame, v: Value) -> Value:
    t = vector_type(f.builder.index, lanes_of(v))
    return v if v.type == t else f.builder.b.trunc(v, t)


def _as_i64(f: Frame, v: Value, dtype: DType) -> Value:
    t = vector_type(I64, lanes_of(v))
    if v.type == t:
        return v
    return (f.builder.b.sext if dtype.kind == "int" else f.builder.b.zext)(v, t)


EMITTERS: dict[type[Expr], Callable[[Frame, Any], Value]] = {
    Index: _index,
    Load: _load,
    Op: _op,
    Select: _select,
    Cast: _cast,
    Bitcast: _bitcast,
    Reduce: _reduce,
}
"""The function that emits each kind of expression."""
