"""Chains of operators that move elements as tensors fed to the run say: loading them is little work, and the values are right.

Each operator of such a chain composes its index map, and its formulas of sizes, with those of all operators before it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper

import sardonyx
from sardonyx.base.symbolic import derived, polynomials

Array = npt.NDArray[np.generic]
LENGTH = 8
UNITS_PER_NODE = 30_000
"""Units of work (`budget.work`) that a node of a chain may take: twice what any does, far below what doubling takes."""

X = np.arange(6, dtype=np.float32).reshape(2, 3)
ONES = X.reshape((2, 3) + (1,) * LENGTH)


def expanded(x: Array, axes: list[int]) -> Array:
    """x with a new axis at each of these positions, one after another."""
    for axis in axes:
        x = np.expand_dims(x, axis)
    return x


def numbers(*values: int) -> Array:
    return np.array(values, np.int64)


CHAINS: dict[str, tuple[Array, list[list[Array]], Array]] = {
    "Unsqueeze": (X, [[numbers(n)] for n in [0, 2, -3, 1] * 2], expanded(X, [0, 2, -3, 1] * 2)),
    "Squeeze": (ONES, [[numbers(-1)]] * LENGTH, X),
    "Reshape": (X, [[numbers(3, 2) if n % 2 == 0 else numbers(2, -1)] for n in range(LENGTH)], X),
    "Expand": (X[:, :1], [[numbers(2, 4)]] * LENGTH, np.repeat(X[:, :1], 4, 1)),
    "Tile": (X, [[numbers(1, 2)], *[[numbers(1, 1)]] * (LENGTH - 1)], np.tile(X, (1, 2))),
    "Pad": (X, [[numbers(0, 1, 0, 0)]] * LENGTH, np.pad(X, ((0, 0), (LENGTH, 0)))),
    "Slice": (
        np.tile(X, (1, 8)),
        [[numbers(0, 1), numbers(9, -1), numbers(0, 1), numbers(1, 1)]] * LENGTH,
        np.tile(X, (1, 8))[:, 8:-8],
    ),
    "Gather": (X, [[numbers(1, 0)]] * LENGTH, X),
    "Resize": (X, [[numbers(2, 3)]] * LENGTH, X),
    "ReduceSum": (X, [[numbers(1)]] * LENGTH, X.sum(1, keepdims=True)),
}
"""The first input, what is fed to each operator, and the result."""


def chain(op: str, x: Array, fed: list[list[Array]]) -> tuple[bytes, dict[str, Array]]:
    """A model of a chain of one operator, and its feeds. All sizes of x are left open."""
    nodes, feeds = [], {"x": x}
    for n, values in enumerate(fed):
        names = [f"fed{n}_{place}" for place in range(len(values))]
        feeds |= dict(zip(names, values, strict=True))
        unused = ["", ""] if op == "Resize" else []
        nodes.append(helper.make_node(op, [f"x{n}" if n else "x", *unused, *names], [f"x{n + 1}"]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [f"d{a}" for a in range(x.ndim)])]
    inputs += [helper.make_tensor_value_info(k, TensorProto.INT64, v.shape) for k, v in feeds.items() if k != "x"]
    output = helper.make_tensor_value_info(f"x{len(fed)}", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, [output]), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    return model.SerializeToString(), feeds


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The units of work that the test does, one entry for each call."""
    units: list[int] = []
    for module in (derived, polynomials):
        monkeypatch.setattr(module, "work", lambda count, doing: units.append(count))
    return units


@pytest.mark.parametrize("op", CHAINS)
def test_chain(op: str, done: list[int]) -> None:
    x, fed, expected = CHAINS[op]
    model, feeds = chain(op, x, fed)
    session = sardonyx.InferenceSession(model)
    assert sum(done) < LENGTH * UNITS_PER_NODE, sum(done)
    (found,) = session.run(None, feeds)
    np.testing.assert_array_equal(found, expected)
