"""Shape arithmetic: the elements of small integer tensors as `Dim`s, by evaluating their bodies symbolically.

Shape, Gather, Concat, Slice, Mul, Cast, Where, Range and kin over sizes need no second definition: their meaning is an expression
over indices, and an expression over known indices and known elements is a number or a formula.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import Atom, Dim, Int, Symbol, evaluate, is_nonnegative, maximum, minimum, substitute, symbols, value
from sardonyx.expr import decide
from sardonyx.expr.decide import Relation, Undecided
from sardonyx.expr.require import is_required_nonnegative
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.loop.nodes import Cast, Const, Element, Expr, Index, Op, Reduce, Select, dim_elements

MOST_ELEMENTS = 1024
"""Tensors above this size are never shape arithmetic."""

Number: TypeAlias = int | float | bool | Int


class DataSymbol(Symbol):
    """An element of an integer tensor that is known only once the tensor has been computed."""

    __slots__ = ("position", "tensor")

    def __init__(self, tensor: Tensor, position: int) -> None:
        super().__init__(f"{tensor.name}[{position}]")
        self.tensor, self.position, self.signed = tensor, position, True

    def _same(self, other: Atom) -> bool:
        assert isinstance(other, DataSymbol)
        return self.tensor is other.tensor and self.position == other.position  # a name is unique only within its graph


class Unknown(Exception):
    """This element is not shape arithmetic."""


def known(t: Tensor) -> npt.NDArray[Any] | None:
    """t's elements as Dims, floats or bools (an object array of t's shape), or None where data decide any."""
    try:
        for at in np.ndindex(memo(t).shape):
            number_at(t, at)
    except Unknown:
        return None
    return t.known


def decided(t: Tensor) -> npt.NDArray[Any]:
    """As `known`; comparisons of sizes are answered for the run that the program is made for. Raises Undecided where data decide."""
    with decide.asking():
        found = known(t)
    if found is None:
        raise Undecided(f"the form of the graph depends on the value of {t.name or t.origin}")
    return found


_forbidden: contextvars.ContextVar[str] = contextvars.ContextVar("no_data_sizes", default="")


@contextlib.contextmanager
def no_data_sizes(where: str) -> Iterator[None]:
    """Inside, a size that only data decide raises Unsupported, naming where."""
    token = _forbidden.set(where)
    try:
        yield
    finally:
        _forbidden.reset(token)


def elements(t: Tensor) -> npt.NDArray[Any]:
    """t's elements as Dims; those that only data decide are new symbols, bound when t has been computed. Raises Unsupported if t
    has no fixed shape."""
    try:
        out = np.empty(fixed_shape(t), object)
    except Unknown as e:
        raise Unsupported(str(e)) from None
    for position, at in enumerate(np.ndindex(out.shape)):
        out[at] = number_or_symbol(t, at, position)
    return out


def number_or_symbol(t: Tensor, at: tuple[int, ...], position: int) -> Number:
    try:
        return number_at(t, at)
    except Unknown:
        if where := _forbidden.get():
            raise Unsupported(f"a size that depends on data {where}") from None
        return value(DataSymbol(t, position))


def fixed_shape(t: Tensor) -> tuple[int, ...]:
    if not all(isinstance(n, int) for n in t.shape):
        raise Unknown(f"{t} has no fixed shape")
    return tuple(n for n in t.shape if isinstance(n, int))


def memo(t: Tensor) -> npt.NDArray[Any]:
    """What has been found of t's elements: an object array of t's shape, None where nothing has been found yet."""
    if t.known is None:
        shape = fixed_shape(t)
        if not t.dtype.is_number or math.prod(shape) > MOST_ELEMENTS:
            raise Unknown
        found = np.full(shape, None, object)
        if t.data is not None:
            found[...] = t.data.load().astype(float if t.dtype.is_float else object)
        t.known = found
    return t.known


def number_at(t: Tensor, at: tuple[int, ...]) -> Number:
    """One element. Raises Unknown where data decide."""
    found = memo(t)
    if found[at] is None:
        found[at] = evaluate_element(t, at)
    return found[at]  # type: ignore[no-any-return]


def evaluate_element(t: Tensor, at: tuple[int, ...]) -> Number:
    if t.parts:
        return number_of_part(t, at)
    if t.body is None:
        fed = decide.ask_value(t.name, at) if decide.is_asking() and t.call is None and t.region is None else None
        if fed is None:
            raise Unknown
        return fed
    env = {s: i for a, i in zip(t.axes, at, strict=True) if isinstance(a, Int) for s in a.symbols}
    return reduce_known(t, env) if t.fn else evaluate_expr(t.body, env)


def number_of_part(whole: Tensor, at: tuple[int, ...]) -> Number:
    """The element of the part that holds this place of the whole."""
    for part in whole.parts:
        assert part.into is not None
        shape = fixed_shape(part)
        start = [substitute(i, dict.fromkeys(symbols(a), 0)) for i, a in zip(part.into[1], part.axes, strict=True)]
        own = tuple(i - s for i, s in zip(at, start, strict=True) if isinstance(s, int))
        if len(own) < len(start):
            raise Unknown
        if all(0 <= i < n for i, n in zip(own, shape, strict=True)):
            return number_at(part, own)
    raise Unknown


def reduce_known(t: Tensor, env: Mapping[Symbol, Dim]) -> Number:
    assert t.fn
    assert t.body is not None
    extents = [substitute(s.extent, env) for s in t.loops if s.extent is not None]
    if not all(isinstance(e, int) for e in extents):
        raise Unknown
    result: Number | None = None
    for at in itertools.product(*(range(evaluate(e, dict[Symbol, int]().__getitem__)) for e in extents)):
        term = evaluate_expr(t.body, {**env, **dict(zip(t.loops, at, strict=True))})
        result = term if result is None else operate(t.fn, (result, term))
    if result is None:
        raise Unknown
    return result


def evaluate_expr(e: Expr, env: Mapping[Symbol, Dim]) -> Number:
    if isinstance(e, Const):
        return e.value
    if isinstance(e, Index):
        return known_dim(e.dim, env)
    if isinstance(e, Read):
        return read_known(e, env)
    if isinstance(e, Select):
        condition, then, otherwise = e.args
        chosen = evaluate_expr(condition, env)
        if isinstance(chosen, Int):
            raise Unknown
        return evaluate_expr(then if chosen else otherwise, env)
    if isinstance(e, Cast):
        return cast_known(evaluate_expr(e.args[0], env), e)
    if isinstance(e, Op):
        return operate(e.fn, tuple(evaluate_expr(a, env) for a in e.args))
    raise Unknown(f"{type(e).__name__}" if isinstance(e, Reduce) else str(e))


def known_dim(dim: Dim, env: Mapping[Symbol, Dim]) -> Dim:
    """dim with the loop variables replaced, and its data-dependent indices too."""
    if not any(True for _ in dim_elements(dim)):
        return substitute(dim, env)
    total: Dim = 0
    for monomial, factor in (dim.terms if isinstance(dim, Int) else {(): dim}).items():
        term: Dim = factor
        for atom in monomial:
            if isinstance(atom, Element):
                term = term * element_known(atom, env)
            elif isinstance(atom, Symbol):
                term = term * substitute(value(atom), env)
            else:
                raise Unknown
        total = total + term
    return total


def element_known(atom: Element, env: Mapping[Symbol, Dim]) -> Dim:
    number = evaluate_expr(atom.expr, env)
    if not isinstance(number, int) or atom.extent is None:
        raise Unknown
    return number + substitute(atom.extent, env) if number < 0 else number


def read_known(e: Read, env: Mapping[Symbol, Dim]) -> Number:
    if e.guard is not None:
        allowed = evaluate_expr(e.guard, env)
        if isinstance(allowed, Int):
            raise Unknown
        if not allowed:
            return 0
    where = [known_dim(i, env) for i in e.indices]
    at = tuple(w for w in where if isinstance(w, int))
    if len(at) < len(where) or not all(0 <= w < n for w, n in zip(at, fixed_shape(e.tensor), strict=True)):
        raise Unknown
    return number_at(e.tensor, at)


def cast_known(x: Number, e: Cast) -> Number:
    if e.dtype.is_integer:
        return x if isinstance(x, Int) else int(x) if math.isfinite(x) else _unknown()
    if e.dtype.is_float:
        return x if isinstance(x, Int) else float(x)  # a size stays exact as a formula
    if not isinstance(x, Int):
        return bool(x)
    return not decide.ask(x, "==") if decide.is_asking() else _unknown()


def _unknown() -> Number:
    raise Unknown


def operate(fn: str, args: tuple[Number, ...]) -> Number:
    """fn on numbers and formulas; Unknown where a formula would have to be more than an integer polynomial."""
    if not any(isinstance(a, Int) for a in args):
        return operate_numbers(fn, args)
    whole = tuple(int(a) if isinstance(a, float) and a.is_integer() else a for a in args)
    dims: list[Dim] = [a for a in whole if isinstance(a, (int, Int))]
    rule = DIM_RULES.get(fn)
    if rule is None or len(dims) < len(whole):
        raise Unknown
    return rule(*dims)


def divide_known(a: Dim, b: Dim) -> Dim:
    """Integer division towards zero; of formulas only where both are known (or required) not to be negative."""
    if not is_required_nonnegative(a) or not is_required_nonnegative(b - 1):
        raise Unknown
    return a // b


def remainder_known(a: Dim, b: Dim) -> Dim:
    return a - divide_known(a, b) * b


def compare(certain: Callable[[Dim], bool | None], relation: Relation, truth: bool) -> Callable[[Dim, Dim], bool]:
    """The comparison whose result is `truth` if a - b is in the relation to zero. certain: is it? None where sizes decide."""

    def rule(a: Dim, b: Dim) -> bool:
        answer = certain(a - b)
        if answer is None and decide.is_asking():
            answer = decide.ask(a - b, relation)
        if answer is None:
            raise Unknown
        return answer is truth

    return rule


def less(d: Dim) -> bool | None:
    """Is d < 0?"""
    if is_nonnegative(d):
        return False
    return True if is_nonnegative(-1 - d) else None


def at_most(d: Dim) -> bool | None:
    """Is d <= 0?"""
    if is_nonnegative(-d):
        return True
    return False if is_nonnegative(d - 1) else None


def same(d: Dim) -> bool | None:
    """Is d == 0?"""
    if not isinstance(d, Int):
        return d == 0
    return False if is_nonnegative(d - 1) or is_nonnegative(-1 - d) else None


DIM_RULES: Mapping[str, Callable[..., Number]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": divide_known,
    "rem": remainder_known,
    "mod": remainder_known,
    "min": minimum,
    "max": maximum,
    "neg": lambda a: -a,
    "floor": lambda a: a,
    "ceil": lambda a: a,
    "rint": lambda a: a,
    "trunc": lambda a: a,
    "eq": compare(same, "==", True),
    "ne": compare(same, "==", False),
    "lt": compare(less, "<", True),
    "ge": compare(less, "<", False),
    "le": compare(at_most, "<=", True),
    "gt": compare(at_most, "<=", False),
}


def operate_numbers(fn: str, args: tuple[Any, ...]) -> Number:
    rule = NUMBER_RULES.get(fn)
    if rule is None or (fn in ("div", "rem", "mod") and args[1] == 0):
        raise Unknown
    return rule(*args)  # type: ignore[no-any-return]


def _quotient(a: Any, b: Any) -> Any:
    return (
        a / b
        if isinstance(a, float)
        else math.trunc(a / b)
        if abs(a) < 1 << 52
        else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    )


NUMBER_RULES: Mapping[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": _quotient,
    "rem": lambda a, b: math.fmod(a, b) if isinstance(a, float) else a - _quotient(a, b) * b,
    "mod": lambda a, b: a % b,
    "min": min,
    "max": max,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "not": lambda a: not a if isinstance(a, bool) else ~a,
    "neg": lambda a: -a,
    "abs": abs,
    "floor": lambda a: float(math.floor(a)),
    "ceil": lambda a: float(math.ceil(a)),
    "trunc": lambda a: float(math.trunc(a)),
    "rint": lambda a: float(round(a)),
    "sqrt": lambda a: math.sqrt(a) if a >= 0 else math.nan,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
