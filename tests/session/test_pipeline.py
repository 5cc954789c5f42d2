"""session/pipeline.py: who compiles what, when providers refuse. The stages before that have tests of their own files."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest

import sardonyx as sx
from sardonyx.base import errors
from sardonyx.base.context import QUIET, RunContext
from sardonyx.base.errors import Fail, InvalidArgument, Unsupported
from sardonyx.base.options import CompileOptions
from sardonyx.base.symbolic import quotient_and_remainder
from sardonyx.expr.tensor import Tensor, next_id
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.reference.interpreter import Interpreter
from sardonyx.providers import registry
from sardonyx.providers.base import Executable, ExecutionProvider
from sardonyx.providers.reference import ReferenceExecutionProvider

CHAIN = """<ir_version: 10, opset_import: ["" : 21]> g (float[N] x) => (float[N] y, float[N] v) {
    [a] a = Relu(x)
    [b] b = Sigmoid(a)
    [c] c = Neg(b)
    [d] d = Relu(c)
    [e] y = Tanh(d)
    [f] v = Exp(b)
}"""
X = np.array([-1.0, 0.5, 2.0], np.float32)


class Interpreted(Executable):
    def __init__(self, graph: ir.Graph) -> None:
        self.interpreter = Interpreter(graph, graph.opset_imports)

    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        return self.interpreter.run(inputs, context)

    def describe(self) -> str:
        return "interpreted"


def provide(
    monkeypatch: pytest.MonkeyPatch,
    title: str,
    claims: set[str],
    error: Exception | None = None,
    offered: list[list[str]] | None = None,
) -> list[list[str]]:
    """Registers a provider that claims these operators and compiles them, or raises the error. Returns what it is asked to compile.

    offered: gets the names of the nodes that it is asked about.
    """
    asked: list[list[str]] = []
    seen = offered if offered is not None else []

    class Provider(ExecutionProvider):
        name = title

        def get_capability(self, graph: ir.Graph, nodes: Sequence[ir.Node], options: CompileOptions) -> list[list[ir.Node]]:
            seen.append([str(node.name) for node in nodes])
            return [[node for node in nodes if node.op_type in claims]]

        def compile(self, graph: ir.Graph, options: CompileOptions) -> Executable:
            asked.append([node.op_type for node in graph])
            if error is not None:
                raise error
            return Interpreted(graph)

    monkeypatch.setitem(registry.FACTORIES, title, Provider)
    return asked


def ran(session: sx.InferenceSession) -> dict[str, list[str]]:
    """{provider: the names of its nodes}"""
    found: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, []).extend(node.name for node in part.nodes)
    return {provider: sorted(names) for provider, names in found.items()}


def chain(providers: list[str], **options: Any) -> sx.InferenceSession:
    session = sx.InferenceSession(onnx.parser.parse_model(CHAIN).SerializeToString(), providers=providers, **options)
    y, v, c = session.run(["y", "v", "c"], {"x": X})
    b = 1 / (1 + np.exp(-np.maximum(X, 0)))
    np.testing.assert_allclose(c, -b, rtol=1e-6)
    np.testing.assert_allclose(y, np.zeros_like(X), atol=1e-7)
    np.testing.assert_allclose(v, np.exp(b), rtol=1e-6)
    return session


REFUSAL = Unsupported("no such device")


def test_providers_are_served_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    provide(monkeypatch, "One", {"Relu"})
    provide(monkeypatch, "Two", {"Relu", "Sigmoid"})
    assert ran(chain(["One", "Two"])) == {"One": ["a", "d"], "Two": ["b"], registry.CPU: ["c", "e", "f"]}


def test_a_provider_is_asked_only_about_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    one: list[list[str]] = []
    two: list[list[str]] = []
    three: list[list[str]] = []
    provide(monkeypatch, "One", {"Relu"}, offered=one)
    provide(monkeypatch, "Two", {"Sigmoid", "Neg", "Tanh", "Exp"}, offered=two)
    provide(monkeypatch, "Three", {"Relu"}, offered=three)
    chain(["One", "Two", "Three"])
    assert (one, two, three) == ([["a", "b", "c", "d", "e", "f"]], [["b", "c", "e", "f"]], [])


def test_a_node_that_a_provider_was_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    provide(monkeypatch, "One", {"Relu"})
    provide(monkeypatch, "Two", set())
    greedy = registry.create("Two", {})
    monkeypatch.setattr(type(greedy), "get_capability", lambda self, graph, nodes, options: [list(graph)])
    with pytest.raises(Fail, match="Two claims Relu node '[ad]', which it was not asked about"):
        chain(["One", "Two"])


def test_what_a_provider_cannot_compile_goes_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = provide(monkeypatch, "One", {"Relu", "Sigmoid", "Neg"}, REFUSAL)
    taken = provide(monkeypatch, "Two", {"Relu", "Sigmoid"})
    session = chain(["One", "Two"])
    assert refused[0] == ["Relu", "Sigmoid", "Neg", "Relu"]
    assert ["Relu", "Sigmoid"] in taken
    assert ran(session) == {"Two": ["a", "b", "d"], registry.CPU: ["c", "e", "f"]}


def test_without_another_that_is_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    provide(monkeypatch, "One", {"Relu", "Neg"}, REFUSAL)
    assert ran(chain(["One"])) == {registry.CPU: ["a", "b", "c", "d", "e", "f"]}


def test_several_may_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("One", "Two"):
        provide(monkeypatch, name, {"Relu"}, REFUSAL)
    provide(monkeypatch, "Three", {"Relu"})
    assert ran(chain(["One", "Two", "Three"])) == {"Three": ["a", "d"], registry.CPU: ["b", "c", "e", "f"]}


def test_what_comes_after_everybody_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    provide(monkeypatch, "One", {"Relu"}, REFUSAL)
    provide(monkeypatch, registry.CPU, set())

    def refuse(*_: object) -> Executable:
        raise REFUSAL

    monkeypatch.setattr(ReferenceExecutionProvider, "compile", refuse)
    model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]> g (float[N] x) => (float[N] y) { y = Relu(x) }')
    with pytest.raises(errors.NotImplemented, match="no such device"):
        sx.InferenceSession(model.SerializeToString(), providers=["One"])


def test_the_session_may_forbid_where_nodes_end(monkeypatch: pytest.MonkeyPatch) -> None:
    provide(monkeypatch, "One", {"Relu", "Sigmoid", "Neg", "Tanh", "Exp"}, REFUSAL)
    options = sx.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    with pytest.raises(Fail, match=r"fallback to CPU EP has been explicitly disabled by the user. Nodes: Relu 'a', Sigmoid 'b'"):
        chain(["One"], sess_options=options)


def test_another_exception_of_a_provider_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    provide(monkeypatch, "One", {"Relu"}, RuntimeError("out of device memory"))
    with pytest.raises(Fail, match="RuntimeError: out of device memory") as caught:
        chain(["One"])
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert caught.value.defect


def test_a_pickled_session_asks_for_the_same_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for those that were added: to name the compiler and to forbid it would be a contradiction."""
    provide(monkeypatch, "One", {"Relu", "Sigmoid", "Neg", "Tanh", "Exp"})
    options = sx.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    model = onnx.parser.parse_model(CHAIN).SerializeToString()
    session = pickle.loads(pickle.dumps(sx.InferenceSession(model, options, ["One"])))
    assert session.get_providers() == ["One", registry.CPU]
    assert ran(session) == {"One": ["a", "b", "c", "d", "e", "f"]}
    with pytest.raises(InvalidArgument, match="explicitly added the CPU EP"):
        sx.InferenceSession(model, options, ["One", registry.CPU])


