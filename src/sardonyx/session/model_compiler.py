"""ModelCompiler: writes the model that a session would run, optimised up to a given level, or the machine code that it would run."""

from __future__ import annotations

import contextlib
import copy
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sardonyx.base import errors
from sardonyx.base.errors import Fail, InvalidArgument
from sardonyx.base.model_format import is_compiled
from sardonyx.session.compiled_file import write
from sardonyx.session.device_enums import OrtCompileApiFlags
from sardonyx.session.enums import GraphOptimizationLevel
from sardonyx.session.inference_session import InferenceSession
from sardonyx.session.options import TARGET, SessionOptions, entry


class ModelCompiler:
    """Writes an optimised copy of a model, or a compiled file.

        ModelCompiler(SessionOptions(), "model.onnx").compile_to_file("model.sdx")

    In ONNX Runtime a compiled model contains code that a provider has compiled. Here a path that ends in `.sdx` asks for a
    compiled file, which holds machine code and weights (see session.compiled_file), for the processor that the config entry
    `session.target` names (the host by default) and with the optimisation level of the session's options. Any other model
    contains only nodes and weights. Asking for weights in another file raises NotImplemented.
    """

    def __init__(
        self,
        sess_options: SessionOptions,
        input_model_path_or_bytes: str | os.PathLike[str] | bytes,
        embed_compiled_data_into_model: bool = False,
        external_initializers_file_path: str | os.PathLike[str] | None = None,
        external_initializers_size_threshold: int = 1024,
        flags: int = OrtCompileApiFlags.NONE,
        graph_optimization_level: GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL,
        get_initializer_location_func: Callable[..., Any] | None = None,
    ) -> None:
        source = input_model_path_or_bytes
        if not isinstance(source, str | os.PathLike | bytes):
            raise TypeError(f"Unable to load from type '{type(source)}'")
        if not source:
            raise ValueError("Input model bytes array is empty" if isinstance(source, bytes) else "Input model path is empty")
        if external_initializers_file_path and not isinstance(external_initializers_file_path, str | os.PathLike):
            kind = type(external_initializers_file_path)
            raise TypeError(f"Output external initializer filepath is of unexpected type '{kind}'")
        if external_initializers_file_path and get_initializer_location_func is not None:
            raise ValueError(
                "Cannot initialize ModelCompiler with both `external_initializers_file_path` and `get_initializer_location_func`"
            )
        if external_initializers_file_path or get_initializer_location_func is not None:
            raise errors.NotImplemented("A compiled model's weights are written into the model, not into another file.")
        self._source, self._flags, self._level = source, int(flags), graph_optimization_level
        self._options = sess_options

    def compile_to_file(self, output_model_path: str | os.PathLike[str] | None = None) -> None:
        """Write the optimised model, or a compiled file if the path ends in `.sdx`; by default beside the source, `m.onnx` as
        `m_ctx.onnx`.

        Raises InvalidArgument for a model of bytes without a path, Fail for what the flags forbid, and whatever loading the
        model raises.
        """
        if output_model_path is None and isinstance(self._source, bytes):
            raise InvalidArgument("Output model path is required for a model that was given as bytes.")
        if output_model_path is not None and not isinstance(output_model_path, str | os.PathLike):
            raise TypeError(f"Output model's filepath is of unexpected type '{type(output_model_path)}'")
        if output_model_path is None:
            assert not isinstance(self._source, bytes)
            place = Path(self._source)
            output_model_path = place.with_name(f"{place.stem}_ctx.onnx")
        if self._flags & OrtCompileApiFlags.ERROR_IF_OUTPUT_FILE_EXISTS and os.path.exists(output_model_path):
            raise Fail(f"The output file {os.fspath(output_model_path)} exists already.")
        if is_compiled(output_model_path):
            self._write_code(output_model_path)
            return
        if self._flags & OrtCompileApiFlags.ERROR_IF_NO_NODES_COMPILED:
            raise Fail("No nodes were compiled: no provider here keeps compiled code in a model.")
        options = copy.copy(self._options)
        options._values = {**self._options._values, "optimized_model_filepath": os.fspath(output_model_path)}
        options.graph_optimization_level = self._level
        InferenceSession(self._source, options).close()

    def _write_code(self, path: str | os.PathLike[str]) -> None:
        """Write a compiled file. Raises NotImplemented for a model with nodes that run in Python."""
        from sardonyx.codegen.features import select
        from sardonyx.codegen.needs import needs_of

        with contextlib.closing(InferenceSession(self._source, self._options)) as session:
            write(session._built, needs_of(select(entry(self._options, TARGET) or None)), path)

    def compile_to_bytes(self) -> bytes:
        """Return the bytes of the optimised model. Raises as `compile_to_file` does."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            self.compile_to_file(path)
            return path.read_bytes()

    def compile_to_stream(self, write_function: Callable[[bytes], None]) -> None:
        """Call `write_function` with the bytes of the optimised model."""
        write_function(self.compile_to_bytes())

    def set_ep_context_binary_information(self, output_directory: str | os.PathLike[str], model_name: str) -> None:
        """Do nothing: no provider here writes files. Raises InvalidArgument for an empty name."""
        if not os.fspath(output_directory) or not model_name:
            raise InvalidArgument("The directory and the model's name can't be empty.")

    def set_ep_context_data_write_func(self, write_func: Callable[..., None]) -> None:
        """Do nothing: no provider here writes compiled code into a model."""

    def clear_ep_context_data_write_func(self) -> None:
        """Do nothing, see `set_ep_context_data_write_func`."""
