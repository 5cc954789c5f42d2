"""Devices and their memory, as ONNX Runtime's interface describes them. Those that providers bring can be used; others can only be
described.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from msgspec import Struct, field

from sardonyx.providers import registry
from sardonyx.providers.base import ExecutionProvider
from sardonyx.runtime.device import Device
from sardonyx.session.device_enums import (
    OrtAllocatorType,
    OrtDeviceMemoryType,
    OrtDeviceVendorId,
    OrtHardwareDeviceType,
    OrtMemoryInfoDeviceType,
    OrtMemType,
)

_NUMBERS = {"cpu": 0, "cuda": 1, "gpu": 1, "webgpu": 1, "cann": 3, "npu": 3, "dml": 4}
_VENDORS = {
    "cuda": OrtDeviceVendorId.NVIDIA,
    "dml": OrtDeviceVendorId.MICROSOFT,
    "cann": OrtDeviceVendorId.HUAWEI,
    "webgpu": OrtDeviceVendorId.NONE,
}
_ELSEWHERE = "Can't allocate memory on the device using this package. Models run on the CPU; device_type is 'cpu'."


class OrtDevice:
    """A device: its type, memory type, vendor and number."""

    __slots__ = ("_device_id", "_mem_type", "_type", "_vendor")

    def __init__(self, *what: Any) -> None:
        """Describe a device. what: another OrtDevice, or (type, memory type, number), or (type, memory type, vendor, number).
        Raises ValueError for other arguments.
        """
        if len(what) == 1 and isinstance(what[0], OrtDevice):
            given = what[0]
            what = given._type, given._mem_type, given._vendor, given._device_id
        elif len(what) == 3:
            what = what[0], what[1], 0, what[2]
        if len(what) != 4 or not all(isinstance(number, int) for number in what):
            raise ValueError("`Provided object` needs to be of type `OrtDevice`")
        numbers = [int(number) for number in what]
        if numbers[0] == OrtDevice.dml():  # DirectML: a GPU that is named by its interface
            numbers[0], numbers[2] = OrtDevice.gpu(), int(OrtDeviceVendorId.MICROSOFT)
        self._type: int = numbers[0]
        self._mem_type: int = numbers[1]
        self._vendor: int = numbers[2]
        self._device_id: int = numbers[3]

    @staticmethod
    def make(ort_device_name: str, device_id: int, vendor_id: int = -1) -> OrtDevice:
        """Return the device of this name: cpu, cuda, gpu, npu, dml, cann, webgpu, or one that a provider brings. Raises Exception
        for other names, as ONNX Runtime does.
        """
        if ort_device_name not in _NUMBERS:
            there = [device for device in registry.devices() if device.name == ort_device_name]
            if not there:
                raise Exception(f"Unsupported device type: {ort_device_name}")
            return OrtDevice(there[0].kind, 0, vendor_id if vendor_id >= 0 else there[0].vendor_id, device_id)
        vendor = int(vendor_id) if vendor_id >= 0 else int(_VENDORS.get(ort_device_name, 0))
        return OrtDevice(_NUMBERS[ort_device_name], 0, vendor, device_id)

    def device_id(self) -> int:
        """Return the device's number among the devices of its type."""
        return self._device_id

    def device_type(self) -> int:
        """Return the type: 0 for CPU, 1 for GPU, 2 for FPGA, 3 for NPU."""
        return self._type

    def device_vendor_id(self) -> int:
        """Return the vendor, see OrtDeviceVendorId."""
        return self._vendor

    vendor_id = device_vendor_id

    def device_mem_type(self) -> int:
        """Return the memory type; 0 is the device's own memory."""
        return self._mem_type

    mem_type = device_mem_type

    def _get_c_device(self) -> OrtDevice:
        return self

    @staticmethod
    def cpu() -> int:
        """Return the number of the device type CPU; the methods after it return those of other types."""
        return 0

    @staticmethod
    def cuda() -> int:
        return 1

    gpu = webgpu = cuda

    @staticmethod
    def fpga() -> int:
        return 2

    @staticmethod
    def npu() -> int:
        return 3

    cann = npu

    @staticmethod
    def dml() -> int:
        return 4

    @staticmethod
    def default_memory() -> int:
        """Return the memory type of a device's own memory."""
        return 0


