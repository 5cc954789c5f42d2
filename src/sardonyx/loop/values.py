"""Values: expressions with Python's operators, for arithmetic written by hand (functions, kernels).

    x = Value(expr)
    y = where(x < 0, -x, x) * 2 + 1          numbers adopt the dtype of the other operand

`/` is div, `%` is mod, `&`, `|`, `^` and `~` are the bit operations (on bool: logic), `==` compares. Nothing is simplified.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, Union

from sardonyx.base.dtypes import DType
from sardonyx.loop.nodes import Bitcast, Cast, Const, Expr, Op, Select

Number: TypeAlias = int | float | bool
Operand: TypeAlias = Union["Value", Number]


class Value:
    """An expression to compute with. `expr` is the expression itself."""

    __slots__ = ("expr",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, expr: Expr) -> None:
        self.expr = expr

    @property
    def dtype(self) -> DType:
        return self.expr.dtype

    def __repr__(self) -> str:
        return repr(self.expr)

    def __bool__(self) -> bool:
        raise TypeError(f"the truth of {self} is not known before the run")

    def cast(self, dtype: DType) -> Value:
        """Convert by ONNX's Cast; returns self if the dtype is the same."""
        return self if dtype is self.dtype else Value(Cast(self.expr, dtype))

    def bits(self, dtype: DType) -> Value:
        """Reinterpret the bits as another dtype of equal width."""
        return self if dtype is self.dtype else Value(Bitcast(self.expr, dtype))

    def __add__(self, other: Operand) -> Value:
        return op("add", self, other)

    def __radd__(self, other: Operand) -> Value:
        return op("add", other, self)

    def __sub__(self, other: Operand) -> Value:
        return op("sub", self, other)

    def __rsub__(self, other: Operand) -> Value:
        return op("sub", other, self)

    def __mul__(self, other: Operand) -> Value:
        return op("mul", self, other)

    def __rmul__(self, other: Operand) -> Value:
        return op("mul", other, self)

    def __truediv__(self, other: Operand) -> Value:
        return op("div", self, other)

    def __rtruediv__(self, other: Operand) -> Value:
        return op("div", other, self)

    def __mod__(self, other: Operand) -> Value:
        return op("mod", self, other)

    def __neg__(self) -> Value:
        return op("neg", self)

    def __abs__(self) -> Value:
        return op("abs", self)

    def __and__(self, other: Operand) -> Value:
        return op("and", self, other)

    def __or__(self, other: Operand) -> Value:
        return op("or", self, other)

    def __xor__(self, other: Operand) -> Value:
        return op("xor", self, other)

    def __invert__(self) -> Value:
        return op("not", self)

    def __lshift__(self, other: Operand) -> Value:
        return op("shl", self, other)

    def __rshift__(self, other: Operand) -> Value:
        return op("shr", self, other)

    def __lt__(self, other: Operand) -> Value:
        return op("lt", self, other)

    def __le__(self, other: Operand) -> Value:
        return op("le", self, other)

    def __gt__(self, other: Operand) -> Value:
        return op("gt", self, other)

    def __ge__(self, other: Operand) -> Value:
        return op("ge", self, other)

    def __eq__(self, other: object) -> Value:  # type: ignore[override]
        return op("eq", self, other)  # type: ignore[arg-type]

    def __ne__(self, other: object) -> Value:  # type: ignore[override]
        return op("ne", self, other)  # type: ignore[arg-type]


def constant(number: Number, dtype: DType) -> Value:
    """Return a number as a constant of this dtype."""
    return Value(Const(number, dtype))


def operands(*args: Operand) -> tuple[Value, ...]:
    """Return all arguments as Values; numbers adopt the dtype of the first Value. Raises TypeError if there is none."""
    like = next((a.dtype for a in args if isinstance(a, Value)), None)
    if like is None:
        raise TypeError(f"no dtype for {args}")
    return tuple(a if isinstance(a, Value) else constant(a, like) for a in args)


def op(fn: str, *args: Operand) -> Value:
    """Apply an operation of `nodes.OPS`. Raises TypeError if the dtypes differ."""
    return Value(Op(fn, *(a.expr for a in operands(*args))))


def where(condition: Value, then: Operand, otherwise: Operand) -> Value:
    """Build condition ? then : otherwise."""
    then, otherwise = operands(then, otherwise)
    return Value(Select(condition.expr, then.expr, otherwise.expr))


def fma(a: Operand, b: Operand, c: Operand) -> Value:
    """Compute a * b + c, rounded once."""
    return op("fma", a, b, c)


def horner(x: Value, coefficients: Sequence[float]) -> Value:
    """Evaluate a polynomial at x. coefficients: at least two, that of the highest power first."""
    out: Operand = coefficients[0]
    for c in coefficients[1:]:
        out = fma(out, x, c)
    assert isinstance(out, Value)
    return out
