"""The interface of a provider, which runs parts of a graph."""

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
        """Run the graph. inputs, and the returned outputs, are in the graph's order.

        inputs: arrays that are C-contiguous, aligned, in native byte order and of the declared dtype; lists for sequences,
        dicts for maps, None for empty optionals. Strings are object arrays of str. Sizes are not checked: an executable that
        relies on one has to check it. The caller owns the returned arrays.

        Raises Fail or InvalidArgument naming the node; Fail if `context.check()` says that the run has to end.
        """

    def replay(self, inputs: list[Any], outputs: Sequence[Array | None] | None = None) -> list[Any] | None:
        """Return the outputs if the inputs are arrays with the dtypes and shapes of an earlier run; None if they aren't, or if
        that can't be told.

        inputs: unchecked objects. outputs: as in `run_into`. Raises Fail or InvalidArgument as `run` does.
        """
        return None

    def run_into(self, inputs: Sequence[Any], outputs: Sequence[Array | None], context: RunContext = QUIET) -> list[Any]:
        """Like `run`, but write outputs into the given arrays; None stands for an output that is allocated.

        The arrays are C-contiguous, writable, and share no memory with inputs or with each other. Raises InvalidArgument if
        an output has another shape or dtype. This default implementation copies outputs; executables that can write them in
        place override it.
        """
        return [copied_into(made, given) for made, given in zip(self.run(inputs, context), outputs, strict=True)]

    def assignment(self) -> Sequence[Any]:
        """Return which provider runs the nodes inside, as `session.metadata.OrtEpAssignedSubgraph`, for nodes that only runs
        assign.
        """
        return ()

    @abc.abstractmethod
    def describe(self) -> str:
        """Describe for people what the compiler made of the graph."""

    def to_bytes(self) -> bytes | None:
        """Return the executable as bytes from which the reference provider can rebuild it; None if it isn't an executable of the
        reference.
        """
        return None

    def close(self) -> None:
        """Free memory. The executable is not run afterwards."""
        return


def copied_into(made: Any, given: Array | None) -> Any:
    """Copy an output into the given array and return that; return the output itself for None. Raises InvalidArgument if shape or
    dtype differ.
    """
    if given is None:
        return made
    if made.shape != given.shape or made.dtype != given.dtype:
        raise InvalidArgument(misfit("", given, made.shape))
    given[...] = made
    return given


class ExecutionProvider(abc.ABC):
    """Claims nodes of a graph and compiles the sub-graphs made of them.

    options: the provider's own, {name: text}. A subclass checks them when it is made and raises InvalidArgument for wrong ones.
    """

    name: ClassVar[str]

    def __init__(self, options: Mapping[str, str] | None = None) -> None:
        self.options = dict(options or {})

    def knows(self, domain: str, name: str) -> bool:
        """Does the provider have this operator, which the standard lacks (such as one of com.microsoft)?"""
        return False

    @abc.abstractmethod
    def get_capability(self, graph: ir.Graph, nodes: Sequence[ir.Node], options: CompileOptions) -> Sequence[Sequence[ir.Node]]:
        """Return groups of nodes that the provider can run. Each group becomes a sub-graph, or several if one would have a
        cycle.

        graph: the whole graph, which must not be changed. nodes: its nodes that no earlier provider has claimed, in the graph's
        order; only these may be claimed.
        """

    def get_late_capability(
        self, graph: ir.Graph, nodes: Sequence[ir.Node], options: CompileOptions
    ) -> Sequence[Sequence[ir.Node]]:
        """Return groups of further nodes that the provider can perhaps compile when a run has determined ranks, dtypes and sizes
        of their inputs.

        Called after `get_capability`, for the same graph, with the nodes that are still unclaimed.
        """
        return []

    @abc.abstractmethod
    def compile(self, graph: ir.Graph, options: CompileOptions) -> Executable:
        """Compile a self-contained graph, which reads only its inputs and initializers and has its own opset imports.

        Raises Unsupported, naming the node, if it can't be compiled after all.
        """