def require_cpu(device: OrtDevice) -> None:
    """Raise RuntimeError for a device that is not the CPU."""
    if device.device_type() != OrtDevice.cpu():
        raise RuntimeError(_ELSEWHERE)


def device_named(name: str, number: int) -> Device | None:
    """Return the device of a provider with this name and number; None if there is none, as for the CPU."""
    if name == "cpu":
        return None
    return next((device for device in registry.devices() if (device.name, device.number) == (name, number)), None)


def device_of(described: OrtDevice, required: bool = True) -> Device | None:
    """Return the device of a provider that is described; None for the CPU. If there is none, raise RuntimeError, or return None
    unless it is required.
    """
    if described.device_type() == OrtDevice.cpu():
        return None
    wanted = described.device_type(), described.device_id()
    for device in registry.devices():
        if (device.kind, device.number) == wanted and described.device_vendor_id() in (0, device.vendor_id):
            return device
    if required:
        raise RuntimeError(_ELSEWHERE)
    return None


class OrtMemoryInfo:
    """A memory: its name, device and kind. Raises RuntimeError for an unknown name."""

    _names: ClassVar[tuple[str, ...]] = ("Cpu", "Cuda", "CudaPinned", "Cann", "CannPinned", "DML", "OpenVINO_CPU", "WebGPU_Buffer")

    def __init__(self, name: str, allocator_type: OrtAllocatorType, device_id: int, mem_type: OrtMemType) -> None:
        if name not in self._names:
            raise RuntimeError("Specified device is not supported. Try CreateMemoryInfo_V2.")
        self.name, self.allocator_type, self.device_id, self.mem_type = name, allocator_type, device_id, mem_type
        self.device_mem_type = OrtDeviceMemoryType.DEFAULT
        self.device_vendor_id = 0

    @classmethod
    def create_v2(
        cls,
        name: str,
        device_type: OrtMemoryInfoDeviceType,
        vendor_id: int,
        device_id: int,
        device_mem_type: OrtDeviceMemoryType,
        alignment: int,
        allocator_type: OrtAllocatorType,
    ) -> OrtMemoryInfo:
        """Describe a memory of any name and vendor."""
        made = cls("Cpu", allocator_type, device_id, OrtMemType.DEFAULT)
        made.name, made.device_vendor_id, made.device_mem_type = name, vendor_id, device_mem_type
        if device_mem_type == OrtDeviceMemoryType.HOST_ACCESSIBLE:
            made.mem_type = OrtMemType.CPU_OUTPUT
        return made


def cpu_memory() -> OrtMemoryInfo:
    """Return the memory in which inputs and outputs lie."""
    return OrtMemoryInfo("Cpu", OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, OrtMemType.DEFAULT)


class OrtArenaCfg:
    """How an arena grows; -1 leaves a number to the runtime.

    OrtArenaCfg(max_mem, arena_extend_strategy, initial_chunk_size_bytes, max_dead_bytes_per_chunk), or OrtArenaCfg({name:
    number}). Raises RuntimeError for an unknown name.
    """

    def __init__(self, *figures: Any) -> None:
        self.max_mem = 0
        self.arena_extend_strategy = self.initial_chunk_size_bytes = self.max_dead_bytes_per_chunk = -1
        self.initial_growth_chunk_size_bytes = self.max_power_of_two_extend_bytes = -1
        names = ("max_mem", "arena_extend_strategy", "initial_chunk_size_bytes", "max_dead_bytes_per_chunk")
        if len(figures) == 1 and isinstance(figures[0], dict):
            given = figures[0]
        elif len(figures) == len(names):
            given = dict(zip(names, figures, strict=True))
        else:
            raise TypeError(f"OrtArenaCfg takes four numbers or a dict, not {len(figures)} arguments")
        for name, figure in given.items():
            if name not in vars(self):
                raise RuntimeError(f"Invalid OrtArenaCfg option: {name}")
            setattr(self, name, int(figure))


class OrtHardwareDevice(Struct, frozen=True):
    """A hardware device, such as a CPU."""

    type: OrtHardwareDeviceType
    vendor: str
    vendor_id: int
    device_id: int = 0
    metadata: dict[str, str] = field(default_factory=dict)


