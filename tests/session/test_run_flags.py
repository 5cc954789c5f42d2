"""How runs of a session go on: subnormal numbers as zero, threads that don't spin. At first, again, and from a kept session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import sardonyx as sx
from sardonyx.runtime import abi
from sardonyx.runtime.cache import Cache
from sardonyx.runtime.execution import Context
from sardonyx.session.session_parts import Request

SMALLEST = np.float32(np.finfo(np.float32).tiny)


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """y = x / 2 and, for long x, enough work for two threads."""
    path = tmp_path / "halves.onnx"
    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 17]> g (float[n] x) => (float[n] y) { two = Constant <value = float {2}> () y = Div(x, two) }'
        ),
        path,
    )
    return path


def session(path: Path, threads: int, **entries: str) -> sx.InferenceSession:
    options = sx.SessionOptions()
    options.intra_op_num_threads = threads
    for key, value in entries.items():
        options.add_session_config_entry(f"session.{key.replace('__', '.')}", value)
    return sx.InferenceSession(path, options)


@pytest.mark.parametrize("size", [3, 1 << 20])
@pytest.mark.parametrize("entry", ["0", "1"])
def test_denormals_as_zero(halves: Path, size: int, entry: str, cache: Cache, builds: list[Request]) -> None:
    x = np.full(size, SMALLEST, np.float32)
    wanted = np.float32(0) if entry == "1" else SMALLEST / 2
    for _ in range(2):
        runs = session(halves, 2, set_denormal_as_zero=entry)
        for _ in range(3):
            np.testing.assert_array_equal(runs.run(None, {"x": x})[0], np.full(size, wanted))
    assert len(builds) == 1
    assert SMALLEST / 2 > 0  # the caller's own mode is what it was


@pytest.mark.parametrize("entry", ["0", "1"])
def test_spinning(halves: Path, entry: str, monkeypatch: pytest.MonkeyPatch, cache: Cache, builds: list[Request]) -> None:
    made: list[Context] = []
    reserve_claims = Context.reserve_claims
    monkeypatch.setattr(Context, "reserve_claims", lambda self, threads: (made.append(self), reserve_claims(self, threads)))
    x = np.arange(1 << 20, dtype=np.float32)
    for count in (1, 2):
        runs = session(halves, 2, intra_op__allow_spinning=entry)
        for _ in range(3):
            np.testing.assert_array_equal(runs.run(None, {"x": x})[0], x / 2)
        assert len(set(map(id, made))) >= count
    assert len(builds) == 1
    assert all(context.slots[abi.FLAGS] == (0 if entry == "1" else abi.NO_SPIN) for context in made)
