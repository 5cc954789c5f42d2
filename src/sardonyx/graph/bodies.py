"""The bodies of If, Loop and Scan fit their nodes: they have as many inputs and outputs as the node gives and takes.

Loop(trip, condition, state...) -> state..., stacked...       body(iteration, condition, state...) -> condition, state..., stacked...
Scan(state..., scanned...) -> state..., stacked...            body(state..., element...) -> state..., element...
If(condition) -> result...                                    branch() -> result...
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

FIRST_SCAN_WITHOUT_BATCH = 9
"""Since this opset Scan has no sequence lengths; before it, they are the first input."""


def misfit(node: ir.Node, version: int) -> str | None:
    """Return the reason why the node's bodies do not fit it; None if they do, or if the node has none. version: of its opset."""
    check = CHECKS.get(node.op_type) if node.domain == "" else None
    return check(node, version) if check is not None else None


def misfit_of_if(node: ir.Node, version: int) -> str | None:
    for name in ("then_branch", "else_branch"):
        branch = node.attributes[name].as_graph()
        if branch.inputs:
            return f"Attribute '{name}' has {len(branch.inputs)} inputs; a branch has none."
        if len(branch.outputs) != len(node.outputs):
            return f"Attribute '{name}' has {len(branch.outputs)} outputs, but the node has {len(node.outputs)}."
    return None


def misfit_of_loop(node: ir.Node, version: int) -> str | None:
    states = len(node.inputs) - 2
    return misfit_of_body(node, inputs=2 + states, results=1 + states, dropped=1)


def misfit_of_scan(node: ir.Node, version: int) -> str | None:
    given = len(node.inputs) - (version < FIRST_SCAN_WITHOUT_BATCH)
    scanned = node.attributes["num_scan_inputs"].as_int()
    if not 1 <= scanned <= given:
        return f"Attribute 'num_scan_inputs' is {scanned}, but there are {given} inputs that could be scanned."
    states = given - scanned
    reason = misfit_of_body(node, inputs=given, results=states, dropped=0)
    if reason is not None:
        return reason
    stacked = len(node.attributes["body"].as_graph().outputs) - states
    lengths = {
        "directions": scanned,
        "scan_input_directions": scanned,
        "scan_input_axes": scanned,
        "scan_output_directions": stacked,
        "scan_output_axes": stacked,
    }
    for name, count in lengths.items():
        found = node.attributes.get_ints(name)
        if found is not None and len(found) != count:
            return f"Attribute '{name}' has {len(found)} entries for {count} values."
    return None


def misfit_of_body(node: ir.Node, inputs: int, results: int, dropped: int) -> str | None:
    """Compare the body with these numbers. results: outputs that it has at least. dropped: outputs that the node does not return."""
    body = node.attributes["body"].as_graph()
    if len(body.inputs) != inputs:
        return f"Attribute 'body' has {len(body.inputs)} inputs, but the node gives it {inputs}."
    if len(body.outputs) != len(node.outputs) + dropped:
        return f"Attribute 'body' has {len(body.outputs)} outputs, but the node needs {len(node.outputs) + dropped}."
    if len(body.outputs) < results:
        return f"Attribute 'body' has {len(body.outputs)} outputs, but {results} are updates of the node's states."
    return None


CHECKS: dict[str, Callable[[ir.Node, int], str | None]] = {"If": misfit_of_if, "Loop": misfit_of_loop, "Scan": misfit_of_scan}
