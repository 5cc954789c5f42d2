"""SessionOptions and RunOptions: what a user can set for a session, and for one run of it."""

from __future__ import annotations

import operator
import os
from array import array
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np

from sardonyx.base.errors import InvalidArgument
from sardonyx.base.options import CompileOptions
from sardonyx.base.replacements import NOTHING, Replacements
from sardonyx.providers import registry
from sardonyx.runtime.arrays import Array
from sardonyx.session.enums import ExecutionMode, ExecutionOrder, GraphOptimizationLevel
from sardonyx.session.values import OrtValue

if TYPE_CHECKING:
    from sardonyx.session.adapters import LoraAdapter
    from sardonyx.session.device_enums import OrtExecutionProviderDevicePolicy
    from sardonyx.session.devices import OrtEpDevice

LONGEST_KEY = 1024
LONGEST_SECONDS = 1e9  # thirty years, whose nanoseconds fit an i64
# Config keys that have an effect here; other keys are stored and ignored.
FORBID_REFERENCE = "session.disable_reference_fallback"
FORBID_CPU = "session.disable_cpu_ep_fallback"
LOAD_FORMAT = "session.load_model_format"
DATA_FOLDER = "session.model_external_initializers_file_folder_path"
DISABLED_PASSES = "optimization.disable_specified_optimizers"
DENORMALS_AS_ZERO = "session.set_denormal_as_zero"
SPINNING = "session.intra_op.allow_spinning"
WINOGRAD_OFF = "session.disable_winograd"
INTEGER_SUMS_OFF = "session.disable_quant_qdq"
CACHE_OFF = "session.disable_cache"
MACHINE_CODE = "session.allow_machine_code"
TARGET = "session.target"
TIMEOUT = "run.timeout_seconds"

T = TypeVar("T")


class Option(Generic[T]):
    """A typed attribute with a default. Raises TypeError for a value of another type than the default's."""

    def __init__(self, default: T) -> None:
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Option[T]: ...

    @overload
    def __get__(self, instance: Configurable, owner: type) -> T: ...

    def __get__(self, instance: Configurable | None, owner: type) -> Option[T] | T:
        return self if instance is None else instance._values.get(self.name, self.default)

    def __set__(self, instance: Configurable, value: T) -> None:
        instance._values[self.name] = self.checked(value)

    def checked(self, value: Any) -> Any:
        wanted = type(self.default)
        if wanted is int and not isinstance(value, bool | IntEnum):
            try:
                return operator.index(value)
            except TypeError as error:
                raise self.wrong(value) from error
        if wanted is bool and hasattr(type(value), "__bool__"):  # a number or numpy.bool counts as a bool
            return bool(value)
        if not isinstance(value, wanted):
            raise self.wrong(value)
        return value

    def wrong(self, value: Any) -> TypeError:
        return TypeError(f"{self.name} must be of type {type(self.default).__name__}, not {type(value).__name__}")


class Configurable:
    """Options plus a table of config entries, both strings."""

    __slots__ = ("_entries", "_values")

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._entries: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for kind in type(self).__mro__ for name in getattr(kind, "__slots__", ())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def _add(self, key: str, value: str) -> None:
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"config entries must be strings, not {type(key).__name__}: {type(value).__name__}")
        if not 0 < len(key) <= LONGEST_KEY:
            raise RuntimeError(f"Config key is empty or longer than maximum length {LONGEST_KEY}")
        self._entries[key] = value

    def _get(self, key: str) -> str:
        if key not in self._entries:
            raise RuntimeError(f"{type(self).__name__} does not have configuration with key: {key}")
        return self._entries[key]


