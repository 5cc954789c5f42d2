"""Enumerations of devices, memory and formats, named and numbered as in ONNX Runtime. Creating a session doesn't import this
file.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from sardonyx.session.enums import Named


class OrtAllocatorType(Named):
    """The kind of an allocator."""

    INVALID = -1
    ORT_DEVICE_ALLOCATOR = 0
    ORT_ARENA_ALLOCATOR = 1


class OrtMemType(Named):
    """The kind of a device's memory."""

    CPU_INPUT = -2
    CPU_OUTPUT = -1
    CPU = -1
    DEFAULT = 0


class OrtDeviceMemoryType(Named):
    """Whether the host can access a device's memory."""

    DEFAULT = 0
    HOST_ACCESSIBLE = 5


class OrtHardwareDeviceType(Named):
    """The kind of a device."""

    CPU = 0
    GPU = 1
    NPU = 2


class OrtMemoryInfoDeviceType(Named):
    """The kind of a device, numbered as in descriptions of memory."""

    CPU = 0
    GPU = 1
    NPU = 3
    FPGA = 2


class OrtExecutionProviderDevicePolicy(Named):
    """The policy by which a session chooses a provider."""

    DEFAULT = 0
    PREFER_CPU = 1
    PREFER_NPU = 2
    PREFER_GPU = 3
    MAX_PERFORMANCE = 4
    MAX_EFFICIENCY = 5
    MIN_OVERALL_POWER = 6


class OrtSparseFormat(Named):
    """The format of a sparse tensor's indices."""

    ORT_SPARSE_UNDEFINED = 0
    ORT_SPARSE_COO = 1
    ORT_SPARSE_CSRC = 2
    ORT_SPARSE_BLOCK_SPARSE = 4


class ArenaExtendStrategy(Named):
    """How an arena grows."""

    kNextPowerOfTwo = 0  # noqa: N815
    kSameAsRequested = 1  # noqa: N815


class OrtCompileApiFlags(IntFlag):
    """What ModelCompiler treats as an error."""

    NONE = 0
    ERROR_IF_NO_NODES_COMPILED = 1
    ERROR_IF_OUTPUT_FILE_EXISTS = 2

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __format__(self, format_spec: str) -> str:
        return format(str(self), format_spec)


class OrtDeviceVendorId(IntEnum):
    """The vendor of a device, by its PCI vendor id."""

    NONE = 0x0000
    AMD = 0x1002
    NVIDIA = 0x10DE
    ARM = 0x13B5
    MICROSOFT = 0x1414
    HUAWEI = 0x19E5
    QUALCOMM = 0x5143
    INTEL = 0x8086
