"""Custom operators: functions of the user that models may use under a name in a domain of their own.

    @custom_op("my.domain::Name", since=1)
    def name(x, y=None, *, alpha: float = 1.0): ...

A function with a parameter annotated as a Tensor makes tensor expressions, and becomes a record like those of this package: it is
compiled and fused. Any other function gets numpy arrays and runs on the host. The registry is one for the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from msgspec.structs import replace

from sardonyx import host, ops
from sardonyx.base.dtypes import ALL, DType, from_numpy
from sardonyx.base.errors import Fail, SardonyxError, Unsupported
from sardonyx.expr.scalar import literal
from sardonyx.expr.tensor import Tensor, compute, input_tensor
from sardonyx.host.custom import HostOperator, Shapes
from sardonyx.ops import registered
from sardonyx.ops.custom_signature import is_expression, signature_of, split_name, typed
from sardonyx.ops.record import Op, Rule, Signature
from sardonyx.ops.registered import GRADIENT

F = TypeVar("F", bound=Callable[..., Any])
NUMBERS = tuple(dtype for dtype in ALL if dtype.is_number)
RESERVED = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "ai.onnx.training"})
_lock = threading.RLock()


def custom_op(
    name: str,
    since: int = 1,
    *,
    shape: Callable[..., Any] | None = None,
    gradient: Callable[..., Any] | None = None,
    outputs: int | None = None,
    deterministic: bool = True,
) -> Callable[[F], F]:
    """Register a function as the operator `name`, "my.domain::Name", from opset version `since` of its domain on.

        @custom_op("my.domain::Scaled")
        def scaled(x, *, factor: float = 2.0):
            return x * np.float32(factor)

    Positional parameters are inputs; those with the default None are optional, and `*xs` takes any number. Keyword-only
    parameters, and others that are annotated as numbers, texts or lists of them, or have such a default, are attributes.

    A function with a parameter annotated as a Tensor gets and returns tensor expressions (see `operators`); it is compiled and
    fused. Any other function gets arrays that it may not write to, and returns an array or a tuple of arrays.

    shape: for functions of arrays; gets the inputs as Tensors without numbers and the attributes, and returns for each output a
    Tensor or a pair (dtype, sizes). Without it, the dtypes and shapes of outputs are known when the function has run.
    gradient: gets the adjoint of the first output, the inputs and the attributes, and returns the contribution to each input's
    adjoint, None for zero. outputs: how many values the function returns, if nodes may leave some out; by default exactly as many
    as the node has outputs. deterministic: whether equal inputs give equal outputs.

    Returns a decorator, which returns the function itself. Raises ValueError for a name that is malformed, is one of this
    package's operators or is registered for this version already, and for parameters that can be neither inputs nor attributes;
    TypeError for arguments of other types.
    """
    split_name(name, RESERVED)
    if not isinstance(since, int) or isinstance(since, bool):
        raise TypeError(f"since must be an int, not {type(since).__name__}")
    if not 1 <= since < 1 << 31:
        raise ValueError(f"since must be a version from 1 on, not {since}")

    def register(function: F) -> F:
        if not callable(function):
            raise TypeError(f"@custom_op({name!r}) must decorate a function, not a {type(function).__name__}")
        signature = signature_of(name, function, outputs, deterministic)
        tensors = is_expression(function)
        if tensors and shape is not None:
            raise ValueError(f"{name}: a function of Tensors determines the shapes of its outputs, so it takes no `shape`")
        made = [record(name, since, signature, function, tensors, shape)]
        if gradient is not None:
            made = [replace_gradient(made[0], gradient)]
            made.append(derivative(name, since, signature, gradient, tensors or is_expression(gradient)))
        add(made)
        return function

    return register


def unregister_custom_op(name: str, since: int | None = None) -> None:
    """Remove a custom operator: one version, or all. Sessions that exist keep it. Raises ValueError if it is not registered."""
    domain, operator = split_name(name, RESERVED)
    with _lock:
        there = registered.find(domain, operator)
        gone = [op for op in there if since is None or op.since == since]
        if not gone:
            raise ValueError(f"there is no custom operator {name}" + ("" if since is None else f" of version {since}"))
        for each in (operator, operator + GRADIENT):
            versions = {op.since for op in gone}
            store(domain, each, [op for op in registered.find(domain, each) if op.since not in versions])


def add(made: Sequence[Op]) -> None:
    """Add an operator, and its derivative if it has one. Raises ValueError if there is one of this name and version."""
    with _lock:
        first = made[0]
        title = f"{first.domain}::{first.name}"
        if ops.records(first.domain, first.name):
            raise ValueError(f"{title} is an operator of this package, which can't be replaced")
        if any(op.since == first.since for op in registered.find(first.domain, first.name)):
            raise ValueError(f"{title} is registered for version {first.since} already; unregister_custom_op removes it")
        for op in reversed(made):
            store(op.domain, op.name, [*registered.find(op.domain, op.name), op])


def store(domain: str, name: str, records: Sequence[Op]) -> None:
    """Make these the versions of an operator, for the compiler and for the host. The caller holds the lock."""
    host.custom.put(domain, name, tuple((op.since, op.on_host) for op in records if op.on_host is not None))
    registered.put(domain, name, tuple(records))


# ---- records ------------------------------------------------------------------------------------------------------------------


def record(
    name: str, since: int, signature: Signature, function: Callable[..., Any], tensors: bool, shape: Callable[..., Any] | None
) -> Op:
    """Return the record of an operator. tensors: the function takes tensors; shape: see custom_op"""
    domain, operator = split_name(name.removesuffix(GRADIENT), RESERVED)
    operator += GRADIENT if name.endswith(GRADIENT) else ""
    kinds = dict.fromkeys(signature.inputs, NUMBERS if tensors else ALL)
    if tensors:
        meaning = expression(name, function, signature)
        return Op(operator, since, domain, False, expand=meaning, element_types=kinds, gradient=Rule.NONE, signature=signature)
    types = None if shape is None else placeholders(name, shape, signature)
    on_host = HostOperator(
        name,
        function,
        lambda given: typed(signature.converted, given),
        signature.outputs,
        None if types is None else lambda forms, attributes, count: predicted(types, forms, attributes, count),
    )
    return Op(
        *(operator, since, domain, False),
        host=True,
        types=types,
        element_types=kinds,
        gradient=Rule.NONE,
        signature=signature,
        on_host=on_host,
    )


def expression(name: str, function: Callable[..., Any], signature: Signature) -> Callable[..., Any]:
    """Return the meaning of a function of tensors: it is given typed attributes, and its errors name the operator."""

    def meaning(*inputs: Tensor | None, **attributes: Any) -> list[Tensor | None]:
        made = guarded(name, function, inputs, typed(signature.converted, attributes))
        found = list(made) if isinstance(made, tuple | list) else [made]
        for value in found:
            if value is not None and not isinstance(value, Tensor):
                raise Fail(f"the custom operator {name} returned a {type(value).__name__}, not a Tensor")
        return found

    return meaning


def guarded(name: str, function: Callable[..., Any], inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """Call a function of the user at load time. Raises Fail from an exception that is not one of this package's."""
    try:
        return function(*inputs, **attributes)
    except (SardonyxError, Unsupported):
        raise
    except Exception as error:
        raise Fail(f"the custom operator {name} raised {type(error).__name__}: {error}") from error


