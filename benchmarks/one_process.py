"""The measurements of `benchmarks.operation` that are made in a process of their own, with one engine and one model.

Each measurement takes a Subject and returns {quantity: number}, the unit in the quantity's name. `python -m benchmarks.one_process FILE`
reads from FILE which measurement to make, and writes its figures there.
"""

import functools
import pickle
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.agreement import identical
from benchmarks.engines import ENGINES, Feeds, Run, median_time

Figures = dict[str, float]

CALLERS = 8
CHECKED_RUNS = 5
IDLE_SECONDS = 1.0
REPEATS = 3
COMPILERS = {"sardonyx": "llvmlite"}
"""The module that an engine imports when it compiles, by engine."""


@dataclass(frozen=True)
class Subject:
    """An engine and a model's file.

    - feeds: one folder for each case, which holds one .npy file for each input
    - seconds: how long to run
    - size, lengths: `shapes` truncates each axis of this size to each of these lengths
    """

    engine: str
    path: Path
    feeds: tuple[Path, ...]
    threads: int = 1
    seconds: float = 1.0
    size: int = 0
    lengths: tuple[int, ...] = ()

    def cases(self) -> Iterator[Feeds]:
        """Yield the feeds of each case, read when they are requested."""
        return ({file.stem: np.load(file) for file in sorted(folder.iterdir())} for folder in self.feeds)

    def create(self) -> Run:
        return ENGINES[self.engine].load()(self.path, self.threads)


def creation(subject: Subject) -> Figures:
    """Measure seconds to create the session; the import of the engine does not count."""
    create = ENGINES[subject.engine].load()
    start = time.perf_counter()
    create(subject.path, subject.threads)
    return {"created, s": time.perf_counter() - start}


def runs(subject: Subject) -> Figures:
    """Measure seconds to create the session, without the import of the engine, and the median milliseconds of a run of the first
    case.
    """
    create = ENGINES[subject.engine].load()
    start = time.perf_counter()
    run = create(subject.path, subject.threads)
    created = time.perf_counter() - start
    feeds = next(subject.cases())
    return {"created, s": created, "run, ms": median_time(lambda: run(feeds), subject.seconds) * 1e3}


def memory(subject: Subject) -> Figures:
    """Measure MB of the process: the peak after creating the session and running each case, and what it occupies at the end.

    Pages of a mapped file count in the peak, though processes share them and the system may drop them.
    """
    ENGINES[subject.engine].load()
    imported = _memory()
    run = subject.create()
    for feeds in subject.cases():
        run(feeds)
    after = _memory()
    return {
        "imported, MB": imported["VmRSS"],
        "peak, MB": after["VmHWM"],
        "in the end, MB": after["VmRSS"],
        "anonymous, MB": after["RssAnon"],
        "of files, MB": after["RssFile"],
    }


def shapes(subject: Subject) -> Figures:
    """Measure the mean milliseconds of a run with a new shape, and of a run with the shape of the run before, over all lengths.

    Raises RuntimeError if the engine compiled during one of the runs, though its session came from the cache.
    """
    whole = next(subject.cases())
    run = subject.create()
    run(cut(whole, subject.size, max(subject.lengths) + 1))
    new, same = [], []
    for length in subject.lengths:
        feeds = cut(whole, subject.size, length)
        first, *others = (_seconds(run, feeds) for _ in range(1 + REPEATS))
        new.append(first)
        same.append(statistics.median(others))
    if COMPILERS.get(subject.engine) in sys.modules:
        raise RuntimeError(f"{subject.engine} compiled for a new shape")
    return {"new shape, ms": statistics.mean(new) * 1e3, "same shape, ms": statistics.mean(same) * 1e3}


def cut(feeds: Feeds, size: int, length: int) -> Feeds:
    """Truncate each axis of `size` to `length`, and each axis of size + 1 to length + 1."""
    return {
        name: np.ascontiguousarray(array[tuple(slice(length + n - size if n in (size, size + 1) else n) for n in array.shape)])
        for name, array in feeds.items()
    }


