"""Parts that are made again: once, when first run, and only from the same model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sardonyx.base.errors import Fail
from sardonyx.base.options import CompileOptions
from sardonyx.providers import registry
from sardonyx.runtime.cache import Cache
from sardonyx.session.pipeline import build
from sardonyx.session.rebuild import Rebuilder
from sardonyx.session.session_parts import Request, SessionParts
from tests.graph.models import data

X = np.ones((2, 1), np.float32)


def test_the_model_is_built_once_when_a_part_is_first_run(tmp_path: Path):
    builds: list[SessionParts] = []

    def make() -> SessionParts:
        builds.append(
            build(Request(data("g (float[N] x) => (float[N] y) { y = Neg(x) }"), CompileOptions(), ((registry.CPU, {}),)))
        )
        return builds[-1]

    rebuilder = Rebuilder(make, Cache(tmp_path), "key", 1)
    first, second = rebuilder.lazy(0, "a part"), rebuilder.lazy(0, "the same")
    assert first.describe() == "a part"
    assert not builds
    for part in (first, second, first):
        np.testing.assert_array_equal(part.run([X[:, 0]])[0], -X[:, 0])
    assert len(builds) == 1
    late = rebuilder.late(0, ["x"])  # but that step is none whose form a run decides
    with pytest.raises(Fail, match="the model has changed"):
        late.run([X])


def test_a_model_that_is_no_longer_the_same(tmp_path: Path):
    with pytest.raises(Fail, match="its model has changed"):
        Rebuilder(lambda: None, Cache(tmp_path), "key", 1).lazy(0, "").run([X])
