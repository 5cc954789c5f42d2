"""Fuzzer of model files: whatever the bytes say, creating and running a session succeeds or raises a documented exception.

`python -m fuzz.files --executions 1000 --seed 1 --state DIR`, more in `--help`
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import traceback
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fuzz import corpus, mutations
from fuzz.campaign import main
from fuzz.child_process import Outcome

MOST_ELEMENTS = 1 << 16  # largest number of elements of an input
ORT_SHARE = 0.08  # of files in ONNX Runtime's own format
SECONDS = "3"  # time limit of the first run


class Files:
    """Fuzzer that mutates models of the corpus."""

    name = "files"

    def load(self) -> None:
        """Import all that sessions need, and create one."""
        os.environ["SARDONYX_CACHE"] = os.path.join(tempfile.gettempdir(), f"sardonyx-fuzz-{os.getuid()}")
        import onnx.reference.ops  # noqa: F401

        import sardonyx as sx
        from sardonyx.runtime.cache import Cache
        from sardonyx.session import session_cache

        nothing = Cache(None)
        session_cache.shared_cache = lambda: nothing  # kernels are cached, sessions are not
        found = corpus.corpus()
        session = sx.InferenceSession(found[-1][0].SerializeToString(), providers=["CPUExecutionProvider"])
        session.run(None, {"x": np.ones((2, 8), np.float32)})

    def make(self, drawn: random.Random) -> bytes:
        if drawn.random() < ORT_SHARE:
            return mutations.mutate_bytes(drawn.choice(corpus.ort_files()), drawn)
        return mutations.mutate(*corpus.pick(drawn), drawn)

    def smaller(self, data: bytes) -> Iterator[bytes]:
        return mutations.smaller(data)

    def run(self, data: bytes) -> Outcome:
        """Create a session from the bytes, or from a file of them, and run it twice on random feeds. The first run has a deadline,
        because a model may ask for a huge number of iterations.
        """
        import sardonyx as sx

        drawn = random.Random(zlib.crc32(data))
        options = sx.SessionOptions()
        options.intra_op_num_threads = drawn.choice((1, 2))
        options.graph_optimization_level = sx.GraphOptimizationLevel(drawn.choice((0, 1, 99, 99)))
        with tempfile.TemporaryDirectory() as folder:
            source: str | bytes = data if drawn.random() < 0.3 else model_file(Path(folder), data)
            try:
                session = sx.InferenceSession(source, options, providers=["CPUExecutionProvider"])
            except Exception as error:
                return judged("loading", error)
            return ran(session, drawn)


def ran(session: Any, drawn: random.Random) -> Outcome:
    """Run the session and return how that ends."""
    import sardonyx as sx

    try:
        feeds = feeds_for(session.get_inputs(), drawn)
        if feeds is None:
            return Outcome("loaded, too large to feed")
        deadline = sx.RunOptions()
        deadline.add_run_config_entry("run.timeout_seconds", SECONDS)
        for run_options in (deadline, None):
            session.run(None, feeds, run_options)
    except Exception as error:
        return judged("running", error)
    finally:
        session.close()
    return Outcome("ran")


def model_file(folder: Path, data: bytes) -> str:
    """Write the model to a file, beside the files that locations of external data name."""
    (folder / "weights.bin").write_bytes(bytes(range(256)))
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    name = "model.ort" if data[4:8] == b"ORTM" else "model.onnx"
    (folder / name).write_bytes(data)
    return str(folder / name)


def judged(phase: str, error: Exception) -> Outcome:
    """Return the outcome of an exception. It is a finding if it is not documented, or was converted to a documented one because
    nobody foresaw it.

    Running out of memory is a refusal in a run, but a finding when a small file is loaded.
    """
    from sardonyx.base.errors import SardonyxError

    kind = type(error).__name__
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    details = "".join(traceback.format_exception(error))
    if isinstance(cause, MemoryError):
        return Outcome(
            f"{phase}: out of memory", f"{phase}: out of memory {innermost(cause)}" if phase == "loading" else "", details
        )
    if not isinstance(error, SardonyxError) or getattr(error, "defect", False):
        return Outcome(f"{phase}: unexpected", f"{phase}: {type(cause).__name__} {innermost(cause)}", details)
    return Outcome(f"{phase}: {kind}")


def innermost(error: BaseException) -> str:
    """Return the innermost function of the package in which the error arose."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/sardonyx/" in frame.filename]
    return f"{frames[-1].filename.rpartition('/sardonyx/')[2]} in {frames[-1].name}" if frames else "outside the package"


def feeds_for(inputs: list[Any], drawn: random.Random) -> dict[str, Any] | None:
    """Return random values for a session's inputs, None if they would be too large."""
    sizes: dict[str, int] = {}
    feeds = {}
    for argument in inputs:
        shape = [size_of(size, sizes, drawn) for size in argument.shape]
        if any(size < 0 for size in shape) or np.prod([float(size or 1) for size in shape]) > MOST_ELEMENTS:
            return None  # numpy refuses the others also where one of the sizes is 0
        feeds[argument.name] = value_of(argument.type, shape, drawn)
    return feeds


def size_of(size: int | str | None, sizes: dict[str, int], drawn: random.Random) -> int:
    """Return a size: the fixed one, or mostly the same for the same name."""
    if isinstance(size, int):
        return size
    some = drawn.choice((0, 1, 2, 2, 3, 3, 4, 5, 8, 9))
    return some if size is None or drawn.random() < 0.1 else sizes.setdefault(size, some)


def value_of(kind: str, shape: list[int], drawn: random.Random) -> Any:
    """Return a random value of a type."""
    if kind.startswith("seq("):
        return [value_of(kind[4:-1], shape, drawn) for _ in range(drawn.randrange(3))]
    if kind.startswith("optional("):
        return None if drawn.random() < 0.3 else value_of(kind[9:-1], shape, drawn)
    if kind.startswith("map("):
        return {}
    from sardonyx.base import dtypes

    dtype = {f"tensor({d.onnx_name})": d for d in dtypes.ALL}[kind]
    rng = np.random.default_rng(drawn.getrandbits(32))
    if dtype is dtypes.string:
        return np.array(rng.choice(["a", "", "b c", "é", "1"], shape), object)
    if dtype.numpy.kind in "iu" and drawn.random() < 0.8:
        return rng.integers(0, 4, shape).astype(dtype.numpy)
    with np.errstate(all="ignore"):
        values = rng.standard_normal(shape) * drawn.choice((1.0, 1.0, 100.0, 1e30))
        if drawn.random() < 0.1:
            values = np.where(rng.random(shape) < 0.2, np.nan, values)
        return np.asarray(np.nan_to_num(values) if dtype.numpy.kind in "iu" else values).astype(dtype.numpy)


if __name__ == "__main__":
    sys.exit(main(Files()))
