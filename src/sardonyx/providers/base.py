"""The interface of a provider, which runs parts of a graph."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sardonyx.base.context import QUIET, RunContext
from sardonyx.base.errors import InvalidArgument
from sardonyx.base.options import CompileOptions
from sardonyx.runtime.arrays import Array
from sardonyx.runtime.device import Buffer, Copies, Device, Target, Tensor, home, transfer
from sardonyx.runtime.execution import misfit

if TYPE_CHECKING:
    from sardonyx.graph import onnx_ir as ir


class Executable(abc.ABC):
    """A compiled graph. Several threads may run it at once.

    device: the device in whose memory tensors are taken and returned, as Buffers; None for the CPU's memory, as arrays.
    """

    device: Device | None = None

    def input_device(self, index: int) -> Device | None:
        """Return the device in whose memory this input is taken; by default `device`, for all inputs."""
        return self.device

    def output_device(self, index: int) -> Device | None:
        """Return the device in whose memory this output is returned; by default `device`, for all outputs."""
        return self.device

    @abc.abstractmethod
    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        """Run the graph. inputs, and the returned outputs, are in the graph's order, each in the memory of its device.

        inputs: arrays that are C-contiguous, aligned, in native byte order and of the declared dtype; lists for sequences,
        dicts for maps, None for empty optionals. Strings are object arrays of str. Sizes are not checked: an executable that
        relies on one has to check it. The caller owns the returned arrays and Buffers, which share no memory with the inputs.

        Raises Fail or InvalidArgument naming the node; Fail if `context.check()` says that the run has to end.
        """

    def replay(self, inputs: list[Any], outputs: Sequence[Array | None] | None = None) -> list[Any] | None:
        """Return the outputs if the inputs are arrays with the dtypes and shapes of an earlier run; None if they aren't, or if
        that can't be told.

        inputs: unchecked objects. outputs: as in `run_into`. Raises Fail or InvalidArgument as `run` does.
        """
        return None

    def run_into(self, inputs: Sequence[Any], outputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        """Like `run`, but write outputs into the given arrays and Buffers; None stands for an output that is allocated.

        Each is in the memory of its output's device. Arrays are C-contiguous and writable. They share no memory with inputs or
        with each other. Raises InvalidArgument if an output has another shape or dtype. This default implementation copies
        outputs; executables that can write them in place override it.
        """
        return [copied_into(made, given) for made, given in zip(self.run(inputs, context), outputs, strict=True)]

    def run_copies(self, inputs: Sequence[Copies], targets: Sequence[Target], context: RunContext) -> list[Copies]:
        """Run the graph on values wherever they are, copying those that are elsewhere than they are taken. An output is written
        into its target if that is a tensor in the memory where it is computed; else it is returned where it is.

        Executables that pass their inputs on to others override this, so that nothing is copied in between.
        """
        placed = [x.on(self.input_device(k)) for k, x in enumerate(inputs)]
        given = [
            target if isinstance(target, np.ndarray | Buffer) and home(target) is self.output_device(k) else None
            for k, target in enumerate(targets)
        ]
        if any(target is not None for target in given):
            made = self.run_into(placed, given, context)
        else:
            replayed = self.replay(placed) if context is QUIET else None
            made = self.run(placed, context) if replayed is None else replayed
        return [Copies(value) for value in made]

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


def copied_into(made: Any, given: Tensor | None, name: str = "") -> Any:
    """Copy an output into the given array or Buffer and return that; return the output itself for None. Raises InvalidArgument
    if shape or dtype differ.
    """
    if given is None:
        return made
    if made.shape != given.shape or made.dtype != given.dtype:
        raise InvalidArgument(misfit(name, given, made.shape))
    transfer(made, given)
    return given


class ExecutionProvider(abc.ABC):
    """Claims nodes of a graph and compiles the sub-graphs made of them.

    options: the provider's own, {name: text}. A subclass checks them when it is made and raises InvalidArgument for wrong ones.
    """

    name: ClassVar[str]
    claims_bodies: ClassVar[bool] = True
    """Is it asked about the nodes in bodies of If, Loop and Scan nodes that it does not claim? If it claims some of them, such a node is
    run by the session, and its bodies are divided among the providers."""

    def __init__(self, options: Mapping[str, str] | None = None) -> None:
        self.options = dict(options or {})

    def devices(self) -> Sequence[Device]:
        """Return the devices in whose memory executables take or return tensors, the same objects each time. A provider of the
        CPU has none.
        """
        return ()

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
