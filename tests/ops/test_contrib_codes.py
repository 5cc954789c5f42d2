"""Products with weights of 4-bit codes, beside numpy's doubles and onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sardonyx.base.errors import Fail
from tests.ops import harness

Array = harness.Array
DOMAIN = "com.microsoft"


def run(name: str, inputs: Sequence[Array | None], symbolic: bool = False, **attributes: Any) -> Array:
    (got,) = harness.run(name, inputs, attributes, version=1, domain=DOMAIN, symbolic=symbolic)
    return got


def theirs(name: str, inputs: Sequence[Array | None], **attributes: Any) -> Array:
    (got,) = harness.onnxruntime_reference(name, inputs, attributes, version=1, domain=DOMAIN)
    return got


@pytest.mark.parametrize("quant_type", [0, 1])
@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize(("rows", "k", "n"), [((3,), 32, 5), ((2, 3), 20, 3), ((0,), 16, 2), ((1,), 7, 3)])
def test_products_by_code_books(quant_type: int, trans: int, rows: tuple[int, ...], k: int, n: int) -> None:
    by = np.random.default_rng(k)
    codes, absmax = by.integers(0, 256, (n * k + 1) // 2).astype(np.uint8), by.uniform(0.5, 2, -(-n * k // 16)).astype(np.float32)
    form = {"K": k, "N": n, "block_size": 16, "quant_type": quant_type, "transB": trans}
    a = by.standard_normal((*rows, k if trans else n)).astype(np.float32)
    got = run("MatMulBnb4", [a, codes, absmax], symbolic=True, **form)
    unit = np.eye(k, dtype=np.float32)  # onnxruntime's own weights, by a product with 1
    weights = theirs("MatMulBnb4", [unit, codes, absmax], **{**form, "transB": 1}).T.astype(np.float64)
    np.testing.assert_allclose(got, a @ (weights.T if trans else weights), 1e-5, 1e-5)


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize(("rows", "k", "n"), [((3,), 32, 5), ((2, 3), 70, 3), ((1,), 7, 2)])
@pytest.mark.parametrize("known", [(), (1, 2)])
def test_products_of_blocks_with_their_scales(kind: int, rows: tuple[int, ...], k: int, n: int, known: Sequence[int]) -> None:
    by = np.random.default_rng(k)
    blocks = -(-k // 32)
    scales, codes = by.uniform(0.1, 1, (n, blocks)).astype(np.float32), by.integers(0, 16, (n, blocks, 32))
    zeros = by.integers(0, 16, (n, blocks)) if kind else np.full((n, blocks), 8)
    parts = [scales[..., None].view(np.uint8), zeros[..., None], codes[..., :16] | codes[..., 16:] << 4]
    blob = np.concatenate(parts if kind else parts[::2], -1).astype(np.uint8).ravel()
    a = by.standard_normal((*rows, k)).astype(np.float32)
    inputs, form = [a, blob, np.array([k, n])], {"blk_quant_type": kind}
    got = harness.run("MatMulFpQ4", inputs, form, version=1, domain=DOMAIN, known=known)[0]
    weights = ((codes - zeros[..., None]) * scales[..., None].astype(np.float64)).reshape(n, -1)[:, :k]
    np.testing.assert_allclose(got, a @ weights.T, 1e-4, 1e-4)


def test_blocks_of_another_kind_or_size() -> None:
    inputs = [np.ones((2, 40), np.float32), np.zeros(126, np.uint8), np.array([40, 3])]
    with pytest.raises(harness.NotCompiled, match="blk_quant_type 2"):
        run("MatMulFpQ4", inputs, blk_quant_type=2)
    with pytest.raises(Fail, match="125"):
        run("MatMulFpQ4", [inputs[0], inputs[1][:125].copy(), inputs[2]])
