"""Every record takes what the standard's schemas, of all versions that it stands for, let a node say."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.defs import OpSchema

from sardonyx import ops
from sardonyx.ops.record import Case, Op
from tests.ops import harness

SCHEMAS: dict[tuple[str, str], list[OpSchema]] = {}
for schema in onnx.defs.get_all_schemas_with_history():
    SCHEMAS.setdefault((schema.domain, schema.name), []).append(schema)

REFUSED = {
    ("Constant", "sparse_value"): "sparse tensors are made dense, or refused, when a model is loaded",
    ("Constant", "value_string"): "strings run on the host",
    ("Constant", "value_strings"): "strings run on the host",
}
"""{(operator, attribute): why a record does not take it}; each must be an attribute that is not taken."""


def covered(op: Op) -> list[OpSchema]:
    """The schemas of the versions, from opset 7 on, in which this record is the operator's."""
    later = [o.since for o in ops.records(op.domain, op.name) if o.since > op.since]
    first = max(op.since, 7 if op.domain == "" else 1)
    end = min(later, default=1 << 30)
    schemas = sorted(SCHEMAS.get((op.domain, op.name), []), key=lambda s: s.since_version)
    ends = [s.since_version for s in schemas[1:]] + [1 << 30]
    return [s for s, e in zip(schemas, ends, strict=True) if s.since_version < end and e > first]


def compiled() -> Iterator[Op]:
    yield from (op for op in ops.every() if op.meaning is not None and (op.domain, op.name) in SCHEMAS)


@pytest.mark.parametrize("op", list(compiled()), ids=lambda op: f"{op.domain}.{op.name}-{op.since}")
def test_takes_all_attributes_and_inputs(op: Op) -> None:
    assert op.meaning is not None
    parameters = inspect.signature(op.meaning).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    attributes = {a for schema in covered(op) for a in schema.attributes}
    missing = [a for a in attributes if a not in parameters and not anything and (op.name, a) not in REFUSED]
    assert not missing
    inputs = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in {*attributes, "outputs"}]
    assert variadic or len(inputs) == max((schema.max_input for schema in covered(op)), default=len(inputs))


@pytest.mark.parametrize("op", list(compiled()), ids=lambda op: f"{op.domain}.{op.name}-{op.since}")
def test_defaults_are_the_standards(op: Op) -> None:
    assert op.meaning is not None
    parameters = inspect.signature(op.meaning).parameters
    for schema in covered(op):
        for name, attribute in schema.attributes.items():
            if name not in parameters or not attribute.default_value.ByteSize():
                continue
            default = onnx.helper.get_attribute_value(attribute.default_value)
            expected = default.decode() if isinstance(default, bytes) else default
            given = parameters[name].default
            if isinstance(expected, list):
                assert given is None or list(given) == expected, f"{name} in version {schema.since_version}"
            else:
                assert given == (pytest.approx(expected, rel=1e-6) if isinstance(expected, float) else expected), (
                    f"{name} in version {schema.since_version}"
                )


def float_attributes() -> Iterator[Any]:
    """(record, case, attribute, its default as a file has it) of operators that compute in f64 with a float that f32 rounds."""
    for op in compiled():
        for schema in covered(op):
            for name, attribute in schema.attributes.items():
                default = attribute.default_value
                case = next((c for c in op.cases if name not in c.attributes), None)
                if attribute.type.value != onnx.AttributeProto.FLOAT or not default.ByteSize() or case is None:
                    continue
                if any("tensor(double)" in t.allowed_type_strs for t in schema.type_constraints) and default.f * 1024 % 1:
                    yield pytest.param(op, case, name, default.f, id=f"{op.name}-{op.since}-{name}")


@pytest.mark.parametrize(("op", "case", "name", "default"), {p.id: p for p in float_attributes()}.values())
def test_a_float_that_is_left_out_is_the_one_a_file_would_say(op: Op, case: Case, name: str, default: float) -> None:
    """In f64 it shows that attributes are f32: 0.01 is not what files can say."""
    wide = [x if x is None or x.dtype != np.float32 else x.astype(np.float64) for x in case.inputs]
    without, given = (Case(tuple(wide), {**case.attributes, **said}, outputs=case.outputs) for said in ({}, {name: default}))
    for one, other in zip(harness.run_case(op, without), harness.run_case(op, given), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("name", "attribute"), REFUSED)
def test_refused_attributes_are_not_taken(name: str, attribute: str) -> None:
    assert all(attribute not in inspect.signature(op.meaning).parameters for op in ops.records("", name) if op.meaning)
