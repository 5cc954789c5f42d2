"""Runs operators as users do, in models of one node, and compares with ONNX's own results or onnxruntime's.

run("Add", [x, y])                  the outputs of one node, by a session in which the compiler runs it
reference("Add", [x, y])            the same by onnx.reference
onnxruntime_reference(...)          the same by onnxruntime
check("Add", [x, y])                compares the first two
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
from onnx.reference import ReferenceEvaluator

from sardonyx import GraphOptimizationLevel, InferenceSession, SessionOptions, ops
from sardonyx.base import debug
from sardonyx.base.dtypes import from_numpy
from sardonyx.base.errors import Unsupported
from sardonyx.expr import draws
from sardonyx.expr.evaluate import evaluate
from sardonyx.expr.origin import origin
from sardonyx.expr.tensor import Tensor, constant, input_tensor
from sardonyx.ops.record import Case, Op

Array = np.ndarray[Any, np.dtype[Any]]
NEWEST = onnx.defs.onnx_opset_version()


# ---- by a session ---------------------------------------------------------------------------------------------------------


def run(
    name: str,
    inputs: Sequence[Array | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    version: int = NEWEST,
    domain: str = "",
    outputs: int = 1,
    known: Sequence[int] = (),
    symbolic: bool = False,
) -> list[Array]:
    """The outputs of one node, compiled. Inputs whose position is in `known` are initializers of the model, the others are fed;
    symbolic: the model does not tell their sizes.

    Raises NotCompiled if the compiler does not take the node.
    """
    model = one_node_model(name, inputs, attributes or {}, version, domain, outputs, known, symbolic)
    feeds = {name: x for name, x in named(inputs).items() if int(name[1:]) not in known}
    return native_session(model.SerializeToString()).run(None, feeds)


@functools.lru_cache(maxsize=64)
def native_session(model: bytes) -> InferenceSession:
    """A session in which every node is compiled as it stands. Raises NotCompiled, with the reason, where one is not."""
    options = SessionOptions()
    options.intra_op_num_threads = 2
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    said: list[str] = []
    with mock.patch.object(debug, "show", lambda level, name, text: said.append(text) if name == "refused" else None):
        session = InferenceSession(model, options)
    if {part.ep_name for part in session.get_provider_graph_assignment_info()} != {"CPUExecutionProvider"}:
        raise NotCompiled("; ".join(said))
    return session


class NotCompiled(Exception):
    """The compiler does not take a node."""


def run_case(op: Op, case: Case) -> list[Array]:
    """The outputs of a record's case: with all inputs fed, or all but the first initializers where the operator has to know them."""

    def outputs(known: Sequence[int]) -> list[Array]:
        version = newest_version(op)
        return run(op.name, case.inputs, case.attributes, version=version, domain=op.domain, outputs=case.outputs, known=known)

    try:
        return outputs(())
    except NotCompiled:
        return outputs(range(1, len(case.inputs)))


