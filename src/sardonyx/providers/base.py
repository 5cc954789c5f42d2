"""What a provider is: something that can run parts of a graph."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from sardonyx.base.context import QUIET, RunContext
from sardonyx.base.errors import InvalidArgument
from sardonyx.base.options import CompileOptions
from sardonyx.runtime.arrays import Array
from sardonyx.runtime.execution import misfit

if TYPE_CHECKING:
    from sardonyx.graph import onnx_ir as ir


class Executable(abc.ABC):
    """A compiled graph. Several threads may run it at once."""

    @abc.abstractmethod
    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        """The graph's outputs, in its order, for its inputs, in its order.

        inputs: arrays that are C-contiguous, aligned and in native byte order, of the declared element type; lists for
        sequences, dicts for maps, None for optionals that are empty. Strings are object arrays of str. Sizes are not checked:
        an executable that relies on one has to look. The arrays returned are the caller's to keep.
        Raises Fail or InvalidArgument naming the node; Fail if `context.check()` says that the run is to end.
        """

    def replay(self, inputs: list[Any], outputs: Sequence[Array | None] | None = None) -> list[Any] | None:
        """The outputs, if the inputs are arrays whose dtypes and shapes those of a run before were; None if not, or if that can't be told.

        inputs: objects that nobody has looked at yet. outputs: as in `run_into`. Raises Fail or InvalidArgument as `run` does.
        """
        return None

    def run_into(self, inputs: Sequence[Any], outputs: Sequence[Array | None], context: RunContext = QUIET) -> list[Any]:
        """As `run`, with arrays into which outputs are written, None for those that are to be made.

        An array is C-contiguous, writable, and shares no memory with inputs or with another. Raises InvalidArgument if an output has another
        shape or dtype. Here outputs are copied; executables that can write them in place do.
        """
        return [copied_into(made, given) for made, given in zip(self.run(inputs, context), outputs, strict=True)]

    def assignment(self) -> Sequence[Any]:
        """Who runs the nodes inside, as `session.metadata.OrtEpAssignedSubgraph`, as far as only runs could tell."""
        return ()

    @abc.abstractmethod
    def describe(self) -> str:
        """What the compiler made of the graph, for people."""

    def to_bytes(self) -> bytes | None:
        """The executable as bytes from which the reference makes it again; None if it isn't one of the reference's."""
        return None

    def close(self) -> None:
        """Gives back memory. The executable is not run afterwards."""
        return


def copied_into(made: Any, given: Array | None) -> Any:
    """The output that was made, or the given array with its numbers. Raises InvalidArgument if they differ in shape or dtype."""
    if given is None:
        return made
    if made.shape != given.shape or made.dtype != given.dtype:
        raise InvalidArgument(misfit("", given, made.shape))
    given[...] = made
    return given


class ExecutionProvider(abc.ABC):
    """Claims nodes of a graph and compiles the sub-graphs made of them."""

    name: ClassVar[str]

    def __init__(self, options: Mapping[str, str] | None = None) -> None:
        self.options = dict(options or {})

    def knows(self, domain: str, name: str) -> bool:
        """Has the provider this operator, although the standard has not? (com.microsoft and the like.)"""
        return False

    @abc.abstractmethod
    def get_capability(self, graph: ir.Graph, options: CompileOptions) -> list[list[ir.Node]]:
        """Groups of the graph's nodes that the provider can run; each becomes a sub-graph, or several where one would not be legal."""

    def get_late_capability(self, graph: ir.Graph, options: CompileOptions) -> list[list[ir.Node]]:
        """Groups of further nodes, which the provider can perhaps compile once a run has brought ranks, types and sizes of what they read.

        Asked after `get_capability`, of the same graph; served after what all providers claimed outright.
        """
        return []

    @abc.abstractmethod
    def compile(self, graph: ir.Graph, options: CompileOptions) -> Executable:
        """Compiles a self-contained graph: it reads its inputs and initializers only, and imports its opsets itself.

        Raises Unsupported, naming the node, if it can't be done after all.
        """
