"""Schemas of operators as plain records, looked up once: those of the standard, and those made from operator records."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import onnx
import onnx_ir as ir
from msgspec import Struct

from sardonyx import ops
from sardonyx.graph import record_schemas
from sardonyx.ops import registered
from sardonyx.ops.record import Op

ML = "ai.onnx.ml"
MICROSOFT = "com.microsoft"
# Domains that a model may use without importing them, with the version that applies then.
IMPLIED = {ML: onnx.defs.onnx_ml_opset_version(), MICROSOFT: 1}
LARGEST_VERSION = (1 << 31) - 1  # onnx stores opset versions in 32 bits
STANDARD = ("", ML, "ai.onnx.preview", "ai.onnx.preview.training")


class Parameter(Struct, frozen=True):
    """An input or output of an operator. types: names of the types it may have; letter: shared by parameters whose types must agree"""

    name: str
    letter: str
    types: frozenset[str]
    optional: bool
    variadic: bool
    agrees: bool


class Schema(Struct, frozen=True):
    """One version of an operator."""

    name: str
    domain: str
    since: int
    deprecated: bool
    deterministic: bool
    inputs: tuple[Parameter, ...]
    outputs: tuple[Parameter, ...]
    min_input: int
    max_input: int
    min_output: int
    max_output: int
    attributes: Mapping[str, ir.AttributeType]
    required: tuple[str, ...]
    raw: Any  # onnx's own object; its stubs are incomplete

    def input(self, index: int) -> Parameter:
        """Return the parameter of the input at `index`; the last parameter of a variadic operator takes all further inputs."""
        return self.inputs[min(index, len(self.inputs) - 1)]

    def output(self, index: int) -> Parameter:
        """Return the parameter of the output at `index`."""
        return self.outputs[min(index, len(self.outputs) - 1)]


def find(domain: str, name: str, version: int) -> Schema | None:
    """Return the schema of operator `name` if `domain` is imported at `version`, None if there is none."""
    if not registered.find(domain, name):
        return find_own(domain, name, version)
    record = record_schemas.find(domain, name, version)
    return None if record is None else schema_from(domain, name, version, record)


@functools.cache
def find_own(domain: str, name: str, version: int) -> Schema | None:
    """Return the schema of an operator that is no custom one."""
    if not 0 < version <= LARGEST_VERSION:
        return None
    own = [op for op in ops.records(domain, name) if op.since <= version and not op.in_standard]
    record = max(own, key=lambda op: op.since, default=None)
    if record is None and not (domain in STANDARD and onnx.defs.has(name, version, domain)):
        return None
    return schema_from(domain, name, version, record)


@functools.cache
def schema_from(domain: str, name: str, version: int, record: Op | None) -> Schema:
    """Return the schema that is made from this record, or onnx's if there is none."""
    raw: Any = record_schemas.raw_schema(record) if record is not None else onnx.defs.get_schema(name, version, domain)
    return Schema(
        name=name,
        domain=domain,
        since=raw.since_version,
        deprecated=raw.deprecated,
        deterministic=not raw.non_deterministic and (record is None or record_schemas.signature_of(record).deterministic),
        inputs=tuple(map(_parameter, raw.inputs)),
        outputs=tuple(map(_parameter, raw.outputs)),
        min_input=raw.min_input if record is None else least_inputs(record, raw),
        max_input=raw.max_input,
        min_output=raw.min_output,
        max_output=raw.max_output,
        attributes={a.name: ir.AttributeType(a.type.value) for a in raw.attributes.values()},
        required=tuple(a.name for a in raw.attributes.values() if a.required),
        raw=raw,
    )


def least_inputs(record: Op, raw: Any) -> int:
    """Return how many inputs a node must have; onnx counts optional ones before one that may be repeated, custom operators don't."""
    if record.signature is None:
        return int(raw.min_input)
    needed = [name not in record.signature.optional and name != record.signature.repeated for name in record.signature.inputs]
    return max((index + 1 for index, is_needed in enumerate(needed) if is_needed), default=0)


def _parameter(raw: Any) -> Parameter:
    variadic = raw.option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    optional = raw.option == onnx.defs.OpSchema.FormalParameterOption.Optional
    return Parameter(raw.name, raw.type_str, frozenset(raw.types), optional, variadic, raw.is_homogeneous)


def version_of(node: ir.Node, imports: Mapping[str, int]) -> int | None:
    """Return the version of the node's domain, None if the domain is neither imported nor implied."""
    return imports.get(node.domain, IMPLIED.get(node.domain))


def schema_of(node: ir.Node, imports: Mapping[str, int]) -> Schema | None:
    """Return the node's schema, None for an operator that neither the standard nor a record has."""
    version = version_of(node, imports)
    return find(node.domain, node.op_type, version) if version is not None else None
