from __future__ import annotations

import re
from pathlib import Path

import pytest

from mutants.draw import PACKAGE, draw, equivalents, measured, name_of
from mutants.fault_sites import KINDS

ROOT = Path(__file__).parents[2]
SOURCE = "def f(a, b):\n    if a < b:\n        g(a)\n    return a + b\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "src/sardonyx/lower"
    folder.mkdir(parents=True)
    (folder / "one.py").write_text(SOURCE)
    return tmp_path


def test_a_seed_decides_which() -> None:
    assert draw(ROOT, ["lower", "graph"], 20, 1) == draw(ROOT, ["lower", "graph"], 20, 1)
    assert draw(ROOT, ["lower", "graph"], 20, 1) != draw(ROOT, ["lower", "graph"], 20, 2)
    assert draw(ROOT, ["lower", "graph"], 20, 1) == draw(ROOT, ["lower", "graph"], 30, 1)[:20]


def test_all_different(tree: Path) -> None:
    drawn = draw(tree, ["lower"], 5, 0)
    assert len({m.after for m in drawn}) == 5
    assert {m.before for m in drawn} == {SOURCE}
    with pytest.raises(ValueError, match="only 5 places"):
        draw(tree, ["lower"], 6, 0)


def test_what_is_told_of_a_mutant(tree: Path) -> None:
    told = {(m.kind, m.line, m.old, m.new) for m in draw(tree, ["lower/one.py"], 5, 0)}
    assert ("compared", 2, "if a < b:", "if a <= b:") in told
    assert ("dropped", 3, "g(a)", "pass") in told
    assert ("calculated", 4, "return a + b", "return a - b") in told


def test_kinds_are_drawn_equally_often() -> None:
    drawn = draw(ROOT, ["lower", "codegen", "graph"], 400, 0)
    counts = {kind: sum(m.kind == kind for m in drawn) for kind in KINDS}
    assert min(counts.values()) > 20


def test_no_such_file() -> None:
    with pytest.raises(ValueError, match="no files"):
        draw(ROOT, ["nowhere"], 1, 0)


def test_known_equivalents(tmp_path: Path) -> None:
    path = tmp_path / "equivalents.txt"
    path.write_text("# what this is\n\na.py\nf\nx < y\nx <= y\nthey are\nnever equal\n\nb.py\ng\nx\ny\nno reader\n")
    assert equivalents(path) == {("a.py", "f", "x < y", "x <= y"): "they are never equal", ("b.py", "g", "x", "y"): "no reader"}


def test_each_equivalent_still_exists() -> None:
    """One whose line has changed says nothing any more, and goes."""
    for (path, function, old, _), reason in equivalents(ROOT / "mutants/equivalents.txt").items():
        assert reason, f"{path} {function}: why does it change nothing?"
        lines = " ".join(line.strip() for line in (ROOT / path).read_text().splitlines())
        assert old in lines, f"{path} {function}: {old}"


def test_numbers_that_were_measured(tree: Path) -> None:
    (tree / PACKAGE / "lower/one.py").write_text("MOST = 8\nLEAST: int = 3\n\n\ndef f(a, b=2):\n    return a\n")
    listed = tree / "measured.txt"
    listed.write_text("# what this is\nlower/one.py: MOST, LEAST\nlower/two.py: MOST\n")
    assert measured(listed) == {
        (str(PACKAGE / "lower" / f), n) for f, n in (("one.py", "MOST"), ("one.py", "LEAST"), ("two.py", "MOST"))
    }
    names = sorted(name_of(m) for m in draw(tree, ["lower/one.py"], 3, 0))
    assert names == [(str(PACKAGE / "lower/one.py"), name) for name in ("", "LEAST", "MOST")]


def test_each_measured_number_still_exists() -> None:
    for path, name in measured(ROOT / "mutants/measured.txt"):
        assert re.search(rf"^{name}(: \w+)? = .*\d", (ROOT / path).read_text(), re.M), f"{path} {name}"
