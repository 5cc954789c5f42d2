"""ONNX's backend interface, `prepare(model).run(inputs)`, as `onnx.backend.base.Backend` defines it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from onnx.backend.base import Backend, Device, DeviceType

from sardonyx.backend.backend_rep import SardonyxBackendRep, set_allowed
from sardonyx.session.environment import get_device
from sardonyx.session.inference_session import InferenceSession
from sardonyx.session.options import SessionOptions

ALLOWED = (
    *(
        "enable_cpu_mem_arena",
        "enable_mem_pattern",
        "enable_mem_reuse",
        "execution_mode",
        "execution_order",
        "graph_optimization_level",
    ),
    *(
        "inter_op_num_threads",
        "intra_op_num_threads",
        "log_severity_level",
        "log_verbosity_level",
        "logid",
        "use_deterministic_compute",
    ),
    "use_per_session_threads",
)
"""Session options that may be given as keywords; none of them writes files."""


class SardonyxBackend(Backend):
    """Runs models on the CPU."""

    @classmethod
    def is_compatible(cls, model: Any, device: str | None = None, **kwargs: Any) -> bool:
        """Can models run on this device?"""
        return cls.supports_device(device or get_device())

    @classmethod
    def is_opset_supported(cls, model: onnx.ModelProto) -> tuple[bool, str]:
        """Return (True, ""), or (False, the reason)."""
        for opset in model.opset_import:
            key = opset.domain or "ai.onnx", opset.version
            if key[0].startswith("ai.onnx") and key not in onnx.helper.OP_SET_ID_VERSION_MAP:
                return False, f"opset {key[1]} of domain {key[0]} is not a released one"
        return True, ""

    @classmethod
    def prepare(cls, model: Any, device: str | None = None, **kwargs: Any) -> SardonyxBackendRep:
        """Load and compile a model.

        model: a ModelProto, its bytes, a file, an InferenceSession, or a result of `prepare`. kwargs: session options. Raises
        RuntimeError for an unavailable device and for options that aren't allowed here, SardonyxError for a model that can't
        be run.
        """
        if isinstance(model, SardonyxBackendRep):
            return model
        if device is not None and not cls.supports_device(device):
            raise RuntimeError(f"Incompatible device expected '{device}', got '{get_device()}'")
        if isinstance(model, InferenceSession):
            return SardonyxBackendRep(model)
        options = SessionOptions()
        set_allowed(options, kwargs, ALLOWED)
        source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
        return SardonyxBackendRep(InferenceSession(source, options))

    @classmethod
    def run_model(cls, model: Any, inputs: Any, device: str | None = None, **kwargs: Any) -> Any:
        """Prepare a model and run it once."""
        return cls.prepare(model, device, **kwargs).run(inputs, **kwargs)

    @classmethod
    def run_node(cls, node: onnx.NodeProto, inputs: Any, device: str | None = None, outputs_info: Any = None, **kwargs: Any) -> Any:
        """Run one node on arrays. kwargs: `opset_version`, by default the newest."""
        arrays = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
        names = [name for name in node.input if name]
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [
                onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
                for name, array in zip(names, arrays, strict=True)
            ],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        )
        version = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(node.domain, version)])
        return cls.run_model(model, dict(zip(names, arrays, strict=True)), device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Is this device a CPU?"""
        return bool(Device(device).type == DeviceType.CPU)


is_compatible = SardonyxBackend.is_compatible
prepare = SardonyxBackend.prepare
run = SardonyxBackend.run_model
run_model = SardonyxBackend.run_model
run_node = SardonyxBackend.run_node
supports_device = SardonyxBackend.supports_device


OnnxRuntimeBackend = SardonyxBackend
