"""Shape arithmetic: evaluate the elements of small integer tensors symbolically, as `Dim`s.

Shape, Gather, Concat, Slice, Mul, Cast, Where, Range and similar operators on sizes need no second definition. Their bodies
are expressions over indices; at known indices, with known elements, such an expression evaluates to a number or a formula.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import math
from collections.abc import Generator, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from sardonyx.base.dtypes import boolean
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, Int, Symbol, substitute, symbols, the, value
from sardonyx.expr import decide
from sardonyx.expr.decide import Undecided
from sardonyx.expr.dependence import can_fail, depends_on
from sardonyx.expr.formulas import Number, Unknown, convert, operate, reduced
from sardonyx.expr.tensor import Read, Tensor, operands
from sardonyx.loop.nodes import Cast, Const, Element, Expr, Index, Op, Reduce, Select, dim_elements

T = TypeVar("T")

MOST_ELEMENTS = 1024
"""Largest number of elements of a tensor that takes part in shape arithmetic."""


class DataSymbol(Symbol):
    """A size that is an element of an integer tensor, known only once the tensor has been computed."""

    __slots__ = ("position", "tensor")

    tensor: Tensor
    position: int

    def __new__(cls, tensor: Tensor, position: int) -> DataSymbol:
        return the(cls, (id(tensor), position), tensor, position)

    def make(self, tensor: Tensor, position: int) -> None:  # type: ignore[override]
        super().make(f"{tensor.name}[{position}]", None, None)
        self.tensor, self.position, self.signed = tensor, position, True


class DataInBody(Unsupported):
    """The graph needs a size that only data inside a repeated body decide."""


def known(t: Tensor) -> npt.NDArray[Any] | None:
    """Return t's elements as numbers and formulas (an object array of t's shape; see expr.formulas), or None if data decide
    any of them."""
    try:
        for at in np.ndindex(memo(t).shape):
            number_at(t, at)
    except Unknown:
        return None
    return t.known


def decided(t: Tensor) -> npt.NDArray[Any]:
    """Return t's elements like `known`, but answer comparisons of sizes for the run that is being compiled. Raises Undecided
    if data decide."""
    with decide.asking():
        found = known(t)
    if found is None:
        raise Undecided(f"the form of the graph depends on the value of {t.name or t.origin}")
    return found


class _Body(Struct, frozen=True):
    """The control flow bodies that are being imported.

    where   describes the innermost one in messages
    first   the first id of a tensor made in the outermost one
    pinned  the first id of a tensor made in the outermost one whose tensors must stay inside, because it may not run
    """

    where: str = ""
    first: float = math.inf
    pinned: float = math.inf


_NONE = _Body()
_body: contextvars.ContextVar[_Body] = contextvars.ContextVar("body", default=_NONE)


@contextlib.contextmanager
def inside_body(where: str, first: float, pinned: bool = False) -> Iterator[None]:
    """Mark the import of a body: a size decided by data of each iteration raises DataInBody, which names `where`.

    first: an id below those of all tensors of the body, its states included. pinned: nothing is moved out of the body.
    """
    around = _body.get()
    token = _body.set(_Body(where, min(around.first, first), min(around.pinned, first) if pinned else around.pinned))
    try:
        yield
    finally:
        _body.reset(token)


def elements(t: Tensor) -> npt.NDArray[Any]:
    """Return t's elements as Dims. Elements that data decide become new symbols, which get their values once t has been
    computed.

    The number of elements decides ranks, so it must be a number: if it is a formula, a run has to supply it. Raises Undecided
    before that.
    """
    shape = tuple(decide.ask_number(n, f"the number of elements of {t.name}") for n in t.shape)
    if math.prod(shape) > MOST_ELEMENTS:
        raise Unsupported(f"{t} has too many elements for sizes")
    out = np.empty(shape, object)
    for position, at in enumerate(np.ndindex(out.shape)):
        out[at] = number_or_symbol(t, at, position)
    return out


def listed(t: Tensor, what: str) -> list[Dim]:
    """Return the elements of a tensor with one axis, like `elements`. Raises Fail, calling them `what`, for another rank."""
    if t.rank != 1:
        raise Fail(f"[ShapeInferenceError] {what} must be in a tensor of one axis, not in {t}")
    found: list[Dim] = elements(t).tolist()
    return found


def only(t: Tensor, what: str) -> Dim:
    """Return the element of a tensor of one element, like `elements`. Raises Fail, calling it `what`, for more or fewer."""
    found = elements(t)
    if found.size != 1:
        raise Fail(f"[ShapeInferenceError] {what} must be one number, not {t}")
    number: Dim = found.item()
    return number


def number_or_symbol(t: Tensor, at: tuple[int, ...], position: int) -> Number:
    """Return the element at this index, or a new symbol if data decide it."""
    try:
        return number_at(t, at)
    except Unknown:
        return data_size(t, position)


def data_size(t: Tensor, position: int) -> Dim:
    """Return a size that stands for an element decided by data.

    Raises DataInBody if the element is computed in each iteration of a body: sizes are read back only between segments.
    """
    body = _body.get()
    if t.id > body.first and not is_computed_before(t, body):
        raise DataInBody(f"a size that depends on data {body.where}")
    return value(DataSymbol(t, position))


def is_computed_before(t: Tensor, body: _Body) -> bool:
    """Tell whether t, although made inside the enclosing bodies, will be computed before all of them (see lower.repetition)."""
    waiting, seen = [t], {t}
    while waiting:
        x = waiting.pop()
        made = x.body is not None or x.parts or x.call is not None or x.data is not None
        own = {*x.variables, *x.loops}
        counters = any(s.extent is not None and s not in own for s in depends_on(x))
        if x.id > body.pinned or not made or counters or can_fail(x):
            return False
        fresh = [o for o in operands(x) if o.id > body.first and o not in seen]
        waiting += fresh
        seen.update(fresh)
    return True


def size_or_none(t: Tensor) -> Dim | None:
    """Return t's only element as a size, or None if only data of a repeated body decide it. Raises Unsupported if t may have
    more elements."""
    try:
        found: Dim = elements(t).item()
    except ValueError:
        raise Unsupported(f"{t} is not one number") from None
    except DataInBody:
        return None
    return found


def fixed_shape(t: Tensor) -> tuple[int, ...]:
    """Return t's shape as numbers. Raises Unknown if a size is a formula."""
    if not all(isinstance(n, int) for n in t.shape):
        raise Unknown(f"{t} has no fixed shape")
    return tuple(n for n in t.shape if isinstance(n, int))


