"""The thread team: dispatch, borrowing, fork, idleness and exit."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import numpy as np
import pytest

from sardonyx.codegen.llvm_types import I64, PTR, VOID
from sardonyx.runtime import abi, team
from sardonyx.runtime.image import ImageError
from sardonyx.runtime.linker import link
from sardonyx.runtime.loader import LoadedImage, load
from sardonyx.runtime.memory import allocate
from sardonyx.runtime.team import Team
from tests.runtime.objects import FIRST, MEETING, ROUNDS, compile_module, function, new_module, rounds_image, team_image, wait_for

NT = FIRST + 64  # the slot where the entry leaves how many threads it ran on


class Rounds:
    """The entry `rounds` with a context of its own; see tests.runtime.objects."""

    def __init__(self, image: LoadedImage) -> None:
        self.image = image
        self.entry = image.address("rounds")
        self.memory = allocate((MEETING + 1) * 8)
        self.memory[:] = 0
        self.slots = self.memory.view(np.int64)

    def run(self, on: Team, threads: int) -> int:
        """Run it, check that all threads kept together, and tell how many there were."""
        self.slots[FIRST:] = 0
        on.run(self.entry, self.memory.ctypes.data, threads)
        while self.slots[abi.INSIDE]:
            time.sleep(0)
        count = int(self.slots[NT])
        assert self.slots[abi.STATUS] == 0
        assert self.slots[FIRST:NT].tolist() == [ROUNDS] * count + [0] * (64 - count)
        return count


@pytest.fixture(scope="module")
def image() -> LoadedImage:
    return load(rounds_image())


@pytest.fixture(scope="module")
def crew() -> Iterator[Team]:
    made = Team(team_image())
    yield made
    made.close()


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_all_threads_take_part(crew: Team, image: LoadedImage, threads: int):
    rounds = Rounds(image)
    assert {rounds.run(crew, threads) for _ in range(50)} == {threads}


def test_a_run_uses_no_more_threads_than_asked(crew: Team, image: LoadedImage):
    rounds = Rounds(image)
    crew.grow(4)
    assert [rounds.run(crew, threads) for threads in (2, 4, 1, 3, 0)] == [2, 4, 1, 3, 1]


def test_ten_thousand_dispatches(crew: Team):
    """Each thread of each dispatch adds 1 to a count."""
    module = new_module()
    made, builder = function(module, "count", VOID, PTR, I64, I64)
    builder.atomic_rmw("add", builder.gep(made.args[0], [I64(FIRST)], source_etype=I64), I64(1), "monotonic")
    builder.ret_void()
    image = load(link([compile_module(module)]))
    slots = np.zeros(FIRST + 1, np.int64)
    crew.grow(2)
    for _ in range(10_000):
        crew.run(image.address("count"), slots.ctypes.data, 2)
        while slots[abi.INSIDE]:
            time.sleep(0)
    assert slots[FIRST] == 20_000


def test_threads_that_may_not_spin(crew: Team, image: LoadedImage):
    rounds = Rounds(image)
    rounds.slots[abi.FLAGS] = abi.NO_SPIN
    assert {rounds.run(crew, 3) for _ in range(20)} == {3}


def test_concurrent_callers_share_the_workers(crew: Team, image: LoadedImage):
    crew.grow(4)

    def caller(_: int) -> set[int]:
        rounds = Rounds(image)
        return {rounds.run(crew, 4) for _ in range(100)}

    with ThreadPoolExecutor(8) as pool:
        counts = set().union(*pool.map(caller, range(8)))
    assert counts <= {1, 2, 3, 4}
    assert len(counts) > 1  # alone and in company


def test_teams_of_an_image_without_entries_are_refused():
    with pytest.raises(ImageError, match="no symbol 'worker'"):
        Team(rounds_image())


def test_the_process_has_one_team(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(team, "_team", None)
    first = team.configure(team_image())
    assert team.configure(team_image()) is first
    first.close()


def test_a_closed_team_runs_on_the_callers_thread(image: LoadedImage):
    crew = Team(team_image())
    rounds = Rounds(image)
    assert rounds.run(crew, 3) == 3
    before = threading.active_count()
    crew.close()
    assert threading.active_count() == before - 2
    assert rounds.run(crew, 3) == 1
    crew.close()


def test_threads_that_do_not_start_leave_the_rest_usable(image: LoadedImage, monkeypatch: pytest.MonkeyPatch):
    crew = Team(team_image())
    rounds = Rounds(image)
    assert rounds.run(crew, 2) == 2
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse_to_start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            rounds.run(crew, 4)
        assert rounds.run(crew, 2) == 2
    assert rounds.run(crew, 4) == 4
    crew.close()


def refuse_to_start(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_an_idle_team_burns_no_cpu(crew: Team, image: LoadedImage):
    assert Rounds(image).run(crew, 4) == 4
    time.sleep(0.1)  # the workers have gone to sleep by then
    before = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - before < 0.2


def run_in_child(answers: SimpleQueue[int], threads: int) -> None:
    answers.put(Rounds(load(rounds_image())).run(CHILDS_TEAM or Team(team_image()), threads))


CHILDS_TEAM: Team | None = None  # a forked child finds its parent's here


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_have_workers_of_their_own(crew: Team, method: str, monkeypatch: pytest.MonkeyPatch):
    crew.grow(3)
    monkeypatch.setattr(sys.modules[__name__], "CHILDS_TEAM", crew)
    context = multiprocessing.get_context(method)
    answers = context.SimpleQueue()
    child = context.Process(target=run_in_child, args=(answers, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork of a threaded process
        child.start()
    child.join(60)
    assert child.exitcode == 0
    assert answers.get() == 3


def test_forks_amid_runs(crew: Team, image: LoadedImage):
    """Children forked while other threads run and start workers have a whole team, and the parent goes on."""
    stop = threading.Event()
    callers = [threading.Thread(target=run_until, args=(stop, crew, image)) for _ in range(2)]
    for caller in callers:
        caller.start()
    statuses = [wait_for(fork_and_run(crew, image)) for _ in range(10)]
    stop.set()
    for caller in callers:
        caller.join(30)
        assert not caller.is_alive()
    assert statuses == [3] * 10
    assert Rounds(image).run(crew, 3) == 3


def run_until(stop: threading.Event, crew: Team, image: LoadedImage) -> None:
    rounds = Rounds(image)
    while not stop.is_set():
        rounds.run(crew, 3)


def fork_and_run(crew: Team, image: LoadedImage) -> int:
    """Fork a child whose exit status is the number of threads it ran on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 99
        try:
            status = Rounds(image).run(crew, 3)
        finally:
            os._exit(status)
    return child


