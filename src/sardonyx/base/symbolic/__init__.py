"""Symbolic integers: one class for shapes, indices, addresses, strides, offsets and loop bounds.

A `Dim` is a Python `int` or an `Int`: a polynomial with integer coefficients over *atoms*, in a canonical form, so that equal is
`==`. Every operation that comes out constant returns an `int`, hence fixed shapes cost nothing here.

    atom       stands for                                           range, if known
    Symbol     a size of the model, or a loop variable              [0, extent)
    Derived    e // b, e % b, min(e, b), max(e, b), e == b (0 or 1) [0, b) for e % b
    (others)   subclasses, such as an element of an index tensor    [0, extent)

Symbols that are not `signed` are never negative. The files, each of which needs only those before it:

    interning    equal atoms are one object
    polynomials  atoms, symbols and Int; sums, products, substitution; c b (e // b) + c (e % b) = c e
    derived      the atoms of quotients, remainders, minima, maxima and comparisons
    facts        is it certainly >= 0, certainly below a bound?
    quotients    division, minimum, maximum, comparison, and the rules that simplify them
    parts        factors of symbols, indices that run through 0, 1, 2, ...
    names        sizes with a name that stand for a formula
    products     numbers of elements, strides
"""

from sardonyx.base.symbolic.derived import Derived
from sardonyx.base.symbolic.facts import atom_nonnegative, is_below, is_nonnegative, largest
from sardonyx.base.symbolic.interning import the
from sardonyx.base.symbolic.names import MANY_TERMS, Alias, Defined, alias, collected, definitions, expanded, ground, named, short
from sardonyx.base.symbolic.parts import coefficient, covering_loops, primitive, single
from sardonyx.base.symbolic.polynomials import (
    OPERATIONS,
    Atom,
    Dim,
    Int,
    Symbol,
    evaluate,
    identity_of,
    polynomial,
    substitute,
    symbol,
    symbols,
    terms,
    value,
    weight,
)
from sardonyx.base.symbolic.products import product, strides
from sardonyx.base.symbolic.quotients import (
    ceil_divide,
    divide,
    equals,
    forget_quotients,
    maximum,
    minimum,
    quotient_and_remainder,
    remainder,
    round_up,
    split,
)

__all__ = [
    "MANY_TERMS",
    "OPERATIONS",
    "Alias",
    "Atom",
    "Defined",
    "Derived",
    "Dim",
    "Int",
    "Symbol",
    "alias",
    "atom_nonnegative",
    "ceil_divide",
    "coefficient",
    "collected",
    "covering_loops",
    "definitions",
    "divide",
    "equals",
    "evaluate",
    "expanded",
    "forget_quotients",
    "ground",
    "identity_of",
    "is_below",
    "is_nonnegative",
    "largest",
    "maximum",
    "minimum",
    "named",
    "polynomial",
    "primitive",
    "product",
    "quotient_and_remainder",
    "remainder",
    "round_up",
    "short",
    "single",
    "split",
    "strides",
    "substitute",
    "symbol",
    "symbols",
    "terms",
    "the",
    "value",
    "weight",
]
