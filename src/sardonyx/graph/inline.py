"""Calls of a model's own functions are replaced by the functions' nodes when the model is loaded."""

from __future__ import annotations

import graphlib

import onnx_ir as ir
import onnx_ir.passes.common

from sardonyx.base.errors import Fail
from sardonyx.graph import schemas

MOST_NODES = 2_000_000


def inline_functions(model: ir.Model) -> None:
    """Leaves a model without functions.

    Raises Fail for functions that call themselves, that would grow the graph beyond MOST_NODES, or whose operators differ from
    the model's because the two import different versions.
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
    """Raises Fail if functions call themselves, or if inlining would make more than MOST_NODES nodes."""
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
    """The model's functions that these nodes call, once for each call."""
    return [node.op_identifier() for node in nodes if node.op_identifier() in model.functions]  # type: ignore[attr-defined]


def unify_imports(model: ir.Model, function: ir.Function) -> None:
    """Makes a function import what the model does, where that means the same operators."""
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
    schema = schemas.find(node.domain, node.op_type, version)
    return schema.since if schema else None
