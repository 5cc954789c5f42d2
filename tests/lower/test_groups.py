"""Products of narrow integers become tiles over groups of neighbours along k, with exact sums, for every processor that has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import sardonyx
from sardonyx.base.options import CompileOptions
from sardonyx.codegen import features
from sardonyx.inspection.loops import lowered_parts
from sardonyx.loop.nodes import For, If, Seq, Stmt, Tile
from sardonyx.session.options import SessionOptions

Array = np.ndarray
DTYPES = [(a, b) for a in (np.uint8, np.int8) for b in (np.uint8, np.int8)]
TARGETS = ["host", "avx512", "avx2", "sse2"]
EXTREMES = {np.uint8: (0, 255), np.int8: (-128, 127)}


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The processor that is compiled for."""
    found = features.host().features
    if (request.param == "avx512" and "+avx512bw" not in found) or (request.param == "avx2" and "+avx2" not in found):
        pytest.skip(f"this processor lacks {request.param}")
    monkeypatch.setenv("SARDONYX_TARGET", request.param)
    return str(request.param)


def whole(dtype: Any, *shape: int) -> Array:
    """Numbers of the whole range, the extremes more often."""
    by = np.random.default_rng(sum(shape))
    found = by.integers(EXTREMES[dtype][0], EXTREMES[dtype][1] + 1, shape)
    return np.where(by.random(shape) < 0.3, by.choice(EXTREMES[dtype], shape), found).astype(dtype)


def model(operator: str, inputs: Sequence[Array], known: Sequence[int], symbolic: bool, **attributes: Any) -> bytes:
    names = [f"x{i}" for i in range(len(inputs))]
    shapes = [[f"{n}_{axis}" for axis in range(x.ndim)] if symbolic else x.shape for n, x in zip(names, inputs, strict=True)]
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), shape)
        for i, (n, x, shape) in enumerate(zip(names, inputs, shapes, strict=True))
        if i not in known
    ]
    weights = [numpy_helper.from_array(inputs[i], names[i]) for i in known]
    node = helper.make_node(operator, names, ["y"], **attributes)
    graph = helper.make_graph([node], "g", infos, [helper.make_empty_tensor_value_info("y")], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def run(data: bytes, inputs: Sequence[Array], known: Sequence[int], threads: int = 1) -> Array:
    options = SessionOptions()
    options.intra_op_num_threads = threads
    session = sardonyx.InferenceSession(data, options)
    feeds = {f"x{i}": x for i, x in enumerate(inputs) if i not in known}
    session.run(None, feeds)
    found: Array = session.run(None, feeds)[0]
    return found


def tiles_of(s: Stmt) -> list[Tile]:
    """The tiles in a kernel's body."""
    if isinstance(s, Tile):
        return [s]
    inner = (
        s.body
        if isinstance(s, Seq)
        else [s.body]
        if isinstance(s, For)
        else [s.then]
        if isinstance(s, If)
        else [getattr(s, "body", None)]
    )
    return [tile for part in inner if part is not None for tile in tiles_of(part)]


@pytest.mark.parametrize("known", [[1], []], ids=["weights", "fed"])
@pytest.mark.parametrize(("a", "b"), DTYPES)
def test_products(a: Any, b: Any, known: list[int], target: str) -> None:
    """Sizes that fill no groups, no panels and no blocks of rows, and empty ones."""
    for m, k, n in [(1, 1, 1), (1, 33, 40), (3, 2, 5), (7, 4, 16), (30, 67, 129), (0, 5, 4), (3, 5, 0)]:
        inputs = [whole(a, m, k), whole(b, k, n)]
        got = run(model("MatMulInteger", inputs, known, False), inputs, known)
        np.testing.assert_array_equal(got, inputs[0].astype(np.int64) @ inputs[1].astype(np.int64))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("a", "b"), DTYPES)
