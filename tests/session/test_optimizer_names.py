"""Names of optimisers to leave out: all that are known, warnings for the others, from the cache too."""

from __future__ import annotations

import warnings

import pytest

import sardonyx as sx
from sardonyx.graph.passes import NAMES, PIPELINE
from sardonyx.session import optimizer_names, session_cache
from sardonyx.session.optimizer_names import BASIC, EXTENDED, KNOWN, LAYOUT, PASSES
from tests.session.models import relu


def test_the_names_are_those_of_the_passes() -> None:
    assert set(NAMES) == PASSES
    aliases = {alias for step in PIPELINE for alias in step.aliases}
    assert aliases <= BASIC | EXTENDED | LAYOUT
    assert len(BASIC) + len(EXTENDED) + len(LAYOUT) + len(PASSES) == len(KNOWN)


def test_known_names_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sx.InferenceSession(relu(), disabled_optimizers=sorted(KNOWN))


def test_unknown_names_warn_each_time(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = session_cache.Cache(tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(session_cache, "shared_cache", lambda: cache)
    for _ in range(2):  # the second session comes from the cache
        with pytest.warns(UserWarning, match="There is no optimizer to disable of the name 'FoldEverything', 'constant folding'"):
            sx.InferenceSession(relu(), disabled_optimizers=["constant folding", "ConstantFolding", "FoldEverything"])


def test_names_among_the_options_warn_too() -> None:
    options = sx.SessionOptions()
    options.add_session_config_entry("optimization.disable_specified_optimizers", "GeluFusion;Nonsense")
    with pytest.warns(UserWarning, match="'Nonsense'"):
        sx.InferenceSession(relu(), options)
    assert optimizer_names.unknown([]) == ""
