"""Values, programs and reasons as text: what the debug dial shows of lowering.

    p#4[i, j] = exp(scores#2[i, j] - p#3[i])                        a pointwise value
    p#3[i] = max over r < 16 of scores#2[i, r]                      a reduction
    y#9[i, j] into whole#8[i, j + 16] = x#1[i, j]                   a part of a whole
    x#5[i, j] where i < n = ...                                     computed only where a condition holds

Axes are named i, j, k, ... and reduced loops r, s, t, ... in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sardonyx.base.symbolic import Dim, Symbol, single, symbols
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.loop.nodes import Bitcast, Cast, Const, Element, Expr, Index, Op, Select
from sardonyx.loop.printer import Printer
from sardonyx.lower.place import Decision
from sardonyx.lower.schedule import Call, Segment, Step
from sardonyx.lower.values import Value

INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
REDUCTIONS = {"add": "sum", "mul": "product"}
AXES, LOOPS = "ijklmn", "rstuvw"


def values_text(values: Mapping[Tensor, Value]) -> str:
    """All values that something is known of, in the order in which they are computed."""
    return "\n".join(value_text(v) for v in sorted(values.values(), key=lambda v: v.id) if v.body is not None)


def value_text(v: Value) -> str:
    """One value with a body: what it is at each of its indices, and what lowering knows of it."""
    assert v.body is not None
    printer = Formulas()
    printer.give_names([s for a in v.axes for s in sorted(symbols(a))], AXES)
    printer.give_names(v.loops, LOOPS)
    target = f"{v.tensor.name}{printer.indices(v.axes)}"
    if v.into is not None:
        target += f" into {v.into[0].name}{printer.indices(v.into[1])}"
    if v.guard is not None:
        target += f" where {printer.formula(v.guard)}"
    over = ", ".join(f"{printer.symbols[s]} < {printer.dim(s.extent)}" for s in v.loops if s.extent is not None)
    body = printer.formula(v.body)
    reduced = f"{REDUCTIONS.get(v.fn, v.fn)} over {over} of " if v.fn else ""
    return f"{target} = {reduced}{body}{marks(v)}"


def program_text(segments: Sequence[Segment]) -> str:
    """The calls of each segment, the barriers between them, and where buffers lie in its arena."""
    lines = []
    for number, segment in enumerate(segments):
        lines.append(f"segment {number}: {segment.arena} bytes")
        lines += steps_lines(segment.steps, "    ")
        lines += [f"    {t.name} at {offset}, {segment.sizes[t]} bytes" for t, offset in segment.offsets.items()]
    return "\n".join(lines)


def steps_lines(steps: Sequence[Step], indent: str) -> list[str]:
    lines = []
    for s in steps:
        if s.barrier:
            lines.append(f"{indent}barrier")
        if isinstance(s, Call):
            lines.append(f"{indent}{s.kernel.name} of {', '.join(str(o) for o in s.origins if o)}")
        else:
            lines += [f"{indent}repeat {s.region.trip} times:", *steps_lines(s.steps, indent + "    ")]
    return lines


def decisions_text(decisions: Iterable[Decision]) -> str:
    """Where each value was placed, and why not by the rules that came before, in the order in which they are computed."""
    return "\n".join(decision_text(d) for d in sorted(decisions, key=lambda d: d.value.id))


def decision_text(d: Decision) -> str:
    reasons = "; ".join(f"not {rule.upper()}: {reason}" for rule, reason in d.refused.items() if rule != "part")
    return f"{d.place:6} {d.value.tensor.name}{f'  {reasons}' if reasons else ''}"


def marks(v: Value) -> str:
    """Its place, and that it is made when the model is loaded, as far as that is decided."""
    words = [*([v.place] if v.place else []), *(["constant"] if v.constant else [])]
    return f"    # {', '.join(words)}" if words else ""


class Formulas(Printer):
    """Expressions as people write them: infix, nothing shared."""

    def give_names(self, loops: Iterable[Symbol], letters: str) -> None:
        for n, s in enumerate(dict.fromkeys(loops)):
            self.symbols[s] = letters[n % len(letters)] * (n // len(letters) + 1)

    def indices(self, dims: Sequence[Dim]) -> str:
        return f"[{', '.join(map(self.dim, dims))}]"

    def expr(self, e: Expr) -> str:
        """For elements inside integers, which the base class prints."""
        return self.formula(e)

    def dim(self, d: Dim) -> str:
        for s in symbols(d):  # a size goes by its own name
            self.symbols.setdefault(s, s.name)
        return super().dim(d)

    def atom(self, a: object) -> str:
        if isinstance(a, Element):
            return self.formula(a.expr)
        return super().atom(a)  # type: ignore[arg-type]

    def formula(self, e: Expr, inside: bool = False) -> str:
        """inside: of another operation, so that sums need parentheses."""
        match e:
            case Const():
                return f"{e.value:g}" if e.dtype.is_float else str(e.value)
            case Index():
                return self.dim(e.dim) if isinstance(e.dim, int) or single(e.dim) is not None else f"({self.dim(e.dim)})"
            case Read():
                guard = "" if e.guard is None else f" where {self.formula(e.guard)}"
                return (
                    f"{e.tensor.name}{self.indices(e.indices)}"
                    if not guard
                    else f"({e.tensor.name}{self.indices(e.indices)}{guard})"
                )
            case Select():
                condition, then, otherwise = (self.formula(a, True) for a in e.args)
                words = f"{then} if {condition} else {otherwise}"
                return f"({words})" if inside else words
            case Cast() | Bitcast():
                return f"{e.dtype}({self.formula(e.args[0])})"
            case Op() if e.fn in INFIX:
                words = f" {INFIX[e.fn]} ".join(self.formula(a, True) for a in e.args)
                return f"({words})" if inside else words
            case Op():
                return f"{e.fn}({', '.join(self.formula(a) for a in e.args)})"
        raise TypeError(f"no text for a {type(e).__name__}")
