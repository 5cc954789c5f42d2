"""Sardonyx runs ONNX models as machine code that it compiles with LLVM, behind ONNX Runtime's Python API.

This module only holds the public names. Each is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from sardonyx.base.interpreter_settings import rare_collections

__version__ = "0.1.0"

_HOMES = {
    "AdapterFormat": "sardonyx.session.adapters",
    "Executable": "sardonyx.providers.base",
    "ExecutionMode": "sardonyx.session.enums",
    "ExecutionOrder": "sardonyx.session.enums",
    "ExecutionProvider": "sardonyx.providers.base",
    "GraphOptimizationLevel": "sardonyx.session.enums",
    "IOBinding": "sardonyx.session.binding",
    "InferenceSession": "sardonyx.session.inference_session",
    "LoraAdapter": "sardonyx.session.adapters",
    "ModelCompiler": "sardonyx.session.model_compiler",
    "ModelMetadata": "sardonyx.session.metadata",
    "NodeArg": "sardonyx.session.metadata",
    "OrtAllocatorType": "sardonyx.session.device_enums",
    "OrtArenaCfg": "sardonyx.session.devices",
    "OrtCompileApiFlags": "sardonyx.session.device_enums",
    "OrtDevice": "sardonyx.session.devices",
    "OrtDeviceMemoryType": "sardonyx.session.device_enums",
    "OrtDeviceVendorId": "sardonyx.session.device_enums",
    "OrtEpAssignedNode": "sardonyx.session.metadata",
    "OrtEpAssignedSubgraph": "sardonyx.session.metadata",
    "OrtEpDevice": "sardonyx.session.devices",
    "OrtExecutionProviderDevicePolicy": "sardonyx.session.device_enums",
    "OrtExternalInitializerInfo": "sardonyx.session.devices",
    "OrtHardwareDevice": "sardonyx.session.devices",
    "OrtHardwareDeviceType": "sardonyx.session.device_enums",
    "OrtMemType": "sardonyx.session.device_enums",
    "OrtMemoryInfo": "sardonyx.session.devices",
    "OrtMemoryInfoDeviceType": "sardonyx.session.device_enums",
    "OrtSparseFormat": "sardonyx.session.device_enums",
    "OrtSyncStream": "sardonyx.session.devices",
    "OrtValue": "sardonyx.session.values",
    "RunOptions": "sardonyx.session.options",
    "SessionIOBinding": "sardonyx.session.binding",
    "SessionOptions": "sardonyx.session.options",
    "SparseTensor": "sardonyx.session.sparse",
    "Tensor": "sardonyx.expr.tensor",
    "Unsupported": "sardonyx.base.errors",
    "copy_tensors": "sardonyx.session.values",
    "create_and_register_allocator": "sardonyx.session.devices",
    "create_and_register_allocator_v2": "sardonyx.session.devices",
    "custom_op": "sardonyx.ops.custom",
    "disable_telemetry_events": "sardonyx.session.environment",
    "enable_telemetry_events": "sardonyx.session.environment",
    "get_all_providers": "sardonyx.session.environment",
    "get_available_providers": "sardonyx.session.environment",
    "get_build_info": "sardonyx.session.environment",
    "get_device": "sardonyx.session.environment",
    "get_ep_devices": "sardonyx.session.devices",
    "get_version_string": "sardonyx.session.environment",
    "has_collective_ops": "sardonyx.session.environment",
    "operators": "sardonyx.ops.functions",
    "preload_dlls": "sardonyx.session.environment",
    "print_debug_info": "sardonyx.session.environment",
    "register_execution_provider": "sardonyx.providers.registry",
    "register_execution_provider_library": "sardonyx.session.devices",
    "set_default_logger_callback": "sardonyx.session.environment",
    "set_default_logger_severity": "sardonyx.session.environment",
    "set_default_logger_verbosity": "sardonyx.session.environment",
    "set_global_thread_pool_sizes": "sardonyx.session.options",
    "set_seed": "sardonyx.runtime.draws",
    "unregister_custom_op": "sardonyx.ops.custom",
    "unregister_execution_provider": "sardonyx.providers.registry",
    "unregister_execution_provider_library": "sardonyx.session.devices",
}
"""The module that defines each public name."""

__all__ = [
    "AdapterFormat",
    "Executable",
    "ExecutionMode",
    "ExecutionOrder",
    "ExecutionProvider",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "LoraAdapter",
    "ModelCompiler",
    "ModelMetadata",
    "NodeArg",
    "OrtAllocatorType",
    "OrtArenaCfg",
    "OrtCompileApiFlags",
    "OrtDevice",
    "OrtDeviceMemoryType",
    "OrtDeviceVendorId",
    "OrtEpAssignedNode",
    "OrtEpAssignedSubgraph",
    "OrtEpDevice",
    "OrtExecutionProviderDevicePolicy",
    "OrtExternalInitializerInfo",
    "OrtHardwareDevice",
    "OrtHardwareDeviceType",
    "OrtMemType",
    "OrtMemoryInfo",
    "OrtMemoryInfoDeviceType",
    "OrtSparseFormat",
    "OrtSyncStream",
    "OrtValue",
    "RunOptions",
    "SessionIOBinding",
    "SessionOptions",
    "SparseTensor",
    "Tensor",
    "Unsupported",
    "__version__",
    "copy_tensors",
    "create_and_register_allocator",
    "create_and_register_allocator_v2",
    "custom_op",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_ep_devices",
    "get_version_string",
    "has_collective_ops",
    "operators",
    "preload_dlls",
    "print_debug_info",
    "register_execution_provider",
    "register_execution_provider_library",
    "set_default_logger_callback",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_global_thread_pool_sizes",
    "set_seed",
    "unregister_custom_op",
    "unregister_execution_provider",
    "unregister_execution_provider_library",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with rare_collections():
        return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
