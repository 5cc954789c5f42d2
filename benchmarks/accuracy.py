"""Compares an engine's outputs with onnxruntime's on every model and case: `python -m benchmarks.accuracy [MODEL ...]`.

A case passes if

1. max |difference| <= 1e-4 of max |output| for each output, at each number of threads and optimisation level;
2. the outputs are the same bit by bit for every number of threads;
3. the outputs vary: other inputs of the same shapes change each floating output by more than 1e-3.

Models are taken one by one, so that memory holds one at a time.
"""

import importlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import typer

from benchmarks import models
from benchmarks.agreement import TOLERANCE, VARIATION, identical, least_variation, worst


@dataclass(frozen=True)
class AccuracyResult:
    """Result of one case at one optimisation level.

    - difference: for each number of threads, the largest relative difference from onnxruntime over all outputs
    - same_bits: whether all numbers of threads gave equal bits
    - variation: the smallest relative change of a floating output when the inputs change
    """

    model: str
    case: str
    level: int
    difference: dict[int, float]
    same_bits: bool
    variation: float

    @property
    def passed(self) -> bool:
        return max(self.difference.values()) <= TOLERANCE and self.same_bits and self.variation > VARIATION


def check(name: str, engine: str, threads: tuple[int, ...], levels: tuple[int, ...]) -> Iterator[AccuracyResult]:
    """Yield the results of all cases of the model `name`, run by the package `engine`."""
    package = importlib.import_module(engine)
    with tempfile.TemporaryDirectory() as folder:
        path = models.save(name, Path(folder))
        cases = models.MODELS[name].cases
        expected = _expected(name, path)
        for level in levels:
            outputs = {count: _outputs(package, path, name, count, level) for count in threads}
            for index, case in enumerate(cases):
                ours = {count: outputs[count][index] for count in threads}
                first, second = expected[index]
                yield AccuracyResult(
                    name,
                    case.name,
                    level,
                    {count: worst(ours[count], first) for count in threads},
                    all(identical(ours[count], ours[threads[0]]) for count in threads),
                    least_variation(first, second),
                )


def _expected(name: str, path: Path) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Return onnxruntime's outputs for each case, on two different sets of inputs."""
    session = _session(onnxruntime, path, threads=2, level=99)
    return [
        (session.run(None, models.feeds(name, case.name, 0)), session.run(None, models.feeds(name, case.name, 1)))
        for case in models.MODELS[name].cases
    ]


def _outputs(package: Any, path: Path, name: str, threads: int, level: int) -> list[list[np.ndarray]]:
    """Return the outputs for each case."""
    session = _session(package, path, threads, level)
    return [session.run(None, models.feeds(name, case.name)) for case in models.MODELS[name].cases]


def _session(package: Any, path: Path, threads: int, level: int) -> Any:
    """Create a session of onnxruntime, or of a package with its API."""
    options = package.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = package.GraphOptimizationLevel(level)
    options.log_severity_level = 3
    return package.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main(
    names: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="models, all by default")] = None,
    threads: Annotated[str, typer.Option(help="numbers of threads, separated by commas")] = "1,2",
    levels: Annotated[str, typer.Option(help="optimisation levels (0, 1, 2, 3, 99), separated by commas")] = "99",
    engine: Annotated[str, typer.Option(help="the package under test")] = "sardonyx",
) -> None:
    """Compare outputs with onnxruntime's. Fails if any case differs too much."""
    counts = tuple(int(part) for part in threads.split(","))
    failed = 0
    typer.echo(_line("model", "case", "level", [f"{count} threads" for count in counts], "same bits", "varies", ""))
    for name in names or models.MODELS:
        for finding in check(name, engine, counts, tuple(int(part) for part in levels.split(","))):
            failed += not finding.passed
            typer.echo(
                _line(
                    finding.model,
                    finding.case,
                    str(finding.level),
                    [f"{finding.difference[count]:.1e}" for count in counts],
                    "yes" if finding.same_bits else "no",
                    f"{finding.variation:.1e}",
                    "passed" if finding.passed else "failed",
                )
            )
    if failed:
        typer.echo(f"{failed} cases failed")
        raise typer.Exit(1)


def _line(model: str, case: str, level: str, differences: list[str], same: str, variation: str, verdict: str) -> str:
    columns = "".join(f"{difference:>11}" for difference in differences)
    return f"{model:22}{case:>9}{level:>7}{columns}{same:>11}{variation:>9}  {verdict}"


if __name__ == "__main__":
    typer.run(main)