def placeholders(name: str, shape: Callable[..., Any], signature: Signature) -> Callable[..., Any]:
    """Return the function that gives a host operator's outputs as tensors without numbers, from the user's shape function."""

    def types(*inputs: Tensor | None, **attributes: Any) -> list[Tensor | None]:
        made = guarded(name, shape, inputs, typed(signature.converted, attributes))
        pairs = [made] if isinstance(made, Tensor) or is_pair(made) else list(made)
        return [placeholder(name, pair) for pair in pairs]

    return types


def is_pair(made: Any) -> bool:
    """Is this (dtype, sizes), and not a sequence of such pairs?"""
    return (
        isinstance(made, tuple)
        and len(made) == 2
        and isinstance(made[1], tuple | list)
        and not isinstance(made[0], tuple | list | Tensor)
    )


def placeholder(name: str, pair: Any) -> Tensor | None:
    """Return a tensor of the dtype and sizes that a shape function gave for one output. Raises Fail for anything else."""
    if pair is None or isinstance(pair, Tensor):
        return pair
    try:
        dtype, sizes = pair
        kind = dtype if isinstance(dtype, DType) else from_numpy(np.dtype(dtype))
        return input_tensor("output", kind, tuple(sizes))
    except (TypeError, ValueError) as error:
        raise Fail(f"the shape function of {name} returned {pair!r}, not a Tensor or (dtype, sizes)") from error


def predicted(types: Callable[..., Any], forms: Shapes, attributes: Mapping[str, Any], count: int) -> Shapes | None:
    """Return dtypes and shapes of the outputs for known inputs; None if the shape function needs their numbers."""
    inputs = [None if form is None else input_tensor("input", from_numpy(np.dtype(form[0])), form[1]) for form in forms]
    try:
        made = types(*inputs, **attributes)
    except Unsupported:
        return None
    if len(made) < count:
        raise Fail(f"the shape function gives {len(made)} outputs for a node of {count}")
    return tuple(None if t is None or not fixed(t) else (t.dtype.numpy.name, tuple(t.shape)) for t in made)


def fixed(t: Tensor) -> bool:
    return all(isinstance(size, int) for size in t.shape)


# ---- derivatives --------------------------------------------------------------------------------------------------------------


def replace_gradient(op: Op, gradient: Callable[..., Any]) -> Op:
    """Return the record with a derivative."""
    return replace(op, gradient=gradient)


def derivative(name: str, since: int, signature: Signature, gradient: Callable[..., Any], tensors: bool) -> Op:
    """Return the operator that computes the contributions to the adjoints of a node's inputs, from the output's adjoint and them."""
    ours = Signature(
        ("@g", *signature.inputs),
        signature.optional,
        signature.repeated,
        signature.attributes,
        signature.needed,
        signature.converted,
        None,
        signature.deterministic,
    )

    def contributions(g: Any, *inputs: Any, **attributes: Any) -> list[Any]:
        made = gradient(g, *inputs, **attributes)
        found = list(made) if isinstance(made, tuple | list) else [made]
        if len(found) != len(inputs):
            raise Fail(f"the gradient of {name} returned {len(found)} contributions for {len(inputs)} inputs")
        return [zeros(x) if share is None and x is not None else share for share, x in zip(found, inputs, strict=True)]

    return record(
        name + GRADIENT, since, ours, contributions, tensors, None if tensors else lambda g, *inputs, **attributes: list(inputs)
    )


def zeros(x: Any) -> Any:
    """Return zeros in the shape and dtype of an array or a tensor."""
    if isinstance(x, Tensor):
        return compute(x.dtype, x.shape, lambda *_: literal(0, x.dtype))
    return np.zeros_like(x)
