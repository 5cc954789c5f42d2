"""Runs graphs of host operators (strings, sequences, optionals, maps) node by node in Python. Needs only numpy."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from sardonyx import host
from sardonyx.base.context import QUIET, RunContext
from sardonyx.base.errors import Fail, InvalidArgument, SardonyxError
from sardonyx.host.table import FRESH
from sardonyx.providers.base import Executable
from sardonyx.runtime.execution import CPU

NOTHING = 0
"""The slot that stands for an omitted input."""
ERRORS = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError)
"""Exceptions that host functions raise for unsuitable values."""


class Call(Struct, frozen=True):
    """One node: its operator, its attributes including defaults, and the slots that it reads and writes. title: its name in profiles,
    which layouts that are stored lack."""

    domain: str
    operator: str
    since: int
    name: str
    attributes: Mapping[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    title: str = ""


class Layout(Struct, frozen=True):
    """A graph of host operators as data. Inputs are in slots 1, 2, ...; constants: {slot: value}; outputs: slots."""

    inputs: int
    slots: int
    constants: Mapping[int, Any]
    calls: tuple[Call, ...]
    outputs: tuple[int, ...]


class HostGraph(Executable):
    """A graph of host operators, ready to run. Raises Fail, naming the node, for invalid attributes."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._start = [None] * layout.slots
        for slot, value in layout.constants.items():
            self._start[slot] = value
        self._functions = [(prepared(call), call, call.inputs, call.outputs) for call in layout.calls]
        made = {slot for function, *_, writes in self._functions if hasattr(function, FRESH) for slot in writes}
        read = {slot for call in layout.calls for slot in call.inputs}
        outputs = layout.outputs
        # Outputs that may share memory with inputs, constants or each other are copied; a fresh value used once needs no check.
        self._to_own = [i for i, slot in enumerate(outputs) if slot not in made - read or outputs.count(slot) > 1]
        self._constants = {id(value) for value in layout.constants.values()}

    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        values = self._start.copy()
        values[1 : 1 + len(inputs)] = inputs
        for function, call, reads, writes in self._functions:
            start = time.perf_counter_ns() if context.trace is not None else 0
            try:
                made = function(values[reads[0]]) if len(reads) == 1 else function(*[values[slot] for slot in reads])
            except SardonyxError as error:
                raise type(error)(failure(call, error.detail)) from error.__cause__ or error
            except IndexError as error:
                raise InvalidArgument(failure(call, str(error))) from error
            except ERRORS as error:
                told = ", ".join(shown(values[slot]) for slot in reads)
                raise Fail(failure(call, f"{str(error) or type(error).__name__} (inputs: {told})")) from error
            if context.trace is not None:
                context.trace.record_calls(CPU, start, [((call.title,), 1)])
            if type(made) is tuple:
                for slot, value in zip(writes, made, strict=False):
                    values[slot] = value
            else:
                values[writes[0]] = made
        results = [values[slot] for slot in self.layout.outputs]
        if self._to_own:
            taken = {*map(id, inputs)} | self._constants
            for index in self._to_own:
                results[index] = owned(results[index], taken)
        return results

    def describe(self) -> str:
        counts = Counter(call.operator for call in self.layout.calls)
        return "in Python: " + ", ".join(f"{name} x {count}" for name, count in counts.most_common())


def prepared(call: Call) -> host.Function:
    """Return the function of a call. Raises Fail, naming the node."""
    prepare = host.find(call.domain, call.operator, call.since)
    if prepare is None:
        raise Fail(failure(call, "this operator does not run on the host"))
    try:
        return prepare(**call.attributes)
    except (InvalidArgument, Fail) as error:
        raise Fail(f"Node ({call.name}) Op ({call.operator}) {error.detail}") from error
    except ERRORS as error:
        raise Fail(f"Node ({call.name}) Op ({call.operator}) {error}") from error


def failure(call: Call, reason: str) -> str:
    return f"Non-zero status code returned while running {call.operator} node. Name:'{call.name}' Status Message: {reason}"


def shown(value: Any) -> str:
    """Describe an input for an error message."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return "nothing" if value is None else type(value).__name__


def owned(value: Any, taken: set[int]) -> Any:
    """Return the value, or a copy if it is a view or if its id is in `taken`; its id is then added to `taken`."""
    if isinstance(value, np.ndarray):
        flags = value.flags
        if not (flags.owndata and flags.writeable and flags.c_contiguous) or id(value) in taken:
            value = np.array(value, order="C")
        taken.add(id(value))
    elif type(value) is list and value and not isinstance(value[0], dict):
        return [owned(element, taken) for element in value]
    return value
