from pathlib import Path

import numpy as np
import pytest

from benchmarks import models
from benchmarks.engines import ENGINES, EngineError, Worker, median_time


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save("mlp", tmp_path_factory.mktemp("models"))


def test_a_worker_creates_runs_and_times(model: Path) -> None:
    feeds = models.feeds("mlp", "1")
    with Worker(ENGINES["onnxruntime"]) as worker:
        assert worker.create(model, threads=1) > 0
        outputs = worker.outputs(feeds)
        assert [(values.shape, values.dtype) for values in outputs] == [((1, 10), np.float32)]
        assert worker.time(0.01) > 0


def test_a_failing_engine_ends_its_own_process_only(tmp_path: Path, model: Path) -> None:
    with Worker(ENGINES["onnxruntime"]) as worker, Worker(ENGINES["onnxruntime"]) as other:
        with pytest.raises(EngineError, match="onnxruntime failed: its process ended with exit code 1"):
            worker.create(tmp_path / "missing.onnx", threads=1)
        assert other.create(model, threads=1) > 0


def test_median_time_runs_at_least_as_often_as_asked() -> None:
    calls = []
    assert median_time(lambda: calls.append(1), seconds=0, least=5) >= 0
    assert len(calls) == 6
