"""Measures what a program notices of an engine besides the time of a run: `python -m benchmarks.operation [WHAT ...] --model NAME ...`.

    start    creating a session, with nothing cached and from the cache; from the start of a process to its first output
    memory   what a process needs at its peak
    shapes   runs of ever new shapes, beside runs of the same shape again
    callers  eight threads that share a session; their outputs must be, bit by bit, those of one
    idle     CPU time used when there is nothing to do
    loop     an ONNX Loop of 10,000 iterations over a 64x64 product and its tanh
    nodes    creating sessions of very many small nodes, with nothing cached

Every figure comes from a process of its own (`benchmarks.one_process`). The engines take turns, one process each, round by round; what is
reported is the median over rounds, and their range.
"""

import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import typer

from benchmarks import models, one_process, synthetic
from benchmarks.engines import ENGINES, Engine, EngineError, Feeds
from benchmarks.one_process import Figures, Subject
from benchmarks.report import machine, markdown_table, show_table

STARTED = (
    *("resnet50", "mobilenet_v2", "bert_base", "vit_b16", "gpt2", "lstm_tagger", "mlp", "logistic_regression", "random_forest"),
    *("light_squeezenet", "super_resolution"),
)
SHARED = ("bert_base", "mobilenet_v2", "logistic_regression")
# model -> the case that is cut, the size of the axis, and to which lengths: sentences, and a past that grows
LENGTHS = {"bert_base": ("1x384", 384, tuple(range(11, 111, 2))), "gpt2": ("1+1000", 1000, tuple(range(100, 150)))}
SHARED_CASES = {"bert_base": "1x37"}
LOOP_ITERATIONS = 10_000


