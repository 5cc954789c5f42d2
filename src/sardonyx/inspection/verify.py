"""Verification of compiled models: runs a model at each optimisation level and by the reference provider, and names the first value
that differs.

1. The reference provider computes every value of the model for the feeds.
2. The compiled model runs on the same feeds; its outputs are compared.
3. A variant in which every value is an output runs; all values are compared, in the order of the nodes.
4. If step 2 finds a difference and step 3 does not, the fault needs the fusion of loops that the variant prevents. Variants with
one additional output each are then tried, by bisection, until the first value that differs is found.

Values that depend on random numbers (`inspection/random_values.py`) are compared by dtype and shape only, and the result names
them. Values in bodies of If, Loop and Scan are compared only through the outputs of their node; the result counts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from sardonyx.base.errors import SardonyxError
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.load import LoadOptions, load
from sardonyx.graph.verify import subgraphs
from sardonyx.inspection.compare import Deviation, compare
from sardonyx.inspection.random_values import random_values
from sardonyx.providers import registry
from sardonyx.session.enums import GraphOptimizationLevel
from sardonyx.session.inference_session import InferenceSession
from sardonyx.session.options import SessionOptions

Values = dict[str, Any]
LEVELS = tuple(GraphOptimizationLevel)


class Origin(Struct, frozen=True):
    """The node that computes a value: its name, operator, inputs and outputs."""

    node: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Difference(Struct, frozen=True):
    """The first value that differs. inputs: (name, shape) of the inputs of its node. only_fused: it agrees if all values are
    outputs.
    """

    value: str
    origin: Origin
    inputs: tuple[tuple[str, str], ...]
    expected: str
    got: str
    deviation: Deviation
    only_fused: bool


class LevelResult(Struct, frozen=True):
    """Result of the verification at one optimisation level.

    compared: number of values compared. random: values compared by dtype and shape only, because they depend on random numbers.
    inside: number of values of bodies, which are compared only through the outputs of their nodes. interpreted: nodes that ran in
    the reference provider because they were not compiled. worst: the value with the largest relative error, and that error.
    """

    level: GraphOptimizationLevel
    compared: int = 0
    random: tuple[str, ...] = ()
    inside: int = 0
    interpreted: tuple[str, ...] = ()
    worst: tuple[str, float] = ("", 0.0)
    difference: Difference | None = None
    error: str = ""

    @property
    def is_agreement(self) -> bool:
        """Return whether all values agree and the model ran."""
        return self.difference is None and not self.error


class Verification:
    """A model, its feeds, and every value that the reference provider computes from them."""

    def __init__(self, path: Path, feeds: Mapping[str, Any], tolerance: float) -> None:
        """Run the reference. Raises SardonyxError if the model can't be loaded, or the reference can't run it on these feeds."""
        self.path, self.feeds, self.tolerance = path, dict(feeds), tolerance
        graph = load(path, LoadOptions(knows=is_known)).graph
        session = InferenceSession(path, at_level(GraphOptimizationLevel.ORT_DISABLE_ALL), [registry.REFERENCE])
        self.outputs = [o.name for o in session.get_outputs()]
        self.origins = origins(graph, self.outputs)
        names = list(self.origins)
        self.expected: Values = dict(zip(names, session.run(names, self.feeds), strict=True)) if names else {}
        self.random = self.random_names(graph)
        self.inside = sum(len(inner.outputs) for node in graph for body in subgraphs(node) for inner in body.all_nodes())

    def check(self, level: GraphOptimizationLevel) -> LevelResult:
        """Compare the model compiled at this level with the reference."""
        try:
            with closing(InferenceSession(self.path, at_level(level))) as session:
                return self.result(session, level)
        except SardonyxError as error:
            return LevelResult(level, error=str(error))

    def result(self, session: InferenceSession, level: GraphOptimizationLevel) -> LevelResult:
        """Compare the outputs and all values of a session with the reference."""
        outputs = self.fetch(session, self.outputs)
        wrong = self.first_difference(outputs)
        values = self.fetch(session, list(self.origins))
        first = self.first_difference(values)
        difference = None
        if first is not None:
            difference = self.difference(first, values[first], only_fused=False)
        elif wrong is not None:
            difference = self.bisect(session, wrong)
        errors = {name: self.compare(name, value).relative for name, value in values.items()}
        worst = max(errors, key=lambda name: errors[name], default="")
        random = tuple(name for name in self.origins if name in self.random)
        compared = len(errors) - len(random)
        return LevelResult(level, compared, random, self.inside, interpreted(session), (worst, errors.get(worst, 0.0)), difference)

    def fetch(self, session: InferenceSession, names: Sequence[str]) -> Values:
        """Run the session and return these values by name."""
        return dict(zip(names, session.run(names, self.feeds), strict=True)) if names else {}

    def random_names(self, graph: ir.Graph) -> frozenset[str]:
        """Return the names of values that depend on random numbers."""
        values = {**self.feeds, **self.expected}

        def drew_nothing(node: ir.Node) -> bool:
            read = node.inputs[0].name if node.inputs and node.inputs[0] is not None else ""
            return same(values.get(read or ""), values.get(node.outputs[0].name or ""))

        return frozenset(value.name for value in random_values(graph, drew_nothing) if value.name in self.origins)

    def compare(self, name: str, got: Any) -> Deviation:
        """Return the deviation of a value; for values that depend on random numbers only dtype and shape count."""
        expected = self.expected[name]
        if name in self.random and isinstance(expected, np.ndarray) and isinstance(got, np.ndarray):
            expected, got = np.zeros_like(expected), np.zeros_like(got)
        return compare(expected, got, self.tolerance)

    def first_difference(self, values: Values) -> str | None:
        """Return the first of these values, in the order of the nodes, that differs."""
        return next((n for n in self.origins if n in values and not self.compare(n, values[n]).is_agreement), None)

    def bisect(self, session: InferenceSession, output: str) -> Difference:
        """Find the first value that differs if it is the only additional output. output: a model output that differs"""
        names = list(self.origins)
        low, high = 0, names.index(output)
        while low < high:
            middle = (low + high) // 2
            got = self.fetch(session, [names[middle]])
            if self.first_difference(got) is None:
                low = middle + 1
            else:
                high = middle
        return self.difference(names[high], self.fetch(session, [names[high]])[names[high]], only_fused=True)

    def difference(self, name: str, got: Any, only_fused: bool) -> Difference:
        """Describe a value that differs."""
        origin = self.origins[name]
        inputs = tuple((i, form(self.expected.get(i, self.feeds.get(i)))) for i in origin.inputs)
        return Difference(name, origin, inputs, form(self.expected[name]), form(got), self.compare(name, got), only_fused)


def verify(
    path: Path, feeds: Mapping[str, Any], tolerance: float, levels: Sequence[GraphOptimizationLevel] = LEVELS
) -> Iterator[LevelResult]:
    """Yield a result for each level as soon as it is available. Raises SardonyxError as `Verification` does."""
    verification = Verification(path, feeds, tolerance)
    for level in levels:
        yield verification.check(level)


def interpreted(session: InferenceSession) -> tuple[str, ...]:
    """Return operator and name of the nodes that ran in the reference provider."""
    parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name == registry.REFERENCE]
    return tuple(f"{node.op_type} {node.name!r}" for part in parts for node in part.nodes)


def at_level(level: GraphOptimizationLevel) -> SessionOptions:
    options = SessionOptions()
    options.graph_optimization_level = level
    return options


def origins(graph: ir.Graph, outputs: Sequence[str]) -> dict[str, Origin]:
    """Return {value: its node} for every value that the graph's nodes write, in an order in which they can run, then outputs
    without a node.
    """
    found: dict[str, Origin] = {}
    for node in graph:
        inputs = tuple(str(v.name) for v in node.inputs if v is not None)
        written = tuple(v.name for v in node.outputs if v.name)
        found.update(dict.fromkeys(written, Origin(node.name or "", title(node), inputs, written)))
    for name in outputs:
        found.setdefault(name, Origin("", "output without a node", (), (name,)))
    return found


def is_known(domain: str, name: str) -> bool:
    """Return whether a provider has this operator outside the standard."""
    return any(registry.create(provider, {}).knows(domain, name) for provider in registry.names())


def title(node: ir.Node) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def same(a: Any, b: Any) -> bool:
    """Return whether two arrays are equal, with their dtypes."""
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)


def form(value: Any) -> str:
    """Return dtype and shape of a value as text."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, list):
        return f"[{', '.join(map(form, value[:4]))}{', ...' if len(value) > 4 else ''}]"
    return "absent" if value is None else type(value).__name__