class SessionOptions(Configurable):
    """Options of a session. Attributes are typed: a value of another type raises TypeError.

    These attributes have an effect:

        graph_optimization_level  which graph passes run; ORT_ENABLE_ALL by default
        intra_op_num_threads      threads of a run; 0, the default: all cores that the process may use
        use_per_session_threads   False: the number of threads is that of `set_global_thread_pool_sizes`
        optimized_model_filepath  the file to write the optimised model to; "" writes none
        enable_profiling          record a trace, which `InferenceSession.end_profiling` writes
        profile_file_prefix       how the trace's file name begins

    The other attributes are accepted for compatibility with ONNX Runtime. Results never depend on the number of threads.

        options = SessionOptions()
        options.intra_op_num_threads = 2
        options.add_session_config_entry("session.disable_cache", "1")
    """

    __slots__ = ("_chosen", "_denotations", "_dimensions", "_external", "_files", "_initializers", "_policy", "stop_word")

    enable_cpu_mem_arena = Option(True)
    enable_mem_pattern = Option(True)
    enable_mem_reuse = Option(True)
    enable_profiling = Option(False)
    execution_mode = Option(ExecutionMode.ORT_SEQUENTIAL)
    execution_order = Option(ExecutionOrder.DEFAULT)
    graph_optimization_level = Option(GraphOptimizationLevel.ORT_ENABLE_ALL)
    inter_op_num_threads = Option(0)
    intra_op_num_threads = Option(0)
    log_severity_level = Option(-1)
    log_verbosity_level = Option(0)
    logid = Option("")
    optimized_model_filepath = Option("")
    profile_file_prefix = Option("onnxruntime_profile_")
    use_deterministic_compute = Option(False)
    use_per_session_threads = Option(True)

    def __init__(self) -> None:
        super().__init__()
        self._dimensions: dict[str, int] = {}
        self._denotations: dict[str, int] = {}
        self._initializers: dict[str, OrtValue] = {}
        self._external: dict[str, OrtValue] = {}
        self._files: dict[str, Array] = {}
        self._chosen: list[tuple[str, dict[str, str]]] = []
        self._policy = False
        self.stop_word = array("q", [0])

    def add_initializer(self, name: str, value: OrtValue) -> None:
        """Replace the model's initializer of this name by a tensor of the user's; nothing happens if the model has none.

        The data are not copied if kernels can read them as they are, so that sessions can share them; they must not change
        during the session's life. Raises RuntimeError unless the value is an OrtValue, and for a name that was given before.
        Creating the session raises Fail if dtype or shape differ.
        """
        if not isinstance(value, OrtValue):
            raise RuntimeError("The provided Python object must be an OrtValue")
        if name in self._initializers:
            raise RuntimeError(f"An OrtValue for this name has already been added: {name}")
        self._initializers[name] = value

    def add_external_initializers(self, names: Sequence[str], values: Sequence[OrtValue]) -> None:
        """Replace initializers that the model keeps in other files by tensors of the user's; those files are then not opened.

        Raises RuntimeError for lists of different lengths. Creating the session raises Fail for an initializer that doesn't
        exist, lies inside the model, or has another dtype or shape.
        """
        if len(names) != len(values):
            raise RuntimeError("Expecting names and ort_values lists to have equal length")
        if not all(isinstance(value, OrtValue) for value in values):
            raise RuntimeError("The provided Python object must be an OrtValue")
        self._external.update(zip(names, values, strict=True))

    def add_external_initializers_from_files_in_memory(
        self, names: Sequence[str], buffers: Sequence[Any], lengths: Sequence[int]
    ) -> None:
        """Replace the files with the model's external initializers by buffers, which are not copied; no file is opened then.

        names: of files, as the model writes them. lengths: bytes of each buffer. Raises RuntimeError for lists of different
        lengths and for a buffer shorter than its length, TypeError for an object that is no buffer.
        """
        if not len(names) == len(buffers) == len(lengths):
            raise RuntimeError(
                "add_external_initializers_from_files_in_memory: expecting 'names', 'buffers' and 'lengths' to have equal length"
            )
        for name, buffer, length in zip(names, buffers, lengths, strict=True):
            data = np.frombuffer(memoryview(buffer).cast("B"), np.uint8)
            if not 0 <= length <= data.size:
                raise RuntimeError(f"the buffer of {name} has {data.size} bytes, not {length}")
            self._files[str(name)] = data[:length]

    def add_provider(self, name: str, options: Mapping[str, str]) -> None:
        """Append a provider to those that were added before. Raises InvalidArgument if it isn't installed, RuntimeError for an
        unknown name.
        """
        if not registry.is_available(name):
            if name not in registry.ELSEWHERE:
                raise RuntimeError(f"Unknown Provider Type: {name}")
            remedy = registry.what_to_install(name)
            raise InvalidArgument(
                f"Failed to add provider of type '{name}' to SessionOptions. Provider configuration is not supported."
                + (f" `pip install {remedy}` brings it." if remedy else "")
            )
        self._chosen.append((name, dict(options)))

    def add_provider_for_devices(self, devices: Sequence[OrtEpDevice], options: Mapping[str, str]) -> None:
        """Add the provider of these devices. Raises InvalidArgument for no device, or for devices of several providers."""
        names = {device.ep_name for device in devices}
        if len(names) != 1:
            raise InvalidArgument(f"All OrtEpDevice instances must refer to the same execution provider, not to {sorted(names)}.")
        self.add_provider(names.pop(), options)

    def set_provider_selection_policy(self, policy: OrtExecutionProviderDevicePolicy) -> None:
        """Let the session choose its provider: with every policy, the CPU provider."""
        self._policy = True

    def set_provider_selection_policy_delegate(self, delegate: Callable[..., Sequence[OrtEpDevice]]) -> None:
        """Let a function choose among the devices. It is called with all devices, two empty dicts, and the most devices that it
        may return.
        """
        from sardonyx.session.devices import get_ep_devices

        there = get_ep_devices()
        chosen = delegate(there, {}, {}, len(there))
        self._policy = True
        if chosen:
            self.add_provider_for_devices(chosen, {})

    def has_providers(self) -> bool:
        """Was a provider added, or a selection policy set?"""
        return bool(self._chosen) or self._policy

    def set_load_cancellation_flag(self, is_cancel: bool) -> None:
        """Cancel the creation of sessions with these options, from another thread: each raises ModelLoadCanceled while the flag
        is set.
        """
        self.stop_word[0] = bool(is_cancel)

    def set_ep_context_data_read_func(self, read_func: Callable[..., None], max_data_size: int) -> None:
        """Do nothing: no provider here reads compiled code from a model."""

    def clear_ep_context_data_read_func(self) -> None:
        """Do nothing, see `set_ep_context_data_read_func`."""

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Set a config entry. Raises RuntimeError for an empty or overlong key."""
        self._add(key, value)

    def get_session_config_entry(self, key: str) -> str:
        """Return a config entry. Raises RuntimeError if it isn't set."""
        return self._get(key)

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        """Fix the size of every input dimension called `name`."""
        self._dimensions[name] = operator.index(size)

    def add_free_dimension_override_by_denotation(self, denotation: str, size: int) -> None:
        """Fix the size of every input dimension with this denotation, such as DATA_BATCH."""
        self._denotations[denotation] = operator.index(size)

    def register_custom_ops_library(self, path: str) -> None:
        """Register the operators of a shared library with the interface of `sardonyx/include/sardonyx_operators.h`, for the process.

        Raises Fail, naming the file, if it is missing, damaged, for another processor or has another interface, such as ONNX
        Runtime's.
        """
        from sardonyx.ops.custom_library import register_library

        register_library(os.fspath(path))


