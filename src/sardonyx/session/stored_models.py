"""Encodes compiled models as JSON, machine code and arrays, and decodes them: each step with its executable, if that can be
stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from msgspec import Struct, field

from sardonyx.base.errors import SardonyxError
from sardonyx.providers.base import Executable
from sardonyx.providers.host import Call, HostGraph, Layout
from sardonyx.providers.lazy import Lazy
from sardonyx.providers.native import NativeGraph
from sardonyx.runtime import execution, records
from sardonyx.runtime.image import Image
from sardonyx.runtime.memory import Bytes
from sardonyx.runtime.records import fields, listed, text, whole
from sardonyx.runtime.team import Team
from sardonyx.session.compiled_model import CompiledModel, ModelStep
from sardonyx.session.late import LateSubgraph
from sardonyx.session.stored_values import Unstorable, restored, stored

NATIVE, HOST, REFERENCE, LATE, REBUILT = "native", "host", "reference", "late", "remade"


class RebuildStep(Protocol):
    """Builds executables that are not stored; `number` is the index of the step."""

    def lazy(self, number: int, description: str) -> Executable:
        """Return an executable that is built when it first runs."""

    def late(self, number: int, names: Sequence[str]) -> Executable:
        """Return a sub-graph that compiles a variant for each form that runs need; its inputs have these names."""


# ---- writing ----------------------------------------------------------------------------------------------------------------


class Writer(Struct):
    """Encodes compiled models, and collects the images of code and the arrays that records refer to, in the order of reading.

    alone: refuse parts that would have to be rebuilt.
    """

    alone: bool = False
    images: list[bytes] = field(default_factory=list)
    pieces: list[Bytes] = field(default_factory=list)
    team: bytes | None = None

    def program(self, program: CompiledModel) -> list[Any]:
        """Encode a compiled model. Raises Unstorable for a part that can't be stored."""
        constants = [[name, stored(value, self.pieces)] for name, value in program.constants.items()]
        steps = [self.step(step, at) for at, step in enumerate(program.steps)]
        return [program.inputs, program.outputs, constants, steps, program.on_devices]

    def all_images(self) -> list[bytes]:
        """Return the images of the team and of the steps."""
        return self.images if self.team is None else [self.team, *self.images]

    def step(self, step: ModelStep, number: int) -> list[Any]:
        return [step.provider, step.inputs, step.outputs, self.executable(step.executable, number)]

    def executable(self, executable: Executable, number: int) -> list[Any]:
        if isinstance(executable, NativeGraph):
            return self.native(executable)
        if isinstance(executable, HostGraph):
            return [HOST, self.layout(executable.layout)]
        if (graph := executable.to_bytes()) is not None:
            self.pieces.append(np.frombuffer(graph, np.uint8))
            return [REFERENCE, executable.describe()]
        if self.alone:
            raise Unstorable(f"an executable of type {type(executable).__name__} can't be stored")
        if isinstance(executable, LateSubgraph):
            return [LATE, number, executable.names]
        return [REBUILT, number, executable.describe()]

    def native(self, graph: NativeGraph) -> list[Any]:
        program = graph.program
        if self.team is None:
            self.team = program.team.image.copy().to_bytes()
        self.images.append(program.image.copy().to_bytes())
        self.pieces += [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in program.constants]
        return [NATIVE, graph.describe(), len(program.constants), records.encode(program.spec)]

    def layout(self, layout: Layout) -> list[Any]:
        constants = [[slot, stored(value, self.pieces)] for slot, value in layout.constants.items()]
        return [layout.inputs, layout.slots, constants, [self.call(call) for call in layout.calls], layout.outputs]

    def call(self, call: Call) -> list[Any]:
        attributes = [[name, stored(value, self.pieces)] for name, value in call.attributes.items()]
        return [call.domain, call.operator, call.since, call.name, attributes, call.inputs, call.outputs]


# ---- reading ----------------------------------------------------------------------------------------------------------------


class Reader(Struct):
    """Decodes records. Raises ValueError or ImageError for anything that a Writer doesn't write."""

    images: Iterator[bytes]
    pieces: Iterator[Bytes]
    team: Team | None
    threads: int
    rebuilder: RebuildStep | None

    def program(self, record: object) -> CompiledModel:
        inputs, outputs, constants, steps, on_devices = fields(record, 5)
        known = dict(listed(constants, self.named))
        return CompiledModel(listed(inputs, text), listed(outputs, text), known, listed(steps, self.step), bool(on_devices))

    def named(self, record: object) -> tuple[str, Any]:
        name, value = fields(record, 2)
        return text(name), restored(value, self.pieces)

    def step(self, record: object) -> ModelStep:
        provider, inputs, outputs, executable = fields(record, 4)
        return ModelStep(text(provider), self.executable(executable), listed(inputs, text), listed(outputs, text))

    def executable(self, record: object) -> Executable:
        if not isinstance(record, list) or not record:
            raise ValueError("not a record of an executable")
        kind, told = record[0], record[1:]
        if kind == NATIVE:
            return self.native(told)
        if kind == HOST:
            (layout,) = fields(told, 1)
            return self.host(layout)
        if kind == REFERENCE:
            (described,) = fields(told, 1)
            return self.reference(text(described))
        if kind == LATE and self.rebuilder is not None:
            number, names = fields(told, 2)
            return self.rebuilder.late(whole(number, 0), listed(names, text))
        if kind == REBUILT and self.rebuilder is not None:
            number, described = fields(told, 2)
            return self.rebuilder.lazy(whole(number, 0), text(described))
        raise ValueError("an executable of an unknown kind")

    def native(self, record: object) -> NativeGraph:
        described, count, coded = fields(record, 3)
        description = text(described)
        spec = records.decode(coded, whole(count, 0))
        image = next(self.images, None)
        constants = [piece for _, piece in zip(range(count), self.pieces, strict=False)]
        if self.team is None or image is None or len(constants) < count:
            raise ValueError("the code or the constants of a step are missing")
        program = execution.Program(spec, Image.from_bytes(image), self.team, constants)
        return NativeGraph(program, self.threads, lambda: description)

    def host(self, record: object) -> HostGraph:
        inputs, slots, constants, calls, outputs = fields(record, 5)
        count = whole(slots, 1, 1 << 32)

        def slot(item: object) -> int:
            return whole(item, 0, count)

        def constant(item: object) -> tuple[int, Any]:
            place, value = fields(item, 2)
            return slot(place), restored(value, self.pieces)

        def call(item: object) -> Call:
            domain, operator, since, name, attributes, reads, writes = fields(item, 7)
            known = dict(listed(attributes, self.named))
            told = text(domain), text(operator), whole(since, 0), text(name), known
            return Call(*told, listed(reads, slot), listed(writes, slot))

        known = dict(listed(constants, constant))
        layout = Layout(whole(inputs, 0, count), count, known, listed(calls, call), listed(outputs, slot))
        try:
            return HostGraph(layout)
        except SardonyxError as error:
            raise ValueError(f"an invalid graph of host operators: {error}") from error

    def reference(self, described: str) -> Executable:
        piece = next(self.pieces, None)
        if piece is None:
            raise ValueError("the nodes of a graph are missing")

        def make() -> Executable:
            from sardonyx.providers.reference import ReferenceExecutable

            return ReferenceExecutable.from_bytes(piece.tobytes())

        return Lazy(make, described)
