"""SessionOptions and RunOptions: what a user can set for a session and for one run of it."""

from __future__ import annotations

import operator
import os
from array import array
from enum import IntEnum
from typing import Any, Generic, TypeVar, overload

from sardonyx.base.errors import Fail, InvalidArgument
from sardonyx.base.options import CompileOptions
from sardonyx.session.enums import ExecutionMode, ExecutionOrder, GraphOptimizationLevel

LONGEST_KEY = 1024
LONGEST_SECONDS = 1e9  # thirty years: nanoseconds of more are no i64
# Config keys that mean something here; any other is accepted and kept.
FORBID_REFERENCE = "session.disable_reference_fallback"
FORBID_CPU = "session.disable_cpu_ep_fallback"
DATA_FOLDER = "session.model_external_initializers_file_folder_path"
DISABLED_PASSES = "optimization.disable_specified_optimizers"
DENORMALS_AS_ZERO = "session.set_denormal_as_zero"
SPINNING = "session.intra_op.allow_spinning"
WINOGRAD_OFF = "session.disable_winograd"
CACHE_OFF = "session.disable_cache"
TARGET = "session.target"
TIMEOUT = "run.timeout_seconds"

T = TypeVar("T")


class Option(Generic[T]):
    """An attribute with a default, whose values must be of the default's type. Raises TypeError for any other."""

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
        if not isinstance(value, wanted):
            raise self.wrong(value)
        return value

    def wrong(self, value: Any) -> TypeError:
        return TypeError(f"{self.name} must be of type {type(self.default).__name__}, not {type(value).__name__}")


class Configurable:
    """Options plus a table of free config entries."""

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
            raise TypeError(f"config entries are texts, not {type(key).__name__}: {type(value).__name__}")
        if not 0 < len(key) <= LONGEST_KEY:
            raise RuntimeError(f"Config key is empty or longer than maximum length {LONGEST_KEY}")
        self._entries[key] = value

    def _get(self, key: str) -> str:
        if key not in self._entries:
            raise RuntimeError(f"{type(self).__name__} does not have configuration with key: {key}")
        return self._entries[key]


class SessionOptions(Configurable):
    """Options of a session. Attributes are typed: a value of another type raises TypeError."""

    __slots__ = ("_denotations", "_dimensions")

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

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Sets a config entry. Raises RuntimeError for an empty or overlong key."""
        self._add(key, value)

    def get_session_config_entry(self, key: str) -> str:
        """The entry. Raises RuntimeError if it isn't set."""
        return self._get(key)

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        """Fixes the size of every input dimension called `name`."""
        self._dimensions[name] = operator.index(size)

    def add_free_dimension_override_by_denotation(self, denotation: str, size: int) -> None:
        """Fixes the size of every input dimension with this denotation, such as DATA_BATCH."""
        self._denotations[denotation] = operator.index(size)

    def register_custom_ops_library(self, path: str) -> None:
        """Custom operators in native libraries can't be loaded: raises Fail, as for a library that is missing."""
        reason = "native operator libraries are not supported" if os.path.exists(path) else "No such file or directory"
        raise Fail(f"Failed to load library {path} with error: {path}: {reason}")


class Flag(Option[bool]):
    """A bool that compiled code reads while a run goes on: it stands in the options' `stop_word`."""

    @overload
    def __get__(self, instance: None, owner: type) -> Flag: ...

    @overload
    def __get__(self, instance: Configurable, owner: type) -> bool: ...

    def __get__(self, instance: Configurable | None, owner: type) -> Flag | bool:
        return self if instance is None else bool(instance.stop_word[0])  # type: ignore[attr-defined]

    def __set__(self, instance: Configurable, value: bool) -> None:
        instance.stop_word[0] = self.checked(value)  # type: ignore[attr-defined]


class RunOptions(Configurable):
    """Options of one run. `terminate` may be set from another thread while the run goes on, which then ends with Fail in less than a
    tenth of a second; so does a run that takes longer than the config entry `run.timeout_seconds` says."""

    __slots__ = ("stop_word",)

    log_severity_level = Option(-1)
    log_verbosity_level = Option(0)
    logid = Option("")
    only_execute_path_to_fetches = Option(False)
    terminate = Flag(False)

    def __init__(self) -> None:
        super().__init__()
        self.stop_word = array("q", [0])

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Sets a config entry. Raises RuntimeError for an empty or overlong key."""
        self._add(key, value)

    def get_run_config_entry(self, key: str) -> str:
        """The entry. Raises RuntimeError if it isn't set."""
        return self._get(key)


def entry(options: Configurable, key: str, default: str = "") -> str:
    """A config entry, or `default`."""
    return options._entries.get(key, default)


def is_set(options: Configurable, key: str) -> bool:
    """Is the entry "1"?"""
    return entry(options, key) == "1"


def timeout(options: RunOptions) -> int:
    """Nanoseconds that a run may take, 0 without an entry. Raises InvalidArgument for an entry that is no number above 0."""
    text = entry(options, TIMEOUT)
    if not text:
        return 0
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise InvalidArgument(f"{TIMEOUT} is a number of seconds above 0, not {text!r}")
    return max(int(min(seconds, LONGEST_SECONDS) * 1e9), 1)


def compile_options(options: SessionOptions, disabled: frozenset[str]) -> CompileOptions:
    """What the compiler is told. `disabled`: graph passes that the session was asked to leave out."""
    listed = frozenset(name.strip() for name in entry(options, DISABLED_PASSES).split(";") if name.strip())
    return CompileOptions(
        level=int(options.graph_optimization_level),
        threads=max(options.intra_op_num_threads, 0),
        target=entry(options, TARGET),
        winograd=not is_set(options, WINOGRAD_OFF),
        flush_denormals=is_set(options, DENORMALS_AS_ZERO),
        spin=entry(options, SPINNING, "1") == "1",
        cache=not is_set(options, CACHE_OFF),
        disabled=disabled | listed,
    )