def memo(t: Tensor) -> npt.NDArray[Any]:
    """Return the elements of t that have been evaluated so far: an object array of t's shape, None where nothing has been
    evaluated."""
    if t.known is None:
        shape = fixed_shape(t)
        if not t.dtype.is_number or math.prod(shape) > MOST_ELEMENTS:
            raise Unknown
        found = np.full(shape, None, object)
        if t.data is not None:
            found[...] = t.data.load().astype(float if t.dtype.is_float else object)
        t.known = found
    return t.known


Asking: TypeAlias = Generator[tuple[Tensor, tuple[int, ...]], Number, T]
"""A generator that yields (tensor, index) to ask for that element, and returns its result. `number_at` runs these on a stack
of its own, so that chains of tensors may be longer than Python's recursion limit."""


def number_at(t: Tensor, at: tuple[int, ...]) -> Number:
    """Evaluate one element. Raises Unknown if data decide it."""
    found = memo(t)[at]
    if found is not None:
        return found  # type: ignore[no-any-return]
    waiting = [(t, at, evaluate_element(t, at))]
    answer: Number | None = None
    while waiting:
        t, at, work = waiting[-1]
        try:
            other, place = work.send(answer)  # type: ignore[arg-type]
        except StopIteration as done:
            answer = memo(t)[at] = done.value
            waiting.pop()
            continue
        answer = memo(other)[place]
        if answer is None:
            waiting.append((other, place, evaluate_element(other, place)))
    assert answer is not None
    return answer


def evaluate_element(t: Tensor, at: tuple[int, ...]) -> Asking[Number]:
    """Evaluate the element of t at this index from t's definition."""
    if t.parts:
        return (yield part_at(t, at))
    if t.body is None:
        fed = decide.ask_value(t.name, at) if decide.is_asking() and t.call is None and t.region is None else None
        if fed is None:
            raise Unknown
        return fed
    env = {s: i for a, i in zip(t.axes, at, strict=True) if isinstance(a, Int) for s in a.symbols}
    return (yield from reduce_known(t, env)) if t.fn else (yield from evaluate_expr(t.body, env))


