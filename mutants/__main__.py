"""Seeds faults and reports which of them the tests find.

    python -m mutants --count 100 --seed 1                          100 faults in lower, codegen and graph
    python -m mutants --count 20 --paths lower/place.py --minutes 10

Each fault is seeded alone, in a copy of the tree. Three sets of tests run in turn, the shortest tests first: those of its file
(tests/lower/test_place.py for lower/place.py, or those that tests/lower/elsewhere.txt names), those that run its function, and
random graphs. A test that fails, or takes far longer than before, has found the fault. Which tests run which functions is measured
once, which takes some minutes, and stored in .mutants until a file changes. Tests marked `snapshot`, which compare generated code
with stored code, are not run.
`equivalents.txt` lists mutants that change nothing, `measured.txt` numbers that were chosen by measurement.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from mutants.draw import Mutant, draw, equivalents, measured, name_of
from mutants.function_coverage import measure
from mutants.runner import Bench, Result, copy

ROOT = Path(__file__).parent.parent
PATHS = "lower,codegen,graph"
TESTS = tuple(
    f"tests/{name}" for name in ("graph", "codegen", "lower", "providers", "ops", "runtime", "session")
)  # that are asked what they run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="how many faults")
    parser.add_argument("--seed", type=int, default=0, help="decides where they are")
    parser.add_argument("--first", type=int, default=0, help="leave out so many of them, which ran before")
    parser.add_argument("--paths", default=PATHS, help=f"folders and files of src/sardonyx (default {PATHS})")
    parser.add_argument("--minutes", type=float, default=120, help="end after so many, with what is done by then")
    parser.add_argument("--seconds", type=float, default=120, help="the most that the tests of one function may take")
    parser.add_argument("--state", type=Path, help="write results to this file too, one line of JSON each")
    given = parser.parse_args()
    until = time.monotonic() + given.minutes * 60
    chosen = draw(ROOT, given.paths.split(","), given.count, given.seed)[given.first :]
    known, chosen_freely = equivalents(ROOT / "mutants" / "equivalents.txt"), measured(ROOT / "mutants" / "measured.txt")
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy(ROOT, Path(folder))
        bench = Bench(Path(folder), measure(Path(folder), TESTS, ROOT / ".mutants"), given.seconds)
        for number, mutant in enumerate(chosen, given.first):
            if time.monotonic() > until:
                break
            reason = "chosen by measurement" if name_of(mutant) in chosen_freely else known.get(mutant.key, "")
            result = Result(mutant, "equivalent", reason, 0.0) if reason else bench.run(mutant)
            results.append(result)
            report(number, result)
            if given.state is not None:
                with given.state.open("a") as file:
                    file.write(json.dumps({"number": number, "seed": given.seed, **asdict(result)}) + "\n")
    print(summary(results, len(chosen)))
    return int(any(result.outcome == "survived" for result in results))


def report(number: int, result: Result) -> None:
    print(f"{number:4} {result.outcome:10} {result.seconds:5.0f} s  {result.mutant.title}  {result.by}", flush=True)
    if result.outcome == "survived":
        print(diff(result.mutant), flush=True)


def diff(mutant: Mutant) -> str:
    before, after = (text.splitlines(keepends=True) for text in (mutant.before, mutant.after))
    return "".join(difflib.unified_diff(before, after, mutant.path, mutant.path, n=2))


def summary(results: list[Result], wanted: int) -> str:
    found = sum(result.outcome == "killed" for result in results)
    same = sum(result.outcome == "equivalent" for result in results)
    text = f"{found} of {len(results) - same} faults found"
    text += f", {same} mutants that change nothing left out" if same else ""
    return text + (f"; time ran out after {len(results)} of {wanted}" if len(results) < wanted else "")


if __name__ == "__main__":
    sys.exit(main())