class Flag(Option[bool]):
    """A bool attribute that compiled code polls during a run: it is stored in the options' `stop_word`."""

    @overload
    def __get__(self, instance: None, owner: type) -> Flag: ...

    @overload
    def __get__(self, instance: Configurable, owner: type) -> bool: ...

    def __get__(self, instance: Configurable | None, owner: type) -> Flag | bool:
        return self if instance is None else bool(instance.stop_word[0])  # type: ignore[attr-defined]

    def __set__(self, instance: Configurable, value: bool) -> None:
        instance.stop_word[0] = self.checked(value)  # type: ignore[attr-defined]


class RunOptions(Configurable):
    """Options of one run.

    `terminate` may be set from another thread during the run, which then raises Fail within a tenth of a second. So does a
    run that takes longer than the config entry `run.timeout_seconds`. The other attributes are accepted for compatibility
    with ONNX Runtime.

        options = RunOptions()
        options.add_run_config_entry("run.timeout_seconds", "0.5")
    """

    __slots__ = ("_adapters", "stop_word")

    log_severity_level = Option(-1)
    log_verbosity_level = Option(0)
    logid = Option("")
    only_execute_path_to_fetches = Option(False)
    terminate = Flag(False)

    def __init__(self) -> None:
        super().__init__()
        self._adapters: list[LoraAdapter] = []
        self.stop_word = array("q", [0])

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Set a config entry. Raises RuntimeError for an empty or overlong key."""
        self._add(key, value)

    def add_active_adapter(self, adapter: LoraAdapter) -> None:
        """Feed an adapter's parameters to the model's inputs of the same names."""
        self._adapters.append(adapter)

    def with_adapters(self, feed: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
        """Return the feed, completed by those parameters of active adapters that are inputs and not fed already."""
        found = {name: x for adapter in self._adapters for name, x in adapter.parameters().items() if name in names}
        return {**found, **feed}

    def get_run_config_entry(self, key: str) -> str:
        """Return a config entry. Raises RuntimeError if it isn't set."""
        return self._get(key)


