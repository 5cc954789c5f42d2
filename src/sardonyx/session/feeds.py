"""Checks the values that a run feeds against the model's inputs, and converts them to the form that executables take.

In the common case, numpy arrays that need no conversion, this costs a few comparisons per input; everything else goes through
`InputSpec.convert`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from sardonyx.base import dtypes
from sardonyx.base.errors import Fail, InvalidArgument
from sardonyx.runtime.arrays import quick_check
from sardonyx.runtime.device import Buffer
from sardonyx.session.values import OrtValue

_DTYPES = {f"tensor({d.onnx_name})": d for d in dtypes.ALL}


class InputSpec(Struct, frozen=True):
    """What an input must be.

    type: as users see it, such as tensor(float). dtype: of arrays that need no conversion; None if all values need one.
    sizes: one per axis, None where it is free; None altogether if the rank is unknown.
    """

    name: str
    type: str
    dtype: np.dtype[Any] | None
    sizes: tuple[int | None, ...] | None

    def convert(self, value: Any) -> Any:
        """Convert a value to the form that executables take; a tensor in a device's memory stays there. Raises InvalidArgument or RuntimeError as ONNX Runtime does."""
        if isinstance(value, OrtValue):
            value = value._value
        if isinstance(value, Buffer):
            return self.checked_buffer(value)
        if self.type.startswith("optional("):
            inner = self.type.removeprefix("optional(").removesuffix(")")
            return None if value is None else self.converted(inner, value)
        return self.converted(self.type, value)

    def converted(self, kind: str, value: Any) -> Any:
        """Convert a value of type `kind`, which is not optional."""
        if kind.startswith("seq("):
            if not isinstance(value, list | tuple):
                raise RuntimeError(f"Input must be a list for input '{self.name}', not {type(value).__name__}.")
            inner = kind.removeprefix("seq(").removesuffix(")")
            return [value_of(inner, element, self.name) for element in value]
        converted = value_of(kind, value, self.name)
        if isinstance(converted, np.ndarray):
            self.check_sizes(converted.shape)
        return converted

    def checked_buffer(self, value: Buffer) -> Buffer:
        """Return a tensor in a device's memory. Raises InvalidArgument if its dtype, rank or sizes aren't the input's."""
        kind = self.type.removeprefix("optional(").removesuffix(")") if self.type.startswith("optional(") else self.type
        if (actual := type_of(value.dtype)) != kind:
            raise InvalidArgument(f"Unexpected input data type. Actual: ({actual}) , expected: ({kind})")
        self.check_sizes(value.shape)
        return value

    def check_sizes(self, shape: tuple[int, ...]) -> None:
        """Raise InvalidArgument for a wrong rank or size, listing the axes that differ."""
        if self.sizes is None:
            return
        if len(shape) != len(self.sizes):
            raise InvalidArgument(
                f"Invalid rank for input: {self.name} Got: {len(shape)} Expected: {len(self.sizes)} "
                "Please fix either the inputs/outputs or the model."
            )
        wrong = [
            f" index: {index} Got: {got} Expected: {expected}\n"
            for index, (got, expected) in enumerate(zip(shape, self.sizes, strict=True))
            if expected is not None and got != expected
        ]
        if wrong:
            raise InvalidArgument(
                f"Got invalid dimensions for input: {self.name} for the following indices\n{''.join(wrong)}"
                " Please fix either the inputs/outputs or the model."
            )


def value_of(kind: str, value: Any, name: str) -> Any:
    """Convert a value, or an element of a sequence, of type `kind`."""
    if kind.startswith("map("):
        if not isinstance(value, Mapping):
            raise RuntimeError(f"Input must be a dictionary for input '{name}', not {type(value).__name__}.")
        return dict(value)
    dtype = _DTYPES[kind]
    if isinstance(value, np.ndarray | np.generic):
        return from_array(kind, dtype, np.asarray(value))
    if hasattr(value, "__dlpack__"):
        return from_array(kind, dtype, np.from_dlpack(value))
    if isinstance(value, list):
        return from_list(dtype, value)
    if isinstance(value, str | bytes | Mapping):
        raise RuntimeError(f"Input must be a list of dictionaries or a single numpy array for input '{name}'.")
    if value is None:
        raise Fail(f"Missing Input: {name}")
    raise RuntimeError(f"Unable to handle object of type {type(value)}")


