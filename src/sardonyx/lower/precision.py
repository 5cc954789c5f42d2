"""Keep intermediate results of f16 and bf16 models in f32. They are computed in f32 anyway; rounding them between nodes is
skipped.

    a = f16(f32(x) + f32(y))          a = f32(x) + f32(y)               a: f16 -> f32
    b = a[permuted]             ->    b = a[permuted]                   b: f16 -> f32
    z = f16(f32(b) * f32(w))          z = f16(b * f32(w))               an output

1. A value that is rounded to a narrow float is kept in f32 instead: readers that would widen it read it as it is.
2. Values that only move such values (views, selections, parts and the tensor that they make up) are kept in f32 with them.
3. A reader that needs the narrow float itself (a cast to integers, an output, a state of a loop) rounds it.

Outputs, inputs, constants, states of loops, and operands and results of hand-written kernels keep their dtype. So does the
result of the model's own Cast (`Tensor.rounded`), since there the model asks for rounding. onnxruntime does the same on
processors without f16 arithmetic.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from sardonyx.base.dtypes import bf16, f16, f32
from sardonyx.base.symbolic import Dim
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.loop.nodes import Cast, Const, Expr, Select
from sardonyx.lower.values import Value, transform_dim

NARROW = (f16, bf16)


def keep_wide(values: dict[Tensor, Value], kept: Container[Tensor]) -> None:
    """Replace narrow values by f32 values where that avoids a rounding. kept: tensors that must stay as they are."""
    chosen = choose(values, kept)
    wider = {t: widened(t) for t in chosen}
    for t, w in wider.items():
        w.parts = tuple(wider.get(p, p) for p in t.parts)
    rewrite = Rewrite(wider)
    before = list(values.items())
    values.clear()
    for t, v in before:
        if t in wider:
            v = values[wider[t]] = replaced(v, wider)
            v.body = v.body and rewrite.exact(v.body)
        else:
            values[t] = v
            v.body = v.body and rewrite.same(v.body)


def choose(values: Mapping[Tensor, Value], kept: Container[Tensor]) -> set[Tensor]:
    """Select the narrow values to keep in f32."""
    chosen: set[Tensor] = set()
    for t, v in sorted(values.items(), key=lambda item: item[1].id):
        if not may_widen(v, kept):
            continue
        if t.parts:
            parts = [values[p] for p in t.parts]
            if all(may_widen(p, kept) and not p.tensor.parts for p in parts) and any(gains(p.body, chosen) for p in parts):
                chosen |= {t, *t.parts}
        elif v.into is None and gains(v.body, chosen):
            chosen.add(t)
    return chosen


def may_widen(v: Value, kept: Container[Tensor]) -> bool:
    """Tell whether v is a narrow value that is computed pointwise here and whose dtype nothing outside fixes."""
    t = v.tensor
    fixed = v.constant or v.fn or t.rounded or t in kept or t.region is not None or t.call is not None
    computed = v.body is not None or bool(t.parts)
    return t.dtype in NARROW and computed and not fixed and (v.into is None or t in v.into[0].parts)


def gains(e: Expr | None, chosen: Container[Tensor]) -> bool:
    """Tell whether narrow expression e rounds a computed f32 number, or moves a value that is kept in f32."""
    if isinstance(e, Cast):
        return e.args[0].dtype is f32 and not isinstance(e.args[0], Const)
    if isinstance(e, Select):
        return any(gains(a, chosen) for a in e.args[1:])
    return isinstance(e, Read) and e.tensor in chosen


def widened(t: Tensor) -> Tensor:
    """Make the f32 tensor that replaces t."""
    w = Tensor(f32, t.shape, t.name)
    w.id, w.origin, w.axes, w.loops, w.into = t.id, t.origin, t.axes, t.loops, t.into
    return w


def replaced(v: Value, wider: Mapping[Tensor, Tensor]) -> Value:
    """Make the Value of v's f32 tensor; v must not be placed yet."""
    out = Value(wider[v.tensor])
    out.axes, out.loops, out.body, out.region, out.place = v.axes, v.loops, v.body, v.region, v.place
    out.into = v.into and (wider[v.into[0]], v.into[1])
    return out


class Rewrite:
    """Rewrites expressions to read the f32 tensors."""

    def __init__(self, wider: Mapping[Tensor, Tensor]) -> None:
        self.wider = wider
        self.known: dict[tuple[Expr, bool], Expr] = {}

    def same(self, e: Expr) -> Expr:
        """Rewrite e, keeping its dtype."""
        return self._memo(e, False)

    def exact(self, e: Expr) -> Expr:
        """Rewrite narrow expression e as f32: a final rounding from f32 is dropped."""
        return self._memo(e, True)

    def _memo(self, e: Expr, wide: bool) -> Expr:
        found = self.known.get((e, wide))
        if found is None:
            found = self.known[e, wide] = self._exact(e) if wide else self._same(e)
        return found

    def _exact(self, e: Expr) -> Expr:
        if isinstance(e, Cast) and e.args[0].dtype is f32:
            return self.same(e.args[0])
        if isinstance(e, Select):
            condition, then, otherwise = e.args
            return Select(self.same(condition), self.exact(then), self.exact(otherwise))
        if isinstance(e, Read) and e.tensor in self.wider:
            return self._read(e)
        return Cast(self.same(e), f32)

    def _same(self, e: Expr) -> Expr:
        if isinstance(e, Cast) and e.dtype is f32 and e.args[0].dtype in NARROW:
            return self.exact(e.args[0])
        if isinstance(e, Read) and e.tensor in self.wider:
            return Cast(self._read(e), e.dtype)
        args, dims = tuple(map(self.same, e.args)), tuple(map(self._dim, e.dims))
        return e if args == e.args and dims == e.dims else e.rebuild(args, dims)

    def _read(self, e: Read) -> Read:
        guard = None if e.guard is None else self.same(e.guard)
        return Read(self.wider[e.tensor], tuple(map(self._dim, e.indices)), guard)

    def _dim(self, d: Dim) -> Dim:
        return transform_dim(d, lambda r: self.same(r))
