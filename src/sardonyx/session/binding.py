"""IOBinding: inputs and outputs that stay bound to memory from run to run; outputs are written directly into the user's arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.base import dtypes
from sardonyx.base.errors import SardonyxError
from sardonyx.providers.base import copied_into
from sardonyx.runtime.arrays import Array, address_of
from sardonyx.runtime.device import Buffer, Copies, Device, Target, Tensor, home
from sardonyx.runtime.dlpack import at_address
from sardonyx.runtime.mapped import is_mapped
from sardonyx.session.devices import OrtDevice, device_named, device_of
from sardonyx.session.feeds import InputSpec
from sardonyx.session.values import OrtValue, OrtValueVector, element_dtype, prepared

if TYPE_CHECKING:
    from sardonyx.session.inference_session import InferenceSession
    from sardonyx.session.options import RunOptions


class IOBinding:
    """Binds a session's inputs to values and its outputs to memory, for `InferenceSession.run_with_iobinding`.

    Compiled code writes a bound output directly into its memory, unless that memory overlaps an input or another output: then
    the output is computed elsewhere and copied. Errors are RuntimeErrors, as in ONNX Runtime.
    """

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._inputs: dict[str, OrtValue] = {}
        self._outputs: dict[str, OrtValue | Device | None] = {}
        self._raw: list[tuple[str, Array, bool]] = []
        self._results: list[OrtValue] = []
        self._checked = False  # are the attributes below up to date?
        self._feed: dict[str, Any] = {}
        self._names: tuple[str, ...] = ()
        self._bound: list[OrtValue] | None = None  # all outputs, if each of them is bound to memory
        self._direct: dict[str, Target] = {}  # written there by the run
        self._copied: dict[str, Tensor] = {}  # copied there after the run

    # ---- inputs -------------------------------------------------------------------------------------------------------------

    def bind_cpu_input(self, name: str, arr_on_cpu: Any) -> None:
        """Bind an input to an array. Runs see later changes of the array, unless it had to be copied (strings, and arrays that
        aren't contiguous).

        Raises RuntimeError for an unknown name, for sequences and maps, and for a value that is no array.
        """
        spec = self._input(name)
        if not spec.type.startswith(("tensor(", "optional(tensor(")):
            raise RuntimeError("Only binding Tensors is currently supported")
        if isinstance(arr_on_cpu, OrtValue):
            self._bind_input(name, arr_on_cpu)
            return
        if not isinstance(arr_on_cpu, np.ndarray | np.generic):
            raise RuntimeError(f"Unable to create OrtValue from the given python object: a {type(arr_on_cpu).__name__}")
        self._bind_input(name, OrtValue._of(prepared(np.asarray(arr_on_cpu))))

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Sequence[int], buffer_ptr: int
    ) -> None:
        """Bind an input to memory at an address, which the caller keeps allocated.

        element_type: a numpy type, or a number of TensorProto.DataType. shape: sizes of the tensor. Raises RuntimeError for a
        device that isn't there or takes no addresses, and for memory that isn't mapped.
        """
        self._input(name)
        self._bind_input_at(name, found_device(OrtDevice.make(device_type, device_id), "input"), element_type, shape, buffer_ptr)

    def _bind_input_at(self, name: str, device: Device | None, element_type: Any, shape: Sequence[int], buffer_ptr: int) -> None:
        if device is not None:
            self._bind_input(name, OrtValue._of(buffer_at(device, element_type, shape, buffer_ptr)))
            return
        array = array_at(element_type, shape, buffer_ptr, write=False)
        self._bind_input(name, OrtValue._of(array))
        self._raw.append((name, array, False))

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """Bind an input to an OrtValue."""
        self._input(name)
        self._bind_input(name, ortvalue._get_c_value())

    def _bind_input(self, name: str, value: OrtValue) -> None:
        self._raw = [entry for entry in self._raw if entry[0] != name or entry[2]]
        self._inputs[name] = value
        self._checked = False

    def _input(self, name: str) -> InputSpec:
        feeds = self._session._feeds
        for spec in (*feeds.inputs, *feeds.overridable.values()):
            if spec.name == name:
                return spec
        raise RuntimeError(f"Failed to find NodeArg with name: {name} in the def list")

    def clear_binding_inputs(self) -> None:
        """Unbind all inputs."""
        self._inputs.clear()
        self._raw = [entry for entry in self._raw if entry[2]]
        self._checked = False

    def synchronize_inputs(self) -> None:
        """Wait until the devices of the bound inputs have done their work."""
        synchronize(self._inputs.values())

    # ---- outputs ------------------------------------------------------------------------------------------------------------

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Request an output: in new memory of the device at each run, or, with `buffer_ptr`, in its memory at that address, which
        the caller keeps allocated.

        Raises ValueError for an address without type and shape, RuntimeError for memory that isn't mapped or is read-only, and
        for an address on a device that isn't there or takes none. New memory on a device that isn't there is the CPU's. Whether
        shape and type match the output is checked when it is run.
        """
        described = OrtDevice.make(device_type, device_id)
        if buffer_ptr is None:
            self._bind_output(name, device_named(device_type, device_id))
            return
        if element_type is None or shape is None:
            raise ValueError("`element_type` and `shape` are to be provided if pre-allocated memory is provided")
        self._bind_output_at(name, found_device(described, "output"), element_type, shape, buffer_ptr)

    def _bind_output_at(self, name: str, device: Device | None, element_type: Any, shape: Sequence[int], buffer_ptr: int) -> None:
        if device is not None:
            self._bind_output(name, OrtValue._of(buffer_at(device, element_type, shape, buffer_ptr)))
            return
        array = array_at(element_type, shape, buffer_ptr, write=True)
        self._bind_output(name, OrtValue._of(array))
        self._raw.append((name, array, True))

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Request an output in a tensor's memory. Raises RuntimeError if the memory is read-only, or the value is no tensor of
        numbers.
        """
        value = ortvalue._get_c_value()
        tensor = value._value
        if not isinstance(tensor, np.ndarray | Buffer) or tensor.dtype == object:
            raise RuntimeError(f"Output {name} can only be bound to a tensor of numbers, not to {value.data_type()}.")
        if isinstance(tensor, np.ndarray) and not tensor.flags.writeable:
            raise RuntimeError(f"The memory that output {name} is bound to is read-only.")
        self._bind_output(name, value)

    def _bind_output(self, name: str, value: OrtValue | Device | None) -> None:
        self._raw = [entry for entry in self._raw if entry[0] != name or not entry[2]]
        self._outputs[name] = value
        self._checked = False

    def clear_binding_outputs(self) -> None:
        """Unbind all outputs, and drop the results of the last run."""
        self._outputs.clear()
        self._results = []
        self._raw = [entry for entry in self._raw if not entry[2]]
        self._checked = False

    def synchronize_outputs(self) -> None:
        """Wait until the devices of the last run's outputs have done their work; outputs on the CPU are complete when it returns."""
        synchronize(self._results)

    def get_outputs(self) -> list[OrtValue]:
        """Return the outputs of the last run, in the order in which they were bound; a bound output shares its memory."""
        return [OrtValue(value) for value in self._results]

    def get_outputs_as_ortvaluevector(self) -> OrtValueVector:
        """Return the outputs of the last run as an OrtValueVector."""
        return OrtValueVector(self._results)

    def copy_outputs_to_cpu(self) -> list[Any]:
        """Return the outputs of the last run as `InferenceSession.run` does; outputs bound to memory are copied."""
        return [
            value.numpy() if isinstance(value._value, Buffer) else value._value.copy() if bound is value else value._value
            for bound, value in zip(self._outputs.values(), self._results, strict=False)
        ]

    # ---- running ------------------------------------------------------------------------------------------------------------

    def _run(self, run_options: RunOptions | None) -> None:
        """Run the session on what is bound. Raises RuntimeError for bindings that don't fit, and for errors of the run."""
        if not self._outputs:
            raise RuntimeError("Error in execution: At least one output should be requested.")
        try:
            if not self._checked:
                self._check()
            for name, array, write in self._raw:
                require_mapped(name, array, write)
            made = self._session._run_into(self._names, self._feed, self._direct, run_options)
            for name, target in self._copied.items():
                copied_into(made[self._names.index(name)], target, name)
        except SardonyxError as error:
            raise RuntimeError(f"Error in execution: {error.detail}") from error
        except ValueError as error:
            raise RuntimeError(f"Error in execution: {error}") from error
        if self._bound is not None:
            self._results = self._bound
            return
        kinds = self._session._kinds
        self._results = [
            bound if isinstance(bound, OrtValue) else OrtValue._of(Copies(value).on(bound), kinds.get(name, ""))
            for (name, bound), value in zip(self._outputs.items(), made, strict=True)
        ]

    def _check(self) -> None:
        """Sort the bound outputs into those that the run may write in place and those that have to be copied.

        Raises InvalidArgument for a rank, size or dtype that the model rules out.
        """
        on_devices = self._session._feeds.on_devices
        bound = {name: value._value for name, value in self._outputs.items() if isinstance(value, OrtValue)}
        devices = {name: value for name, value in self._outputs.items() if isinstance(value, Device)}
        for output in self._session.get_outputs():
            if output.name in bound:
                check_target(output.name, output.type, output.shape, bound[output.name])
        inputs = [value._value for value in self._inputs.values() if isinstance(value._value, np.ndarray | Buffer)]
        shared = overlapping(list(bound.values()), inputs)
        self._feed = {name: value._value for name, value in self._inputs.items()}
        self._names = tuple(self._outputs)
        whole = [value for value in self._outputs.values() if isinstance(value, OrtValue)]
        self._bound = whole if len(whole) == len(self._names) else None
        apart = {name: tensor for name, tensor in bound.items() if id(tensor) not in shared}
        self._direct = {name: tensor for name, tensor in apart.items() if on_devices or home(tensor) is None}
        self._copied = {name: tensor for name, tensor in bound.items() if name not in self._direct}
        if on_devices:  # what is copied within a device stays there
            self._direct |= devices | {name: tensor.device for name, tensor in self._copied.items() if isinstance(tensor, Buffer)}
        self._checked = True


class SessionIOBinding(IOBinding):
    """IOBinding with the arguments of ONNX Runtime's inner class, which takes a device instead of its name and number."""

    def bind_input(self, name: str, *what: Any) -> None:
        """Bind an input. what: an array; or a device, an element type, a shape and an address."""
        if len(what) == 1:
            self.bind_cpu_input(name, what[0])
            return
        device, element_type, shape, address = what
        self._input(name)
        self._bind_input_at(name, found_device(device, "input"), element_type, shape, address)

    def bind_output(self, name: str, device: OrtDevice, *what: Any) -> None:  # type: ignore[override]
        """Request an output. what: nothing; or an element type, a shape and an address."""
        if what:
            self._bind_output_at(name, found_device(device, "output"), *what)
        else:
            self._bind_output(name, device_of(device, required=False))


def found_device(described: OrtDevice, end: str) -> Device | None:
    """Return a provider's device; None for the CPU. Raises RuntimeError if there is none. end: "input" or "output", for the
    message.
    """
    found = device_of(described, required=False)
    if found is None and described.device_type() != OrtDevice.cpu():
        raise RuntimeError(f"Error when binding {end}: no provider here has a device of type {described.device_type()}.")
    return found


def buffer_at(device: Device, element_type: Any, shape: Sequence[int], address: int) -> Buffer:
    """Return the tensor at an address on a device. Raises RuntimeError for strings, negative sizes, and memory that isn't there."""
    dtype, sizes = form_of(element_type, shape)
    return Buffer(device, sizes, dtype.numpy, device.adopt(address, math.prod(sizes) * dtype.itemsize))


def form_of(element_type: Any, shape: Sequence[int]) -> tuple[dtypes.DType, tuple[int, ...]]:
    """Return dtype and sizes of a tensor to bind. Raises RuntimeError for strings and negative sizes."""
    dtype = element_dtype(element_type)
    if dtype is dtypes.string:
        raise RuntimeError("Only binding non-string Tensors is currently supported")
    sizes = tuple(int(size) for size in shape)
    if any(size < 0 for size in sizes):
        raise RuntimeError(f"shape.Size() must >=0, not that of {list(sizes)}")
    return dtype, sizes


def synchronize(values: Iterable[OrtValue]) -> None:
    """Wait for the devices that have these values."""
    for device in {id(v._value.device): v._value.device for v in values if isinstance(v._value, Buffer)}.values():
        device.synchronize()


def array_at(element_type: Any, shape: Sequence[int], address: int, write: bool) -> Array:
    """Return the array at an address. Raises RuntimeError for strings, negative sizes, and memory that isn't mapped or can't be
    written.
    """
    dtype, sizes = form_of(element_type, shape)
    size = math.prod(sizes) * dtype.itemsize
    if not is_mapped(address, size, write):
        raise RuntimeError(
            f"Pointer to data memory is not valid: {size} bytes at {address:#x} can't be {'written' if write else 'read'}"
        )
    if address % dtype.numpy.alignment:
        raise RuntimeError(f"Pointer to data memory is not valid: {address:#x} is no multiple of {dtype.numpy.alignment}")
    return at_address(address, sizes, dtype.numpy)


def require_mapped(name: str, array: Array, write: bool) -> None:
    """Raise RuntimeError if the memory is no longer mapped."""
    if not is_mapped(address_of(array), array.nbytes, write):
        raise RuntimeError(
            f"Error in execution: the memory that {name} is bound to, at {address_of(array):#x}, is not there any more."
        )


def check_target(name: str, kind: str, sizes: Sequence[int | str | None], target: Tensor) -> None:
    """Raise InvalidArgument for a tensor whose dtype, rank or fixed sizes don't match the output."""
    from sardonyx.base.errors import InvalidArgument

    found = f"tensor({dtypes.from_numpy(target.dtype).onnx_name})"
    if kind and found != kind:
        raise InvalidArgument(f"Unexpected output data type. Actual: ({found}) , expected: ({kind})")
    if not sizes:
        return
    spec = InputSpec(name, kind, None, tuple(size if isinstance(size, int) else None for size in sizes))
    try:
        spec.check_sizes(target.shape)
    except InvalidArgument as error:
        raise InvalidArgument(error.detail.replace("for input:", "for output:")) from None


def overlapping(targets: Sequence[Tensor], inputs: Sequence[Tensor]) -> set[int]:
    """Return the ids of targets whose memory overlaps an input or another target."""
    spans = sorted(
        (*span_of(tensor), id(tensor), is_target)
        for tensors, is_target in ((targets, True), (inputs, False))
        for tensor in tensors
        if tensor.nbytes
    )
    found: set[int] = set()
    open_spans: list[tuple[int, int, int, int, bool]] = []
    for span in spans:
        memory, start = span[:2]
        open_spans = [before for before in open_spans if before[0] == memory and before[2] > start]
        for before in open_spans:
            found.update(one[3] for one in (before, span) if one[4] and (before[4] or span[4]))
        open_spans.append(span)
    return found


def span_of(tensor: Tensor) -> tuple[int, int, int]:
    """Return where a tensor is: a number for the memory, where it begins there, and where it ends. Memory of a device without
    addresses overlaps only itself.
    """
    if not isinstance(tensor, Buffer):
        start = address_of(tensor)
        return 0, start, start + tensor.nbytes
    if isinstance(tensor.memory, int):
        return id(tensor.device), tensor.memory, tensor.memory + tensor.nbytes
    return id(tensor.device), id(tensor.memory), id(tensor.memory) + 1
