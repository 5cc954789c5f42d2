"""ops/custom.py, ops/registered.py, ops/functions.py and host/custom.py: custom operators, through sessions."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper as h

import sardonyx as sx
from sardonyx import Tensor, custom_op, operators, unregister_custom_op
from sardonyx.base.errors import Fail, InvalidGraph
from sardonyx.inspection.verify import verify
from sardonyx.ops import registered

X = np.array([[1, -2, 3], [4, 5, -6]], np.float32)
NAME = "my.domain::Name"


@pytest.fixture(autouse=True)
def no_operators() -> Iterator[None]:
    yield
    for domain, name in list(registered._records):
        if not name.endswith(registered.GRADIENT):
            unregister_custom_op(f"{domain}::{name}")


def value(name: str, shape: Any = ("n", 3), kind: int = T.FLOAT) -> onnx.ValueInfoProto:
    return h.make_tensor_value_info(name, kind, shape)


INPUTS, OUTPUTS = (value("x"),), (value("y", None),)


def custom(inputs: str = "x", outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    return h.make_node("Name", inputs.split(), outputs.split(), name="mine", domain="my.domain", **attributes)


def model(*nodes: onnx.NodeProto, inputs: Any = INPUTS, outputs: Any = OUTPUTS, version: int = 1, **more: Any) -> onnx.ModelProto:
    imports = [h.make_opsetid("", 21), h.make_opsetid("my.domain", version)]
    return h.make_model(h.make_graph(nodes, "g", inputs, outputs), opset_imports=imports, ir_version=10, **more)


def run(made: onnx.ModelProto, providers: tuple[str, ...] = ("CPUExecutionProvider",), **feeds: Any) -> list[Any]:
    session = sx.InferenceSession(made.SerializeToString(), providers=list(providers))
    return session.run(None, feeds or {"x": X})


def arrays() -> None:
    @custom_op(NAME)
    def double(x, *, factor: float = 2.0):
        return x * np.float32(factor)


def arrays_with_shape() -> None:
    @custom_op(NAME, shape=lambda x, **_: x)
    def double(x, *, factor: float = 2.0):
        return x * np.float32(factor)


def tensors() -> None:
    @custom_op(NAME)
    def double(x: Tensor, *, factor: float = 2.0) -> Tensor:
        return operators.Mul(x, factor)


KINDS = pytest.mark.parametrize("register", [arrays, arrays_with_shape, tensors])


@KINDS
@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "ReferenceExecutionProvider"])
def test_between_other_nodes(register: Any, provider: str) -> None:
    register()
    made = model(h.make_node("Relu", ["x"], ["a"]), custom("a", "b", factor=3.0), h.make_node("Neg", ["b"], ["y"]))
    np.testing.assert_array_equal(run(made, (provider,))[0], -3 * np.maximum(X, 0))


@KINDS
def test_in_functions_and_bodies(register: Any) -> None:
    register()
    function = h.make_function("f", "Twice", ["x"], ["y"], [custom("x", "t"), custom("t", "y")], [h.make_opsetid("my.domain", 1)])
    loop = h.make_graph(
        [custom("c", "d"), h.make_node("Identity", ["go"], ["on"])],
        "body",
        [value("i", [], T.INT64), value("go", [], T.BOOL), value("c")],
        [value("on", [], T.BOOL), value("d")],
    )
    step = h.make_graph([custom("row", "new")], "step", [value("row", [3])], [value("new", [3])])
    yes = h.make_graph([custom("s", "then")], "yes", [], [value("then")])
    no = h.make_graph([h.make_node("Identity", ["s"], ["else"])], "no", [], [value("else")])
    made = model(
        h.make_node("Twice", ["x"], ["f"], domain="f"),
        h.make_node("Constant", [], ["three"], value=h.make_tensor("t", T.INT64, [], [3])),
        h.make_node("Loop", ["three", "", "f"], ["l"], body=loop),
        h.make_node("Scan", ["l"], ["s"], body=step, num_scan_inputs=1),
        h.make_node("If", ["c"], ["y"], then_branch=yes, else_branch=no),
        inputs=(value("x"), value("c", [], T.BOOL)),
        functions=[function],
    )
    made.opset_import.append(h.make_opsetid("f", 1))
    for chosen in (True, False):
        np.testing.assert_array_equal(run(made, x=X, c=np.array(chosen))[0], X * 2 ** (6 + chosen))


@KINDS
def test_verify_compares_it(register: Any, tmp_path: Path) -> None:
    register()
    made = model(custom("x", "a"), h.make_node("Relu", ["a"], ["y"]), outputs=(value("y"),))
    onnx.save(made, tmp_path / "m.onnx")
    for result in verify(tmp_path / "m.onnx", {"x": X}, 1e-6):
        assert result.difference is None
        assert result.compared > 0


def test_tensor_expressions_are_fused() -> None:
    tensors()
    made = model(h.make_node("Relu", ["x"], ["a"]), custom("a", "b"), h.make_node("Neg", ["b"], ["y"]))
    session = sx.InferenceSession(made.SerializeToString())
    assert [part.ep_name for part in session.get_provider_graph_assignment_info()] == ["CPUExecutionProvider"]
    (step,) = session._built.program.steps
    assert "1 nests, 1 kernels" in step.executable.describe()
    assert session.get_outputs()[0].shape == ["n", 3]


def test_attributes_arrive_with_their_types() -> None:
    got: dict[str, Any] = {}

    @custom_op(NAME)
    def name(
        x,
        *,
        i: int,
        f: float,
        s: str,
        flag: bool = True,
        many: list[int] = (),
        some: tuple[float, ...] = (),
        t: np.ndarray,
        left: int = 5,
    ):
        got.update(i=i, f=f, s=s, flag=flag, many=many, some=some, t=t, left=left)
        return x

    run(model(custom(i=3, f=0.5, s="é", flag=0, many=[1, 2], some=[0.5], t=h.make_tensor("t", T.INT8, [2], [1, 2]))))
    np.testing.assert_array_equal(got.pop("t"), np.array([1, 2], np.int8))
    assert got == {"i": 3, "f": 0.5, "s": "é", "flag": False, "many": [1, 2], "some": (0.5,), "left": 5}
    assert [type(got[key]) for key in ("i", "f", "s", "flag", "many", "some")] == [int, float, str, bool, list, tuple]
    with pytest.raises(InvalidGraph, match="Required attribute '.' is missing"):
        run(model(custom()))
    with pytest.raises(InvalidGraph, match="Unrecognized attribute: other"):
        run(model(custom(i=3, f=0.5, s="", t=h.make_tensor("t", T.INT8, [2], [1, 2]), other=1)))


def test_optional_and_repeated_inputs_strings_and_several_outputs() -> None:
    @custom_op(NAME, outputs=2, shape=lambda x, *more: [(np.dtype(object), x.shape), (np.int64, ())])
    def name(x, y=None, *more):
        return np.array([text + "!" for text in x.tolist()], object), np.array(len(more) if y is None else -1)

    inputs = (value("x", ["n"], T.STRING),)
    outputs = (value("a", ["n"], T.STRING), value("b", [], T.INT64))
    a, b = run(model(custom("x", "a b"), inputs=inputs, outputs=outputs), x=np.array(["é", "b"], object))
    assert (a.tolist(), int(b)) == (["é!", "b!"], 0)
    assert int(run(model(custom("x x x", "a b"), inputs=inputs, outputs=outputs), x=np.array(["é"], object))[1]) == -1
    (a,) = run(model(custom("x", "a"), inputs=inputs, outputs=outputs[:1]), x=np.array(["z"], object))
    assert a.tolist() == ["z!"]
    with pytest.raises(InvalidGraph, match="output size 3"):
        run(model(custom("x", "a b c"), inputs=inputs, outputs=outputs))


@pytest.mark.parametrize("register", [arrays, tensors])
def test_a_gradient(register: Any) -> None:
    if register is arrays:
        custom_op(NAME, gradient=lambda g, x, w, **_: (2 * g * x, None))(lambda x, w: x * x)
    else:

        @custom_op(NAME, gradient=square_gradient)
        def square(x: Tensor, w: Tensor) -> Tensor:
            return operators.Mul(x, x)

    node = h.make_node("Gradient", ["x"], ["d"], domain="ai.onnx.preview.training", xs=["x"], y="y")
    made = model(h.make_node("Exp", ["x"], ["e"]), custom("e e", "y"), node, outputs=(value("y"), value("d")))
    made.opset_import.append(h.make_opsetid("ai.onnx.preview.training", 1))
    np.testing.assert_allclose(run(made)[1], 2 * np.exp(2 * X), rtol=1e-5)


def square_gradient(g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor | None, ...]:
    return operators.Mul(operators.Mul(g, x), 2), None


# ---- errors -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "ReferenceExecutionProvider"])
def test_an_error_inside_names_the_node_and_keeps_the_traceback(provider: str) -> None:
    @custom_op(NAME)
    def name(x):
        raise ZeroDivisionError("inside")

    with pytest.raises(Fail, match=r"Name.*mine.*my\.domain::Name raised ZeroDivisionError: inside") as caught:
        run(model(custom()), (provider,))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "name" in [frame.name for frame in traceback.extract_tb(caught.value.__cause__.__traceback__)]
    assert not caught.value.defect


def test_an_error_in_an_expression_or_shape_function_is_told_when_the_model_loads() -> None:
    @custom_op(NAME)
    def name(x: Tensor):
        raise ZeroDivisionError("inside")

    custom_op("my.domain::Other", shape=lambda x: 1 // 0)(lambda x: x)
    other = custom()
    other.op_type = "Other"
    for node in (custom(), other):
        with pytest.raises(Fail, match=r"mine.*raised ZeroDivisionError") as caught:
            run(model(node))
        assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (lambda x: (x, x), "returned 2 values, not 1"),
        (lambda x: (), "returned 0 values, not 1"),
        (lambda x: None, "returned a NoneType for 'y'"),
        (lambda x: x.tolist(), "returned 2 values|returned a"),
        (lambda x: x.astype(np.float64), "returned float64.2, 3. for 'y', not float32"),
        (lambda x: x[0], r"returned float32\[3\] for 'y', not the shape"),
        (lambda x: x[:, :2], r"returned float32\[2, 2\] for 'y', not the shape \[\?, 3\]"),
        (lambda x: x[:1], r"its shape function says float32\[2, 3\]"),
    ],
)
def test_results_that_do_not_fit(result: Any, text: str) -> None:
    custom_op(NAME, shape=lambda x: x)(result)
    for provider in ("CPUExecutionProvider", "ReferenceExecutionProvider"):
        with pytest.raises(Fail, match=text) as caught:
            run(model(custom(), outputs=(value("y"),)), (provider,))
        assert "mine" in str(caught.value)


def test_expressions_that_return_something_else() -> None:
    @custom_op(NAME)
    def name(x: Tensor):
        return 3

    with pytest.raises(Fail, match=r"mine.*returned a int, not a Tensor"):
        run(model(custom()))


def test_inputs_cannot_be_written_to() -> None:
    @custom_op(NAME)
    def name(x):
        x[0] = 0
        return x

    with pytest.raises(Fail, match="read-only"):
        run(model(custom()))
    assert X[0, 0] == 1


@pytest.mark.parametrize(
    "name",
    [
        "Name",
        "::Name",
        "my.domain::",
        "a b::Name",
        "my.domain::Na me",
        "my.domain::N.gradient",
        "ai.onnx::Relu",
        "ai.onnx.ml::Scaler",
        "",
    ],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(ValueError, match=r"custom operator"):
        custom_op(name)


def test_what_cannot_be_registered() -> None:
    for wrong in ((3,), (NAME, "1"), (NAME, True)):
        with pytest.raises(TypeError):
            custom_op(*wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="since"):
        custom_op(NAME, 0)
    for function in (lambda x, **more: x, lambda x, *, a: x, lambda x, y=3.5j: x, max):
        with pytest.raises(ValueError, match=NAME):
            custom_op(NAME)(function)
    with pytest.raises(ValueError, match="of this package"):
        custom_op("com.microsoft::FastGelu")(lambda x: x)
    arrays()
    with pytest.raises(ValueError, match="registered for version 1 already"):
        arrays()
    with pytest.raises(ValueError, match="there is no custom operator"):
        unregister_custom_op(NAME, 2)


# ---- the registry ---------------------------------------------------------------------------------------------------------------


def test_versions_and_unregistering() -> None:
    for since in (1, 3):
        custom_op(NAME, since)(lambda x, since=since, *, n=since: x + np.float32(n)) if False else custom_op(NAME, since)(
            adder(since)
        )
    for version, expected in ((1, 1), (2, 1), (3, 3), (9, 3)):
        np.testing.assert_array_equal(run(model(custom(), version=version))[0], X + expected)
    unregister_custom_op(NAME, 1)
    with pytest.raises(Fail, match=r"my.domain:Name.* is not a registered function/op"):
        run(model(custom(), version=2))


def adder(number: int) -> Any:
    return lambda x: x + np.float32(number)


def test_sessions_follow_the_function_that_is_registered_now() -> None:
    """Also those whose model was loaded before, which the cache on disk would know."""
    for register in (tensors, arrays):
        register()
        np.testing.assert_array_equal(run(model(custom()))[0], 2 * X)
        unregister_custom_op(NAME)
    custom_op(NAME)(adder(1))
    np.testing.assert_array_equal(run(model(custom()))[0], X + 1)


def test_functions_of_the_model_come_first() -> None:
    arrays()
    function = h.make_function("my.domain", "Name", ["x"], ["y"], [h.make_node("Neg", ["x"], ["y"])], [h.make_opsetid("", 21)])
    np.testing.assert_array_equal(run(model(custom(), functions=[function]))[0], -X)


def test_many_threads_register_and_run() -> None:
    problems: list[Exception] = []

    def work(number: int) -> None:
        try:
            for _ in range(3):
                custom_op(f"my.domain::Name{number}")(adder(number))
                node = custom()
                node.op_type += str(number)
                np.testing.assert_array_equal(run(model(node))[0], X + number)
                unregister_custom_op(f"my.domain::Name{number}")
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


def test_nodes_that_may_differ_are_not_merged() -> None:
    calls: list[int] = []

    def count(x):
        calls.append(1)
        return x + np.float32(len(calls))

    made = model(custom("x", "a"), custom("x", "b"), h.make_node("Sub", ["b", "a"], ["y"]))
    custom_op(NAME, deterministic=False, shape=lambda x: x)(count)
    assert (run(made)[0] != 0).all()