def part_at(whole: Tensor, at: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """Return the part that contains this element of the whole, and the element's index in that part."""
    for part in whole.parts:
        assert part.into is not None
        shape = fixed_shape(part)
        start = [substitute(i, dict.fromkeys(symbols(a), 0)) for i, a in zip(part.into[1], part.axes, strict=True)]
        own = tuple(i - s for i, s in zip(at, start, strict=True) if isinstance(s, int))
        if len(own) < len(start):
            raise Unknown
        if all(0 <= i < n for i, n in zip(own, shape, strict=True)):
            return part, own
    raise Unknown


def reduce_known(t: Tensor, env: Mapping[Symbol, Dim]) -> Asking[Number]:
    """Evaluate one element of a reduction. Raises Unknown for too many terms."""
    assert t.fn
    assert t.body is not None
    extents = [n for s in t.loops if s.extent is not None and isinstance(n := substitute(s.extent, env), int)]
    if len(extents) < len(t.loops) or math.prod(extents) > MOST_ELEMENTS:
        raise Unknown
    terms = []
    for at in itertools.product(*map(range, extents)):
        terms.append((yield from evaluate_expr(t.body, {**env, **dict(zip(t.loops, at, strict=True))})))
    return reduced(t.fn, t.dtype, terms)


def evaluate_expr(e: Expr, env: Mapping[Symbol, Dim]) -> Asking[Number]:
    """Evaluate an expression, given the values of its loop variables."""
    if isinstance(e, Const):
        return e.value
    if isinstance(e, Index):
        return (yield from known_dim(e.dim, env))
    if isinstance(e, Read):
        return (yield from read_known(e, env))
    if isinstance(e, Select):
        condition, then, otherwise = e.args
        chosen = yield from evaluate_expr(condition, env)
        return (yield from evaluate_expr(then if chosen else otherwise, env))
    if isinstance(e, Cast):
        return convert((yield from evaluate_expr(e.args[0], env)), e.args[0].dtype, e.dtype)
    if isinstance(e, Op):
        args = []
        for a in e.args:
            args.append((yield from evaluate_expr(a, env)))
        return operate(e.fn, e.args[0].dtype, args)
    raise Unknown(f"{type(e).__name__}" if isinstance(e, Reduce) else str(e))


def known_dim(dim: Dim, env: Mapping[Symbol, Dim]) -> Asking[Dim]:
    """Substitute the loop variables in dim, and evaluate the indices in it that come from data."""
    if not any(True for _ in dim_elements(dim)):
        return substitute(dim, env)
    total: Dim = 0
    for monomial, factor in (dim.terms if isinstance(dim, Int) else {(): dim}).items():
        term: Dim = factor
        for atom in monomial:
            if isinstance(atom, Element):
                term = term * (yield from element_known(atom, env))
            elif isinstance(atom, Symbol):
                term = term * substitute(value(atom), env)
            else:
                raise Unknown
        total = total + term
    return total


def element_known(atom: Element, env: Mapping[Symbol, Dim]) -> Asking[Dim]:
    """Evaluate an index from data; a negative index counts from the end."""
    number = yield from evaluate_expr(atom.expr, env)
    if not isinstance(number, int) or atom.extent is None:
        raise Unknown
    return number + substitute(atom.extent, env) if number < 0 else number


def read_known(e: Read, env: Mapping[Symbol, Dim]) -> Asking[Number]:
    """Evaluate a read; zero if its guard is false."""
    if e.guard is not None and not (yield from evaluate_expr(e.guard, env)):
        return False if e.dtype is boolean else 0
    where = []
    for i in e.indices:
        where.append((yield from known_dim(i, env)))
    at = tuple(w for w in where if isinstance(w, int))
    if len(at) < len(where) or not all(0 <= w < n for w, n in zip(at, fixed_shape(e.tensor), strict=True)):
        raise Unknown
    return (yield e.tensor, at)
