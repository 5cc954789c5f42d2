"""Finds the places of a file where a fault can be seeded, and the text of the fault.

    kind        fault
    compared    < becomes <=, <= becomes <, > becomes >=, >= becomes >, == becomes !=, != becomes ==
    calculated  + becomes -, - becomes +, * becomes +, // becomes *, % becomes //
    number      an integer becomes the next one
    negated     `not x` becomes x
    extreme     min becomes max, max becomes min
    guard       the condition of an if, or of a comprehension, becomes False or True
    joined      `and` becomes `or`, `or` becomes `and`
    dropped     a statement that is a call, or an augmented assignment, becomes pass
    swapped     the first two arguments of a call are exchanged

Not changed: annotations, docstrings, strings, texts for people (`__repr__`, `__str__`, raise), and code for type checkers.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

KINDS = ("compared", "calculated", "number", "negated", "extreme", "guard", "joined", "dropped", "swapped")
COMPARED = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
SIGNS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
CALCULATED = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "+"), ast.FloorDiv: ("//", "*"), ast.Mod: ("%", "//")}
FOR_PEOPLE = frozenset(("__repr__", "__str__", "describe", "show"))


@dataclass(frozen=True, slots=True)
class Site:
    """A place and its fault: source[start:end] becomes `text`. function: the dotted name of the function around it"""

    kind: str
    function: str
    start: int
    end: int
    text: str


def sites(source: str) -> list[Site]:
    """Return all places of a file, in order."""
    finder = _Finder(source)
    finder.body(ast.parse(source), "")
    return sorted(finder.found, key=lambda site: (site.start, site.end, site.text))


def mutated(source: str, site: Site) -> str:
    return source[: site.start] + site.text + source[site.end :]


class _Finder:
    def __init__(self, source: str) -> None:
        self.source = source
        self.found: list[Site] = []
        starts = [0]
        for line in source.encode().splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        self.starts, self.encoded = starts, source.encode()

    # ---- positions --------------------------------------------------------------------------------------------------------

    def place(self, line: int, column: int) -> int:
        """Return the number of characters before a position of the syntax tree, which counts bytes."""
        return len(self.encoded[: self.starts[line - 1] + column].decode())

    def begin(self, node: ast.AST) -> int:
        return self.place(node.lineno, node.col_offset)  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        return self.place(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def text(self, node: ast.AST) -> str:
        return self.source[self.begin(node) : self.end(node)]

    def add(self, kind: str, function: str, start: int, end: int, text: str) -> None:
        self.found.append(Site(kind, function, start, end, text))

    def between(self, kind: str, function: str, left: ast.AST, right: ast.AST, old: str, new: str) -> None:
        """Add the fault that replaces the operator `old` between two operands by `new`."""
        start = self.end(left)
        gap = self.source[start : self.begin(right)]
        if gap.count(old) == 1:
            self.add(kind, function, start + gap.index(old), start + gap.index(old) + len(old), new)

    # ---- the tree ---------------------------------------------------------------------------------------------------------

    def body(self, node: ast.AST, function: str) -> None:
        """Add the faults of a node and of all code inside it."""
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if node.name in FOR_PEOPLE:
                return
            function = f"{function}.{node.name}" if function else node.name
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom) or is_for_checkers(node):
            return
        self.here(node, function)
        for child in children(node):
            self.body(child, function)

    def here(self, node: ast.AST, function: str) -> None:
        if isinstance(node, ast.Compare):
            for left, sign, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
                if type(sign) in COMPARED:
                    self.between("compared", function, left, right, SIGNS[type(sign)], COMPARED[type(sign)])
        elif isinstance(node, ast.BinOp) and type(node.op) in CALCULATED and not is_text(node.left) and not is_text(node.right):
            self.between("calculated", function, node.left, node.right, *CALCULATED[type(node.op)])
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            self.add("number", function, self.begin(node), self.end(node), str(node.value + 1))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self.add("negated", function, self.begin(node), self.end(node), f"({self.text(node.operand)})")
        elif isinstance(node, ast.BoolOp):
            self.joined(node, function)
        elif isinstance(node, ast.If | ast.IfExp):
            self.guard(node.test, function)
        elif isinstance(node, ast.comprehension):
            for test in node.ifs:
                self.guard(test, function)
        elif isinstance(node, ast.Call):
            self.call(node, function)
        elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
            self.add("dropped", function, self.begin(node), self.end(node), "pass")

    def joined(self, node: ast.BoolOp, function: str) -> None:
        """Add the fault that turns `a and b and c` into `(a or b or c)`, or the reverse."""
        word = " or " if isinstance(node.op, ast.And) else " and "
        self.add("joined", function, self.begin(node), self.end(node), f"({word.join(f'({self.text(v)})' for v in node.values)})")

    def guard(self, test: ast.expr, function: str) -> None:
        for text in ("False", "True"):
            self.add("guard", function, self.begin(test), self.end(test), text)

    def call(self, node: ast.Call, function: str) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in ("min", "max"):
            other = "max" if node.func.id == "min" else "min"
            self.add("extreme", function, self.begin(node.func), self.end(node.func), other)
        plain = [a for a in node.args if not isinstance(a, ast.Starred)]
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if len(plain) >= 2 and len(plain) == len(node.args) and name not in ("isinstance", "min", "max", "getattr", "hasattr"):
            first, second = plain[:2]
            if self.text(first) != self.text(second):
                gap = self.source[self.end(first) : self.begin(second)]
                self.add("swapped", function, self.begin(first), self.end(second), self.text(second) + gap + self.text(first))


def children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a node that are run: not annotations, decorators, base classes or docstrings."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
                yield child


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def is_for_checkers(node: ast.AST) -> bool:
    """Return whether the node is `if TYPE_CHECKING` or an assertion."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return True
    return isinstance(node, ast.Assert)
