"""Random operators draw anew in each run; a seed fixes the sequence from session to session, `set_seed` that of nodes without one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import sardonyx
from sardonyx.runtime import draws
from sardonyx.session.inference_session import InferenceSession

Array = np.ndarray[Any, Any]
X = np.zeros((2, 30), np.float32)

NODES: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "RandomUniform": ([], {"shape": [2, 30]}, "CPUExecutionProvider"),
    "RandomUniformLike": (["x"], {}, "CPUExecutionProvider"),
    "RandomNormal": ([], {"shape": [2, 30]}, "CPUExecutionProvider"),
    "RandomNormalLike": (["c"], {}, "CPUExecutionProvider"),
    "Bernoulli": (["p"], {}, "CPUExecutionProvider"),
    "Multinomial": (["x"], {"sample_size": 40}, "CPUExecutionProvider"),
    "Dropout": (["c", "half", "true"], {}, "ReferenceExecutionProvider"),
}
CONSTANTS = {
    "p": np.full((2, 30), 0.5, np.float32),
    "c": np.ones((2, 30), np.float32),
    "half": np.array(0.5, np.float32),
    "true": np.array(True),
}


@pytest.fixture(autouse=True)
def unseeded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(draws, "_seeded", None)
    return


def session(operator: str, seed: float | None = None, threads: int = 1, provider: str | None = None) -> InferenceSession:
    inputs, attributes, _ = NODES[operator]
    given = attributes | ({} if seed is None else {"seed": int(seed) if operator == "Dropout" else seed})
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"], "node", **given), helper.make_node("Identity", ["x"], ["z"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b"])],
        [helper.make_empty_tensor_value_info("y"), helper.make_empty_tensor_value_info("z")],
        [numpy_helper.from_array(v, k) for k, v in CONSTANTS.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = sardonyx.SessionOptions()
    options.intra_op_num_threads = threads
    return InferenceSession(made.SerializeToString(), options, [provider] if provider else None)


def drawn(made: InferenceSession) -> Array:
    found: Array = made.run(["y"], {"x": X})[0]
    return found


def sequence(made: InferenceSession) -> list[bytes]:
    return [drawn(made).tobytes() for _ in range(3)]


@pytest.mark.parametrize("operator", NODES)
def test_each_run_draws_anew(operator: str) -> None:
    made = session(operator)
    assert {a.ep_name for a in made.get_provider_graph_assignment_info() if a.get_nodes()[0].op_type == operator} in (
        {NODES[operator][2]},
        set(),
    )
    assert len({*sequence(made), *sequence(session(operator))}) == 6
    seeded = sequence(session(operator, 3.0))
    assert len(set(seeded)) == 3
    assert sequence(session(operator, 3.0, threads=2)) == seeded
    assert not {*sequence(session(operator, 4.0)), *sequence(made)} & {*seeded}


@pytest.mark.parametrize("operator", ["RandomNormalLike", "Bernoulli", "Multinomial"])
def test_the_reference_draws_anew_as_well(operator: str) -> None:
    def made(seed: float | None = None) -> InferenceSession:
        return session(operator, seed, provider="ReferenceExecutionProvider")

    assert len({*sequence(made()), *sequence(made())}) == 6
    assert len(set(sequence(made(3.0)))) == 3
    assert sequence(made(3.0)) == sequence(made(3.0))


@pytest.mark.parametrize("operator", NODES)
def test_set_seed_fixes_the_rest(operator: str) -> None:
    """Sessions made after it repeat what sessions made after it before have drawn; two of them draw different numbers."""
    found = []
    for seed in (5, 5, 6):
        sardonyx.set_seed(seed)
        found.append([sequence(session(operator)) for _ in range(2)])
    assert found[0] == found[1]
    assert len({number for sequences in (*found[0], *found[2]) for number in sequences}) == 12


def test_a_seed_is_an_int() -> None:
    with pytest.raises(TypeError, match="the seed must be an int, not str"):
        sardonyx.set_seed("1")  # type: ignore[arg-type]


def test_runs_at_once_draw_different_numbers() -> None:
    made = session("RandomNormalLike", 3.0)
    found: list[bytes] = []

    def run() -> None:
        for _ in range(25):
            found.append(drawn(made).tobytes())

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 200
    again = session("RandomNormalLike", 3.0)
    assert {drawn(again).tobytes() for _ in range(200)} == set(found)


def test_iterations_of_a_loop_draw_different_numbers() -> None:
    body = helper.make_graph(
        [
            helper.make_node("RandomUniform", [], ["u"], "draw", shape=[4], seed=1.0),
            helper.make_node("Identity", ["c"], ["d"]),
            helper.make_node("Identity", ["u"], ["v"]),
        ],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, []), helper.make_tensor_value_info("v", TensorProto.FLOAT, [4])],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["m", "c"], ["y"], body=body)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.array(5), "m"), numpy_helper.from_array(np.array(True), "c")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    runs = InferenceSession(made.SerializeToString())
    numbers = [runs.run(None, {"x": X[0, :1]})[0] for _ in range(2)]
    assert len({float(n) for run in numbers for n in run.ravel()}) == 40