class OrtSyncStream:
    """A device's queue of work. The CPU has none: `OrtEpDevice.create_sync_stream` raises NotImplemented."""

    def get_handle(self) -> int:
        """Return the queue's address."""
        return 0


class OrtEpDevice(Struct, frozen=True):
    """A provider together with a hardware device that it runs on."""

    ep_name: str
    ep_vendor: str
    device: OrtHardwareDevice
    ep_metadata: dict[str, str] = field(default_factory=dict)
    ep_options: dict[str, str] = field(default_factory=dict)

    def memory_info(self, kind: OrtDeviceMemoryType) -> OrtMemoryInfo | None:
        """Return the memory of this kind that the provider uses; None if there is none."""
        return cpu_memory() if kind == OrtDeviceMemoryType.DEFAULT else None

    def create_sync_stream(self) -> OrtSyncStream:
        """Raise NotImplemented: work on the CPU is complete when a run returns."""
        from sardonyx.base import errors

        raise errors.NotImplemented(f"{self.ep_name} has no streams: its work is done when a run returns.")


class OrtExternalInitializerInfo(Struct, frozen=True):
    """Where the data of an initializer lie: a file, by its path relative to the model, an offset and a length."""

    filepath: str
    file_offset: int
    byte_size: int


def get_ep_devices() -> list[OrtEpDevice]:
    """Return the installed providers, each with the hardware device that it runs on."""
    import platform

    from sardonyx import __version__

    names = {"x86_64": ("x86", OrtDeviceVendorId.NONE), "aarch64": ("ARM", OrtDeviceVendorId.ARM)}
    vendor, number = names.get(platform.machine(), (platform.machine(), OrtDeviceVendorId.NONE))
    hardware = OrtHardwareDevice(OrtHardwareDeviceType.CPU, vendor, int(number))
    found = [OrtEpDevice(registry.CPU, "Sardonyx", hardware, {"version": __version__})]
    for name in registry.names():
        if name not in registry.OWN:
            found += [OrtEpDevice(name, "", described) for described in hardware_of(registry.create(name, {}), hardware)]
    return found


def hardware_of(provider: ExecutionProvider, cpu: OrtHardwareDevice) -> list[OrtHardwareDevice]:
    """Return the hardware that a provider runs on: its devices, or the CPU if it has none."""
    kinds = {OrtDevice.gpu(): OrtHardwareDeviceType.GPU, OrtDevice.npu(): OrtHardwareDeviceType.NPU}
    return [
        OrtHardwareDevice(kinds.get(device.kind, OrtHardwareDeviceType.GPU), device.name, device.vendor_id, device.number)
        for device in provider.devices()
    ] or [cpu]


def create_and_register_allocator(memory: OrtMemoryInfo, arena: OrtArenaCfg | None) -> None:
    """Do nothing: sessions share the process's allocator. Raises RuntimeError for the memory of another device than the CPU."""
    if memory.name != "Cpu":
        raise RuntimeError(f"Error when creating and registering allocator: {_ELSEWHERE}")


def create_and_register_allocator_v2(
    provider_type: str, memory: OrtMemoryInfo, options: Mapping[str, str], arena: OrtArenaCfg | None
) -> None:
    """Do nothing, as `create_and_register_allocator`. Raises RuntimeError for a provider other than the CPU's."""
    if provider_type != registry.CPU:
        raise RuntimeError(
            "Error when creating and registering allocator in create_and_register_allocator_v2: "
            f"{provider_type} is not implemented in CreateAndRegisterAllocatorV2()"
        )
    create_and_register_allocator(memory, arena)


def register_execution_provider_library(name: str, path: str) -> None:
    """Raise Fail: native providers need ONNX Runtime's C interface, which this runtime does not have."""
    from sardonyx.base.errors import Fail

    raise Fail(f"Failed to load library {path}: provider {name} is a native library for ONNX Runtime, which cannot be loaded here.")


def unregister_execution_provider_library(name: str) -> None:
    """Raise InvalidArgument: no library can have been registered."""
    from sardonyx.base.errors import InvalidArgument

    raise InvalidArgument(f"Execution provider library: {name} was not registered.")


def memory_infos(count: int) -> Sequence[OrtMemoryInfo]:
    """Return the memory of each of `count` inputs or outputs."""
    return [cpu_memory()] * count