def callers(subject: Subject) -> Figures:
    """Measure runs per second of eight Python threads that share a session, each with its own feeds, and of one thread.

    Raises RuntimeError if a thread's outputs differ, in any bit, from those of its feeds run alone.
    """
    feeds = [_turned(next(subject.cases()), caller) for caller in range(CALLERS)]
    shared = _shared_runs(subject)
    expected = [shared[0](own) for own in feeds]

    def check(caller: int) -> bool:
        return all(identical(shared[caller](feeds[caller]), expected[caller]) for _ in range(CHECKED_RUNS))

    with ThreadPoolExecutor(CALLERS) as pool:
        if not all(pool.map(check, range(CALLERS))):
            raise RuntimeError(f"{subject.engine}: outputs differ between threads")
    calls = [functools.partial(run, own) for run, own in zip(shared, feeds, strict=True)]
    alone, together = _rate(calls[:1], subject.seconds), _rate(calls, subject.seconds)
    return {"one caller, runs/s": alone, "eight callers, runs/s": together}


def idle(subject: Subject) -> Figures:
    """Measure milliseconds of CPU time that the process's threads use, except the measuring one, in the second after a second of
    idleness.
    """
    run = subject.create()
    feeds = next(subject.cases())
    median_time(lambda: run(feeds), subject.seconds)
    time.sleep(IDLE_SECONDS)
    start, own = time.process_time_ns(), time.thread_time_ns()
    time.sleep(IDLE_SECONDS)
    return {"CPU when idle, ms": (time.process_time_ns() - start - (time.thread_time_ns() - own)) / 1e6}


MEASUREMENTS: dict[str, Callable[[Subject], Figures]] = {
    measurement.__name__: measurement for measurement in (creation, runs, memory, shapes, callers, idle)
}


def _memory() -> dict[str, float]:
    """Return the process's memory in MB, as reported by Linux."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {name.rstrip(":"): int(amount[0]) * 1024 / 1e6 for name, *amount in lines if amount[1:] == ["kB"]}


def _seconds(run: Run, feeds: Feeds) -> float:
    start = time.perf_counter()
    run(feeds)
    return time.perf_counter() - start


def _turned(feeds: Feeds, by: int) -> Feeds:
    """Return feeds of equal shapes with each row rotated by this many elements."""
    return {name: np.roll(array, by, axis=-1) for name, array in feeds.items()}


def _shared_runs(subject: Subject) -> list[Run]:
    """Return what each caller calls: the shared session; for OpenVINO a separate request of one compiled model."""
    if subject.engine != "openvino":
        return [subject.create()] * CALLERS
    import openvino

    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": CALLERS}
    model = openvino.Core().compile_model(subject.path, "CPU", settings | {"INFERENCE_NUM_THREADS": CALLERS * subject.threads})

    def request() -> Run:
        own = model.create_infer_request()
        return lambda feeds: list(own.infer(feeds, share_inputs=True).values())

    return [request() for _ in range(CALLERS)]


def _rate(calls: Sequence[Callable[[], object]], seconds: float) -> float:
    """Return calls per second, where each call is repeated on a thread of its own for about this many seconds."""
    start = threading.Barrier(len(calls) + 1)

    def repeat(call: Callable[[], object]) -> int:
        call()
        start.wait()
        end, count = time.perf_counter() + seconds, 0
        while time.perf_counter() < end:
            call()
            count += 1
        return count

    with ThreadPoolExecutor(len(calls)) as pool:
        counts = [pool.submit(repeat, call) for call in calls]
        start.wait()
        begin = time.perf_counter()
        total = sum(count.result() for count in counts)
        return total / (time.perf_counter() - begin)


def main(file: Path) -> None:
    """Make the measurement that the file describes, and write its figures there."""
    name, subject = pickle.loads(file.read_bytes())
    file.write_bytes(pickle.dumps(MEASUREMENTS[name](subject)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
