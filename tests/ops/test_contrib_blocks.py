"""Weights quantised in blocks and mixtures of experts in random forms, beside numpy's doubles and onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
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


def packed_of(numbers: Array, bits: int) -> Array:
    """Bytes of these numbers, the last one filled up with zeros."""
    each = 8 // bits
    padded = np.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + [(0, -numbers.shape[-1] % each)])
    parts = padded.reshape(*padded.shape[:-1], -1, each) << np.arange(0, 8, bits)
    return parts.sum(-1).astype(np.uint8)


# ---- GatherBlockQuantized ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("with_zeros", [False, True])
@pytest.mark.parametrize(("shape", "block"), [((5, 64), 16), ((5, 3, 40), 16), ((2, 32), 128)])
@pytest.mark.parametrize("index_type", [np.int32, np.int64])
def test_rows_of_packed_numbers(bits: int, with_zeros: bool, shape: tuple[int, ...], block: int, index_type: Any) -> None:
    by = np.random.default_rng(bits)
    q = by.integers(0, 1 << bits, shape)
    blocks = -(-shape[-1] // block)
    scales = by.uniform(0.1, 1, (*shape[:-1], blocks)).astype(np.float32)
    zeros = by.integers(0, 1 << bits, scales.shape)
    indices = by.integers(-shape[0], shape[0], (2, 3)).astype(index_type)
    inputs = [packed_of(q, bits), indices, scales, *([packed_of(zeros, bits)] if with_zeros else [])]
    form = {"bits": bits, "block_size": block, "quantize_axis": len(shape) - 1}
    shift = zeros if with_zeros else np.full_like(zeros, 1 << (bits - 1))
    spread = [np.repeat(t, block, -1)[..., : shape[-1]] for t in (scales, shift)]
    expected = ((q - spread[1]) * spread[0].astype(np.float64))[indices]
    np.testing.assert_allclose(run("GatherBlockQuantized", inputs, symbolic=True, **form), expected, 1e-6)
    np.testing.assert_allclose(theirs("GatherBlockQuantized", inputs, **form), expected, 1e-6)


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
@pytest.mark.parametrize(("take", "by_block"), [(0, 1), (1, 0), (2, 2), (-1, 0)])
def test_other_types_and_axes(dtype: Any, take: int, by_block: int) -> None:
    by = np.random.default_rng(take + 1)
    shape = [3, 4, 5]
    shape[by_block] = 36
    data = by.integers(0, 7, shape).astype(dtype)
    blocks = [-(-n // 16) if a == by_block else n for a, n in enumerate(shape)]
    scales = by.uniform(0.1, 1, blocks).astype(np.float16)
    indices = by.integers(0, shape[take], 4)
    got = run("GatherBlockQuantized", [data, indices, scales], block_size=16, gather_axis=take, quantize_axis=by_block)
    spread = np.take(np.repeat(scales, 16, by_block), range(shape[by_block]), by_block).astype(np.float64)
    expected = np.take(data.astype(np.float64) * spread, indices, take)
    np.testing.assert_allclose(got.astype(np.float64), expected, 1e-3)
    assert got.dtype == np.float16


def test_indices_outside_give_zeros() -> None:
    data, scales = np.full((3, 8), 0x77, np.uint8), np.ones((3, 1), np.float32)
    got = run("GatherBlockQuantized", [data, np.array([3, 0, -4, -1]), scales], block_size=16)
    np.testing.assert_array_equal(got, np.repeat([[0], [-1], [0], [-1]], 16, 1))


def test_one_scale_for_all_rows_of_narrow_floats() -> None:
    data = np.arange(24).reshape(3, 8).astype(ml_dtypes.float8_e4m3fn)
    got = run("GatherBlockQuantized", [data, np.array([2, 0]), np.array([[0.5]], np.float32)], block_size=0)
    np.testing.assert_array_equal(got, data.astype(np.float32)[[2, 0]] * 0.5)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"block_size": 24}, "block_size of 24"),
        ({"block_size": 0}, "block_size of 0"),
        ({"bits": 3}, "3 bits"),
        ({"gather_axis": 1}, "axis 1"),
        ({"block_size": 16}, "scales"),
    ],
)
def test_forms_of_gather_that_cannot_be(form: dict[str, int], message: str) -> None:
    with pytest.raises(Fail, match=message):
        run("GatherBlockQuantized", [np.zeros((3, 32), np.uint8), np.array([1]), np.ones((3, 1), np.float32)], **form)


# ---- experts ----------------------------------------------------------------------------------------------------------------------------

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "identity": lambda x: x,
}


def gated(gate: Array, linear: Array, alpha: float, beta: float, limit: float) -> Array:
    gate, linear = np.minimum(gate, limit), np.clip(linear, -limit, limit)
    return gate / (1 + np.exp(-alpha * gate)) * (linear + beta)


def mixture(x: Array, shares: Array, chosen: Array, expert: Any) -> Array:
    """Token by token: the sum over its experts of share expert(e, x)."""
    flat = x.reshape(-1, x.shape[-1]).astype(np.float64)
    rows = [sum(shares[t, e] * expert(e, flat[t]) for e in chosen[t]) for t in range(len(flat))]
    return np.array(rows).reshape(x.shape)


def routed(router: Array, k: int, normalize: bool) -> tuple[Array, Array]:
    e = np.exp(router.astype(np.float64) - router.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    chosen = np.argsort(-p, 1)[:, :k]
    return (p / np.take_along_axis(p, chosen, 1).sum(1, keepdims=True) if normalize else p), chosen


def draw(*shape: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("kind", list(ACTIVATIONS))
@pytest.mark.parametrize("normalize", [0, 1])
@pytest.mark.parametrize(("shape", "k"), [((6, 8), 1), ((2, 3, 8), 2), ((5, 8), 4)])
def test_experts(kind: str, normalize: int, shape: tuple[int, ...], k: int) -> None:
    x, router = draw(*shape, seed=1), draw(int(np.prod(shape[:-1])), 4, seed=2)
    w1, b1, w2, b2 = draw(4, 12, 8, seed=3), draw(4, 12, seed=4), draw(4, 8, 12, seed=5), draw(4, 8, seed=6)
    form = {"k": k, "activation_type": kind, "normalize_routing_weights": normalize}
    got = run("MoE", [x, router, w1, b1, w2, b2], symbolic=True, **form)
    shares, chosen = routed(router, k, bool(normalize))
    expected = mixture(x, shares, chosen, lambda e, t: w2[e] @ ACTIVATIONS[kind](w1[e] @ t + b1[e]) + b2[e])
    np.testing.assert_allclose(got, expected, 1e-4, 1e-4)
    np.testing.assert_allclose(theirs("MoE", [x, router, w1, b1, w2, b2], **form), expected, 1e-4, 1e-4)


@pytest.mark.parametrize("fusion", [0, 1, 2])
@pytest.mark.parametrize("limit", [None, 0.7])
def test_gated_experts(fusion: int, limit: float | None) -> None:
    x, router, w2 = draw(6, 8, seed=1), draw(6, 3, seed=2), draw(3, 8, 5, seed=3)
    gates, others = draw(3, 5, 8, seed=4), draw(3, 5, 8, seed=5)
    form: dict[str, Any] = {
        "k": 2,
        "activation_type": "swiglu",
        "swiglu_fusion": fusion,
        "activation_alpha": 1.7,
        "activation_beta": 1.0,
    }
    form |= {} if limit is None else {"swiglu_limit": limit}
    first = [gates, np.stack([gates, others], 2).reshape(3, 10, 8), np.concatenate([gates, others], 1)][fusion]
    inputs = [x, router, first, None, w2, None, *([others] if fusion == 0 else [])]
    shares, chosen = routed(router, 2, False)

    def expert(e: int, t: Array) -> Array:
        return w2[e] @ gated(gates[e] @ t, others[e] @ t, np.float32(1.7), 1.0, np.inf if limit is None else limit)

    np.testing.assert_allclose(run("MoE", inputs, **form), mixture(x, shares, chosen, expert), 1e-4, 1e-4)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("block", [0, 16])
@pytest.mark.parametrize("with_zeros", [False, True])
@pytest.mark.parametrize("with_weights", [False, True])
def test_quantised_experts(bits: int, block: int, with_zeros: bool, with_weights: bool) -> None:
    by = np.random.default_rng(bits + block)
    x, router = draw(5, 32, seed=1), draw(5, 3, seed=2)
    sizes = {"fc1": (3, 48, 32), "fc2": (3, 32, 48)}
    inputs: dict[str, list[Array | None]] = {}
    weights = {}
    for name, (e, rows, columns) in sizes.items():
        q = by.integers(0, 1 << bits, (e, rows, columns))
        scales = by.uniform(0.01, 0.05, (e, rows, columns // block) if block else (e, rows)).astype(np.float32)
        zeros = by.integers(0, 1 << bits, scales.shape) if with_zeros else np.full(scales.shape, 1 << (bits - 1))
        spread = [np.repeat(t, block, -1) if block else t[..., None] for t in (scales.astype(np.float64), zeros)]
        weights[name] = (q - spread[1]) * spread[0]
        inputs[name] = [packed_of(q, bits), scales, packed_of(zeros, bits) if with_zeros else None]
    own = by.uniform(0.1, 1, (5, 3)).astype(np.float32) if with_weights else None
    (w1, s1, z1), (w2, s2, z2) = inputs["fc1"], inputs["fc2"]
    form = {"k": 2, "activation_type": "silu", "expert_weight_bits": bits, **({"block_size": block} if block else {})}
    given = [x, router, w1, s1, None, w2, s2, None, None, None, None, z1, z2, None, own]
    while given[-1] is None:
        given.pop()
    shares, chosen = routed(router, 2, True)
    silu = ACTIVATIONS["silu"]
    expected = mixture(x, shares if own is None else own, chosen, lambda e, t: weights["fc2"][e] @ silu(weights["fc1"][e] @ t))
    np.testing.assert_allclose(run("QMoE", given, **form), expected, 1e-4, 1e-4)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"use_sparse_mixer": 1}, "use_sparse_mixer"),
        ({"activation_type": "geglu"}, "geglu"),
        ({"activation_type": "swiglu"}, "swiglu"),
        ({"swiglu_limit_after_activation": 1}, "swiglu_limit_after_activation"),
    ],
)
def test_forms_of_experts_that_are_refused(form: dict[str, Any], message: str) -> None:
    inputs = [draw(5, 8, seed=1), draw(5, 3, seed=2), draw(3, 4, 8, seed=3), None, draw(3, 8, 4, seed=4)]
    with pytest.raises(harness.NotCompiled, match=message):
        run("MoE", inputs, **form)