@pytest.mark.parametrize("level", [sx.GraphOptimizationLevel.ORT_DISABLE_ALL, sx.GraphOptimizationLevel.ORT_ENABLE_ALL])
def test_nodes_that_nobody_reads(level: sx.GraphOptimizationLevel) -> None:
    """Also where there is no output at all, as in a model that is cut to pieces."""
    options = sx.SessionOptions()
    options.graph_optimization_level = level
    for outputs in ("float[N] y", ""):
        text = f'<ir_version: 10, opset_import: ["" : 21]> g (float[N] x) => ({outputs}) {{ y = Relu(x) z = Exp(x) t = Unique(z) }}'
        session = sx.InferenceSession(onnx.parser.parse_model(text).SerializeToString(), options)
        assert [array.shape for array in session.run(None, {"x": X})] == ([(3,)] if outputs else [])


def test_what_was_divided_is_forgotten() -> None:
    """The memo of divisions would hold on to the sizes of all models."""
    graph = """<ir_version: 10, opset_import: ["" : 21]> g (float[N, M] x) => (float[A, B] y) {
        s = Constant <value = int64[2] {-1, 7}> () y = Reshape(x, s)
    }"""
    session = sx.InferenceSession(onnx.parser.parse_model(graph).SerializeToString())
    assert session.run(None, {"x": np.zeros((7, 3), np.float32)})[0].shape == (3, 7)
    assert quotient_and_remainder.cache_info().currsize == 0


def test_one_collection_frees_what_a_creation_leaves() -> None:
    """Tensors and their parts refer to each other. They must not be kept by what later layers were made of."""
    layers = " ".join(f"c{i} = Concat <axis = 0> (r{i}, r{i}) r{i + 1} = Slice (c{i}, o, t)" for i in range(8))
    graph = f"""<ir_version: 10, opset_import: ["" : 21]> g (float[5] r0) => (float[4] y) {{
        o = Constant <value = int64[1] {{1}}> () t = Constant <value = int64[1] {{6}}> () f = Constant <value = int64[1] {{5}}> ()
        {layers} y = Slice (r8, o, f)
    }}"""
    content = onnx.parser.parse_model(graph).SerializeToString()
    sx.InferenceSession(content)  # makes what the process keeps for all sessions
    first = next_id()
    sx.InferenceSession(content)
    gc.collect()
    assert not [found for found in gc.get_objects() if isinstance(found, Tensor) and found.id > first]
