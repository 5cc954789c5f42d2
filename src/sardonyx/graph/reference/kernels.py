"""Selection of what computes a node: a control-flow kernel, a correction from the operator's record, onnx.reference's class, the
function that defines the operator, or the record's tensors evaluated by numpy.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.reference.op_run
import onnx.reference.ops
import onnx.reference.ops.aionnx_preview
import onnx.reference.ops.aionnx_preview_training
import onnx.reference.ops.aionnxml
import onnx_ir as ir

from sardonyx import host, ops
from sardonyx.base.context import RunContext
from sardonyx.base.errors import Unsupported
from sardonyx.expr.evaluate import evaluate
from sardonyx.expr.tensor import constant
from sardonyx.graph import record_schemas, schemas
from sardonyx.graph.attributes import attributes_of
from sardonyx.graph.host_operators import host_attributes, is_host_node
from sardonyx.graph.reference import control
from sardonyx.graph.reference.control import Body, Kernel
from sardonyx.graph.reference.function import FunctionBody, Types, typed_function
from sardonyx.ops.record import Op, parameters
from sardonyx.runtime.draws import Draws, mixed

_CONTROL: dict[str, Callable[[ir.Node, Mapping[str, Body]], Kernel]] = {
    "If": control.if_kernel,
    "Loop": control.loop_kernel,
    "Scan": control.scan_kernel,
    "SequenceMap": control.sequence_map_kernel,
}
_LOADERS: dict[str, Callable[..., Any]] = {
    "": onnx.reference.ops.load_op,
    schemas.ML: onnx.reference.ops.aionnxml.load_op,
    "ai.onnx.preview": onnx.reference.ops.aionnx_preview.load_op,
    "ai.onnx.preview.training": onnx.reference.ops.aionnx_preview_training.load_op,
}


Prepare = Callable[[ir.Graph, Mapping[str, int]], Body]
"""Function that prepares a graph to be run."""


def kernel_for(node: ir.Node, imports: Mapping[str, int], bodies: Mapping[str, Body], prepare: Prepare) -> Kernel:
    """Return the node's kernel. Raises Unsupported if there is none.

    bodies: the graphs in its attributes, ready to run. prepare: makes the graph of a standard function ready to run.
    """
    version = schemas.version_of(node, imports)
    schema = schemas.find(node.domain, node.op_type, version) if version is not None else None
    if schema is None:
        raise unsupported(node, version)
    if node.domain == "" and node.op_type in _CONTROL:
        old_scan = node.op_type == "Scan" and schema.since < 9
        return (control.scan_8_kernel if old_scan else _CONTROL[node.op_type])(node, bodies)
    if (prepare_host := on_host(node, schema, imports)) is not None:
        return from_host(prepare_host, node, schema)
    if (function := correction(schema)) is not None:
        return corrected(function, node, schema)
    if bodies:
        return from_body(node, schema, imports, prepare)
    if reference := reference_class(node.domain, node.op_type, schema.since):
        return from_reference(reference, node, schema, imports)
    if schema.raw.has_function or schema.raw.has_context_dependent_function:
        return from_body(node, schema, imports, prepare)
    if (op := evaluated(node, schema)) is not None:
        return from_record(op, node, schema)
    raise unsupported(node, version)


def unsupported(node: ir.Node, version: int | None) -> Unsupported:
    """Return the error for a node without a kernel."""
    return Unsupported(f"Could not find an implementation for {node.op_type}({version}) node with name '{node.name}'")


def is_supported(node: ir.Node, imports: Mapping[str, int]) -> bool:
    """Return whether there is a kernel for the node itself; its bodies are not considered."""
    schema = schemas.schema_of(node, imports)
    if schema is None:
        return False
    return bool(
        (node.domain == "" and node.op_type in _CONTROL)
        or on_host(node, schema, imports) is not None
        or correction(schema) is not None
        or reference_class(node.domain, node.op_type, schema.since)
        or schema.raw.has_function
        or schema.raw.has_context_dependent_function
        or evaluated(node, schema) is not None
    )


# ---- on the host -----------------------------------------------------------------------------------------------------------


def on_host(node: ir.Node, schema: schemas.Schema, imports: Mapping[str, int]) -> host.Prepare | None:
    """Return the host's function for a node that runs on the host, or for an operator whose record has no other form, else None."""
    op = ops.find(schema.domain, schema.name, schema.since)
    if is_host_node(node, imports) or (op is not None and op.host):
        return host.find(schema.domain, schema.name, schema.since)
    return None


def from_host(prepare: host.Prepare, node: ir.Node, schema: schemas.Schema) -> Kernel:
    """Return a kernel that calls the host's function, which returns an output or a tuple of outputs."""
    function = prepare(**host_attributes(node, schema))

    def run(inputs: list[Any], context: RunContext) -> Sequence[Any]:
        results = function(*inputs)
        return results if isinstance(results, tuple) else (results,)

    return run


# ---- corrections -----------------------------------------------------------------------------------------------------------


def correction(schema: schemas.Schema) -> Callable[..., Any] | None:
    """Return the record's numpy function of an operator that onnx.reference lacks or computes wrongly, else None."""
    op = ops.find(schema.domain, schema.name, schema.since)
    return op.reference if op is not None else None


