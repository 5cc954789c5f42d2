"""What the dial shows of values, programs and reasons."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest

import sardonyx
from sardonyx.base.dtypes import f32, i64
from sardonyx.base.symbolic import symbol
from sardonyx.codegen import features
from sardonyx.expr.index import element
from sardonyx.expr.region import scan
from sardonyx.expr.tensor import Read, Tensor, assemble, compute, input_tensor, reduction
from sardonyx.loop.nodes import Cast, Const, Index, Op, Select
from sardonyx.lower.lowered import whole_graph
from sardonyx.lower.printer import program_text, value_text
from sardonyx.lower.values import Value, bound
from sardonyx.ops import linalg, softmax
from tests.lower.harness import compiled, machine_for, reals


def text(t: Tensor) -> str:
    return re.sub(r"(?<=#)\d+", "", value_text(Value(t)))


def test_values_are_written_as_people_write_them() -> None:
    n = symbol("n")
    x, at = input_tensor("x", f32, [n, 4]), input_tensor("at", i64, [n])
    assert text(compute(f32, [4, n], lambda i, j: Read(x, (j, i)), "y")) == "y[i, j] = x[j, i]"
    sum_of = reduction("add", f32, [n, 1], [4], lambda i, _, r: Read(x, (i, r)), "s")
    assert text(sum_of) == "s[i, 0] = sum over r < 4 of x[i, r]"
    assert text(reduction("max", f32, [4], [n], lambda j, r: Read(x, (r, j)), "m")) == "m[i] = max over r < n of x[r, i]"
    product = compute(f32, [n, 4], lambda i, j: Op("mul", Op("add", Read(x, (i, j)), Const(1, f32)), Read(sum_of, (i, 0))), "p")
    assert text(product) == "p[i, j] = (x[i, j] + 1) * s[i, 0]"
    clipped = compute(f32, [n], lambda i: Select(Op("lt", Read(x, (i, 0)), Const(0, f32)), Const(0, f32), Read(x, (i, 3))), "c")
    assert text(clipped) == "c[i] = 0 if (x[i, 0] < 0) else x[i, 3]"
    assert text(compute(f32, [n], lambda i: Op("exp", Cast(Index(i), f32)), "e")) == "e[i] = exp(f32(i))"
    gathered = compute(f32, [n], lambda i: Read(x, (element(Read(at, (i,)), n), 1)), "g")
    assert text(gathered) == "g[i] = x[at[i], 1]"


def test_parts_and_conditions() -> None:
    x = input_tensor("x", f32, [3])
    parts = [compute(f32, [3], lambda i: Read(x, (i,)), name) for name in "ab"]
    assemble(f32, [6], [(parts[0], [0]), (parts[1], [3])], "whole")
    assert text(parts[1]) == "b[i] into whole[i + 3] = x[i]"
    v = Value(compute(f32, [4], lambda i: Read(x, (i,)), "c"))
    bound(v, v.axes[0], 3)
    v.place, v.constant = "ROOT", True
    assert value_text(v) == "c[i] where i < 3 = (x[i] where i < 3)    # ROOT, constant"


def test_a_program_is_its_calls_barriers_and_memory() -> None:
    def twice(x: Tensor) -> list[Tensor]:
        return list(scan(x.shape[0], [x], lambda t, s: ([softmax.softmax_over(s, [0])], []))[0])

    looped = program_text(compiled(twice, "f32[n, 8]").lowered.segments)
    assert "    repeat n times:\n" in looped
    chain = compiled(
        lambda x, w, v: linalg.matmul(linalg.matmul(x, w), v), "f32[m, 64]", reals(64, 64), reals(64, 64), machine={"l2": 1}
    )
    lines = program_text(chain.lowered.segments).splitlines()
    assert re.fullmatch(r"segment 0: .+ bytes", lines[0])
    assert [line.split()[0] for line in lines[1:4]] == [
        next(iter(chain.lowered.kernels)),
        "barrier",
        list(chain.lowered.kernels)[-1],
    ]
    assert re.fullmatch(r"    \S+ at 0, .* bytes", lines[4])


def test_values_before_the_first_step() -> None:
    x = input_tensor("x", f32, [2])
    graph = whole_graph([x], [compute(f32, [2], lambda i: Read(x, (i,)), "y")], machine_for(features.AVX2))
    assert graph.text() == "y[i] = x[i]"


def test_level_2_says_why_each_value_is_where_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    graph = "(float[m, 8] x) => (float[m, 8] y) { e = Exp(x) s = Softmax(e) y = Add(s, s) }"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {graph}')
    for node in model.graph.node:
        node.name = node.output[0]
    monkeypatch.setenv("SARDONYX_DEBUG", "2")
    sardonyx.InferenceSession(model.SerializeToString()).run(None, {"x": np.zeros((2, 8), np.float32)})
    told = capsys.readouterr().err.split("--- places\n")[1].split("---")[0]
    lines = re.sub(r"#\d+", "", told).splitlines()
    assert [line.split()[0] for line in lines] == ["ROW", "ROW", "INLINE", "ROW", "ROW", "INLINE", "ROOT"]
    assert lines[0] == "ROW    e  not INLINE: 2 uses would each compute it, at a cost of 14; not TILE: it is no contraction"
    assert lines[1] == "ROW    s  not INLINE: it is a reduction; not TILE: it is no contraction"
    assert lines[-1].startswith(
        "ROOT   y  not INLINE: its buffer is asked for; not TILE: it is no contraction; not ROW: no statement reads it"
    )
