"""Lowering looks at its own products: each fault that is put into them is found, and the message names the node."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from msgspec.structs import replace
from onnx import helper

import sardonyx
from sardonyx.base.dtypes import i64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, Symbol, value
from sardonyx.codegen import features
from sardonyx.expr.origin import origin
from sardonyx.expr.region import scan
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.loop.nodes import Expr, For
from sardonyx.loop.nodes import replace as substituted
from sardonyx.loop.verifier import verify as verify_kernel
from sardonyx.lower import lowered
from sardonyx.lower import nest as nest_module
from sardonyx.lower.check import check_calls, check_nests, check_values
from sardonyx.lower.constants import call_inputs, inline_scalars, mark_constants
from sardonyx.lower.lowered import Lowered, lower, own_buffers, reachable
from sardonyx.lower.place import Nest, Placing, inline_views, place
from sardonyx.lower.repetition import expand
from sardonyx.lower.schedule import calls
from sardonyx.lower.values import Value, reads_of
from sardonyx.lower.verify import LoweringError
from sardonyx.ops import linalg, softmax
from sardonyx.ops.pointwise import add, mul, view
from tests.lower.harness import machine_for, parse

STRANGER = value(Symbol("stranger", 7))
Values = dict[Tensor, Value]


def graph() -> tuple[list[Tensor], list[Tensor]]:
    """A product under a softmax, and a loop over its rows."""
    x, w, h = parse("f32[m, 8]", "x"), parse("f32[8, 8]", "w"), parse("f32[8]", "h")
    with origin("attention", "Softmax"):
        y = softmax.softmax_over(linalg.matmul(x, w), [1])
    with origin("loop", "Scan"):
        (final,), (stack,) = scan(y.shape[0], [h], lambda t, s: ([add(s, view(y, [8], lambda i: (t, i)))], [mul(s, s)]))
    return [x, w, h], [final, stack]


def prepared() -> tuple[Values, list[Tensor], list[Nest]]:
    """Values as they are before they are placed, then their nests."""
    inputs, outputs = graph()
    results = own_buffers(inputs, outputs)
    values = {t: Value(t) for t in reachable(results)}
    inline_scalars(values)
    kept = list(dict.fromkeys([*results, *expand(values), *call_inputs(values)]))
    mark_constants(values, set(results))
    inline_views(values, kept, machine_for(features.host()))
    check_values(values, "views were taken")
    return values, kept, []


def placed() -> tuple[Values, list[Nest]]:
    values, kept, _ = prepared()
    nests = place(values, kept, machine_for(features.host())).nests
    check_nests(nests, values)
    return values, nests


def moved(body: Expr, by: Dim) -> Expr:
    """body with one of its loops put elsewhere."""
    loop = next(s for s in sorted(body.symbols) if s.extent is not None)
    return substituted(body, {loop: by})


def computed(values: Values) -> list[Value]:
    return [v for v in values.values() if v.body is not None and v.place not in ("VIEW", "INLINE") and v.body.symbols]


# ---- before values are placed -----------------------------------------------------------------------------------------------


def lose_a_loop(values: Values) -> None:
    read = {r.tensor for v in values.values() for r in reads_of(v)}
    v = next(v for v in computed(values) if v.tensor in read)
    assert v.body is not None
    v.body = moved(v.body, STRANGER)


def lose_a_value(values: Values) -> None:
    v = next(v for v in computed(values) if isinstance(v.body, Read))
    assert isinstance(v.body, Read)
    del values[v.body.tensor]


@pytest.mark.parametrize("harm", [lose_a_loop, lose_a_value], ids=lambda f: f.__name__)
def test_faults_of_values(harm: Callable[[Values], None]) -> None:
    values, _, _ = prepared()
    harm(values)
    with pytest.raises(LoweringError, match="(loop|attention).*: after harm: "):
        check_values(values, "harm")


# ---- after ------------------------------------------------------------------------------------------------------------------


def member(nests: list[Nest]) -> Value:
    return next(m for n in nests for m in n.members)


def unbind(values: Values, nests: list[Nest]) -> None:
    v = member(nests)
    assert v.body is not None
    v.body = moved(v.body, STRANGER)


def leave_a_body(values: Values, nests: list[Nest]) -> None:
    """What a statement outside of the loop reads is said to be computed inside."""
    inside = next(n.root.region for n in nests if n.root.region)
    outside = next(n.root for n in nests if not n.root.region and reads_of(n.root))
    values[reads_of(outside)[0].tensor].region = inside


def displace(values: Values, nests: list[Nest]) -> None:
    member(nests).place = "INLINE"


def displace_a_source(values: Values, nests: list[Nest]) -> None:
    source = next(values[r.tensor] for n in nests for v in n.statements for r in reads_of(v) if values[r.tensor].place == "ROOT")
    source.place, source.nest = None, None


@pytest.mark.parametrize("harm", [unbind, leave_a_body, displace, displace_a_source], ids=lambda f: f.__name__)
def test_faults_of_nests(harm: Callable[[Values, list[Nest]], None]) -> None:
    values, nests = placed()
    harm(values, nests)
    with pytest.raises(LoweringError, match="after values were placed"):
        check_nests(nests, values)


def program() -> Lowered:
    return lower(*graph(), machine_for(features.host()))[0]


def test_faults_of_calls() -> None:
    found = [c for s in program().segments for c in calls(s.steps)]
    check_calls(found)
    call = found[-1]
    for wrong in (
        replace(call, arguments=call.arguments[:-1]),
        replace(call, sizes=[*call.sizes, 1]),
        replace(call, arguments=[Tensor(i64, t.shape) for t in call.arguments]),
    ):
        with pytest.raises(LoweringError, match="after kernels were built"):
            check_calls([wrong])


def test_every_kernel_obeys_the_rules_of_the_loop_ir() -> None:
    for kernel in program().kernels.values():
        verify_kernel(kernel)


def test_every_session_of_the_tests_verifies_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel with a parallel loop inside another is found when it is built."""
    whole = nest_module.ensure_parallel_loop
    monkeypatch.setattr(nest_module, "ensure_parallel_loop", lambda s: For(Symbol("again", 1), 0, 1, "parallel", whole(s)))
    node = helper.make_node("Exp", ["x"], ["y"], name="growth")
    x, y = (helper.make_tensor_value_info(name, 1, ["n"]) for name in "xy")
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(Fail, match="inside another parallel loop"):
        sardonyx.InferenceSession(model.SerializeToString())
    monkeypatch.delenv("SARDONYX_VERIFY")
    sardonyx.InferenceSession(model.SerializeToString())


def test_users_see_a_fail_that_names_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lowered.place

    def harmed(values: Values, *rest: object) -> Placing:
        placing = whole(values, *rest)  # type: ignore[arg-type]
        placing.nests[0].root.place = "VIEW"
        return placing

    monkeypatch.setattr(lowered, "place", harmed)
    node = helper.make_node("Exp", ["x"], ["y"], name="growth")
    x, y = (helper.make_tensor_value_info(name, 1, ["n"]) for name in "xy")
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(Fail, match="growth.*after values were placed") as caught:
        sardonyx.InferenceSession(model.SerializeToString())
    assert caught.value.defect
    monkeypatch.undo()
    assert sardonyx.InferenceSession(model.SerializeToString()).run(None, {"x": np.zeros(1, np.float32)})[0] == 1
