"""Custom operators that are functions of arrays, as the host runs them. `ops.custom` registers them here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct

from sardonyx.base.errors import Fail
from sardonyx.host.table import Array, Function, Prepare

OUTPUTS = "@outputs"
"""Keyword by which `Prepare` gets what is known of the node's outputs; no attribute can have this name."""
Shapes: TypeAlias = "tuple[tuple[str, tuple[int, ...]] | None, ...]"
"""Name of the dtype and shape of each array; None for an absent one."""


class Declared(Struct, frozen=True):
    """What the model says of an output before the run: its numpy dtype and its sizes, None where they are unknown."""

    name: str
    dtype: str | None
    sizes: tuple[int | None, ...] | None


class HostOperator(Struct, frozen=True):
    """A custom operator as the host runs it.

    typed: converts attributes to what the function takes. outputs: how many values the function returns; None: as many as the
    node has outputs. shapes: returns dtype and shape of the outputs for those of the inputs, as far as the operator tells them.
    """

    title: str
    function: Function
    typed: Callable[[Mapping[str, Any]], dict[str, Any]]
    outputs: int | None = None
    shapes: Callable[[Shapes, Mapping[str, Any], int], Shapes | None] | None = None


_operators: dict[tuple[str, str], tuple[tuple[int, HostOperator], ...]] = {}


def put(domain: str, name: str, versions: tuple[tuple[int, HostOperator], ...]) -> None:
    """Store the versions of an operator, (since, operator); none: remove it. The caller holds the lock of the registry."""
    if versions:
        _operators[domain, name] = versions
    else:
        _operators.pop((domain, name), None)


def find(domain: str, name: str, version: int) -> HostOperator | None:
    """Return the operator that applies to this version of its domain, None if there is none."""
    found = [entry for entry in _operators.get((domain, name), ()) if entry[0] <= version]
    return max(found, key=lambda entry: entry[0])[1] if found else None


def preparation(operator: HostOperator) -> Prepare:
    """Return what makes the function of a node from its attributes and the entry OUTPUTS."""

    def prepare(**given: Any) -> Function:
        declared = given.pop(OUTPUTS)
        attributes = operator.typed(given)
        expected: dict[Shapes, Shapes | None] = {}

        def run(*inputs: Any) -> tuple[Any, ...]:
            results = called(operator, inputs, attributes)
            arrays = checked(operator, results, declared)
            if operator.shapes is not None:
                key = shapes_of(inputs)
                if key not in expected:
                    if len(expected) >= MOST_REMEMBERED:
                        expected.clear()
                    expected[key] = operator.shapes(key, attributes, len(declared))
                compare(operator, arrays, expected[key], declared)
            return arrays

        return run

    return prepare


MOST_REMEMBERED = 64
"""Forms of inputs for which a node remembers the shapes of its outputs."""


def called(operator: HostOperator, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """Call the function on arrays that it can't write to. Raises Fail from whatever it raises."""
    try:
        return operator.function(*map(read_only, inputs), **attributes)
    except Exception as error:
        raise Fail(f"the custom operator {operator.title} raised {type(error).__name__}: {error}") from error


def read_only(value: Any) -> Any:
    """Return a view that can't be written to: the array may be the caller's, or a weight of the model."""
    if value is None:
        return None
    view = np.asarray(value).view()
    view.flags.writeable = False
    return view


def checked(operator: HostOperator, results: Any, declared: Sequence[Declared]) -> tuple[Array | None, ...]:
    """Return the results as arrays, one for each output of the node. Raises Fail for another number, type or shape."""
    found = tuple(results) if isinstance(results, tuple | list) else (results,)
    wanted = len(declared) if operator.outputs is None else operator.outputs
    if len(found) != wanted:
        raise Fail(f"the custom operator {operator.title} returned {len(found)} values, not {wanted}")
    return tuple(output(operator, value, said) for value, said in zip(found, declared, strict=False))


def output(operator: HostOperator, value: Any, said: Declared) -> Array | None:
    """Return a result as a C-contiguous array. Raises Fail if it is none, or not as the model says."""
    if value is None and not said.name:
        return None
    if not isinstance(value, np.ndarray | np.generic):
        raise Fail(f"the custom operator {operator.title} returned a {type(value).__name__} for '{said.name}', not a numpy array")
    array = np.asarray(value, order="C")
    if array.dtype.kind in "US":
        array = array.astype(object)
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if said.dtype is not None and array.dtype.name != said.dtype:
        raise Fail(f"the custom operator {operator.title} returned {form(array)} for '{said.name}', not {said.dtype}")
    sizes = said.sizes
    if sizes is not None and (
        len(sizes) != array.ndim or any(size not in (None, n) for size, n in zip(sizes, array.shape, strict=True))
    ):
        shape = ", ".join("?" if size is None else str(size) for size in sizes)
        raise Fail(f"the custom operator {operator.title} returned {form(array)} for '{said.name}', not the shape [{shape}]")
    return array


def compare(operator: HostOperator, arrays: Sequence[Array | None], expected: Shapes | None, declared: Sequence[Declared]) -> None:
    """Raise Fail if results don't have the dtypes and shapes that the operator's shape function gives."""
    for array, form_of, said in zip(arrays, expected or (), declared, strict=False):
        if array is not None and form_of is not None and (array.dtype.name, array.shape) != form_of:
            wanted = f"{form_of[0]}{list(form_of[1])}"
            raise Fail(
                f"the custom operator {operator.title} returned {form(array)} for '{said.name}', but its shape function says {wanted}"
            )


def shapes_of(values: Sequence[Any]) -> Shapes:
    return tuple(None if value is None else (np.asarray(value).dtype.name, np.shape(value)) for value in values)


def form(array: Array) -> str:
    return f"{array.dtype}{list(array.shape)}"
