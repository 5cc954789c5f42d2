"""Sub-graphs that are compiled when they are first run, because their form depends on what a run brings.

    q = Squeeze(x)        x: f32[rows, columns]; the rank of q depends on the sizes of x
    y = Relu(q)

A program is made for the ranks and types of what the sub-graph reads and for the answers to the questions that came up (is `rows` 1?), and
kept; a run with other answers makes another one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sardonyx.base.context import QUIET, RunContext
from sardonyx.providers.base import Executable
from sardonyx.session.metadata import OrtEpAssignedSubgraph
from sardonyx.session.program import Plan, Program

if TYPE_CHECKING:
    from sardonyx.expr.decide import Answers

Kind: TypeAlias = tuple[Any, ...]
MOST_REMEMBERED = 256
"""Combinations of shapes whose variant is found without asking; the table is emptied when it is full."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A program for one set of answers. kinds: of what it reads. sizes: names the sizes of arrays, as `answers` knows them."""

    kinds: tuple[Kind, ...]
    answers: Answers
    sizes: Callable[[Sequence[Any]], dict[Any, int]]
    program: Program
    plan: Plan
    assignment: list[OrtEpAssignedSubgraph]


class LateProgram(Executable):
    """A sub-graph with a program for each form that runs have asked for."""

    def __init__(self, names: Sequence[str], specialise: Callable[[Sequence[Any]], Variant]) -> None:
        """names: of the inputs. specialise: makes the program for these inputs."""
        self.names, self._specialise = tuple(names), specialise
        self.variants: list[Variant] = []
        self._remembered: dict[tuple[Kind, ...], Variant] = {}
        self._lock = threading.Lock()

    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        return self.variant(inputs).plan.repeat(list(inputs), context)

    def variant(self, inputs: Sequence[Any]) -> Variant:
        """The variant for these inputs, made if there is none yet. Raises SardonyxError."""
        key = tuple(map(shape_key, inputs))
        found = self._remembered.get(key)
        if found is None:
            with self._lock:
                found = self.matching(inputs)
                if found is None:
                    found = self._specialise(inputs)
                    self.variants.append(found)
                if len(self._remembered) >= MOST_REMEMBERED:
                    self._remembered.clear()
                self._remembered[key] = found
        return found

    def matching(self, inputs: Sequence[Any]) -> Variant | None:
        """A variant that was made for inputs like these."""
        kinds = tuple(map(kind_of, inputs))
        fed = dict(zip(self.names, inputs, strict=True))
        return next((v for v in self.variants if v.kinds == kinds and v.answers.hold(v.sizes(inputs), fed)), None)

    def assignment(self) -> list[OrtEpAssignedSubgraph]:
        """Who runs what, in the variants that there are."""
        return [part for variant in self.variants for part in variant.assignment]

    def describe(self) -> str:
        parts = [step.executable.describe() for variant in self.variants for step in variant.plan.steps]
        return "\n".join(parts) or "compiled when it is first run: its form depends on ranks or sizes"

    def close(self) -> None:
        for variant in self.variants:
            variant.program.close()
        self.variants.clear()
        self._remembered.clear()


def kind_of(x: Any) -> Kind:
    """What a program relies on: type and rank of an array, else the Python type."""
    return (x.dtype, x.ndim) if isinstance(x, np.ndarray) else (type(x),)


def shape_key(x: Any) -> Kind:
    """What decides every answer: type, shape, and the values of bools, which can be asked for."""
    if not isinstance(x, np.ndarray):
        return (type(x),)
    return (x.dtype, x.shape, x.tobytes()) if x.dtype == np.bool_ else (x.dtype, x.shape)
