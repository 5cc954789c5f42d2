"""Reads off a Python function which parameters are inputs and which are attributes of a custom operator."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Set
from typing import Any

import numpy as np

from sardonyx.ops.record import Signature

ATTRIBUTES = {"int": "INT", "bool": "INT", "float": "FLOAT", "str": "STRING"}
_NAME = re.compile(r"(?P<domain>[A-Za-z0-9_][A-Za-z0-9_.\-]*)::(?P<operator>[A-Za-z_][A-Za-z0-9_]*)")
_LIST = re.compile(r"(?P<kind>list|tuple|sequence)\[(?P<element>int|bool|float|str)(, \.\.\.)?\]", re.IGNORECASE)
_PREFIX = re.compile(r"\b(typing|collections\.abc|numpy|np|npt|numpy\.typing)\.")


def split_name(name: str, reserved: Set[str]) -> tuple[str, str]:
    """Return domain and operator of "my.domain::Name". Raises TypeError for another type, ValueError for another form."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a custom operator must be a str, not {type(name).__name__}")
    domain, _, operator = name.rpartition("::")
    if domain in reserved:
        raise ValueError(f"{name!r}: a custom operator needs a domain of its own, as in 'my.domain::Name'")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a custom operator: it must look like 'my.domain::Name'")
    return domain, operator


def signature_of(name: str, function: Callable[..., Any], outputs: int | None, deterministic: bool) -> Signature:
    """Return inputs and attributes of a function. Raises ValueError for a parameter that can be neither."""
    if outputs is not None and (isinstance(outputs, bool) or not isinstance(outputs, int) or outputs < 1):
        raise ValueError(f"{name}: outputs must be a number from 1 on, not {outputs!r}")
    inputs: dict[str, bool] = {}
    attributes: dict[str, str] = {}
    converted: dict[str, str] = {}
    needed = []
    repeated = None
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError as error:
        raise ValueError(f"{name}: {error}, so its inputs and attributes can't be told; wrap it in a function") from error
    for p in parameters:
        kind = None if p.kind is p.VAR_POSITIONAL else attribute_kind(p)
        if p.kind is p.VAR_KEYWORD:
            raise ValueError(f"{name}: **{p.name} takes any attribute; name each one, as in `*, alpha: float = 1.0`")
        if kind is not None and p.kind is not p.POSITIONAL_ONLY:
            attributes[p.name], converted[p.name] = kind
            needed += [p.name] if p.default is p.empty else []
        elif p.kind is p.KEYWORD_ONLY:
            raise ValueError(
                f"{name}: attribute {p.name} needs an annotation: int, float, str, bool, np.ndarray, or a list of these"
            )
        elif p.kind is not p.VAR_POSITIONAL and p.default is not p.empty and p.default is not None:
            raise ValueError(f"{name}: input {p.name} has the default {p.default!r}; optional inputs have the default None")
        else:
            inputs[p.name] = p.default is None
            repeated = p.name if p.kind is p.VAR_POSITIONAL else repeated
    optional = frozenset(found for found, absent in inputs.items() if absent)
    return Signature(tuple(inputs), optional, repeated, attributes, frozenset(needed), converted, outputs, deterministic)


def attribute_kind(p: inspect.Parameter) -> tuple[str, str] | None:
    """Return the type of an attribute in files, and what it is converted to; None if the parameter is an input."""
    text = annotation_text(p.annotation)
    if text in ATTRIBUTES:
        return ATTRIBUTES[text], text
    found = _LIST.fullmatch(text)
    if found:
        return f"{ATTRIBUTES[found['element']]}S", f"{'tuple' if found['kind'].lower() == 'tuple' else 'list'} {found['element']}"
    if p.kind is p.KEYWORD_ONLY and text.startswith(("ndarray", "NDArray")):
        return "TENSOR", "array"
    if text:
        return None
    return kind_of_default(p.default)


def kind_of_default(default: Any) -> tuple[str, str] | None:
    """Return the kind of an attribute without an annotation; None if its default does not tell it."""
    if isinstance(default, list | tuple) and default and type(default[0]).__name__ in ATTRIBUTES:
        element = type(default[0]).__name__
        return f"{ATTRIBUTES[element]}S", f"{type(default).__name__} {element}"
    kind = type(default).__name__
    return (ATTRIBUTES[kind], kind) if kind in ATTRIBUTES else None


def annotation_text(annotation: Any) -> str:
    """Return an annotation as text without modules and `| None`."""
    if annotation is inspect.Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else annotation.__name__ if isinstance(annotation, type) else str(annotation)
    if not isinstance(annotation, str) and "[" in str(annotation):
        text = str(annotation)
    text = _PREFIX.sub("", text).strip("'\"")
    if text.startswith("Optional["):
        text = text.removeprefix("Optional[").removesuffix("]")
    return text.removesuffix(" | None").removeprefix("None | ")


def is_expression(function: Callable[..., Any]) -> bool:
    """Return whether a parameter or the result is annotated as a Tensor of this package."""
    signature = inspect.signature(function)
    told = [*(p.annotation for p in signature.parameters.values()), signature.return_annotation]
    return any(re.search(r"\bTensor\b", annotation_text(found)) for found in told if found is not inspect.Signature.empty)


def typed(converted: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as the function's annotations say: bool, int, float, str, list, tuple or array."""
    return {name: convert(converted[name], value) for name, value in given.items()}


def convert(kind: str, value: Any) -> Any:
    outer, _, element = kind.partition(" ")
    if element:
        found = [convert(element, entry) for entry in value]
        return tuple(found) if outer == "tuple" else found
    if kind == "bool":
        return bool(value)
    if kind == "str":
        return value.decode() if isinstance(value, bytes) else value
    return np.asarray(value) if kind == "array" else value
