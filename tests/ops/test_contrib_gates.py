"""com.microsoft's gates and norms in several types and sizes, beside numpy's doubles; in f32 their records' cases meet onnxruntime's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from sardonyx.base.errors import Fail
from tests.ops import harness

Array = harness.Array
TYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def draw(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def run(name: str, inputs: Sequence[Array | None], outputs: int = 1, symbolic: bool = False, **attributes: Any) -> list[Array]:
    return harness.run(name, inputs, attributes, version=1, domain="com.microsoft", outputs=outputs, symbolic=symbolic)


def double(x: Array) -> Array:
    return x.astype(np.float64)


def rms(x: Array, epsilon: float) -> Array:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def assert_close(got: Array, expected: Array, dtype: Any) -> None:
    """Within the precision of the type, whose values the intermediate results have too."""
    step = 8 * float(ml_dtypes.finfo(dtype).eps)
    assert got.dtype == dtype
    np.testing.assert_allclose(double(got), expected, max(step, 1e-5), max(step, 1e-5))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(2, 3, 4, 8), (5, 1, 6), (0, 4, 3)])
@pytest.mark.parametrize("scale", [None, "h", "ch", "c h"])
def test_rms_of_each_branch(dtype: Any, shape: tuple[int, ...], scale: str | None) -> None:
    x, (c, h) = draw(*shape, dtype=dtype), shape[-2:]
    sizes: dict[str, tuple[int, ...]] = {"h": (h,), "ch": (c * h,), "c h": (c, h)}
    by = None if scale is None else draw(*sizes[scale], seed=1)
    expected = rms(double(x), 1e-5) * (1 if by is None else double(by).reshape((c, h) if scale != "h" else (h,)))
    for form, attributes in ((x, {}), (x.reshape(*shape[:-2], c * h), {"num_branches": c})):
        (got,) = run("BranchwiseRMSNorm", [form] if by is None else [form, by], **attributes)
        assert_close(got, expected.reshape(form.shape), dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("form", ["c", "c 1", "c h"])
def test_streams_mixed(dtype: Any, form: str) -> None:
    x, weights = draw(2, 3, 4, 8, dtype=dtype), draw(*{"c": (2, 3, 4), "c 1": (2, 3, 4, 1), "c h": (2, 3, 4, 8)}[form], seed=1)
    full = double(weights).reshape(2, 3, 4, -1)
    (got,) = run("HyperConnectionPreMix", [x, weights], symbolic=form != "c", reduction_scale=0.5)
    assert_close(got, (double(x) * full).sum(2) / 2, dtype)
    block, mix = draw(2, 3, 8, seed=2, dtype=dtype), draw(2, 3, 4, 4, seed=3)
    injected = full * double(block)[:, :, None]
    (got,) = run("HyperConnectionPostMix", [x, block, weights, mix])
    assert_close(got, np.einsum("abck,abch->abkh", double(mix), double(x)) + injected, dtype)
    (got,) = run("HyperConnectionPostMix", [x.reshape(2, 3, 32), block, weights], num_branches=4)
    assert_close(got, (double(x) + injected).reshape(2, 3, 32), dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_gated_sums(dtype: Any) -> None:
    x, y, gate = draw(2, 5, dtype=dtype), draw(2, 5, seed=1, dtype=dtype), draw(2, 1, seed=2, dtype=dtype)
    (got,) = run("GatedAdd", [x, y, gate], symbolic=True)
    assert_close(got, double(x) + double(y) * double(gate), dtype)


def test_a_projected_gate_is_refused() -> None:
    with pytest.raises(harness.NotCompiled, match="gate_weight"):
        run("GatedAdd", [draw(2, 5), draw(2, 5), draw(2, 3), draw(3, 1)])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("activation", ["silu", "swish", "sigmoid"])
@pytest.mark.parametrize("groups", [1, 4])
def test_gated_norms(dtype: Any, activation: str, groups: int) -> None:
    x, gate, scale = draw(2, 3, 8, dtype=dtype), draw(2, 3, 8, seed=1, dtype=dtype), draw(8 // groups, seed=2, dtype=dtype)
    normed = (rms(double(x).reshape(2, 3, groups, -1), 1e-3) * double(scale)).reshape(x.shape)
    curve = sigmoid(double(gate)) * (1 if activation == "sigmoid" else double(gate))
    (got,) = run("GatedRMSNorm", [x, scale, gate], activation=activation, epsilon=1e-3)
    assert_close(got, normed * curve, dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("given", [False, True])
def test_scaled_silu(dtype: Any, given: bool) -> None:
    x, scale = draw(3, 4, dtype=dtype), np.array(0.75, np.float32)
    (got,) = run("ScaledSiLU", [x, scale] if given else [x], alpha=1.5)
    z = double(x) * (0.75 if given else 1.5)
    assert_close(got, z * sigmoid(z), dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_gates_of_linear_attention(dtype: Any) -> None:
    a, b, bias, scale = draw(2, 3, 4, dtype=dtype), draw(2, 3, 4, seed=1, dtype=dtype), draw(4, seed=2), -np.abs(draw(4, seed=3))
    decay, beta = run("LinearAttentionGate", [a, bias, scale, b], 2)
    assert_close(decay, double(scale) * np.logaddexp(0, double(a) + double(bias)), dtype)
    assert_close(beta, sigmoid(double(b)), dtype)
    with pytest.raises(Fail, match="needs the input b"):
        run("LinearAttentionGate", [a, bias, scale], 2)


@pytest.mark.parametrize("dtype", TYPES)
def test_engram_gates(dtype: Any) -> None:
    key, query = (draw(2, 3, 4, 8, seed=s, dtype=dtype) for s in (1, 2))
    value, scales = draw(2, 3, 8, seed=3, dtype=dtype), [draw(4, 8, seed=s, dtype=dtype) for s in (4, 5, 6)]
    got, normed = run("EngramGate", [key, query, value, *scales], 2)
    dots = (rms(double(key), 1e-5) * double(scales[0]) * rms(double(query), 1e-5) * double(scales[1])).sum(-1) / np.sqrt(8)
    gates = sigmoid(np.sign(dots) * np.sqrt(np.maximum(np.abs(dots), 1e-6)))
    y = gates[..., None] * double(value)[:, :, None]
    assert_close(got, y, dtype)
    assert_close(normed, rms(y, 1e-5) * double(scales[2]), dtype)


@pytest.mark.parametrize(("groups", "kept", "by", "k"), [(1, 1, 2, 3), (4, 2, 2, 3), (6, 1, 1, 2), (2, 2, 9, 12)])
def test_router(groups: int, kept: int, by: int, k: int) -> None:
    logits, bias = draw(7, 12, seed=k), draw(12, seed=1) / 4
    form = {"top_k": k, "n_group": groups, "topk_group": kept, "group_topk": by, "router_sentinel": -5.0}
    got, scores, weights = run("MoEGroupRouter", [logits, bias], 3, symbolic=True, **form)
    s = sigmoid(double(logits))
    np.testing.assert_allclose(weights, s, 1e-6, 1e-6)
    np.testing.assert_allclose(scores, s + bias, 1e-6, 1e-6)
    split = (s + bias).reshape(7, groups, -1)
    sums = np.sort(split, -1)[..., ::-1][..., :by].sum(-1)
    best = np.argsort(-sums, -1)[:, :kept]
    allowed = np.zeros((7, groups), bool)
    np.put_along_axis(allowed, best, True, 1)
    masked = np.where(np.repeat(allowed, 12 // groups, 1), s + bias, -np.inf)
    chosen = np.argsort(-masked, -1)[:, :k]
    expected = np.full((7, 12), -5.0)
    np.put_along_axis(expected, chosen, np.take_along_axis(np.log(s), chosen, 1), 1)
    np.testing.assert_allclose(got, expected, 1e-5, 1e-5)
    np.testing.assert_allclose(
        got, harness.onnxruntime_reference("MoEGroupRouter", [logits, bias], form, version=1, domain="com.microsoft")[0], 1e-5, 1e-5
    )
