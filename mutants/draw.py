"""Draws mutants: each kind of fault is equally likely, and within a kind each place."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mutants.fault_sites import KINDS, Site, mutated, sites

PACKAGE = Path("src/sardonyx")


@dataclass(frozen=True)
class Mutant:
    """A file with one fault. line: its number; old, new: that line before and after, without indentation"""

    path: str
    kind: str
    function: str
    line: int
    old: str
    new: str
    before: str = field(repr=False)
    after: str = field(repr=False)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Return what identifies a mutant as long as its function does not change."""
        return self.path, self.function, self.old, self.new

    @property
    def title(self) -> str:
        return f"{self.path}:{self.line} {self.function} [{self.kind}] {self.old}  =>  {self.new}"


def draw(root: Path, paths: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """Draw this many different mutants. Raises ValueError if there are no files, or too few places."""
    files = [file for path in paths for file in python_files(root / PACKAGE / path)]
    found: dict[str, list[tuple[Path, str, Site]]] = {kind: [] for kind in KINDS}
    for file in files:
        source = file.read_text()
        for site in sites(source):
            found[site.kind].append((file, source, site))
    chance = random.Random(f"mutants {seed}")
    for places in found.values():
        chance.shuffle(places)
    if sum(map(len, found.values())) < count:
        raise ValueError(f"only {sum(map(len, found.values()))} places in {', '.join(paths)}")
    drawn: list[Mutant] = []
    while len(drawn) < count:
        kind = chance.choice([kind for kind in KINDS if found[kind]])
        drawn.append(mutant(root, *found[kind].pop()))
    return drawn


def python_files(path: Path) -> list[Path]:
    """Return the Python files of a folder, or the file itself. Raises ValueError if there is none."""
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path] if path.exists() else []
    if not files:
        raise ValueError(f"no files at {path}")
    return files


def mutant(root: Path, file: Path, source: str, site: Site) -> Mutant:
    after = mutated(source, site)
    line = source.count("\n", 0, site.start)
    span = source.count("\n", site.start, site.end) + 1
    more = after.count("\n") - source.count("\n")
    old, new = source.splitlines()[line : line + span], after.splitlines()[line : line + span + more]
    texts = [" ".join(part.strip() for part in lines) for lines in (old, new)]
    return Mutant(str(file.relative_to(root)), site.kind, site.function, line + 1, texts[0], texts[1], source, after)


def equivalents(path: Path) -> dict[tuple[str, str, str, str], str]:
    """Read {mutant: why it changes nothing} from blocks of five lines: file, function, line before, line after, reason."""
    blocks = [block.strip().splitlines() for block in path.read_text().split("\n\n")] if path.exists() else []
    found = {}
    for block in blocks:
        if block and not block[0].startswith("#"):
            file, function, old, new, *reason = (line.strip() for line in block)
            found[file, function, old, new] = " ".join(reason)
    return found


def measured(path: Path) -> frozenset[tuple[str, str]]:
    """Read the (file, name) of module-level numbers that were chosen by measurement."""
    lines = [line.split(": ") for line in path.read_text().splitlines() if not line.startswith("#")] if path.exists() else []
    return frozenset((str(PACKAGE / file), name) for file, names in lines for name in names.split(", "))


def name_of(mutant: Mutant) -> tuple[str, str]:
    """Return (file, name) of the module-level number that a mutant changes; the name is empty for other mutants."""
    at_top = mutant.kind == "number" and not mutant.function
    return mutant.path, re.split("[ :=]", mutant.old)[0] if at_top else ""
