"""Compares engines on the models of the benchmarks.

    python -m benchmarks.compare [MODEL ...] --threads 1,2 --against onnxruntime,openvino

Every engine runs in a process of its own. For each model, number of threads and case, outputs are compared first;
then the engines take turns (A B C A B C ...), so that a machine whose clock drifts hits all alike. A ratio is a
peer's time over ours in the same round; what is reported is the median over rounds. Creating a session is timed on
its own, in fresh processes.
"""

import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import models
from benchmarks.agreement import worst
from benchmarks.engines import ENGINES, Engine, EngineError, Feeds, Worker

# Seconds to wait before timing an engine, because threads of the others spin for a while after a run.
SETTLE_SECONDS = 0.02


@dataclass(frozen=True)
class Settings:
    """What to compare: the engine under test first, then its peers."""

    engines: tuple[Engine, ...]
    threads: tuple[int, ...]
    rounds: int
    seconds: float
    cases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Creation:
    """Seconds that creating a session took: from nothing, and with the engine's cache filled (None: it has none)."""

    model: str
    threads: int
    engine: str
    cold: float
    warm: float | None


@dataclass(frozen=True)
class Comparison:
    """Result of one case with one number of threads.

    - times: for each engine that agrees with ours, the median seconds of a run in each round
    - disagreements: for each engine whose outputs differ too much from ours, the difference; it is not timed
    - failures: for each engine that failed, the error
    """

    model: str
    case: str
    threads: int
    ours: str
    times: dict[str, list[float]] = field(default_factory=dict)
    disagreements: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def peers(self) -> list[str]:
        """Return the engines that were timed, except ours."""
        return [name for name in self.times if name != self.ours]

    @property
    def best_peer(self) -> str | None:
        """Return the fastest peer, None if ours or every peer is missing."""
        if self.ours not in self.times or not self.peers:
            return None
        return min(self.peers, key=self.median)

    @property
    def passed(self) -> bool:
        """Return whether our engine ran and no engine disagreed with it."""
        return self.ours in self.times and not self.disagreements

    def median(self, engine: str) -> float:
        """Return the median seconds of a run over the rounds."""
        return statistics.median(self.times[engine])

    def ratios(self, peer: str) -> list[float]:
        """Return the peer's time over ours in each round."""
        return [theirs / ours for theirs, ours in zip(self.times[peer], self.times[self.ours], strict=True)]

    def ratio(self, peer: str) -> float:
        """Return the median over rounds of the peer's time over ours; above 1, ours is faster."""
        return statistics.median(self.ratios(peer))


def compare_model(name: str, settings: Settings, folder: Path) -> tuple[list[Creation], list[Comparison]]:
    """Compare the engines on one model, whose file is stored in `folder` meanwhile."""
    path = models.save(name, folder)
    creations: list[Creation] = []
    comparisons: list[Comparison] = []
    cases = [case.name for case in models.MODELS[name].cases if not settings.cases or case.name in settings.cases]
    for threads in settings.threads:
        with ExitStack() as stack:
            workers: dict[str, Worker] = {}
            failures: dict[str, str] = {}
            for engine in settings.engines:
                try:
                    creation, worker = _start(engine, name, path, threads, stack)
                except EngineError as error:
                    failures[engine.name] = str(error)
                    continue
                creations.append(creation)
                workers[engine.name] = worker
            for case in cases:
                feeds = models.feeds(name, case)
                comparison = Comparison(name, case, threads, settings.engines[0].name, failures=dict(failures))
                _compare_case(comparison, workers, feeds, settings)
                failures |= comparison.failures
                comparisons.append(comparison)
    path.unlink()
    return creations, comparisons


def _start(engine: Engine, model: str, path: Path, threads: int, stack: ExitStack) -> tuple[Creation, Worker]:
    """Measure the creation of a session, and return a worker that holds one.

    An engine with a cache needs three processes: one without the cache, one that fills it, and the one that stays.
    """
    cold = None
    if engine.cold:
        for is_cold in (True, False):
            with Worker(engine, cold=is_cold) as worker:
                seconds = worker.create(path, threads)
                cold = seconds if is_cold else cold
    worker = stack.enter_context(Worker(engine))
    seconds = worker.create(path, threads)
    if cold is None:
        return Creation(model, threads, engine.name, seconds, None), worker
    return Creation(model, threads, engine.name, cold, seconds), worker


def _compare_case(comparison: Comparison, workers: dict[str, Worker], feeds: Feeds, settings: Settings) -> None:
    """Fill in `comparison`; a worker whose engine fails is removed from `workers`."""
    outputs = {}
    for name in list(workers):
        try:
            outputs[name] = workers[name].outputs(feeds)
        except EngineError as error:
            comparison.failures[name] = str(error)
            del workers[name]
    if comparison.ours not in outputs:
        return
    for name in outputs:
        difference = worst(outputs[comparison.ours], outputs[name])
        if difference > models.MODELS[comparison.model].tolerance:
            comparison.disagreements[name] = difference
    agreeing = {name: worker for name, worker in workers.items() if name not in comparison.disagreements}
    comparison.times.update({name: [] for name in agreeing})
    for _ in range(settings.rounds):
        for name, worker in agreeing.items():
            time.sleep(SETTLE_SECONDS)
            comparison.times[name].append(worker.time(settings.seconds))


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _engines(names: list[str]) -> tuple[Engine, ...]:
    for name in names:
        if name not in ENGINES:
            raise typer.BadParameter(f"no engine {name!r}, only {', '.join(ENGINES)}")
    return tuple(ENGINES[name] for name in names)


def main(
    names: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="models, all by default")] = None,
    threads: Annotated[str, typer.Option(help="numbers of threads, separated by commas")] = "1,2",
    against: Annotated[str, typer.Option(help="peers, separated by commas")] = "onnxruntime,openvino",
    engine: Annotated[str, typer.Option(help="the engine under test")] = "sardonyx",
    case: Annotated[list[str] | None, typer.Option(help="only the cases of this name")] = None,
    rounds: Annotated[int, typer.Option(help="turns of each engine")] = 7,
    seconds: Annotated[float, typer.Option(help="length of a turn")] = 0.3,
    output: Annotated[Path, typer.Option(help="folder for compare.json, .md and .png")] = Path("build/benchmarks"),
) -> None:
    """Time the models side by side on several engines. Fails if outputs disagree."""
    from benchmarks import report

    for name in names or []:
        if name not in models.MODELS:
            raise typer.BadParameter(f"no model {name!r}, only {', '.join(models.MODELS)}")
    settings = Settings(_engines([engine, *against.split(",")]), _integers(threads), rounds, seconds, tuple(case or ()))
    creations: list[Creation] = []
    comparisons: list[Comparison] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names or models.MODELS:
            created, compared = compare_model(name, settings, Path(folder))
            creations += created
            comparisons += compared
            report.show(created, compared)
    report.write(creations, comparisons, output)
    if not all(comparison.passed for comparison in comparisons):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
