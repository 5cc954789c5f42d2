"""Find what is computed from weights alone. It is prepared once, when the model is loaded, by a program of its own."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import Const, Expr
from sardonyx.lower.values import Value, depends_on, reads_of, transform


def inline_scalars(values: dict[Tensor, Value]) -> None:
    """Replace reads of constants of one element by literals. Only dtypes that literals can have: f32, f64, bool, integers of
    8 bits or more."""
    literals: dict[Tensor, Expr] = {}
    for t in values:
        if t.data is not None and t.data.size == 1:
            number = t.data.load().reshape(()).item()
            plain = (t.dtype.is_integer and t.dtype.bits >= 8) or t.dtype.kind == "bool" or t.dtype.name in ("f32", "f64")
            if plain:
                literals[t] = Const(number, t.dtype)
    for v in values.values():
        if v.body is not None and not literals.keys().isdisjoint(r.tensor for r in reads_of(v)):
            v.body = transform(v.body, lambda r: literals.get(r.tensor, r) if r.guard is None else r)


def call_inputs(values: dict[Tensor, Value]) -> list[Tensor]:
    """List the tensors that hand-written kernels read. They must be whole, dense buffers."""
    calls = dict.fromkeys(t.call for t in values if t.call is not None)
    return [t for call in calls for t in call.inputs]


def mark_constants(values: dict[Tensor, Value], results: Container[Tensor]) -> None:
    """Mark the values that depend on weights alone, so that they are computed once, when the model is loaded.

    Values in `results` are never marked. The outputs of one hand-written kernel, or the parts of one tensor, are marked
    together or not at all.
    """
    asked = {t.call for t, v in values.items() if t.call is not None and (t in results or not is_fixed(v))}
    for t, v in sorted(values.items(), key=lambda item: item[1].id):
        if t.data is not None:
            v.constant = True
            continue
        sources = [r.tensor for r in reads_of(v)] + list(t.parts) + (list(t.call.inputs) if t.call else [])
        v.constant = bool(sources) and is_fixed(v) and not v.region and t.region is None and t not in results
        v.constant = v.constant and (t.call is None or t.call not in asked)
        v.constant = v.constant and all(values[s].constant for s in sources)
    for t, v in values.items():  # a part is constant only if its whole is
        if v.into is not None and v.constant and not values[v.into[0]].constant:
            v.constant = False
        if t.parts and not v.constant:
            for p in t.parts:
                values[p].constant = False


def is_fixed(v: Value) -> bool:
    """Tell whether v depends on no sizes and no iterations, only on its own loops."""
    return depends_on(v) <= set(v.all_loops)


def leaves(run: dict[Tensor, Value], values: dict[Tensor, Value], read_back: Iterable[Tensor]) -> list[Tensor]:
    """Collect the constants that `run` reads, or whose elements are sizes, and add each to `run` as a value without a body."""
    used = dict.fromkeys(t for t in read_back if values[t].constant)
    for t, v in run.items():
        for s in [r.tensor for r in reads_of(v)] + (list(t.call.inputs) if t.call else []):
            if values[s].constant:
                used[s] = None
    for t in used:
        leaf = run[t] = Value(t)
        leaf.body, leaf.fn, leaf.into, leaf.loops, leaf.constant = None, None, None, (), True
        leaf.has_layout = values[t].has_layout
    return list(used)


def orders(constants: Sequence[Tensor], values: dict[Tensor, Value]) -> dict[Tensor, list[int]]:
    """List the axes, outermost in memory first, of each weight that is stored in another order than its own."""
    out = {}
    for t in constants:
        steps = [0 if not isinstance(s, int) else s for s in values[t].strides]
        order = sorted(range(t.rank), key=lambda a: -steps[a])
        if t.data is not None and order != list(range(t.rank)):
            out[t] = order
    return out
