"""Every file of the package has its tests: at the same path, or where a line of `elsewhere.txt` in the folder of its tests says.

    winograd.py: tests/lower/test_pack.py  what is tried there

The line's tests are there, and the file is loaded when they are: they import it, or what imports it in turn.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "sardonyx"
LINE = re.compile(r"(\S+\.py): (tests/\S+\.py(?:, tests/\S+\.py)*)  (\S.*)")
MODULE = re.compile(r"sardonyx(?:\.\w+)+")
FILES = [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")) if path.read_text().strip()]
FOLDERS = sorted({path.parent for path in FILES})


def beside(file: Path) -> Path:
    """The path at which a file's tests stand: those of a package's __init__.py in test_init.py."""
    return Path("tests") / file.parent / f"test_{'init' if file.stem == '__init__' else file.stem}.py"


def elsewhere(folder: Path) -> dict[str, tuple[list[str], str]]:
    """{file: (its tests, what they try)}, as the folder's elsewhere.txt says. Raises AssertionError for a line of another form."""
    path = ROOT / "tests" / folder / "elsewhere.txt"
    found = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        parts = LINE.fullmatch(line)
        assert parts, f"{path}: {line}"
        assert parts[1] not in found, f"{path}: {parts[1]} twice"
        found[parts[1]] = parts[2].split(", "), parts[3]
    return found


@functools.cache
def module_path(name: str) -> Path | None:
    """The file of a module of the package or of the tests."""
    base = (SOURCE if name.startswith("sardonyx") else ROOT).joinpath(*name.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.exists()), None)


@functools.cache
def imports(path: Path) -> frozenset[Path]:
    """The files of the package and of the tests that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.JoinedStr) and (package := package_of(node)):
            names |= {f"{package}.{file.stem}" for file in SOURCE.joinpath(*package.split(".")).glob("*.py")}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= set(MODULE.findall(node.value))  # imported by name, or in a process of its own
    return frozenset(found for name in names for found in along(name))


def package_of(text: ast.JoinedStr) -> str | None:
    """The package whose modules a file imports by the names f"package.{module}"."""
    first = text.values[0]
    start = str(first.value) if isinstance(first, ast.Constant) else ""
    return start[:-1] if start.endswith(".") and MODULE.fullmatch(start[:-1]) else None


def along(name: str) -> Iterator[Path]:
    """The files that run when a module is imported: its packages' and its own; or, of a package that can be run, when it is."""
    parts = name.split(".")
    if parts[0] in ("sardonyx", "tests"):
        for count in range(1, len(parts) + 1):
            if found := module_path(".".join(parts[:count])):
                yield found
        main = (SOURCE if parts[0] == "sardonyx" else ROOT).joinpath(*parts, "__main__.py")
        if main.exists():
            yield main


@functools.cache
def loaded_by(path: Path) -> frozenset[Path]:
    """All files that a file imports, and they import in turn."""
    seen, left = {path}, [path]
    while left:
        new = imports(left.pop()) - seen
        seen |= new
        left += new
    return frozenset(seen)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_has_its_tests(file: Path) -> None:
    tests = [str(beside(file))] if (ROOT / beside(file)).exists() else elsewhere(file.parent).get(file.name, ([], ""))[0]
    assert tests, f"{beside(file)} is missing, and tests/{file.parent}/elsewhere.txt does not say what else tries {file}"
    for test in tests:
        assert (ROOT / test).exists(), f"{test} is not there"
        assert PACKAGE / file in loaded_by(ROOT / test), f"{test} does not load {file}"


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_nothing_is_said_of_files_that_are_gone(folder: Path) -> None:
    """A file with tests beside it may have a line too: what else tries it."""
    for name in elsewhere(folder):
        assert folder / name in FILES, f"{folder / name} is not there"
