"""Evaluate tensor expressions in numpy: the reference that compiled programs are tested against.

Bodies are evaluated on whole grids of indices, with one array axis per index or loop variable, and then reduced. The code
favours checks over speed: every read is checked, the parts of a tensor must cover it exactly once, and kernels run in the
loop interpreter. Functions (exp, erf, ...) are evaluated in f64 and rounded once.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sardonyx.base.dtypes import DType
from sardonyx.base.errors import InvalidArgument
from sardonyx.base.symbolic import Atom, Defined, Derived, Dim, Symbol, symbols, terms
from sardonyx.expr.dependence import depends_on
from sardonyx.expr.known import DataSymbol
from sardonyx.expr.region import Region
from sardonyx.expr.tensor import KernelCall, Read, Tensor, operands
from sardonyx.loop import interpreter, semantics
from sardonyx.loop.nodes import FUNCTIONS, Bitcast, Cast, Const, Element, Expr, Index, Op, Select

Array: TypeAlias = npt.NDArray[Any]

MOST_POINTS = 1 << 22
"""Largest number of grid points to evaluate at once."""


def evaluate(outputs: Sequence[Tensor], feeds: Mapping[Tensor, Array], sizes: Mapping[Symbol, int]) -> list[Array]:
    """Evaluate the outputs, given the inputs' numbers and the sizes.

    Raises InvalidArgument for a data-dependent index out of bounds, IndexError for any other, KeyError for an input that is
    not fed.
    """
    scope = Scope(dict(feeds), dict(sizes))
    with np.errstate(all="ignore"):
        for t in needed(outputs, scope.values):
            scope.compute(t)
    return [scope.values[t] for t in outputs]


# ---- what depends on what -----------------------------------------------------------------------------------------------


def needed(outputs: Iterable[Tensor], given: Iterable[Tensor]) -> list[Tensor]:
    """List the tensors to compute, operands first. Tensors inside a region are computed by the region."""
    found: dict[Tensor, None] = dict.fromkeys(given)
    given = set(found)
    todo = list(outputs)
    while todo:
        t = todo.pop()
        if t not in found:
            found[t] = None
            todo += sources(t)
    return sorted((t for t in found if t not in given), key=lambda t: t.id)


def sources(t: Tensor) -> list[Tensor]:
    """List what must be computed before t: its operands, and the tensors whose elements are sizes in its definition."""
    direct = [o for r in t.region.both for o in outer_operands(r)] if t.region else operands(t)
    return direct + [s.tensor for s in depends_on(t) if isinstance(s, DataSymbol)]


def changing(region: Region) -> list[Tensor]:
    """List, operands first, the tensors that a region computes in each iteration: those that depend on its state or counter,
    or are pinned."""
    states = [c.state for c in region.states]
    moving = set(states)
    out = []
    for t in needed(region.results, states):
        pinned = region.pinned and region.made is not None and region.made[0] < t.id < region.made[1]
        if pinned or region.step in depends_on(t) or not moving.isdisjoint(sources(t)):
            moving.add(t)
            out.append(t)
    return out


def outer_operands(region: Region) -> list[Tensor]:
    """List the tensors that a region reads from outside."""
    inside = changing(region)
    read = [o for t in inside for o in sources(t)]
    own = {*inside, *(c.state for c in region.states)}
    return [t for t in dict.fromkeys((*region.inputs, *read, *region.results)) if t not in own]


# ---- tensors ------------------------------------------------------------------------------------------------------------


class Scope:
    """The values of tensors and symbols. Each iteration of a region works in a copy."""

    def __init__(self, values: dict[Tensor, Array], sizes: dict[Symbol, int]) -> None:
        self.values, self.sizes = values, sizes

    def lookup(self, s: Symbol) -> int:
        """Return the value of a symbol."""
        if isinstance(s, Defined):
            return int(Grid(self, {}).dim(s.definition))
        return int(self.values[s.tensor].ravel()[s.position]) if isinstance(s, DataSymbol) else self.sizes[s]

    def shape(self, dims: Iterable[Dim]) -> tuple[int, ...]:
        """Evaluate the sizes."""
        sizes = Grid(self, {})
        return tuple(int(sizes.dim(d)) for d in dims)

    def compute(self, t: Tensor) -> None:
        """Compute t, together with the other outputs of its kernel or region, and store the results."""
        if t in self.values:
            return
        if t.data is not None:
            self.values[t] = np.asarray(t.data.load()).reshape(self.shape(t.shape))
        elif t.parts:
            self.values[t] = self.assemble(t)
        elif t.call:
            self.values.update(zip(t.call.outputs, self.run_kernel(t.call), strict=True))
        elif t.region:
            for region in t.region.both:
                self.run_region(region)
        elif t.body is not None:
            self.values[t] = self.compute_body(t, t.body)
        else:
            raise KeyError(f"no numbers are given for {t}")

    def compute_body(self, t: Tensor, body: Expr) -> Array:
        """Compute a tensor from its body, in blocks of grid points."""
        shape = self.shape(t.shape)
        out = np.empty(shape, t.dtype.numpy)
        loops = self.shape(s.extent for s in t.loops if s.extent is not None)
        for block in blocks(shape, max(1, MOST_POINTS // max(1, math.prod(loops)))):
            ranges = open_grid([range(b.start, b.stop) for b in block] + [range(n) for n in loops])
            points = dict(zip((*map(variable_of, t.axes), *t.loops), ranges, strict=True))
            numbers = np.broadcast_to(Grid(self, points).expr(body), [r.size for r in ranges])
            out[block] = reduce(t.fn, numbers, t.dtype, len(shape)) if t.fn else numbers
        return out

    def assemble(self, whole: Tensor) -> Array:
        """Assemble a tensor from its parts. Raises IndexError unless they cover it exactly once."""
        out = np.empty(self.shape(whole.shape), whole.dtype.numpy)
        times = np.zeros(out.shape, np.int64)
        for part in whole.parts:
            assert part.into is not None
            numbers = self.values[part]
            points = dict(zip(map(variable_of, part.axes), open_grid(list(map(range, numbers.shape))), strict=True))
            grid = Grid(self, points)
            at = checked([np.broadcast_to(grid.dim(d), numbers.shape) for d in part.into[1]], out.shape, whole)
            out[at] = numbers
            np.add.at(times, at, 1)
        if not (times == 1).all():
            raise IndexError(f"the parts of {whole} don't cover it once")
        return out

    def run_kernel(self, call: KernelCall) -> list[Array]:
        """Run a hand-written kernel in the loop interpreter and return its outputs."""
        shapes = [self.shape(t.shape) for t in call.outputs]
        outputs = [interpreter.undefined(math.prod(s), t.dtype).reshape(s) for s, t in zip(shapes, call.outputs, strict=True)]
        inputs = [np.ascontiguousarray(self.values[t]) for t in call.inputs]
        arrays = {b.name: a for b, a in zip(call.kernel.buffers, inputs + outputs, strict=True)}
        sizes = {s.name: n for s, n in zip(call.kernel.sizes, self.shape(call.sizes), strict=True)}
        failure = interpreter.run(call.kernel, arrays, sizes)
        if failure is not None:
            raise InvalidArgument(f"{call.outputs[0].origin}: {call.checks[failure.code].format(*failure.details)}")
        return outputs

    def run_region(self, region: Region) -> None:
        """Run the iterations of a region and store its results."""
        if region.flag is not None:
            self.run_branch(region, self.values[region.flag])
            return
        carried = region.states
        state = {c.state: self.values[c.initial] for c in carried}
        (trip,) = self.shape([region.trip])
        stacks = [np.zeros(self.shape(s.whole.shape), s.whole.dtype.numpy) for s in region.stacked]
        body, step = changing(region), 0
        while step < trip and (region.proceed is None or state[region.proceed.state]):
            iteration = Scope(self.values | state, self.sizes | {region.step: step})
            for t in body:
                iteration.compute(t)
            for stack, s in zip(stacks, region.stacked, strict=True):
                stack[step] = iteration.values[s.value]
            state = {c.state: iteration.values[c.update] for c in carried}
            step += 1
        self.values |= {c.final: state[c.state] for c in region.carried}
        self.values |= {s.whole: stack for s, stack in zip(region.stacked, stacks, strict=True)}
        if region.count is not None:
            self.values[region.count] = np.array(step, np.int64)

    def run_branch(self, region: Region, flag: Array) -> None:
        """Run a branch and store its results, if its flag is true."""
        if flag:
            inside = Scope(self.values.copy(), self.sizes)
            for t in changing(region):
                inside.compute(t)
            self.values |= {s.whole: inside.values[s.value] for s in region.stacked}


# ---- bodies -------------------------------------------------------------------------------------------------------------


class Grid:
    """Evaluates expressions at many points at once: each index variable is an array along an axis of its own.

    `where` (a bool array) marks the points at which a guarded read is executed: indices are checked only there.
    """

    def __init__(self, scope: Scope, points: Mapping[Symbol | None, Array]) -> None:
        self.scope, self.points = scope, points
        self.memo: dict[tuple[Expr, int], tuple[Array, Array | None]] = {}  # keeps `where` alive, because its id is in the key

    def dim(self, dim: Dim, where: Array | None = None) -> Any:
        """Evaluate an integer expression."""
        products = (c * math.prod((self.atom(a, where) for a in m), start=np.int64(1)) for m, c in terms(dim).items())
        return functools.reduce(operator.add, products, np.int64(0))

    def atom(self, atom: Atom, where: Array | None) -> Any:
        if isinstance(atom, Symbol):
            points = self.points.get(atom)
            return np.int64(self.scope.lookup(atom)) if points is None else points
        if isinstance(atom, Derived):
            return DERIVED[atom.op](self.dim(atom.left, where), self.dim(atom.right, where))
        if isinstance(atom, Element):
            return self.element(atom, where)
        raise TypeError(f"no meaning for {atom}")

    def element(self, atom: Element, where: Array | None) -> Array:
        """Evaluate an index from data; negative ones count from the end. Raises InvalidArgument if it is out of bounds."""
        assert atom.extent is not None
        number, bound = self.expr(atom.expr, where).astype(np.int64), self.dim(atom.extent, where)
        wrong = (number < -bound) | (number >= bound)
        if (culprits := wrong if where is None else wrong & where).any():
            first = np.broadcast_to(number, culprits.shape)[culprits].flat[0]
            limits = f"must be within the inclusive range [{-bound},{bound - 1}]"
            raise InvalidArgument(f"indices element out of data bounds, idx={first} {limits}")
        return np.where(wrong, 0, np.where(number < 0, number + bound, number))

    def expr(self, e: Expr, where: Array | None = None) -> Array:
        key = e, id(where)
        if key not in self.memo:
            self.memo[key] = np.asarray(self.evaluate(e, where)), where
        return self.memo[key][0]

    def evaluate(self, e: Expr, where: Array | None) -> Array:
        if isinstance(e, Const):
            return np.array(e.value, e.dtype.numpy)
        if isinstance(e, Index):
            return np.asarray(self.dim(e.dim, where))
        if isinstance(e, Read):
            return self.read(e, where)
        args = [self.expr(a, where) for a in e.args]
        if isinstance(e, Op):
            return function(e.fn, args) if e.fn in FUNCTIONS else semantics.apply(e.fn, *args)
        if isinstance(e, Select):
            return semantics.select(*args)
        if isinstance(e, Cast):
            return semantics.cast(args[0], e.args[0].dtype, e.dtype)
        if isinstance(e, Bitcast):
            return semantics.bitcast(args[0], e.dtype)
        raise TypeError(f"a tensor's body holds {e}")

    def read(self, e: Read, where: Array | None) -> Array:
        numbers, allowed = self.scope.values[e.tensor], where
        if e.guard is not None:
            guard = self.expr(e.guard, where)
            allowed = guard if where is None else guard & where
        at = [np.asarray(self.dim(i, allowed)) for i in e.indices]
        if allowed is None:
            return np.asarray(numbers[checked(at, numbers.shape, e.tensor)])
        if not allowed.any():
            return np.zeros(allowed.shape, numbers.dtype)
        found = numbers[checked([np.where(allowed, i, 0) for i in at], numbers.shape, e.tensor)]
        return np.where(allowed, found, np.zeros((), numbers.dtype))


def checked(at: Sequence[Array], shape: Sequence[int], t: Tensor) -> tuple[Array, ...]:
    """Return the indices, each within its axis. Raises IndexError naming the tensor."""
    for axis, (i, n) in enumerate(zip(at, shape, strict=True)):
        if not ((i >= 0) & (i < n)).all():
            raise IndexError(f"{t} is read or written at {int(i.min())} to {int(i.max())} of {n} on axis {axis}")
    return tuple(at)


def function(fn: str, args: Sequence[Array]) -> Array:
    """Evaluate one of loop.nodes.FUNCTIONS, rounded once."""
    return np.asarray(FUNCTION[fn](*(a.astype(np.float64) for a in args))).astype(args[0].dtype)


def power(x: Array, y: Array) -> Array:
    """Compute C's pow. numpy uses the square root for a scalar exponent of 0.5, which differs at -infinity and -0."""
    root = np.where(np.isneginf(x), np.inf, np.sqrt(x) + 0.0)
    return np.where(y == 0.5, root, np.power(x, y))