def corrected(function: Callable[..., Any], node: ir.Node, schema: schemas.Schema) -> Kernel:
    """Return a kernel that calls `function(*inputs, **attributes)` with defaults filled in. It returns an output or a tuple of
    outputs.
    """
    attributes = attributes_of(node, schema)
    if "outputs" in parameters(function):
        attributes["outputs"] = len(node.outputs)
    seeds = seeds_of(node, schema)
    attributes.pop("seed", None)

    def run(inputs: list[Any], context: RunContext) -> Sequence[Any]:
        results = function(*inputs, **attributes, **({} if seeds is None else {"seed": seeds()}))
        return results if isinstance(results, tuple) else (results,)

    return run


# ---- onnx.reference -----------------------------------------------------------------------------------------------------------


@functools.cache
def reference_class(domain: str, name: str, since: int) -> type[onnx.reference.op_run.OpRun] | None:
    """Return onnx.reference's class for this version of an operator, None if it has none."""
    if domain not in _LOADERS:
        return None
    try:
        found = _LOADERS[domain](domain, name, since)
    except (NotImplementedError, RuntimeError, AssertionError):
        return None
    return found if isinstance(found, type) else None


@functools.cache
def parameters_of(reference: type[onnx.reference.op_run.OpRun]) -> frozenset[str]:
    """Return the names of the parameters of the class's implementation."""
    return frozenset(inspect.signature(reference._run).parameters)


def from_reference(
    reference: type[onnx.reference.op_run.OpRun], node: ir.Node, schema: schemas.Schema, imports: Mapping[str, int]
) -> Kernel:
    """Return a kernel that calls an instance of onnx.reference's class. Defaults of this version are passed, because the class
    knows those of the newest version only.
    """
    proto = ir.serde.serialize_node(node)
    kept = [attribute for attribute in proto.attribute if attribute.name != "consumed_inputs"]
    given = {attribute.name for attribute in kept}
    taken = parameters_of(reference)
    for name, attribute in schema.raw.attributes.items():
        if name not in given and name in taken and attribute.default_value.type:
            kept.append(attribute.default_value)
    del proto.attribute[:]
    proto.attribute.extend(kept)
    parameters = {
        "opsets": {**schemas.IMPLIED, **imports},
        "new_ops": None,
        "log": lambda *_: None,
        "verbose": 0,
        "evaluator_cls": None,
    }
    instance, seeds, lock = reference(proto, parameters), seeds_of(node, schema), threading.Lock()

    def run(inputs: list[Any], context: RunContext) -> Sequence[Any]:
        with np.errstate(all="ignore"), contextlib.nullcontext() if seeds is None else lock:
            if seeds is not None:
                instance.seed = seeds()  # type: ignore[attr-defined]
            results: Sequence[Any] = instance.run(*inputs)  # type: ignore[no-untyped-call]
        return results

    return run


# ---- random numbers -----------------------------------------------------------------------------------------------------------


def seeds_of(node: ir.Node, schema: schemas.Schema) -> Callable[[], int] | None:
    """Return a function that gives a seed for each run of a node that draws random numbers (see runtime.draws), None for other
    nodes.

    The first run of a node with a seed gets that seed, as in onnx.reference, if numpy accepts it.
    """
    if "seed" not in schema.raw.attributes:
        return None
    given, draws = node.attributes.get("seed"), Draws()
    own = 0 if given is None else int(np.float32(given.value).view(np.uint32))
    runs = itertools.count()

    def seed() -> int:
        """Return a seed of 24 bits: those that a float32, the attribute's type, represents exactly."""
        by_run, by_session = map(int, draws.next())
        if next(runs) == 0 and given is not None and 0 <= given.value < 1 << 32:
            return int(given.value)
        return mixed(by_session if given is None else by_run, own) % (1 << 24)

    return seed


# ---- records ------------------------------------------------------------------------------------------------------------------


def evaluated(node: ir.Node, schema: schemas.Schema) -> Op | None:
    """Return the record of an operator outside the standard whose tensors give its outputs, else None."""
    op = record_schemas.find(node.domain, node.op_type, schema.since)
    return op if op is not None and op.meaning is not None else None


def from_record(op: Op, node: ir.Node, schema: schemas.Schema) -> Kernel:
    """Return a kernel that evaluates the record's tensors in numpy."""
    attributes = attributes_of(node, schema)

    def run(inputs: list[Any], context: RunContext) -> Sequence[Any]:
        tensors = [None if x is None else constant(x, f"input {i}") for i, x in enumerate(inputs)]
        made = op.call(tensors, attributes, len(node.outputs))
        found = evaluate([t for t in made if t is not None], {}, {})
        numbers = iter(found)
        return [None if t is None else next(numbers) for t in made]

    return run


# ---- the operator's own body ---------------------------------------------------------------------------------------------------


def from_body(node: ir.Node, schema: schemas.Schema, imports: Mapping[str, int], prepare: Prepare) -> Kernel:
    """Return a kernel that runs the function by which the standard defines the operator."""
    if schema.raw.has_function:
        prepared = FunctionBody(node, schema, imports, schema.raw.function_body, prepare)
        return lambda inputs, context: prepared.run(inputs, context)

    @functools.lru_cache(maxsize=16)
    def body_of(types: Types) -> FunctionBody:
        return FunctionBody(node, schema, imports, typed_function(node, schema, types), prepare)

    def run(inputs: list[Any], context: RunContext) -> Sequence[Any]:
        types = tuple((x.dtype, x.shape) if isinstance(x, np.ndarray) else None for x in inputs)
        return body_of(types).run(inputs, context)

    return run
