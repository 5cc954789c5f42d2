"""A small tree with a package, tests beside it and some that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants.draw import Mutant, draw
from mutants.function_coverage import measure
from mutants.runner import Bench, beside_of, copy

SOURCE = "def least(a, b):\n    return min(a, b)\n\n\ndef count(n):\n    while n > 0:\n        n -= 1\n    return n\n"
BESIDE = "from sardonyx.lower.one import count, least\n\n\ndef test_it():\n    assert count(3) == 0\n"
FOLDER = "from sardonyx.lower.one import least\n\n\ndef test_least():\n    assert least(1, 2) == 1\n"
PLACES = 5
SNAPSHOT = "import pytest, pathlib\n\n\n@pytest.mark.snapshot\ndef test_text():\n    assert '-= 1' in pathlib.Path('src/sardonyx/lower/one.py').read_text()\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "src/sardonyx/__init__.py": "",
        "src/sardonyx/lower/__init__.py": "",
        "src/sardonyx/lower/one.py": SOURCE,
        "tests/lower/test_one.py": BESIDE,
        "tests/lower/test_others.py": FOLDER,
        "tests/lower/test_snapshot.py": SNAPSHOT,
        "pyproject.toml": '[tool.pytest.ini_options]\nmarkers = ["snapshot: s", "real: r"]\n',
    }
    for name, text in files.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(text)
    return tmp_path


def mutant(tree: Path, new: str) -> Mutant:
    return next(m for m in draw(tree / "tree", ["lower"], PLACES, 0) if m.new == new)


def test_what_the_tests_find(tree: Path) -> None:
    """Beside the file, in its folder, by running too long; the tree itself stays as it is, and so does the copy afterwards."""
    bench = bench_of(tree)
    killed = bench.run(mutant(tree, "return max(a, b)"))
    assert killed.outcome == "killed"
    assert "test_others.py" in killed.by
    beside = bench.run(mutant(tree, "while n > 1:"))
    assert "test_one.py" in beside.by
    assert (tree / "tree/src/sardonyx/lower/one.py").read_text() == SOURCE
    assert (bench.folder / "src/sardonyx/lower/one.py").read_text() == SOURCE


def test_a_hang_is_found(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of(tree)
    monkeypatch.setattr(bench, "limit", lambda tests: 5.0)
    assert bench.run(mutant(tree, "pass")).by == "a hang"


def test_one_that_survives(tree: Path) -> None:
    """No test looks at what count gives for numbers below 0; the snapshot, which would notice, doesn't count."""
    survived = bench_of(tree).run(mutant(tree, "while n >= 0:"))
    assert survived.outcome == "killed"
    (tree / "tree/tests/lower/test_one.py").write_text(BESIDE.replace("count(3) == 0", "count(3) <= 0"))
    assert bench_of(tree).run(mutant(tree, "while n >= 0:")).outcome == "survived"


def test_tests_that_fail_without_a_fault_are_no_measure(tree: Path) -> None:
    (tree / "tree/tests/lower/test_one.py").write_text(BESIDE.replace("== 0", "== 1"))
    with pytest.raises(RuntimeError, match="without a fault"):
        bench_of(tree).run(mutant(tree, "while n >= 0:"))


def test_what_stands_beside_a_file(tree: Path) -> None:
    """The tests at its path; else those that a line names."""
    root = tree / "tree"
    assert beside_of(root, "src/sardonyx/lower/one.py") == ("tests/lower/test_one.py",)
    assert beside_of(root, "src/sardonyx/lower/two.py") == ()
    (root / "tests/lower/elsewhere.txt").write_text("two.py: tests/lower/test_one.py, tests/lower/test_others.py  both of them\n")
    assert beside_of(root, "src/sardonyx/lower/two.py") == ("tests/lower/test_one.py", "tests/lower/test_others.py")
    assert beside_of(root, "src/sardonyx/lower/three.py") == ()


def test_what_tests_run(tree: Path) -> None:
    """Functions are known by their names; what was measured holds until a file changes."""
    cover = bench_of(tree).cover
    assert cover.of("src/sardonyx/lower/one.py", "least") == ["tests/lower/test_others.py::test_least"]
    assert cover.of("src/sardonyx/lower/one.py", "count") == ["tests/lower/test_one.py::test_it"]
    assert len(cover.of("src/sardonyx/lower/one.py", "")) == 2
    assert cover.of("src/sardonyx/lower/one.py", "leas") == []
    assert bench_of(tree).cover == cover
    assert cover.usual("tests/lower/test_one.py") == cover.seconds["tests/lower/test_one.py::test_it"]
    assert cover.usual("tests/lower/test_one.py::test_it") is not None
    assert cover.usual("tests/lower/test_on") is None
    (tree / "tree/tests/lower/test_others.py").write_text(FOLDER.replace("test_least", "test_renamed"))
    assert bench_of(tree).cover.of("src/sardonyx/lower/one.py", "least") == ["tests/lower/test_others.py::test_renamed"]


def bench_of(tree: Path) -> Bench:
    folder = tree / f"copy{len(list(tree.iterdir()))}"
    folder.mkdir()
    copy(tree / "tree", folder)
    return Bench(folder, measure(folder, ["tests/lower"], tree / "kept"), seconds=60)
