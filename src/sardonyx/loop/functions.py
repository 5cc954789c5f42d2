"""Expand the functions of the loop IR into basic operations, for code generators and the interpreter.

expand(expr)            exp, log, tanh, erf, pow, ... within 2 ulp (f32) or 4 ulp (f64), straight-line, without tables in memory
expand(expr, native)    also casts that the target lacks (see loop.casts)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sardonyx.base.errors import Unsupported
from sardonyx.loop import exponentials, logarithms, trigonometry
from sardonyx.loop.casts import Native, convert
from sardonyx.loop.floats import FORMATS
from sardonyx.loop.nodes import FUNCTIONS, Cast, Expr, Op
from sardonyx.loop.rewrite import rewrite
from sardonyx.loop.values import Value

EXPANSIONS: Mapping[str, Callable[..., Value]] = {
    "exp": exponentials.exp,
    "expm1": exponentials.expm1,
    "sinh": exponentials.sinh,
    "cosh": exponentials.cosh,
    "tanh": exponentials.tanh,
    "erf": exponentials.erf,
    "log": logarithms.log,
    "log1p": logarithms.log1p,
    "asinh": logarithms.asinh,
    "acosh": logarithms.acosh,
    "atanh": logarithms.atanh,
    "pow": logarithms.pow,
    "sin": trigonometry.sin,
    "cos": trigonometry.cos,
    "tan": trigonometry.tan,
    "asin": trigonometry.asin,
    "acos": trigonometry.acos,
    "atan": trigonometry.atan,
}


def expand(expr: Expr, native: Native | None = None) -> Expr:
    """Replace FUNCTIONS in expr and, given `native`, casts that are not native. Raises Unsupported for functions of dtypes
    other than f32 and f64."""

    def rule(e: Expr) -> Expr:
        if isinstance(e, Op) and e.fn in FUNCTIONS:
            return function(e)
        if isinstance(e, Cast) and native is not None:
            return convert(e.args[0], e.dtype, native)
        return e

    return rewrite(expr, rule)


def function(e: Op) -> Expr:
    """Expand one function."""
    if e.dtype not in FORMATS or e.fn not in EXPANSIONS:
        raise Unsupported(f"{e.fn} of {e.dtype}")
    return EXPANSIONS[e.fn](*map(Value, e.args)).expr
