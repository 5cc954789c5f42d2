"""A second device in the tests: memory that numpy can't see, which is poisoned when it is freed, and copies that are counted."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from sardonyx.base.context import QUIET, RunContext
from sardonyx.base.errors import Fail, InvalidArgument, Unsupported
from sardonyx.base.options import CompileOptions
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.reference.interpreter import Interpreter
from sardonyx.providers.base import Executable, ExecutionProvider, copied_into
from sardonyx.runtime.arrays import Array
from sardonyx.runtime.device import Buffer, Device

STALE, FRESH = 0xDD, 0xAB


class CountingDevice(Device):
    """A device whose addresses lead nowhere for the CPU. limit: the most bytes that may be allocated at once."""

    kind = 3

    def __init__(self, name: str, number: int = 0) -> None:
        self.name, self.number = name, number
        self.limit = 1 << 20
        self.counts: Counter[str] = Counter()
        self._pieces: dict[int, Array] = {}
        self._freed: list[Array] = []
        self._addresses = itertools.count(1 << 40, 1 << 24)
        self._lock = threading.Lock()

    def allocate(self, size: int) -> int:
        assert size > 0
        with self._lock:
            if self.held() + size > self.limit:
                raise MemoryError(f"{size} bytes more than the device has")
            address = next(self._addresses)
            self._pieces[address] = np.full(size, FRESH, np.uint8)
            return address

    def free(self, memory: int) -> None:
        with self._lock:
            piece = self._pieces.pop(memory)  # a KeyError if it was freed before
            piece[:] = STALE
            self._freed.append(piece)

    def piece(self, memory: int, size: int) -> Array:
        """The bytes at an address. Raises AssertionError unless they are allocated."""
        for start, piece in self._pieces.items():
            if start <= memory and memory + size <= start + piece.size:
                return piece[memory - start : memory - start + size]
        raise AssertionError(f"nothing is allocated at {memory:#x}")

    def view(self, tensor: Buffer) -> Array:
        """What a kernel on the device sees of a tensor."""
        assert tensor.device is self
        return self.piece(tensor.memory, tensor.nbytes).view(tensor.dtype).reshape(tensor.shape)

    def copy_in(self, source: Array, target: int) -> None:
        assert source.flags.c_contiguous
        self.counts["in"] += 1
        self.piece(target, source.nbytes)[:] = source.reshape(-1).view(np.uint8)

    def copy_out(self, source: int, target: Array) -> None:
        assert target.flags.c_contiguous
        self.counts["out"] += 1
        target.reshape(-1).view(np.uint8)[:] = self.piece(source, target.nbytes)

    def copy(self, source: int, target: int, size: int) -> None:
        self.counts["within"] += 1
        self.piece(target, size)[:] = self.piece(source, size)

    def synchronize(self) -> None:
        self.counts["synchronize"] += 1

    def adopt(self, address: int, size: int) -> int:
        try:
            self.piece(address, size)
        except AssertionError as error:
            raise RuntimeError(str(error)) from None
        return address

    def address(self, memory: int) -> int:
        return memory

    def held(self) -> int:
        """Bytes that are allocated."""
        return sum(piece.size for piece in self._pieces.values())

    @contextmanager
    def counted(self) -> Iterator[dict[str, int]]:
        """Count the copies inside: {"in": ..., "out": ..., "within": ...} without zeros."""
        self.counts.clear()
        found: dict[str, int] = {}
        yield found
        found.update({name: count for name, count in self.counts.items() if count and name != "synchronize"})


class OnDevice(Executable):
    """An interpreted graph whose tensors are on the device, but for those of int64, which it reads from the CPU's memory."""

    def __init__(self, graph: ir.Graph, device: CountingDevice) -> None:
        self.device: CountingDevice = device
        self.interpreter = Interpreter(graph, graph.opset_imports)
        self.on_cpu = [value.dtype == ir.DataType.INT64 for value in graph.inputs]

    def input_device(self, index: int) -> Device | None:
        return None if self.on_cpu[index] else self.device

    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        return [self.placed(x) for x in self.computed(inputs, context)]

    def run_into(self, inputs: Sequence[Any], outputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        made = self.computed(inputs, context)
        return [self.placed(x) if into is None else self.written(x, into) for x, into in zip(made, outputs, strict=True)]

    def computed(self, inputs: Sequence[Any], context: RunContext) -> list[Array]:
        for x, on_cpu in zip(inputs, self.on_cpu, strict=True):
            assert isinstance(x, np.ndarray if on_cpu else Buffer), f"a {type(x).__name__} in the wrong memory"
        return self.interpreter.run([self.device.view(x) if isinstance(x, Buffer) else x for x in inputs], context)

    def placed(self, array: Array) -> Buffer:
        return self.written(array, Buffer(self.device, array.shape, array.dtype))

    def written(self, array: Array, into: Buffer) -> Buffer:
        if array.shape != into.shape or array.dtype != into.dtype:
            return copied_into(array, into)  # type: ignore[no-any-return]  # raises
        self.device.view(into)[...] = array
        return into

    def describe(self) -> str:
        return f"interpreted on {self.device}"


class CountingProvider(ExecutionProvider):
    """Claims the operators that the option `operators` names, separated by commas. refuse: those that it then can't compile."""

    name = "CountingExecutionProvider"
    device = CountingDevice("counting")

    def __init__(self, options: Mapping[str, str] | None = None) -> None:
        super().__init__({"operators": "", "refuse": "", **(options or {})})
        for key in self.options.keys() - {"operators", "refuse"}:
            raise InvalidArgument(f"{self.name} has no option {key}")

    def devices(self) -> Sequence[Device]:
        return [self.device]

    def get_capability(self, graph: ir.Graph, nodes: Sequence[ir.Node], options: CompileOptions) -> list[list[ir.Node]]:
        return [[node for node in nodes if node.op_type in self.options["operators"].split(",")]]

    def compile(self, graph: ir.Graph, options: CompileOptions) -> Executable:
        for node in graph:
            if node.op_type in self.options["refuse"].split(","):
                raise Unsupported(f"{node.op_type} node {node.name} does not fit the device")
        if any(value.dtype == ir.DataType.STRING for value in graph.inputs):
            raise Fail("no text on the device")
        return OnDevice(graph, self.device)


class OtherProvider(CountingProvider):
    """The same with another device, for what goes from one device to another."""

    name = "OtherExecutionProvider"
    device = CountingDevice("other", 1)
