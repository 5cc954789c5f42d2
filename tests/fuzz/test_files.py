"""fuzz/files.py and what it is made of: a bounded campaign without a finding, and faults that it would find."""

from __future__ import annotations

import ctypes
import random
from pathlib import Path

import numpy as np
import onnx
import pytest

import sardonyx as sx
from fuzz import corpus, mutations
from fuzz.campaign import Campaign
from fuzz.child_process import Limits, execute
from fuzz.files import Files, feeds_for, judged, model_file, value_of
from sardonyx.base.errors import Fail, InvalidGraph, documented
from sardonyx.session import pipeline

EXECUTIONS = 120


@pytest.fixture(scope="module")
def files() -> Files:
    made = Files()
    made.load()
    return made


def test_a_bounded_campaign(files: Files, tmp_path: Path) -> None:
    with Campaign(files, 0, tmp_path) as campaign:
        assert campaign.run(EXECUTIONS, jobs=2) == []
    labels = campaign.state.labels
    assert campaign.state.executions == EXECUTIONS
    assert labels["ran"] > EXECUTIONS / 8, labels  # it reaches what it is for
    assert {"loading: InvalidGraph", "loading: Fail"} <= labels.keys()


def test_files_in_the_format_of_onnx_runtime_are_among_them(files: Files) -> None:
    made = [files.make(random.Random(seed)) for seed in range(60)]
    assert 0 < sum(data[4:8] == b"ORTM" for data in made) < 30
    assert len(corpus.ort_files()) > 5


# ---- faults that it finds ---------------------------------------------------------------------------------------------------


def found(files: Files, tmp_path: Path) -> list[str]:
    with Campaign(files, 1, tmp_path) as campaign:
        return campaign.run(12, jobs=2)


def test_an_exception_that_nobody_foresaw(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(pipeline, "make_feeds", fault)
    assert "loading: KeyError session/pipeline.py in build_with" in found(files, tmp_path)


def test_a_crash(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "make_feeds", lambda *_: ctypes.string_at(8))
    assert "SIGSEGV: session/pipeline.py in build_with" in found(files, tmp_path)


def test_as_many_iterations_as_a_model_asks_for_are_no_hang(files: Files, tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[2] x, int64 n) => (y) <int64 m = {4611686018427387903}, int64 one = {1}> {
        k = Mul (m, one)
        y = Loop (k, "", x) <body = b (int64 i, bool go, float[2] s) => (bool on, t) { on = Identity (go) t = Sin (s) }>
    }"""
    data = onnx.parser.parse_model(text).SerializeToString()
    _, outcome = execute(lambda: data, files.run, Limits(), tmp_path)
    assert outcome.label == "running: Fail", outcome
    assert not outcome.finding


# ---- what is a finding ------------------------------------------------------------------------------------------------------


def raised(error: Exception) -> Exception:
    """What a session makes of the error."""
    out = documented(error)
    out.__cause__ = error if out is not error else None
    return out


@pytest.mark.parametrize(
    ("phase", "error", "is_finding"),
    [
        ("loading", Fail("no"), False),
        ("loading", InvalidGraph("no"), False),
        ("running", Fail("no"), False),
        ("loading", raised(KeyError("x")), True),
        ("running", raised(IndexError("x")), True),
        ("loading", raised(RecursionError()), True),
        ("loading", raised(MemoryError()), True),
        ("running", raised(MemoryError()), False),
        ("loading", KeyError("raw"), True),
        ("running", ValueError("raw"), True),
    ],
)
def test_what_is_a_finding(phase: str, error: Exception, is_finding: bool) -> None:
    outcome = judged(phase, error)
    assert bool(outcome.finding) == is_finding
    assert outcome.label.startswith(phase)


# ---- mutations --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", corpus.made(), ids=lambda model: model.graph.name)
def test_models_to_begin_with_run(files: Files, model: onnx.ModelProto, tmp_path: Path) -> None:
    session = sx.InferenceSession(model_file(tmp_path, model.SerializeToString()))
    drawn = random.Random(0)
    sizes = {a.name: [n if isinstance(n, int) else 2 for n in a.shape] for a in session.get_inputs()}
    feeds = {a.name: value_of(a.type, sizes[a.name], drawn) for a in session.get_inputs()}
    session.run(None, {name: np.ones_like(x) if x.dtype == np.int64 else x for name, x in feeds.items()})


def test_there_are_many_of_them(files: Files) -> None:
    assert len(corpus.corpus()) > 1000


@pytest.mark.parametrize("change", [change for change, _ in mutations.CHANGES], ids=lambda change: change.__name__)
def test_a_mutation_changes_models_and_never_fails(change: mutations.Mutation) -> None:
    changed = 0
    for number in range(60):
        drawn = random.Random(number)
        model, _ = corpus.pick(drawn)
        before = model.SerializeToString()
        for _ in range(5):
            change(model, drawn)
        changed += model.SerializeToString() != before
    assert changed > 10


@pytest.mark.parametrize("change", sorted({change.__name__ for change in mutations.BYTES}))
def test_bytes_of_any_length_can_be_changed(change: str) -> None:
    for number in range(50):
        for data in (b"", b"a", b"abcdefgh"):
            getattr(mutations, change)(data, random.Random(number))


def test_inputs_follow_from_their_number() -> None:
    for number in range(20):
        one, two = (Files().make(random.Random(number)) for _ in range(2))
        assert one == two


def test_smaller_models_are_smaller() -> None:
    source = corpus.attention().SerializeToString()
    candidates = list(mutations.smaller(source))
    assert len(candidates) > 30
    assert all(len(candidate) < len(source) for candidate in candidates)
    assert onnx.load_from_string(source) == corpus.attention()
    assert next(mutations.smaller(b"\xff\xff\xff\xff")) == b"\xff\xff"


def test_feeds_fit_the_inputs(files: Files) -> None:
    for model in corpus.made()[:4]:
        session = sx.InferenceSession(model.SerializeToString())
        for number in range(5):
            feeds = feeds_for(session.get_inputs(), random.Random(number))
            assert feeds is not None
            assert set(feeds) == {argument.name for argument in session.get_inputs()}