def test_products_with_zero_points_and_batches(a: Any, b: Any, threads: int) -> None:
    for shapes in ([(2, 3, 9, 70), (70, 33)], [(2, 3, 9, 7), (3, 7, 50)], [(4, 1, 6), (4, 6, 48)]):
        x, y = (whole(dtype, *shape) for dtype, shape in zip((a, b), shapes, strict=True))
        zeros = [np.array(EXTREMES[a][1], a), whole(b, shapes[1][-1])] if len(shapes[1]) == 2 else [np.array(3, a), np.array(5, b)]
        inputs = [x, y, *zeros]
        got = run(model("MatMulInteger", inputs, [2, 3], False), inputs, [2, 3], threads)
        wanted = (x.astype(np.int64) - int(zeros[0])) @ (y.astype(np.int64) - zeros[1].astype(np.int64))
        np.testing.assert_array_equal(got, wanted.astype(np.int32))


@pytest.mark.parametrize(("a", "b"), DTYPES)
def test_products_of_unknown_sizes(a: Any, b: Any) -> None:
    sizes = [(1, 1, 1), (5, 6, 7), (40, 33, 100), (0, 3, 2), (2, 0, 3)]
    session = sardonyx.InferenceSession(model("MatMulInteger", [whole(a, 2, 2), whole(b, 2, 2)], [], True))
    for m, k, n in [*sizes, *sizes[::-1]]:
        x, y = whole(a, m, k), whole(b, k, n)
        np.testing.assert_array_equal(session.run(None, {"x0": x, "x1": y})[0], x.astype(np.int64) @ y.astype(np.int64))


@pytest.mark.parametrize(
    "attributes",
    [{}, {"strides": [2, 1]}, {"pads": [1, 2, 0, 1]}, {"dilations": [2, 2]}, {"group": 2}, {"group": 2, "pads": [1, 1, 1, 1]}],
    ids=str,
)
@pytest.mark.parametrize(("a", "b"), DTYPES)
def test_convolutions(a: Any, b: Any, attributes: dict[str, Any]) -> None:
    x, w, zero = whole(a, 2, 6, 9, 8), whole(b, 10, 6 // attributes.get("group", 1), 3, 3), np.array(EXTREMES[a][0], a)
    inputs = [x, w, zero]
    got = run(model("ConvInteger", inputs, [1, 2], False, **attributes), inputs, [1, 2])
    plain = helper.make_model(
        helper.make_graph(
            [helper.make_node("Conv", ["x", "w"], ["y"], **attributes)],
            "g",
            [helper.make_tensor_value_info("x", 11, x.shape), helper.make_tensor_value_info("w", 11, w.shape)],
            [helper.make_empty_tensor_value_info("y")],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    wanted = ReferenceEvaluator(plain).run(None, {"x": x - zero.astype(np.float64), "w": w.astype(np.float64)})[0]
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("a", "b"), DTYPES)
def test_products_are_tiles(a: Any, b: Any, target: str) -> None:
    """Each processor multiplies the largest groups that it has. Bytes whose signs do not fit are moved by 128."""
    inputs = [whole(a, 9, 37), whole(b, 37, 40)]
    parts = lowered_parts(model("MatMulInteger", inputs, [1], False), CompileOptions())
    found = [tile for part in parts for kernel in part.kernels.values() for tile in tiles_of(kernel.body)]
    assert {tile.group for tile in found} == {features.select().groups[0].count}


def test_signs_of_few_columns() -> None:
    """Moving the bytes of b takes a sum for each row of a, which does not pay for a few columns."""
    for columns, moved in ((4, False), (64, True)):
        inputs = [whole(np.uint8, 9, 37), whole(np.uint8, 37, columns)]
        parts = lowered_parts(model("MatMulInteger", inputs, [1], False), CompileOptions())
        found = [tile for part in parts for kernel in part.kernels.values() for tile in tiles_of(kernel.body)]
        assert {tile.group for tile in found} == {features.select().groups[0].count if moved else 2}