def entry(options: Configurable, key: str, default: str = "") -> str:
    """Return a config entry, or `default` if it isn't set."""
    return options._entries.get(key, default)


def entries_under(options: Configurable, prefix: str) -> dict[str, str]:
    """Return the config entries whose keys begin with the prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in options._entries.items() if key.startswith(prefix)}


def is_set(options: Configurable, key: str) -> bool:
    """Is the config entry "1"?"""
    return entry(options, key) == "1"


def timeout(options: RunOptions) -> int:
    """Return the nanoseconds that a run may take; 0 without the entry. Raises InvalidArgument unless the entry is a positive
    number.
    """
    text = entry(options, TIMEOUT)
    if not text:
        return 0
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise InvalidArgument(f"{TIMEOUT} must be a positive number of seconds, not {text!r}")
    return max(int(min(seconds, LONGEST_SECONDS) * 1e9), 1)


def replacements_of(options: SessionOptions) -> Replacements:
    """Return the tensors and files that replace those of the model."""
    if not (options._initializers or options._external or options._files):
        return NOTHING
    return Replacements(
        {name: value._array("an initializer is a tensor") for name, value in options._initializers.items()},
        {name: value._array("an initializer is a tensor") for name, value in options._external.items()},
        options._files or None,
    )


_global_threads = 0


def set_global_thread_pool_sizes(intra_op_num_threads: int = 0, inter_op_num_threads: int = 0) -> None:
    """Set how many threads run a session whose `use_per_session_threads` is False; 0: all cores that the process may use.

    Raises TypeError unless the arguments are ints, ValueError for negative numbers.
    """
    global _global_threads
    if min(operator.index(intra_op_num_threads), operator.index(inter_op_num_threads)) < 0:
        raise ValueError("the number of threads can't be negative")
    _global_threads = operator.index(intra_op_num_threads)


def threads_of(options: SessionOptions) -> int:
    """Return the number of threads of a run; 0: all cores that the process may use."""
    return max(options.intra_op_num_threads, 0) if options.use_per_session_threads else _global_threads


def compile_options(options: SessionOptions, disabled: frozenset[str]) -> CompileOptions:
    """Return the compiler's options. disabled: graph passes to leave out."""
    listed = frozenset(name.strip() for name in entry(options, DISABLED_PASSES).split(";") if name.strip())
    return CompileOptions(
        level=int(options.graph_optimization_level),
        threads=threads_of(options),
        target=entry(options, TARGET),
        winograd=not is_set(options, WINOGRAD_OFF),
        integer_sums=not is_set(options, INTEGER_SUMS_OFF),
        flush_denormals=is_set(options, DENORMALS_AS_ZERO),
        spin=entry(options, SPINNING, "1") == "1",
        cache=not is_set(options, CACHE_OFF),
        timed=options.enable_profiling,
        disabled=disabled | listed,
    )