SCRIPT = """
import sys, threading
from pathlib import Path
from sardonyx.runtime import abi
from sardonyx.runtime.image import Image
from sardonyx.runtime.loader import load
from sardonyx.runtime.memory import allocate
from sardonyx.runtime.team import configure

folder = Path(sys.argv[1])
team = configure(Image.from_bytes((folder / "team").read_bytes()))
rounds = load(Image.from_bytes((folder / "rounds").read_bytes()))

def run(times):
    memory = allocate(1024)
    memory[:] = 0
    slots = memory.view("i8")
    for _ in range(times):
        slots[abi.FIRST_SLOT :] = 0
        team.run(rounds.address("rounds"), memory.ctypes.data, 3)
        while slots[abi.INSIDE]:
            pass

run(3)
if sys.argv[2] == "daemon":
    threading.Thread(target=run, args=(10**9,), daemon=True).start()
    run(3)
assert not {"onnx", "onnx_ir", "llvmlite", "ml_dtypes"} & sys.modules.keys()
print("ran")
"""


@pytest.mark.parametrize("company", ["alone", "daemon"])
def test_the_interpreter_exits(tmp_path: Path, company: str):
    """With idle workers, and with a daemon thread still running on them. The process imports no compiler."""
    (tmp_path / "team").write_bytes(team_image().to_bytes())
    (tmp_path / "rounds").write_bytes(rounds_image().to_bytes())
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), company]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")
