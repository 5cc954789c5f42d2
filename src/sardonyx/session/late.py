"""Sub-graphs that are compiled when they first run, because their form depends on the inputs of the run.

    q = Squeeze(x)        x: f32[rows, columns]; the rank of q depends on the sizes of x
    y = Relu(q)

A variant is compiled for the dtypes and ranks of the sub-graph's inputs and for the answers to the questions that operators
asked (is `rows` equal to 1?). It is kept; a run with other answers compiles another variant.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from msgspec import Struct

from sardonyx.base.context import QUIET, RunContext
from sardonyx.base.symbolic import Symbol
from sardonyx.providers.base import Executable
from sardonyx.runtime.device import Buffer, Copies, Target
from sardonyx.session.compiled_model import CompiledModel, Plan
from sardonyx.session.metadata import OrtEpAssignedSubgraph

if TYPE_CHECKING:
    from sardonyx.expr.decide import Answers

Kind: TypeAlias = tuple[Any, ...]
MOST_REMEMBERED = 256
"""Combinations of input shapes whose variant is found in a table; the table is emptied when it is full."""


class Variant(Struct, frozen=True):
    """A sub-graph compiled for one set of answers.

    kinds: dtype and rank of each input. symbols: the symbols of the inputs' sizes that `answers` uses; None for sizes that
    are numbers. outputs: names, in the sub-graph's order.
    """

    kinds: tuple[Kind, ...]
    answers: Answers
    symbols: Sequence[Sequence[Symbol | None]]
    program: CompiledModel
    outputs: Sequence[str]
    assignment: list[OrtEpAssignedSubgraph]
    plan: Plan

    @classmethod
    def of(
        cls,
        kinds: tuple[Kind, ...],
        answers: Answers,
        symbols: Sequence[Sequence[Symbol | None]],
        program: CompiledModel,
        outputs: Sequence[str],
        assignment: list[OrtEpAssignedSubgraph],
    ) -> Variant:
        """Make a variant, and the plan that runs its program."""
        return cls(kinds, answers, symbols, program, outputs, assignment, program.plan(outputs))

    def fits(self, kinds: tuple[Kind, ...], inputs: Sequence[Any], names: Sequence[str]) -> bool:
        """Was the variant compiled for inputs like these? names: of the inputs."""
        fed = dict(zip(names, inputs, strict=True))
        return self.kinds == kinds and self.answers.hold(sizes_of(self.symbols, inputs), fed)


def sizes_of(symbols: Sequence[Sequence[Symbol | None]], inputs: Sequence[Any]) -> dict[Symbol, int]:
    """Return {symbol: size} of these inputs."""
    return {
        s: n
        for axes, x in zip(symbols, inputs, strict=True)
        for s, n in zip(axes, getattr(x, "shape", ()), strict=False)
        if s is not None
    }


class Variants(Protocol):
    """A store of variants that later sessions read."""

    def load(self) -> list[Variant]:
        """Return the stored variants, in the order in which they were made."""

    def add(self, variant: Variant, count: int) -> None:
        """Store a variant, the one with number `count`."""


class LateSubgraph(Executable):
    """An executable with a variant for each form of the sub-graph that runs have needed."""

    def __init__(self, names: Sequence[str], specialise: Callable[[Sequence[Any]], Variant], store: Variants | None = None) -> None:
        """names: of the inputs. specialise: compiles the variant for these inputs. store: holds variants of earlier sessions."""
        self.names, self.specialise = tuple(names), specialise
        self._store: Variants | None = None
        self.variants: list[Variant] = []
        self._remembered: dict[tuple[Kind, ...], Variant] = {}
        self._lock = threading.Lock()
        self._to_load = store

    def store_in(self, store: Variants) -> None:
        """Store new variants there from now on; those in the store already are not read."""
        self._store = store

    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        return self.variant(inputs).plan.run_or_replay(list(inputs), context)

    def run_copies(self, inputs: Sequence[Copies], targets: Sequence[Target], context: RunContext) -> list[Copies]:
        seen = [x.on(None) if getattr(x.first(), "dtype", None) == np.bool_ else x.first() for x in inputs]  # see `shape_key`
        variant = self.variant(seen)
        return variant.plan.run_copies(inputs, dict(zip(variant.outputs, targets, strict=True)), context)

    def variant(self, inputs: Sequence[Any]) -> Variant:
        """Return the variant for these inputs, compiling it if there is none yet. Raises SardonyxError."""
        key = tuple(map(shape_key, inputs))
        found = self._remembered.get(key)
        if found is None:
            with self._lock:
                found = self.matching(inputs)
                if found is None:
                    found = self.specialise(inputs)
                    if self._store is not None:
                        self._store.add(found, len(self.variants))
                    self.variants.append(found)
                if len(self._remembered) >= MOST_REMEMBERED:
                    self._remembered.clear()
                self._remembered[key] = found
        return found

    def matching(self, inputs: Sequence[Any]) -> Variant | None:
        """Return a variant that was compiled for inputs like these; None if there is none."""
        if self._to_load is not None:
            self._store, self._to_load = self._to_load, None
            self.variants += self._store.load()
        kinds = tuple(map(kind_of, inputs))
        return next((v for v in self.variants if v.fits(kinds, inputs, self.names)), None)

    def assignment(self) -> list[OrtEpAssignedSubgraph]:
        """Return who runs which nodes, in the variants compiled so far."""
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
    """Return what a variant relies on: dtype and rank of a tensor, else the Python type."""
    return (x.dtype, x.ndim) if isinstance(x, np.ndarray | Buffer) else (type(x),)


def shape_key(x: Any) -> Kind:
    """Return what decides every answer: dtype and shape, and the values of bool arrays, which operators may ask for."""
    if not isinstance(x, np.ndarray | Buffer):
        return (type(x),)
    return (x.dtype, x.shape, x.tobytes()) if isinstance(x, np.ndarray) and x.dtype == np.bool_ else (x.dtype, x.shape)
