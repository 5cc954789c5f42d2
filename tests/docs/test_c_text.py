"""The C code that docs/compiler.md shows compiles, and computes what sessions compute."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

import sardonyx
from docs.compiler.c_text import HELPERS, c_text
from docs.compiler.examples import NETWORK, PLACES, Example
from docs.compiler.stages import Names, buffer_names, compiled, graph_stages
from sardonyx.base.dtypes import f32
from sardonyx.base.symbolic import evaluate
from sardonyx.expr.tensor import Read, Tensor, input_tensor
from sardonyx.loop.nodes import Buffer, Kernel, Store

CC = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
SAMPLES = 13


def array_of(t: Tensor, known: dict[str, np.ndarray]) -> np.ndarray:
    """The memory of a tensor; that of a product's panels is its weight's, which has one panel."""
    name = t.name.removesuffix(".panels")
    if name not in known:
        known[name] = np.zeros([evaluate(n, lambda s: SAMPLES) for n in t.shape], np.float32)
    return known[name]


@pytest.mark.skipif(CC is None, reason="there is no C compiler")
@pytest.mark.parametrize("example", [NETWORK, *PLACES], ids=lambda e: e.name)
def test_the_code_computes_what_the_session_computes(example: Example, tmp_path: Path) -> None:
    model = example.model()
    stage = compiled(graph_stages(example).compiled)
    names = Names(stage)
    texts = [c_text(c.kernel, buffer_names(c.kernel, c, stage, names), f"call_{i}") for i, c in enumerate(stage.calls)]
    (tmp_path / "all.c").write_text("\n".join([HELPERS, *texts]))
    command = [str(CC), "-std=c99", "-Wall", "-Werror", "-Wno-unused-function", "-ffp-contract=off", "-O1", "-fPIC", "-shared"]
    subprocess.run([*command, "all.c", "-o", "all.so", "-lm"], cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "all.so"))
    generator = np.random.default_rng(5)
    known = {w.name: numpy_helper.to_array(w).astype(np.float32) for w in model.graph.initializer}
    feeds = {}
    for t in stage.imported.inputs:
        shape = [evaluate(n, lambda s: SAMPLES) for n in t.shape]
        feeds[t.name] = known[t.name] = generator.standard_normal(shape).astype(np.float32)
    if example is NETWORK:
        known["trust"] = np.where(np.arange(SAMPLES) % 2, 0.5, 1.0).astype(np.float32).reshape(1, SAMPLES)
        feeds = {"table": feeds["table"], "sensor": np.where(np.arange(SAMPLES) % 2, "old", "new").reshape(1, SAMPLES)}
    for i, call in enumerate(stage.calls):
        pointers = [ctypes.c_void_p(array_of(t, known).ctypes.data) for t in call.arguments]
        sizes = [ctypes.c_long(evaluate(n, lambda s: number(s))) for n in call.sizes]
        getattr(library, f"call_{i}")(*pointers, *sizes)
    (wanted,) = sardonyx.InferenceSession(model.SerializeToString()).run(None, feeds)
    (output,) = stage.program.outputs
    np.testing.assert_allclose(array_of(output, known), wanted, 1e-5, 1e-6)


def number(s: object) -> int:
    """A size, where the model has so many samples."""
    definition = getattr(s, "definition", None)
    return SAMPLES if definition is None else evaluate(definition, number)


def test_what_has_no_form_is_an_error() -> None:
    b = Buffer("b", f32)
    t = input_tensor("t", f32, [1])
    kernel = Kernel("k", (b,), (), Store(b, 0, Read(t, (0,))))
    with pytest.raises(TypeError, match="no C for a Read"):
        c_text(kernel, {}, "k")