def run_by_reference(
    name: str,
    inputs: Sequence[Array | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    version: int = NEWEST,
    domain: str = "",
    outputs: int = 1,
    symbolic: bool = True,
) -> list[Array]:
    """The outputs of one node, by a session that leaves it to the reference provider: onnx.reference, with our corrections."""
    model = one_node_model(name, inputs, attributes or {}, version, domain, outputs, symbolic=symbolic)
    return reference_session(model).run(None, named(inputs))


def reference_session(model: onnx.ModelProto) -> InferenceSession:
    """A session that leaves all nodes to the reference provider."""
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    return InferenceSession(model.SerializeToString(), options, providers=["ReferenceExecutionProvider"])


# ---- by meaning -----------------------------------------------------------------------------------------------------------


def feed(name: str, x: Array | None, feeds: dict[Tensor, Array], known: bool) -> Tensor | None:
    if x is None:
        return None
    if known:
        return constant(x, name)
    t = input_tensor(name, from_numpy(x.dtype), x.shape)
    feeds[t] = x
    return t


DRAWN_BY = np.array([1, 2], np.uint32)
"""What the runtime feeds to programs that draw random numbers."""


def run_model(model: onnx.ModelProto, feeds: Mapping[str, Array], known: bool = False) -> list[Array]:
    """The outputs of a model of plain nodes. With `known` its inputs are known beforehand, else they are fed."""
    versions = {i.domain: i.version for i in model.opset_import}
    fed: dict[Tensor, Array] = {draws.state: DRAWN_BY}
    scope: dict[str, Tensor | None] = {"": None}
    for i in model.graph.initializer:
        scope[i.name] = constant(onnx.numpy_helper.to_array(i), i.name)
    for name, x in feeds.items():
        scope[name] = feed(name, x, fed, known)
    for node in model.graph.node:
        op = ops.find(node.domain, node.op_type, versions[node.domain])
        if op is None:
            raise Unsupported(f"no record for {node.domain}.{node.op_type}")
        with origin(node.name or node.op_type):
            made = op.call([scope[n] for n in node.input], node_attributes(node), len(node.output))
        scope.update(zip(node.output, made, strict=False))
    outputs = [scope[o.name] for o in model.graph.output]
    return evaluate([t for t in outputs if t is not None], fed, {})


def node_attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes as the meaning functions take them: tensors as arrays, strings as str."""
    return {a.name: attribute(a) for a in node.attribute}


def attribute(a: onnx.AttributeProto) -> Any:
    got = onnx.helper.get_attribute_value(a)
    if isinstance(got, onnx.TensorProto):
        return onnx.numpy_helper.to_array(got)
    if isinstance(got, bytes):
        return got.decode()
    if isinstance(got, list):
        return [g.decode() if isinstance(g, bytes) else g for g in got]
    return got


def array(x: Any) -> Array:
    """A test case's value as an array."""
    return onnx.numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else np.asarray(x)


def newest_version(op: Op) -> int:
    """The newest opset version in which this record is the operator's."""
    later = [other.since for other in ops.records(op.domain, op.name) if other.since > op.since]
    return min(later) - 1 if later else onnx.defs.onnx_opset_version() if op.domain == "" else op.since


# ---- by onnx.reference --------------------------------------------------------------------------------------------------


def reference(
    name: str,
    inputs: Sequence[Array | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    version: int = NEWEST,
    domain: str = "",
    outputs: int = 1,
) -> list[Array]:
    """The outputs of one node, by onnx.reference."""
    model = one_node_model(name, inputs, attributes or {}, version, domain, outputs)
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(model).run(None, named(inputs))


def named(inputs: Sequence[Array | None]) -> dict[str, Array]:
    return {f"x{i}": x for i, x in enumerate(inputs) if x is not None}


def one_node_model(
    name: str,
    inputs: Sequence[Array | None],
    attributes: Mapping[str, Any],
    version: int,
    domain: str,
    outputs: int,
    known: Sequence[int] = (),
    symbolic: bool = False,
) -> onnx.ModelProto:
    """The model; inputs whose position is in `known` are initializers. symbolic: sizes of the others have names, one for each."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    node = onnx.helper.make_node(name, names, [f"y{i}" for i in range(outputs)], domain=domain)
    node.attribute.extend(make_attribute(k, v, name, version, domain) for k, v in attributes.items())
    given_inputs = [(i, n, x) for i, (n, x) in enumerate(zip(names, inputs, strict=True)) if x is not None]
    infos = [value_info(n, x, symbolic) for i, n, x in given_inputs if i not in known]
    results = [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in node.output]
    constants = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(x).reshape(x.shape), n) for i, n, x in given_inputs if i in known
    ]
    graph = onnx.helper.make_graph([node], name, infos, results, constants)
    imports = [onnx.helper.make_opsetid(domain, version)]
    if domain:
        imports.append(onnx.helper.make_opsetid("", 21))
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)


def onnxruntime_reference(
    name: str,
    inputs: Sequence[Array | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    version: int = 21,
    domain: str = "",
    outputs: int = 1,
) -> list[Array]:
    """The outputs of one node, by onnxruntime without optimisation."""
    model = one_node_model(name, inputs, attributes or {}, version, domain, outputs)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, named(inputs))


def make_attribute(key: str, value: Any, name: str, version: int, domain: str) -> onnx.AttributeProto:
    """An attribute of an operator; an empty list has the type that the operator's schema says."""
    if isinstance(value, np.ndarray):
        return onnx.helper.make_attribute(key, onnx.numpy_helper.from_array(value))
    if isinstance(value, list) and not value:
        kind = onnx.defs.get_schema(name, version, domain).attributes[key].type
        return onnx.helper.make_attribute(key, value, attr_type=kind.value)
    return onnx.helper.make_attribute(key, value)


def value_info(name: str, x: Array, symbolic: bool) -> onnx.ValueInfoProto:
    shape = [f"{name}_{axis}" for axis in range(x.ndim)] if symbolic else x.shape
    return onnx.helper.make_tensor_value_info(name, from_numpy(x.dtype).code, shape)


# ---- comparison ---------------------------------------------------------------------------------------------------------


def check(
    name: str,
    inputs: Sequence[Array | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    version: int = NEWEST,
    domain: str = "",
    outputs: int = 1,
    known: Sequence[int] = (),
    tolerance: float = 1e-6,
) -> None:
    """Asserts that the meaning gives what onnx.reference gives."""
    got = run(name, inputs, attributes, version=version, domain=domain, outputs=outputs, known=known)
    expected = reference(name, inputs, attributes, version=version, domain=domain, outputs=outputs)
    assert_same(got, expected, tolerance)


def assert_same(got: Sequence[Array], expected: Sequence[Array], rtol: float = 1e-6, atol: float = 1e-7) -> None:
    """Same count, dtypes and shapes; integers and bools equal, floats within the tolerance and the precision of their dtype. atol: of
    the largest number, if that is above 1."""
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        e = array(e)
        assert g.dtype == e.dtype
        assert g.shape == e.shape
        if from_numpy(g.dtype).is_float:
            precision = 2 * float(ml_dtypes.finfo(g.dtype).eps)
            wide = e.astype(np.float64)
            scale = np.max(np.abs(wide), initial=1.0, where=np.isfinite(wide))
            np.testing.assert_allclose(g.astype(np.float64), wide, max(rtol, precision), atol * scale)
        else:
            np.testing.assert_array_equal(g, e)