def reduce(fn: str, numbers: Array, dtype: DType, kept: int) -> Array:
    """Combine all axes from axis `kept` on by fn."""
    ufunc = semantics.FN[fn]
    assert isinstance(ufunc, np.ufunc)
    return np.asarray(
        ufunc.reduce(numbers, axis=tuple(range(kept, numbers.ndim)), dtype=dtype.numpy, initial=semantics.neutral(fn, dtype)[()])
    )


def variable_of(axis: Dim) -> Symbol | None:
    """Return the loop variable that an axis's index is, or None for an axis of extent 1."""
    return next(iter(symbols(axis)), None)


def open_grid(ranges: Sequence[range]) -> list[Array]:
    """Return each range as an array along an axis of its own."""
    rank = len(ranges)
    return [np.asarray(r, np.int64).reshape([-1 if a == axis else 1 for a in range(rank)]) for axis, r in enumerate(ranges)]


def blocks(shape: Sequence[int], most: int) -> Iterator[tuple[slice, ...]]:
    """Yield slices that cover an array of this shape, each of at most `most` elements; none for an empty array."""
    total = math.prod(shape)
    if total <= most:
        yield from [tuple(slice(0, n) for n in shape)] if total else []
        return
    step = max(1, most * shape[0] // total)
    for start in range(0, shape[0], step):
        for rest in blocks(shape[1:], max(1, most // step)):
            yield slice(start, min(start + step, shape[0])), *rest


DERIVED: Mapping[str, Callable[..., Any]] = {
    "//": np.floor_divide,
    "%": np.remainder,
    "min": np.minimum,
    "max": np.maximum,
    "==": lambda a, b: np.equal(a, b).astype(np.int64),
}

FUNCTION: Mapping[str, Callable[..., Any]] = {
    **{fn: getattr(np, fn) for fn in ("exp", "log", "log1p", "expm1", "tanh", "sin", "cos", "tan", "sinh", "cosh")},
    **{fn: getattr(np, f"arc{fn[1:]}") for fn in ("asin", "acos", "atan", "asinh", "acosh", "atanh")},
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "pow": power,
}
