"""A constant per channel after a convolution goes into its weights and bias."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.graph.passes.convolution_constant_folding import fold_convolution_constants
from tests.graph.passes.harness import after, bodies, operators, reals

X = {"x": reals(1, 1, 5, 5)}
WEIGHTS = "float[2,1,3,3] w = {" + ", ".join(map(str, range(18))) + "}"
HEADER = "g (float[1,1,5,5] x) => (float[1,2,3,3] y) <" + WEIGHTS + ", CONSTANT> "


@pytest.mark.parametrize("op", ["Mul", "Add"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "constant", ["float[1,2,1,1] c = {2, 3}", "float[2,1,1] c = {2, 3}", "float c = {3}", "float[1,1,1,1] c = {3}"]
)
@pytest.mark.parametrize("order", ["p, c", "c, p"])
def test_per_channel(op: str, bias: bool, constant: str, order: str) -> None:
    text = HEADER.replace("CONSTANT", constant + (", float[2] b = {1, -1}" if bias else ""))
    text += f"{{ p = Conv(x, w{', b' if bias else ''}) y = {op}({order}) }}"
    found = after(fold_convolution_constants, text, X)
    assert operators(found) == ["Conv"]
    assert len(found.graph.node(0).inputs) == (3 if bias or op == "Add" else 2), "a product needs no bias"


def test_one_after_the_other() -> None:
    text = (
        HEADER.replace("CONSTANT", "float[2,1,1] c = {2, 3}, float[2,1,1] d = {5, 7}")
        + "{ p = Conv(x, w) q = Mul(p, c) r = Add(q, d) y = Mul(r, c) }"
    )
    assert operators(after(fold_convolution_constants, text, X)) == ["Conv"]


@pytest.mark.parametrize(
    "constant",
    ["float[3] c = {1, 2, 3}", "float[3,1] c = {1, 2, 3}", "float[1,1,1,1,1] c = {2}", "float[1,2,3,1] c = {1, 2, 3, 4, 5, 6}"],
)
def test_what_is_not_per_channel_stays(constant: str) -> None:
    text = (
        HEADER.replace("float[1,2,3,3] y", "float y").replace("CONSTANT", constant)
        + "{ p = Conv(x, w) q = Mul(p, c) y = ReduceSum <keepdims = 0> (q) }"
    )
    assert operators(after(fold_convolution_constants, text, X)) == ["Conv", "Mul", "ReduceSum"]


def test_what_others_read_stays() -> None:
    text = (
        HEADER.replace("=> (", "=> (float[1,2,3,3] p, ").replace("CONSTANT", "float c = {3}") + "{ p = Conv(x, w) y = Mul(p, c) }"
    )
    assert operators(after(fold_convolution_constants, text, X)) == ["Conv", "Mul"]


def test_a_product_in_a_body_stays() -> None:
    text = (
        HEADER.replace("x) =>", "x, bool t) =>").replace("CONSTANT", "float c = {3}")
        + """{
        p = Conv(x, w)
        y = If(t) <then_branch = a () => (float[1,2,3,3] o) { o = Mul(p, c) },
                   else_branch = e () => (float[1,2,3,3] q) { m = Conv(x, w) q = Mul(m, c) }>
    }"""
    )
    for condition in (True, False):
        found = after(fold_convolution_constants, text, {**X, "t": np.array(condition)})
        assert operators(found) == ["Conv", "If"]
        assert bodies(found) == [["Mul"], ["Conv"]]
