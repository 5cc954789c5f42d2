"""Devices and memory: numbers and refusals are onnxruntime's."""

from __future__ import annotations

from typing import Any

import onnxruntime as ort
import pytest

import sardonyx as sx
from sardonyx.base.errors import Fail, InvalidArgument
from sardonyx.base.errors import NotImplemented as NotImplementedHere

NAMES = ["cpu", "cuda", "gpu", "npu", "dml", "cann", "webgpu"]
ARENA = (
    "arena_extend_strategy",
    "initial_chunk_size_bytes",
    "initial_growth_chunk_size_bytes",
    "max_dead_bytes_per_chunk",
    "max_mem",
)
MEMORY = ("name", "allocator_type", "device_id", "mem_type", "device_mem_type", "device_vendor_id")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("vendor", [-1, 0x8086])
def test_devices(name: str, vendor: int) -> None:
    ours, theirs = sx.OrtDevice.make(name, 2, vendor), ort.OrtDevice.make(name, 2, vendor)
    for question in ("device_id", "device_type", "device_vendor_id", "device_mem_type"):
        assert getattr(ours, question)() == getattr(theirs, question)(), question
    assert sx.OrtDevice(ours).device_id() == 2


@pytest.mark.parametrize("runtime", [ort, sx])
def test_devices_that_are_not_there(runtime: Any) -> None:
    with pytest.raises(Exception, match="Unsupported device type: xxx"):
        runtime.OrtDevice.make("xxx", 0)
    with pytest.raises(ValueError, match="`Provided object` needs to be of type"):
        runtime.OrtDevice(3)


def test_numbers_of_types() -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import OrtDevice as Theirs

    for name in (*NAMES, "fpga", "default_memory"):
        assert getattr(sx.OrtDevice, name)() == getattr(Theirs, name)(), name


@pytest.mark.parametrize("figures", [(8, 1, 16, 32), ({},), ({"max_mem": 4, "initial_growth_chunk_size_bytes": 5},)])
def test_arenas(figures: tuple[Any, ...]) -> None:
    ours, theirs = sx.OrtArenaCfg(*figures), ort.OrtArenaCfg(*figures)
    assert {name: getattr(ours, name) for name in ARENA} == {name: getattr(theirs, name) for name in ARENA}
    with pytest.raises(RuntimeError, match="Invalid OrtArenaCfg option: foo"):
        sx.OrtArenaCfg({"foo": 3})
    with pytest.raises(TypeError):
        sx.OrtArenaCfg(1, 2)


def test_memory() -> None:
    def told(runtime: Any, made: Any) -> list[Any]:
        return [getattr(made, name) if name == "name" else int(getattr(made, name)) for name in MEMORY]

    def plain(runtime: Any) -> Any:
        return runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)

    def second(runtime: Any) -> Any:
        kind, memory = runtime.OrtMemoryInfoDeviceType.GPU, runtime.OrtDeviceMemoryType.HOST_ACCESSIBLE
        allocator = runtime.OrtAllocatorType.ORT_DEVICE_ALLOCATOR
        return runtime.OrtMemoryInfo.create_v2("Test", kind, 0x10DE, 1, memory, 0, allocator)

    for make in (plain, second):
        assert told(sx, make(sx)) == told(ort, make(ort))
    with pytest.raises(RuntimeError, match="Specified device is not supported. Try CreateMemoryInfo_V2."):
        sx.OrtMemoryInfo("Foo", sx.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, sx.OrtMemType.DEFAULT)


def test_allocators_are_accepted_for_the_cpu() -> None:
    memory = sx.OrtMemoryInfo("Cpu", sx.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, sx.OrtMemType.DEFAULT)
    sx.create_and_register_allocator(memory, sx.OrtArenaCfg({}))
    sx.create_and_register_allocator_v2("CPUExecutionProvider", memory, {}, None)
    with pytest.raises(RuntimeError, match="CUDAExecutionProvider is not implemented"):
        sx.create_and_register_allocator_v2("CUDAExecutionProvider", memory, {}, None)
    memory.name = "Cuda"
    with pytest.raises(RuntimeError, match="registering allocator"):
        sx.create_and_register_allocator(memory, None)


def test_hardware() -> None:
    (found,) = sx.get_ep_devices()
    assert (found.ep_name, found.device.type) == ("CPUExecutionProvider", sx.OrtHardwareDeviceType.CPU)
    memory = found.memory_info(sx.OrtDeviceMemoryType.DEFAULT)
    assert memory is not None
    assert memory.name == "Cpu"
    assert found.memory_info(sx.OrtDeviceMemoryType.HOST_ACCESSIBLE) is None
    with pytest.raises(NotImplementedHere, match="no streams"):
        found.create_sync_stream()


def test_native_providers_are_refused() -> None:
    with pytest.raises(Fail, match="Failed to load library /x.so"):
        sx.register_execution_provider_library("X", "/x.so")
    with pytest.raises(InvalidArgument, match="was not registered"):
        sx.unregister_execution_provider_library("X")
