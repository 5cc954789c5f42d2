"""A matrix product and the row added to it become one Gemm, where nothing else would notice."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.graph.passes.matmul_add_fusion import fuse_matmul_add
from tests.graph.passes.harness import after, operators, reals

FEEDS = {"x": reals(3, 4), "w": reals(4, 5)}
HEADER = "g (float[n,4] x, float[4,5] w, {0} b) => (float[n,5] y) "


@pytest.mark.parametrize(("kind", "shape"), [("float[5]", (5,)), ("float[1,5]", (1, 5)), ("float[1]", (1,)), ("float", ())])
@pytest.mark.parametrize("order", ["p, b", "b, p"])
def test_a_row(kind: str, shape: tuple[int, ...], order: str) -> None:
    text = HEADER.format(kind) + f"{{ p = MatMul(x, w) y = Add({order}) }}"
    assert operators(after(fuse_matmul_add, text, {**FEEDS, "b": reals(*shape)})) == ["Gemm"]


@pytest.mark.parametrize(
    ("kind", "shape"), [("float[3,5]", (3, 5)), ("float[3,1]", (3, 1)), ("float[1,1,5]", (1, 1, 5)), ("float[m]", (5,))]
)
def test_what_may_not_be_a_row(kind: str, shape: tuple[int, ...]) -> None:
    text = HEADER.replace("float[n,5] y", "float[..] y" if len(shape) > 2 else "float[n,5] y").format(kind)
    text = text.replace("float[..] y", "float[1,n,5] y") + "{ p = MatMul(x, w) y = Add(p, b) }"
    assert operators(after(fuse_matmul_add, text, {**FEEDS, "b": reals(*shape)})) == ["MatMul", "Add"]


def test_products_of_more_axes_stay() -> None:
    text = "g (float[2,3,4] x, float[4,5] w, float[5] b) => (float[2,3,5] y) { p = MatMul(x, w) y = Add(p, b) }"
    feeds = {"x": reals(2, 3, 4), "w": reals(4, 5), "b": reals(5)}
    assert operators(after(fuse_matmul_add, text, feeds)) == ["MatMul", "Add"]


def test_a_product_that_is_an_output_or_read_twice_stays() -> None:
    b = {**FEEDS, "b": reals(5)}
    text = "g (float[n,4] x, float[4,5] w, float[5] b) => (float[n,5] y, float[n,5] {0}) {{ p = MatMul(x, w) y = Add(p, b) {1} }}"
    assert operators(after(fuse_matmul_add, text.format("p", ""), b)) == ["MatMul", "Add"]
    assert operators(after(fuse_matmul_add, text.format("z", "z = Neg(p)"), b)) == ["MatMul", "Add", "Neg"]


def test_a_product_added_to_itself_stays() -> None:
    text = "g (float[4,4] x) => (float[4,4] y) { p = MatMul(x, x) y = Add(p, p) }"
    assert operators(after(fuse_matmul_add, text, {"x": reals(4, 4)})) == ["MatMul", "Add"]


def test_a_product_whose_sum_is_in_a_body_stays() -> None:
    text = """g (float[n,4] x, float[4,5] w, float[5] b, bool c) => (float[n,5] y) {
        p = MatMul(x, w)
        y = If(c) <then_branch = t () => (float[n,5] o) { o = Add(p, b) },
                   else_branch = e () => (float[n,5] q) { m = MatMul(x, w) q = Add(m, b) }>
    }"""
    for condition in (True, False):
        found = after(fuse_matmul_add, text, {**FEEDS, "b": reals(5), "c": np.array(condition)})
        assert operators(found) == ["MatMul", "If"]
        assert [[n.op_type for n in g] for g in found.graph.subgraphs()] == [["Add"], ["Gemm"]]


def test_integers_from_the_opset_on_whose_gemm_has_them() -> None:
    text = "g (int32[3,4] x, int32[4,5] w, int32[5] b) => (int32[3,5] y) { p = MatMul(x, w) y = Add(p, b) }"
    feeds = {k: (v * 9).astype(np.int32) for k, v in {**FEEDS, "b": reals(5)}.items()}
    assert operators(after(fuse_matmul_add, text, feeds)) == ["Gemm"]
