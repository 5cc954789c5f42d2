"""Runs operators by their meaning, evaluated by numpy, and compares with ONNX's own results.

run("Add", [x, y])                  the outputs of one node
reference("Add", [x, y])            the same by onnx.reference
check("Add", [x, y])                compares the two
run_model(model, feeds)             all nodes of a ModelProto
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
from onnx.reference import ReferenceEvaluator

from sardonyx import ops
from sardonyx.base.dtypes import from_numpy
from sardonyx.base.errors import Unsupported
from sardonyx.expr.evaluate import evaluate
from sardonyx.expr.origin import origin
from sardonyx.expr.tensor import Tensor, constant, input_tensor
from sardonyx.ops.record import Case, Op

Array = np.ndarray[Any, np.dtype[Any]]
NEWEST = onnx.defs.onnx_opset_version()


# ---- by meaning ---------------------------------------------------------------------------------------------------------


def apply(op: Op, inputs: Sequence[Tensor | None], attributes: Mapping[str, Any], outputs: int = 1) -> list[Tensor | None]:
    """The outputs of the operator, as tensor expressions."""
    meaning = op.meaning
    if meaning is None:
        raise Unsupported(f"{op.name} has no meaning as tensors")
    given = list(inputs)
    while given and given[-1] is None:
        given.pop()
    keywords = {("from_" if k == "from" else k): v for k, v in attributes.items()}
    if "outputs" in inspect.signature(meaning).parameters:
        keywords["outputs"] = outputs
    result = meaning(*given, **keywords)
    return [result] if isinstance(result, Tensor) else list(result)


def run(
    name: str,
    inputs: Sequence[Array | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    version: int = NEWEST,
    domain: str = "",
    outputs: int = 1,
    known: Sequence[int] = (),
) -> list[Array]:
    """The outputs of one node. Inputs whose position is in `known` are known beforehand, the others are fed."""
    op = ops.find(domain, name, version)
    if op is None:
        raise Unsupported(f"no record for {domain}.{name}-{version}")
    return run_op(op, inputs, attributes or {}, outputs, known)


def run_op(
    op: Op, inputs: Sequence[Array | None], attributes: Mapping[str, Any], outputs: int, known: Sequence[int]
) -> list[Array]:
    feeds: dict[Tensor, Array] = {}
    tensors = [feed(f"x{i}", x, feeds, i in known) for i, x in enumerate(inputs)]
    with origin(op.name):
        made = apply(op, tensors, attributes, outputs)
    return evaluate([t for t in made[:outputs] if t is not None], feeds, {})


def run_case(op: Op, case: Case) -> list[Array]:
    """The outputs of a record's case: with all inputs fed, or known beforehand where the operator asks for that."""
    try:
        return run_op(op, case.inputs, case.attributes, case.outputs, ())
    except Unsupported:
        return run_op(op, case.inputs, case.attributes, case.outputs, range(len(case.inputs)))


def feed(name: str, x: Array | None, feeds: dict[Tensor, Array], known: bool) -> Tensor | None:
    if x is None:
        return None
    if known:
        return constant(x, name)
    t = input_tensor(name, from_numpy(x.dtype), x.shape)
    feeds[t] = x
    return t


def run_model(model: onnx.ModelProto, feeds: Mapping[str, Array], known: bool = False) -> list[Array]:
    """The outputs of a model of plain nodes. With `known` its inputs are known beforehand, else they are fed."""
    versions = {i.domain: i.version for i in model.opset_import}
    fed: dict[Tensor, Array] = {}
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
            made = apply(op, [scope[n] for n in node.input], node_attributes(node), len(node.output))
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
    later = [other.since for other in ops.RECORDS[op.domain, op.name] if other.since > op.since]
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
    name: str, inputs: Sequence[Array | None], attributes: Mapping[str, Any], version: int, domain: str, outputs: int
) -> onnx.ModelProto:
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    given = {k: onnx.numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in attributes.items()}
    node = onnx.helper.make_node(name, names, [f"y{i}" for i in range(outputs)], domain=domain, **given)
    infos = [value_info(n, x) for n, x in zip(names, inputs, strict=True) if x is not None]
    results = [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in node.output]
    graph = onnx.helper.make_graph([node], name, infos, results)
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


def value_info(name: str, x: Array) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, from_numpy(x.dtype).code, x.shape)


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
    """Same count, dtypes and shapes; integers and bools equal, floats within the tolerance and the precision of their dtype."""
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        e = array(e)
        assert g.dtype == e.dtype
        assert g.shape == e.shape
        if from_numpy(g.dtype).is_float:
            precision = 2 * float(ml_dtypes.finfo(g.dtype).eps)
            np.testing.assert_allclose(g.astype(np.float64), e.astype(np.float64), max(rtol, precision), atol)
        else:
            np.testing.assert_array_equal(g, e)