def from_array(kind: str, dtype: dtypes.DType, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the array, contiguous and in native byte order. Raises InvalidArgument if its dtype isn't that of `kind`."""
    actual = type_of(array.dtype)
    if actual != kind:
        raise InvalidArgument(f"Unexpected input data type. Actual: ({actual}) , expected: ({kind})")
    if dtype is dtypes.string:
        return texts(array)
    return np.require(array, dtype.numpy, ["C", "ALIGNED"])


def type_of(dtype: np.dtype[Any]) -> str:
    try:
        return f"tensor({dtypes.from_numpy(dtype.newbyteorder('=')).onnx_name})"
    except TypeError:
        return f"tensor({dtype.name})"


def texts(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return strings as an object array of str. Raises UnicodeDecodeError for bytes that aren't UTF-8."""
    if array.dtype.kind == "U":
        return array.astype(object)
    if array.dtype == object and array.flags.c_contiguous and {*map(type, array.reshape(-1).tolist())} <= {str}:
        return array
    out = np.empty(array.shape, object)
    flat = [x.decode() if isinstance(x, bytes) else str(x) for x in array.reshape(-1).tolist()]
    out.reshape(-1)[:] = flat
    return out


def from_list(dtype: dtypes.DType, value: list[Any]) -> np.ndarray[Any, Any]:
    """Convert a nested list to an array. Raises RuntimeError if the list is ragged or holds values of another type."""
    try:
        array = np.array(value, object if dtype is dtypes.string else dtype.numpy, order="C")
    except (ValueError, TypeError, OverflowError) as error:
        raise RuntimeError("Could not create tensor from given input list") from error
    if dtype is not dtypes.string:
        return array
    if any(isinstance(x, list) for x in array.reshape(-1).tolist()):
        raise RuntimeError("Could not create tensor from given input list")
    return texts(array)


NO_RANK = -1, None, None  # a check that every shape fails
NO_DTYPE = np.dtype(np.void)  # a dtype that no input has
TEXT = np.dtype(object)


class Feeds:
    """The inputs of a model, in order. overridable: those that have a default in the model.

    on_devices: may values stay in devices' memories? Else they are copied to the CPU's.
    """

    def __init__(self, inputs: Sequence[InputSpec], overridable: Sequence[InputSpec]) -> None:
        self.on_devices = False
        self.inputs = tuple(inputs)
        self.overridable = {spec.name: spec for spec in overridable}
        self.names = frozenset(spec.name for spec in (*inputs, *overridable))
        self._fast = tuple(
            (
                *(spec, spec.name, spec.dtype or (TEXT if spec.type == "tensor(string)" else NO_DTYPE)),
                *(NO_RANK if spec.sizes is None else quick_check(spec.sizes)),
            )
            for spec in inputs
        )

    def bind(self, feed: Mapping[str, Any]) -> list[Any]:
        """Return the values of the inputs, in order, checked and converted.

        Raises ValueError for missing inputs, InvalidArgument for names, types and sizes that don't fit.
        """
        values = []
        if len(feed) != len(self._fast):
            self.check_names(feed)
        for spec, name, dtype, rank, fixed, sizes in self._fast:
            try:
                value = feed[name]
            except KeyError:
                self.check_names(feed)
                value = None
            if type(value) is np.ndarray and value.dtype == dtype and value.flags.carray:
                shape = value.shape
                if len(shape) != rank or (fixed is not None and fixed(shape) != sizes):
                    spec.check_sizes(shape)
                values.append(value if dtype is not TEXT else texts(value))
            else:
                values.append(self.converted(spec, value))
        return values

    def converted(self, spec: InputSpec, value: Any) -> Any:
        """Convert the value of one input. Raises as `InputSpec.convert` does."""
        found = spec.convert(value)
        return found.numpy() if isinstance(found, Buffer) and not self.on_devices else found

    def require_all(self, feed: Mapping[str, Any]) -> None:
        """Raise ValueError if an input is missing."""
        missing = [s.name for s in self.inputs if s.name not in feed and not s.type.startswith("optional(")]
        if missing:
            raise ValueError(f"Required inputs ({missing}) are missing from input feed ({list(feed)}).")

    def overrides(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        """Return {name: value} of inputs with a default that are fed."""
        return {name: self.converted(spec, feed[name]) for name, spec in self.overridable.items() if name in feed}

    def check_names(self, feed: Mapping[str, Any]) -> None:
        """Raise ValueError or InvalidArgument if an input is missing or unknown."""
        self.require_all(feed)
        known = {spec.name for spec in self.inputs} | set(self.overridable)
        for name in feed:
            if name not in known:
                raise InvalidArgument(f"Invalid input name: {name}")
