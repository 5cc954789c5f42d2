"""Inlining of a model's own functions when the model is loaded."""

from __future__ import annotations

import graphlib

import onnx_ir as ir
import onnx_ir.passes.common

from sardonyx.base.errors import Fail
from sardonyx.graph import schemas

MOST_NODES = 2_000_000


def inline_functions(model: ir.Model) -> None:
    """Replace all calls of the model's functions by the functions' nodes.

    Raises Fail for recursive functions, for functions that would grow the graph beyond MOST_NODES, and for functions that import
    other versions of operators than the model.
    """
    if not model.functions:
        return
    check_size(model)
    for function in model.functions.values():
        unify_imports(model, function)
        try:
            function.sort()
        except ValueError as error:
            raise Fail(f"This is an invalid model. Error: the function {function.name} is not acyclic.") from error
    try:
        ir.passes.common.InlinePass()(model)
    except (ValueError, ir.passes.PassError, ir.passes.InvariantError) as error:
        raise Fail(f"This is an invalid model. {error}") from error
    model.functions.clear()


def check_size(model: ir.Model) -> None:
    """Check that functions are not recursive and that inlining makes at most MOST_NODES nodes. Raises Fail."""
    calls = {key: called(model, function.all_nodes()) for key, function in model.functions.items()}
    sizes: dict[ir.OperatorIdentifier, int] = {}
    try:
        order = tuple(graphlib.TopologicalSorter({key: set(inner) for key, inner in calls.items()}).static_order())
    except graphlib.CycleError as error:
        names = " -> ".join(f"{domain}:{name}" for domain, name, _ in error.args[1])
        raise Fail(f"This is an invalid model. Function calls itself: {names}") from error
    for key in order:
        plain = sum(1 for _ in model.functions[key].all_nodes())
        sizes[key] = plain + sum(sizes[inner] for inner in calls[key])
    total = sum(sizes[key] for key in called(model, ir.traversal.RecursiveGraphIterator(model.graph)))
    if total > MOST_NODES:
        raise Fail(f"This is an invalid model. Its functions would make a graph of {total} nodes.")


def called(model: ir.Model, nodes: object) -> list[ir.OperatorIdentifier]:
    """Return the functions that these nodes call, once for each call."""
    return [node.op_identifier() for node in nodes if node.op_identifier() in model.functions]  # type: ignore[attr-defined]


def unify_imports(model: ir.Model, function: ir.Function) -> None:
    """Make a function import the model's opset versions. Raises Fail if its operators have another meaning in those."""
    for domain, version in list(function.opset_imports.items()):
        wanted = model.opset_imports.setdefault(domain, version)
        if wanted == version:
            continue
        for node in function.all_nodes():
            if node.domain == domain and _since(node, version) != _since(node, wanted):
                raise Fail(
                    f"This is an invalid model. Function {function.name} uses {node.op_type} of opset {version}, "
                    f"which is another operator than that of opset {wanted}, which the model imports."
                )
        function.opset_imports[domain] = wanted


def _since(node: ir.Node, version: int) -> int | None:
    """Return the version in which the operator got its present form, None for an unknown operator."""
    schema = schemas.find(node.domain, node.op_type, version)
    return schema.since if schema else None
