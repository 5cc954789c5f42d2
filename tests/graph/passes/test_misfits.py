"""Passes meet constants whose shapes do not fit: the session is refused by name or runs; no pass stumbles over them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import sardonyx
from sardonyx.base.errors import SardonyxError

HEAD = '<ir_version: 8, opset_import: ["" : 17]> '
STATISTICS = "float[4] s = {1, 2, 3, 4}, float[4] b = {1, 2, 3, 4}, float[4] m = {1, 2, 3, 4}, float[4] v = {1, 2, 3, 4}"
MODELS = {
    "Conv, BatchNormalization": f"g (float[1, 1, 3, 3] x) => (y) <float[4, 1, 1, 1] w = {{1, 2, 3, 4}}, float[4] c = {{1, 2, 3, 4}}, {STATISTICS}> "
    "{ p = Conv (x, w, c)  y = BatchNormalization (p, s, b, m, v) }",
    "ConvTranspose, BatchNormalization": f"g (float[1, 2, 3, 3] x) => (y) <float[2, 2, 1, 1] w = {{1, 2, 3, 4}}, float[4] c = {{1, 2, 3, 4}}, "
    f"{STATISTICS}> {{ p = ConvTranspose <group = 2> (x, w, c)  y = BatchNormalization (p, s, b, m, v) }}",
    "Gemm, BatchNormalization": f"g (float[2, 1] x) => (y) <float[1, 4] w = {{1, 2, 3, 4}}, float[4] c = {{1, 2, 3, 4}}, {STATISTICS}> "
    "{ p = Gemm (x, w, c)  y = BatchNormalization (p, s, b, m, v) }",
    "MatMul, BatchNormalization": f"g (float[2, 1] x) => (y) <float[1, 4] w = {{1, 2, 3, 4}}, {STATISTICS}> "
    "{ p = MatMul (x, w)  y = BatchNormalization (p, s, b, m, v) }",
    "Conv, Mul, Add": "g (float[1, 1, 3, 3] x) => (y) <float[4, 1, 1, 1] w = {1, 2, 3, 4}, float[4] c = {1, 2, 3, 4}, "
    "float[1, 4, 1, 1] k = {1, 2, 3, 4}, float[1, 4, 1, 1] d = {1, 2, 3, 4}> { p = Conv (x, w, c)  q = Mul (p, k)  y = Add (q, d) }",
    "MatMul, Add": "g (float[2, 1] x) => (y) <float[1, 4] w = {1, 2, 3, 4}, float[4] c = {1, 2, 3, 4}> { p = MatMul (x, w)  y = Add (p, c) }",
    "constants": "g (float[2, 2] x) => (y) <int64[2] i = {1, 0}, int64[2] k = {2, 2}, float[4] c = {1, 2, 3, 4}> "
    "{ p = Reshape (c, k)  q = Gather (p, i)  r = Transpose <perm = [1, 0]> (q)  y = Add (x, r) }",
}


def mutants() -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Each constant of each model, longer and shorter along each axis, empty, with an axis more, and as a scalar."""
    for name, text in MODELS.items():
        for constant in onnx.parser.parse_model(HEAD + text).graph.initializer:
            dims = tuple(constant.dims)
            shapes = {
                tuple(n + (step if a == axis else 0) for a, n in enumerate(dims)) for axis in range(len(dims)) for step in (-1, 1)
            }
            shapes |= {(1, *dims), (*dims, 1), (0, *dims[1:]), (), (1,)}
            for shape in sorted(shapes - {dims}):
                yield name, constant.name, shape


@pytest.mark.parametrize("name", MODELS)
def test_constants_that_fit(name: str) -> None:
    session = sardonyx.InferenceSession(onnx.parser.parse_model(HEAD + MODELS[name]).SerializeToString())
    session.run(None, {i.name: np.ones(i.shape, np.float32) for i in session.get_inputs()})


@pytest.mark.parametrize(("name", "constant", "shape"), [*mutants()], ids=str)
def test_constants_that_do_not_fit(name: str, constant: str, shape: tuple[int, ...]) -> None:
    model = onnx.parser.parse_model(HEAD + MODELS[name])
    for i, initializer in enumerate(model.graph.initializer):
        if initializer.name == constant:
            numbers = np.resize(numpy_helper.to_array(initializer), shape)
            model.graph.initializer[i].CopyFrom(numpy_helper.from_array(numbers, constant))
    refused: list[SardonyxError] = []
    try:
        session = sardonyx.InferenceSession(model.SerializeToString())
        session.run(None, {i.name: np.ones(i.shape, np.float32) for i in session.get_inputs()})
    except SardonyxError as error:
        refused.append(error)
    assert not any(error.defect for error in refused), refused