@dataclass(frozen=True)
class Settings:
    """What to measure with: the engine under test first, then its peers.

    - folder: where models are kept meanwhile
    - bytecode: where processes keep Python's compiled files, so that none spends its time on compiling modules
    - models: for the measures that run models; all that a measure names if there are none
    - limit: seconds that a process may take
    """

    engines: tuple[Engine, ...]
    folder: Path
    bytecode: Path
    models: tuple[str, ...] = ()
    rounds: int = 5
    seconds: float = 1.0
    limit: float = 300.0
    nodes: tuple[int, ...] = ()

    def of(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The models that were asked for, of those that can be."""
        return tuple(name for name in names if name in self.models) if self.models else names


@dataclass
class Measurement:
    """Figures of one engine: for each quantity its value in each round; if it failed, the error."""

    measure: str
    subject: str
    engine: str
    figures: dict[str, list[float]] = field(default_factory=dict)
    failure: str = ""

    def add(self, figures: Figures) -> None:
        for quantity, number in figures.items():
            self.figures.setdefault(quantity, []).append(number)


Measure = Callable[[Engine], Figures]


# ---- processes --------------------------------------------------------------------------------------------------------------


def process(arguments: list[str], engine: Engine, settings: Settings, cold: bool = False) -> str:
    """Return what a Python process prints. Raises EngineError if it fails or takes longer than the limit; its traceback is on
    stderr.
    """
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(settings.bytecode)} | (dict(engine.cold) if cold else {})
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, *arguments]
    try:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=settings.limit, check=False)
    except subprocess.TimeoutExpired:
        raise EngineError(f"no answer in {settings.limit:.0f} s") from None
    if done.returncode:
        raise EngineError(f"exit code {done.returncode}")
    return done.stdout.decode()


def measured(what: Callable[[Subject], Figures], subject: Subject, settings: Settings, cold: bool = False) -> Figures:
    """Return the figures of one measurement in a process of its own. Raises EngineError as `process` does."""
    file = settings.folder / "request"
    file.write_bytes(pickle.dumps((what.__name__, subject)))
    process(["-m", "benchmarks.one_process", str(file)], ENGINES[subject.engine], settings, cold)
    return pickle.loads(file.read_bytes())


def in_turns(measure: str, subject: str, settings: Settings, take: Measure) -> list[Measurement]:
    """Measure all engines on one subject: in each round, each engine once. An engine that fails is omitted afterwards."""
    findings = [Measurement(measure, subject, engine.name) for engine in settings.engines]
    for _ in range(settings.rounds):
        for engine, finding in zip(settings.engines, findings, strict=True):
            if finding.failure:
                continue
            try:
                finding.add(take(engine))
            except EngineError as error:
                finding.failure = str(error)
    return findings


# ---- models -----------------------------------------------------------------------------------------------------------------


def saved(name: str, settings: Settings, *cases: str) -> tuple[Path, tuple[Path, ...]]:
    """Save a model. Returns its file, and a folder of feeds for each of the cases, by default all."""
    path = models.save(name, settings.folder)
    chosen = cases or tuple(case.name for case in models.MODELS[name].cases)
    return path, tuple(_saved_feeds(models.feeds(name, case), settings.folder / name / case) for case in chosen)


def saved_graph(model: onnx.ModelProto, name: str, settings: Settings) -> tuple[Path, tuple[Path, ...]]:
    """Save a model with one input x: f32[...]. Returns its file and its feeds."""
    path = settings.folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return path, (_saved_feeds({"x": x}, settings.folder / name / "x"),)


def _saved_feeds(feeds: Feeds, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in feeds.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def fill_cache(subject: Subject, settings: Settings, cold: bool = False) -> None:
    """Create a session, so that the next one finds everything in the cache; with `cold` only Python's own caches are filled.

    An engine that fails here fails again where it is measured.
    """
    try:
        measured(one_process.creation, subject, settings, cold)
    except EngineError:
        return


# ---- measures: each returns the measurements of one subject -------------------------------------------------------------------


def start(name: str, settings: Settings) -> list[Measurement]:
    """Measure seconds to create a session, and from the start of the process to the first output."""
    path, feeds = saved(name, settings)
    first = [text for file in sorted(feeds[0].iterdir()) for text in (file.stem, str(file))]

    for engine in settings.engines:
        fill_cache(Subject(engine.name, path, feeds[:1]), settings, cold=True)

    def take(engine: Engine) -> Figures:
        subject = Subject(engine.name, path, feeds[:1])
        cold = measured(one_process.creation, subject, settings, cold=True)["created, s"] if engine.cold else None
        fill_cache(subject, settings)
        created = measured(one_process.creation, subject, settings)["created, s"]
        begin = time.perf_counter()
        printed = process(["-c", FIRST, engine.name, str(path), *first], engine, settings)
        figures = {"created, ms": created * 1e3, "process to output, ms": (float(printed.split()[-1]) - begin) * 1e3}
        return figures if cold is None else {"nothing cached, ms": cold * 1e3, **figures}

    return in_turns("start", name, settings, take)


FIRST = "import sys; from benchmarks.first_output import main; main(*sys.argv[1:])"


def memory(name: str, settings: Settings) -> list[Measurement]:
    """Measure the peak MB of the process after running each case, with the session from the cache."""
    return _from_cache("memory", one_process.memory, name, settings, *saved(name, settings))


def shapes(name: str, settings: Settings) -> list[Measurement]:
    """Measure milliseconds of a run with a new shape, and of a second run with that shape."""
    case, size, lengths = LENGTHS[name]
    return _from_cache("shapes", one_process.shapes, name, settings, *saved(name, settings, case), size=size, lengths=lengths)


def callers(name: str, settings: Settings) -> list[Measurement]:
    """Measure runs per second of eight threads that share a session of one thread."""
    cases = SHARED_CASES.get(name, models.MODELS[name].cases[0].name)
    return _from_cache("callers", one_process.callers, name, settings, *saved(name, settings, cases))


def idle(name: str, settings: Settings) -> list[Measurement]:
    """Measure the CPU time of an idle process with two threads."""
    return _from_cache("idle", one_process.idle, name, settings, *saved(name, settings), threads=2)


def loop(name: str, settings: Settings) -> list[Measurement]:
    """Measure milliseconds of a Loop of 10,000 iterations."""
    return _from_cache("loop", one_process.runs, name, settings, *saved_graph(synthetic.loop(LOOP_ITERATIONS), name, settings))


def nodes(name: str, settings: Settings) -> list[Measurement]:
    """Measure seconds to create a session of `kind count` nodes with nothing cached."""
    kind, count = name.split()
    path, feeds = saved_graph(synthetic.MANY_NODES[kind](int(count)), kind, settings)

    for engine in settings.engines:
        fill_cache(Subject(engine.name, *saved_graph(synthetic.MANY_NODES[kind](16), "one", settings)), settings, cold=True)

    def take(engine: Engine) -> Figures:
        return measured(one_process.runs, Subject(engine.name, path, feeds, seconds=0.1), settings, cold=True)

    return in_turns("nodes", name, settings, take)


def _from_cache(
    measure: str,
    what: Callable[[Subject], Figures],
    name: str,
    settings: Settings,
    path: Path,
    feeds: tuple[Path, ...],
    **more: Any,
) -> list[Measurement]:
    """Measure in one process per engine, with sessions from the cache if the engine has one."""
    subjects = {e.name: Subject(e.name, path, feeds, **{"seconds": settings.seconds} | more) for e in settings.engines}
    for engine in settings.engines:
        if engine.cold:
            fill_cache(subjects[engine.name], settings)
    return in_turns(measure, name, settings, lambda engine: measured(what, subjects[engine.name], settings))


def subjects_of(what: str, settings: Settings) -> tuple[str, ...]:
    """Return the subjects of a measure."""
    match what:
        case "start" | "memory":
            return settings.models or STARTED
        case "shapes":
            return settings.of(tuple(LENGTHS))
        case "callers":
            return settings.models or SHARED
        case "idle":
            return settings.models or ("bert_base",)
        case "nodes":
            return tuple(f"{kind} {count}" for kind in synthetic.MANY_NODES for count in settings.nodes)
    return (what,)


MEASURES = {measure.__name__: measure for measure in (start, memory, shapes, callers, idle, loop, nodes)}


# ---- the report -------------------------------------------------------------------------------------------------------------


def measurement_table(findings: list[Measurement]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of one measure: median (least to greatest) of each quantity over the rounds."""
    quantities = list(dict.fromkeys(quantity for finding in findings for quantity in finding.figures))
    rows = [
        [finding.subject, finding.engine, *(_cell(finding.figures.get(quantity)) for quantity in quantities), finding.failure]
        for finding in findings
    ]
    return ["", "engine", *quantities, "failure"], rows


def _cell(numbers: list[float] | None) -> str:
    if not numbers:
        return "-"
    return f"{statistics.median(numbers):.4g} ({min(numbers):.4g} to {max(numbers):.4g})"


def write(findings: list[Measurement], folder: Path) -> None:
    """Write operation.json and operation.md into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = machine()
    content = {"machine": facts, "findings": [asdict(finding) for finding in findings]}
    (folder / "operation.json").write_text(json.dumps(content, indent=1) + "\n")
    parts = [f"{facts['processor']}, {facts['cores']} cores; {facts['packages']}\n"]
    for what in dict.fromkeys(finding.measure for finding in findings):
        parts += [f"## {what}\n", markdown_table(*measurement_table([f for f in findings if f.measure == what]))]
    (folder / "operation.md").write_text("\n".join(parts))


def main(
    what: Annotated[list[str] | None, typer.Argument(metavar="[WHAT]...", help=f"{', '.join(MEASURES)}; all by default")] = None,
    model: Annotated[list[str] | None, typer.Option(help="only these models")] = None,
    against: Annotated[str, typer.Option(help="peers, separated by commas")] = "onnxruntime,openvino",
    engine: Annotated[str, typer.Option(help="the engine under test")] = "sardonyx",
    rounds: Annotated[int, typer.Option(help="turns of each engine")] = 5,
    seconds: Annotated[float, typer.Option(help="how long a turn runs")] = 1.0,
    limit: Annotated[float, typer.Option(help="seconds after which a process is given up")] = 300.0,
    count: Annotated[str, typer.Option(help="numbers of nodes, separated by commas")] = "5000,10000,20000,40000",
    output: Annotated[Path, typer.Option(help="folder for operation.json and .md")] = Path("build/benchmarks"),
) -> None:
    """Measures start, memory, new shapes, shared sessions, idleness, long loops and large graphs, side by side."""
    peers = against.split(",") if against else []
    for names, known in ((what or [], list(MEASURES)), (model or [], list(models.MODELS)), ([engine, *peers], list(ENGINES))):
        for name in names:
            if name not in known:
                raise typer.BadParameter(f"no {name!r}, only {', '.join(known)}")
    engines = tuple(ENGINES[name] for name in (engine, *peers))
    findings: list[Measurement] = []
    counts = tuple(int(part) for part in count.split(","))
    with tempfile.TemporaryDirectory() as bytecode:
        settings = Settings(engines, Path(), Path(bytecode), tuple(model or ()), rounds, seconds, limit, counts)
        for name in what or MEASURES:
            for subject in subjects_of(name, settings):
                with tempfile.TemporaryDirectory() as folder:
                    found = MEASURES[name](subject, replace(settings, folder=Path(folder)))
                show_table(*measurement_table(found), title=f"{name} {subject}")
                findings += found
            write(findings, output)
    if any(finding.failure and finding.engine == engine for finding in findings):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
