"""Verification of models: run after loading, and after every pass at debug level 3.

`check_structure` needs no types: operators are known and have the inputs, outputs and attributes of their schemas; every value is
defined once and before its uses; graph outputs exist. `check_types` compares known types of values with what the schemas allow.
Both take time linear in the graph, and raise the errors that the loaders of other runtimes raise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import onnx_ir as ir

from sardonyx.base.errors import Fail, InvalidArgument, InvalidGraph
from sardonyx.graph import schemas
from sardonyx.graph.bodies import misfit
from sardonyx.graph.types import type_string

Knows = Callable[[str, str], bool]
"""Function (domain, operator) -> whether a provider has this operator outside the standard."""

_TERM = r"[A-Za-z ]*(\.\.\.[A-Za-z ]*)?"
_EQUATION = re.compile(f"{_TERM}(,{_TERM})*(->{_TERM})?")
MOST_AXES = 64  # numpy's limit of a tensor's rank
_COUNTS = frozenset({"batch_dims", "perm"})
_AXES = _COUNTS | {"axis", "axes", "batch_axis", "time_axis", "scan_input_axes", "scan_output_axes"}


def knows_nothing(domain: str, name: str) -> bool:
    """Return False: the answer of providers that have no operators outside the standard."""
    return False


def verify(model: ir.Model, knows: Knows = knows_nothing) -> None:
    """Check structure and types. knows: see `Knows`. Raises InvalidGraph, InvalidArgument or Fail."""
    check_structure(model, knows)
    check_types(model)


# ---- structure ----------------------------------------------------------------------------------------------------------


def check_structure(model: ir.Model, knows: Knows = knows_nothing) -> None:
    """Check the model's structure. Raises InvalidGraph, InvalidArgument or Fail, with the name of the node or value."""
    for value in model.graph.inputs:
        found = type_string(value)
        if found is None:
            raise Fail(f"This is an invalid model. Model input ({value.name}) does not have type information.")
        if "undefined" in found or "float6" in found:
            raise Fail(f"Model input ({value.name}) is of type {found}, which is not supported.")
    _check_graph(model.graph, model.opset_imports, frozenset(), knows)


def _check_graph(graph: ir.Graph, imports: Mapping[str, int], outer: frozenset[ir.Value], knows: Knows) -> None:
    """Check a graph and its bodies. outer: the values of the graphs around it"""
    names: set[str] = set()
    for argument in graph.inputs:
        if argument.name in names:
            raise Fail(f"Error: Duplicate definition-site for ({argument.name}).")
        names.add(str(argument.name))
    local = set(graph.inputs) | set(graph.initializers.values())
    names.update(graph.initializers)
    for node in graph:
        _check_operator(node, imports, knows)
        for value in node.inputs:
            if value is not None and value not in local and value not in outer:
                raise _undefined(value, graph)
        for inner in subgraphs(node):
            _check_graph(inner, imports, outer | local, knows)
        for value in node.outputs:
            if not value.name:
                continue
            if value.name in names:
                raise Fail(f"This is an invalid model. Error: Duplicate definition of name ({value.name}).")
            names.add(value.name)
            local.add(value)
    around = {value.name for value in outer}
    for value in graph.outputs:
        if value not in local and value.name in around:
            raise Fail(
                f"This is an invalid model. Subgraph output ({value.name}) is an outer scope value being returned directly. "
                "Please update the model to add an Identity node between the outer scope value and the subgraph output."
            )
        if value not in local:
            raise Fail(f"This is an invalid model. Graph output ({value.name}) does not exist in the graph.")


def _undefined(value: ir.Value, graph: ir.Graph) -> Exception:
    """Return the error for a value that is read before or without a definition."""
    producer = value.producer()
    if producer is not None and producer.graph is graph:
        return Fail("This is an invalid model. Error: the graph is not acyclic.")
    return InvalidArgument(
        f"Invalid model. Node input '{value.name}' is not a graph input, initializer, or output of a previous node."
    )


def subgraphs(node: ir.Node) -> Iterable[ir.Graph]:
    """Yield the graphs in the node's attributes."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _check_operator(node: ir.Node, imports: Mapping[str, int], knows: Knows) -> None:
    """Check that the node's operator exists in the imported version, and that the node fits its schema."""
    version = schemas.version_of(node, imports)
    if version is None:
        raise _invalid(node, f"No opset import for domain '{node.domain}'")
    schema = schemas.find(node.domain, node.op_type, version)
    if schema is None:
        if knows(node.domain, node.op_type):
            return
        if node.domain in schemas.STANDARD:
            raise _invalid(node, f"No Op registered for {node.op_type} with domain_version of {version}")
        raise Fail(f"Fatal error: {node.domain}:{node.op_type}(-1) is not a registered function/op")
    if schema.deprecated:
        raise _invalid(node, f"Op registered for {node.op_type} is deprecated in domain_version of {version}")
    _check_arity(node, schema)
    _check_attributes(node, schema)
    _check_axes(node)
    _check_equation(node)
    reason = misfit(node, version)
    if reason is not None:
        raise _invalid(node, reason)
    parts = node.attributes.get_int("num_outputs", 0) if node.op_type == "Split" else 0
    if parts and parts != len(node.outputs):
        raise _invalid(node, f"Attribute 'num_outputs' is {parts}, but there are {len(node.outputs)} outputs.")


