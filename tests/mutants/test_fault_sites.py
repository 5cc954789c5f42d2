"""Each kind of fault at each place where it can stand, and nowhere else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mutants.fault_sites import KINDS, mutated, sites

ROOT = Path(__file__).parents[2]
CASES = {
    "compared": ("x = a < b <= c", {"x = a <= b <= c", "x = a < b < c"}),
    "compared equal": ("x = a == b", {"x = a != b"}),
    "calculated": ("x = a + b * c", {"x = a - b * c", "x = a + b + c"}),
    "calculated strides": ("x = a // b - c % d", {"x = a * b - c % d", "x = a // b + c % d", "x = a // b - c // d"}),
    "number": ("x = f(0)", {"x = f(1)"}),
    "negated": ("x = not a", {"x = (a)"}),
    "extreme": ("x = min(a, b)", {"x = max(a, b)"}),
    "guard": ("if a:\n    b = c", {"if False:\n    b = c", "if True:\n    b = c"}),
    "guard inside": ("x = [a for a in b if a]", {"x = [a for a in b if False]", "x = [a for a in b if True]"}),
    "guard of an expression": ("x = a if b else c", {"x = a if False else c", "x = a if True else c"}),
    "joined": ("x = a and b or c", {"x = ((a and b) and (c))", "x = ((a) or (b)) or c"}),
    "dropped": ("def f():\n    g(a)\n    a += b", {"def f():\n    pass\n    a += b", "def f():\n    g(a)\n    pass"}),
    "swapped": ("x = f(a, b + c, d)", {"x = f(b + c, a, d)", "x = f(a, b - c, d)"}),
    "a line with letters of two bytes": ("x = f('é', a < b)", {"x = f(a < b, 'é')", "x = f('é', a <= b)"}),
}


@pytest.mark.parametrize("name", CASES)
def test_faults(name: str) -> None:
    source, expected = CASES[name]
    assert {mutated(source, site) for site in sites(source)} == expected


def test_all_kinds_are_covered() -> None:
    assert {site.kind for source, _ in CASES.values() for site in sites(source)} == set(KINDS)


@pytest.mark.parametrize(
    "source",
    [
        "def f(a: Literal[1] = b) -> Literal[2]:\n    '''Returns 3 < 4.'''",
        "raise Fail(f'{a + b}')",
        "if TYPE_CHECKING:\n    a = b + c",
        "assert a < b",
        "class A(B[1]):\n    def __repr__(self):\n        return a + b",
        "x = 'a' + b",
        "from a import b",
    ],
)
def test_left_alone(source: str) -> None:
    assert sites(source) == []


def test_every_fault_of_the_package_is_still_python() -> None:
    """And is another program than the one it was made of."""
    for folder in ("lower", "codegen"):
        paths = sorted((ROOT / "src/sardonyx" / folder).glob("*.py"))
        assert sum(len(sites(path.read_text())) for path in paths) > 1000
        for path in paths[:6]:
            source = path.read_text()
            tree = ast.dump(ast.parse(source))
            found = sites(source)
            for site in found[:: max(1, len(found) // 25)]:
                assert ast.dump(ast.parse(mutated(source, site))) != tree


def test_the_function_around_a_fault() -> None:
    source = "class A:\n    def f(self):\n        return a < b\nx = a < b\n"
    assert [site.function for site in sites(source)] == ["A.f", ""]
