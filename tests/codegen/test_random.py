"""Random kernels: compiled code against the interpreter, on several targets, by one thread and by two."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from sardonyx.codegen.features import Target
from sardonyx.loop import interpreter
from sardonyx.loop.nodes import Kernel
from tests.codegen.harness import CALL, TARGETS, Array, Failed, run
from tests.codegen.kernels import MOST, ROOM, kernels


def arguments(kernel: Kernel) -> list[Array]:
    rng = np.random.default_rng(5)
    out = []
    for b in kernel.buffers:
        low, high = (-4, 20) if b.name == "in_i64" else (0, 2) if b.dtype.kind == "bool" else (0, 9)
        out.append(rng.integers(low, high, ROOM).astype(b.dtype.numpy))
    return out


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(kernel=kernels(), m=st.integers(0, MOST), n=st.integers(1, MOST), threads=st.integers(1, 3))
def test_random_kernels(kernel: Kernel, m: int, n: int, threads: int, target: Target) -> None:
    want, got = arguments(kernel), arguments(kernel)
    sizes = {"m": m, "n": n}
    try:
        failure = interpreter.run(kernel, {b.name: a for b, a in zip(kernel.buffers, want, strict=True)}, sizes, threads)
    except IndexError:  # deep nests of large sizes leave the arguments
        reject()
    if failure is None:
        run(kernel, got, sizes, target, threads)
    else:
        with pytest.raises(Failed) as failed:
            run(kernel, got, sizes, target, threads)
        assert failed.value.args[1] == CALL
    for b, x, y in zip(kernel.buffers, got, want, strict=True):
        np.testing.assert_array_equal(x, y, str(b))