def _check_arity(node: ir.Node, schema: schemas.Schema) -> None:
    """Check the numbers of inputs and outputs."""
    title = f"Node with schema({schema.domain}::{schema.name}:{schema.since})"
    inputs, outputs = len(node.inputs), len(node.outputs)
    if not schema.min_input <= inputs <= schema.max_input:
        raise _invalid(node, f"{title} has input size {inputs} not in range [min={schema.min_input}, max={schema.max_input}].")
    if not schema.min_output <= outputs <= schema.max_output:
        raise _invalid(node, f"{title} has output size {outputs} not in range [min={schema.min_output}, max={schema.max_output}].")
    for index, value in enumerate(node.inputs[: schema.min_input]):
        parameter = schema.input(index)
        if value is None and not (parameter.variadic or parameter.optional):
            raise _invalid(node, f"{title} has no input {parameter.name}.")
    if None in node.inputs and schema.domain in schemas.STANDARD and schema.input(inputs - 1).variadic:
        for index, value in enumerate(node.inputs):
            if value is None and schema.input(index).variadic:
                raise Fail(
                    f"Node ({node.name}) Op ({node.op_type}) [TypeInferenceError] Input {index} expected to have type but instead is null"
                )


def _check_axes(node: ir.Node) -> None:
    """Check that attributes which name axes are in the range of possible axes; otherwise onnx's inference reads foreign memory."""
    for name, attribute in node.attributes.items():
        if name in _AXES:
            axes = [attribute.value] if attribute.type == ir.AttributeType.INT else attribute.value
            least = 0 if name in _COUNTS else -MOST_AXES
            if any(not least <= axis < MOST_AXES for axis in axes):
                raise _invalid(node, f"Attribute '{name}' is {attribute.value}, which is not an axis.")


def _check_equation(node: ir.Node) -> None:
    """Check the syntax of an Einsum equation; onnx's inference does not terminate on others.

    An equation consists of terms of letters with at most one ellipsis, separated by commas, and at most one arrow.
    """
    equation = node.attributes.get_string("equation")
    if equation is not None and not _EQUATION.fullmatch(equation):
        raise _invalid(node, f"Attribute 'equation' is {equation!r}, which is not an equation.")


def _check_attributes(node: ir.Node, schema: schemas.Schema) -> None:
    """Check names and types of the node's attributes."""
    for name, attribute in node.attributes.items():
        expected = schema.attributes.get(name)
        if expected is None:
            raise _invalid(node, f"Unrecognized attribute: {name} for operator {node.op_type}")
        if attribute.type != expected:
            raise _invalid(
                node,
                f"Mismatched attribute type in '{node.name} : {name}'. "
                f"Expected: '{expected.name}', actual: '{attribute.type.name}'",
            )
        if attribute.type == ir.AttributeType.STRING and isinstance(attribute.value, bytes):
            raise _invalid(node, f"Attribute '{name}' is not UTF-8.")
        if attribute.is_ref():
            raise _invalid(node, f"Attribute '{name}' refers to '{attribute.ref_attr_name}' outside a function.")
    for name in schema.required:
        if name not in node.attributes:
            raise _invalid(node, f"Required attribute '{name}' is missing.")


def _invalid(node: ir.Node, reason: str) -> InvalidGraph:
    """Return the error for a node that does not fit its schema."""
    inputs = "".join(f"{_described(value)}," for value in node.inputs)
    outputs = "".join(f"{_described(value)}," for value in node.outputs)
    return InvalidGraph(
        f'This is an invalid model. In Node, ("{node.name}", {node.op_type}, "{node.domain}", -1) : ({inputs}) -> ({outputs}) , '
        f"Error {reason}"
    )


def _described(value: ir.Value | None) -> str:
    """Return how errors show a value: name and type."""
    if value is None:
        return '""'
    found = type_string(value)
    return f'"{value.name}": {found}' if found else f'"{value.name}"'


# ---- types --------------------------------------------------------------------------------------------------------------


def check_types(model: ir.Model) -> None:
    """Check known types of values against the schemas of the nodes that read and write them. Raises InvalidGraph or Fail."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        schema = schemas.schema_of(node, model.opset_imports)
        if schema is not None:
            _check_node_types(node, schema)


def _check_node_types(node: ir.Node, schema: schemas.Schema) -> None:
    bound: dict[str, str] = {}
    for index, value in enumerate(node.inputs):
        found = type_string(value) if value is not None else None
        if found is None:
            continue
        parameter = schema.input(index)
        if found not in parameter.types:
            raise InvalidGraph(
                f"This is an invalid model. Type Error: Type '{found}' of input parameter ({value.name}) "  # type: ignore[union-attr]
                f"of operator ({node.op_type}) in node ({node.name}) is invalid."
            )
        if parameter.agrees and bound.setdefault(parameter.letter, found) != found:
            raise Fail(
                f"Type Error: Type parameter ({parameter.letter}) of Optype ({node.op_type}) bound to different types "
                f"({bound[parameter.letter]} and {found} in node ({node.name})."
            )
    for index, value in enumerate(node.outputs):
        found = type_string(value)
        parameter = schema.output(index)
        if found is None or not value.name:
            continue
        expected = bound.get(parameter.letter, found) if parameter.agrees else found
        if found != expected or found not in parameter.types:
            raise Fail(
                f"Type Error: Type ({found}) of output arg ({value.name}) of node ({node.name}) "
                f"does not match expected type ({expected})."
            )
