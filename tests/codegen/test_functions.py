"""The functions, expanded into plain operations, on every target."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sardonyx.base.dtypes import DType, f32, f64
from sardonyx.base.symbolic import Symbol, value
from sardonyx.codegen.features import Target
from sardonyx.loop.functions import EXPANSIONS
from sardonyx.loop.nodes import OPS, Buffer, For, Kernel, Load, Op, Seq, Store
from tests.codegen.harness import TARGETS, run

N = Symbol("n")
AT = Symbol("i", value(N))
REFERENCE = {"erf": np.vectorize(math.erf), "pow": np.power, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan}
REFERENCE |= {"asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh}


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_functions(dtype: DType, target: Target) -> None:
    names = list(EXPANSIONS)
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(1013) * 10.0 ** rng.uniform(-4, 2, 1013)).astype(dtype.numpy)
    y = rng.uniform(-3, 3, 1013).astype(dtype.numpy)
    loads = [Load(Buffer(n, dtype, readonly=True), value(AT)) for n in "xy"]
    outputs = [Buffer(f"out{k}", dtype) for k in range(len(names))]
    stores = [Store(b, value(AT), Op(n, *loads[: OPS[n][0]])) for b, n in zip(outputs, names, strict=True)]
    kernel = Kernel("functions", (*(v.buffer for v in loads), *outputs), (N,), For(AT, 0, value(N), "vector", Seq(tuple(stores))))
    found = [np.zeros_like(x) for _ in names]
    run(kernel, [x, y, *found], {"n": len(x)}, target)
    eps = np.finfo(dtype.numpy).eps
    for name, got in zip(names, found, strict=True):
        args = [a.astype(np.float64) for a in (x, y)[: OPS[name][0]]]
        with np.errstate(all="ignore"):
            want = REFERENCE.get(name, getattr(np, name, None))(*args).astype(dtype.numpy)
        np.testing.assert_allclose(got, want, rtol=16 * eps, atol=1e-300, err_msg=f"{name} on {target.name}")
