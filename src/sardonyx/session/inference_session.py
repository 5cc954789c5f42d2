"""InferenceSession: a loaded and compiled model, ready to run."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from sardonyx.base import budget, debug
from sardonyx.base.context import QUIET, RunContext, Trace
from sardonyx.base.errors import FromHandler, InvalidArgument, NamesDiffer, documented
from sardonyx.providers import registry
from sardonyx.runtime.device import Copies
from sardonyx.runtime.execution import CLOSED
from sardonyx.session import options as keys
from sardonyx.session import session_cache
from sardonyx.session.dimension_names import agree, shared_names
from sardonyx.session.late import LateSubgraph
from sardonyx.session.metadata import ModelMetadata, NodeArg, OrtEpAssignedSubgraph
from sardonyx.session.optimizer_names import unknown
from sardonyx.session.options import RunOptions, SessionOptions
from sardonyx.session.profiling import monotonic_start, trace_path, write_at_the_end, write_trace
from sardonyx.session.provider_arguments import Options, Providers, normalise
from sardonyx.session.session_parts import Request, SessionParts, variant
from sardonyx.session.values import OrtValue

if TYPE_CHECKING:
    from sardonyx.runtime.device import Target
    from sardonyx.session.asynchronous import Callback
    from sardonyx.session.binding import IOBinding
    from sardonyx.session.compiled_model import CompiledModel, Plan
    from sardonyx.session.devices import OrtDevice, OrtEpDevice, OrtMemoryInfo
    from sardonyx.session.values import OrtValueVector


Variant = tuple[bool, tuple[str, ...]]  # (may axes with one name have different sizes?, names of additional outputs)


class InferenceSession:
    """Runs an ONNX model.

        session = InferenceSession("model.onnx")
        (y,) = session.run(["y"], {"x": np.zeros((1, 3), np.float32)})

    path_or_bytes: the model's file, or its bytes.
    sess_options: SessionOptions.
    providers: names, or (name, options) pairs, in order of preference. CPUExecutionProvider is always available. Nodes that
    it can't run fall to ReferenceExecutionProvider, unless the config entry `session.disable_reference_fallback` is "1".
    provider_options: the options, if `providers` are names.
    disabled_optimizers: names of graph passes to leave out, see session.optimizer_names. An unknown name gives a UserWarning.
    read_config_from_model: 1 to use options that the model holds if `sess_options` is None; the default comes from the
    environment variable ORT_LOAD_CONFIG_FROM_MODEL.

    Other keywords are accepted and ignored. Several threads may run a session at once. A pickled session is built again from
    its file or bytes. Raises SardonyxError for models that can't be loaded, TypeError for a model or options of a wrong type.
    """

    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | bytes,
        sess_options: SessionOptions | None = None,
        providers: Providers | None = None,
        provider_options: Options | None = None,
        *,
        disabled_optimizers: Iterable[str] | None = None,
        read_config_from_model: int | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(path_or_bytes, str | os.PathLike | bytes):
            raise TypeError(f"Unable to load from type '{type(path_or_bytes)}'")
        if sess_options is not None and not isinstance(sess_options, SessionOptions):
            raise TypeError(f"sess_options must be SessionOptions, not {type(sess_options).__name__}")
        self._source = path_or_bytes
        self._options = sess_options if sess_options is not None else default_options(path_or_bytes, read_config_from_model)
        self._disabled = frozenset(disabled_optimizers or ())
        if problem := unknown(keys.compile_options(self._options, self._disabled).disabled):
            warnings.warn(problem, stacklevel=2)
        self._trace = Trace() if self._options.enable_profiling else None
        self._trace_path = trace_path(self._options.profile_file_prefix) if self._trace is not None else ""
        self._trace_start = monotonic_start(self._trace) if self._trace is not None else 0
        if self._trace is not None:
            self._unwritten = weakref.finalize(self, write_at_the_end, self._trace, self._trace_path)
        self._verbose = debug.level() >= debug.RAN
        self._closed = False
        self._build(providers, provider_options)

    def __reduce__(self) -> tuple[Any, ...]:
        providers = [(name, self._providers[name]) for name in self._asked]
        return _restore, (self._source, self._options, providers or None, self._disabled)

    def _build(self, providers: Providers | None, provider_options: Options | None) -> None:
        """Build the session for these providers."""
        chosen = normalise(*self._wanted(providers, provider_options))
        self._asked = tuple(chosen)
        self._providers = {name: self._options_of(name, given) for name, given in chosen.items()}
        self._providers.setdefault(registry.CPU, {})
        self._request = self._make_request()
        self._built = self._obtain(self._request, self._trace)
        self._feeds = self._built.feeds
        self._feeds.on_devices = self._built.program.on_devices
        self._outputs = tuple(output.name for output in self._built.outputs)
        self._shared = shared_names(self._built.inputs)
        self._kinds = {output.name: output.type for output in self._built.outputs}
        self._variants: dict[Variant, CompiledModel] = {}
        self._plans: dict[Variant, Plan] = {}
        self._plan = self._plan_for(self._outputs)

    def _options_of(self, name: str, given: dict[str, str]) -> dict[str, str]:
        """Return a provider's options as the provider itself completes them: config entries `ep.<name in lower case>.<option>`,
        and over them those that the caller gives. Raises SardonyxError for wrong ones.
        """
        options = {**keys.entries_under(self._options, f"ep.{name.lower()}."), **given}
        return options if name in registry.OWN else dict(registry.create(name, options).options)

    def _wanted(self, providers: Providers | None, provider_options: Options | None) -> tuple[Providers | None, Options | None]:
        """Return the providers that the caller names, else those of the session options."""
        if not providers and not provider_options:
            return self._options._chosen or providers, None
        if self._options.has_providers() and list(providers or ()) != self._options._chosen:
            warnings.warn(
                "Specified 'providers'/'provider_options' when creating InferenceSession but SessionOptions has already been configured "
                "with providers. InferenceSession will only use the providers passed to InferenceSession().",
                stacklevel=4,
            )
        return providers, provider_options

    def _obtain(self, request: Request, trace: Trace | None = None) -> SessionParts:
        """Load the compiled parts from the cache, or build them. Raises SardonyxError."""
        try:
            with budget.cancelled_by(self._options.stop_word):
                budget.check("looking for it in the cache")
                return session_cache.obtain(request, trace)
        except Exception as error:
            raise_documented(error)

    def _make_request(self) -> Request:
        given = self._options
        return Request(
            source=self._source,
            options=keys.compile_options(given, self._disabled),
            providers=tuple(self._providers.items()),
            asked=self._asked,
            forbid_reference=keys.is_set(given, keys.FORBID_REFERENCE),
            forbid_cpu=keys.is_set(given, keys.FORBID_CPU),
            data_folder=keys.entry(given, keys.DATA_FOLDER) or None,
            dimensions=tuple(given._dimensions.items()),
            denotations=tuple(given._denotations.items()),
            save_to=given.optimized_model_filepath,
            given=keys.replacements_of(given),
            model_format=keys.entry(given, keys.LOAD_FORMAT),
            allow_machine_code=keys.is_set(given, keys.MACHINE_CODE),
        )

    # ---- running ------------------------------------------------------------------------------------------------------------

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: RunOptions | None = None
    ) -> list[Any]:
        """Run the model and return the named outputs, or all outputs if `output_names` is empty. Any value of the model may be
        named.

        input_feed: {name: value}: numpy arrays, nested lists or objects with `__dlpack__`; lists for sequences, dicts for
        maps. An array must have the input's dtype, rank and fixed sizes; the caller owns the returned arrays.

        Raises ValueError for missing inputs, InvalidArgument for names, types or sizes that don't fit, Fail for a node that
        fails and when `run_options` end the run, and what a signal handler raises, such as KeyboardInterrupt.
        """
        if type(input_feed) is not dict and not isinstance(
            input_feed, Mapping
        ):  # the second test takes a noticeable part of a small model's time
            raise TypeError(f"input_feed must be a mapping of names to values, not {type(input_feed).__name__}")
        plan = self._plan if not output_names else self._plan_for(output_names)
        quiet = run_options is None and self._trace is None and not self._verbose
        if run_options is not None and getattr(run_options, "_adapters", None):
            input_feed = run_options.with_adapters(input_feed, self._feeds.names)
        try:
            if quiet and (outputs := plan.replay(input_feed)) is not None:
                return outputs
        except Exception as error:
            raise_documented(error)
        arrays = self._feeds.bind(input_feed)
        overrides = self._feeds.overrides(input_feed) if self._feeds.overridable else None
        context = QUIET if quiet else self._watched(run_options)
        return self._run_fitting(plan, output_names or self._outputs, arrays, context, overrides)

    def _run_fitting(
        self,
        plan: Plan,
        names: Sequence[str],
        arrays: list[Any],
        context: RunContext,
        overrides: Mapping[str, Any] | None,
        targets: Mapping[str, Target] | None = None,
    ) -> list[Any]:
        """Run the plan, or, if axes with one name have different sizes, the plan that was compiled for that case."""
        try:
            if not self._shared or agree(self._shared, arrays):
                with contextlib.suppress(NamesDiffer):
                    return self._run_plan(plan, arrays, context, overrides, targets)
            return self._run_plan(self._plan_for(names, distinct=True), arrays, context, overrides, targets)
        except Exception as error:
            raise_documented(error)

    def _run_into(
        self, names: tuple[str, ...], feed: dict[str, Any], targets: Mapping[str, Target], run_options: RunOptions | None
    ) -> list[Any]:
        """Like `run`; outputs with an array in `targets` are written there, and in a session with devices those with a Buffer or
        a Device. `Executable.run_into` states what the arrays have to be.
        """
        if not targets:
            return self.run(names, feed, run_options)
        plan = self._plan_for(names)
        quiet = run_options is None and self._trace is None and not self._verbose
        try:
            if quiet and (outputs := plan.replay_into(feed, targets)) is not None:
                return outputs
        except Exception as error:
            raise_documented(error)
        arrays = self._feeds.bind(feed)
        overrides = self._feeds.overrides(feed) if self._feeds.overridable else None
        return self._run_fitting(plan, names, arrays, QUIET if quiet else self._watched(run_options), overrides, targets)

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """Like `run`, with OrtValues as inputs and outputs."""
        feed = {name: value._get_c_value()._value for name, value in input_dict_ort_values.items()}
        made = self.run(output_names, feed, run_options)
        kinds = self._kinds
        return [OrtValue._of(value, kinds.get(name, "")) for name, value in zip(output_names or self._outputs, made, strict=True)]

    def run_with_ortvaluevector(
        self,
        run_options: RunOptions | None,
        feed_names: Sequence[str],
        feeds: Iterable[OrtValue],
        fetch_names: Sequence[str],
        fetches: OrtValueVector,
        fetch_devices: Sequence[OrtDevice],
    ) -> None:
        """Like `run_with_ort_values`, but append the outputs to `fetches`, each in the memory of its device."""
        from sardonyx.session.devices import device_of

        feed = {name: value._get_c_value()._value for name, value in zip(feed_names, feeds, strict=True)}
        wanted = {name: device_of(device) for name, device in zip(fetch_names, fetch_devices, strict=True)}
        direct = wanted if self._feeds.on_devices else {}
        for name, value in zip(fetch_names, self._run_into(tuple(fetch_names), feed, direct, run_options), strict=True):
            fetches.push_back(OrtValue._of(Copies(value).on(wanted[name]), self._kinds.get(name, "")))

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callback,
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """Like `run`, on another thread, which then calls `callback(outputs, user_data, "")`, or `callback([], user_data,
        error)`.

        Raises ValueError for missing inputs, TypeError for wrong options; the callback gets every other error.
        """
        from sardonyx.session import asynchronous

        self._feeds.require_all(input_feed)
        if run_options is not None and not isinstance(run_options, RunOptions):
            raise TypeError(f"run_options must be RunOptions, not {type(run_options).__name__}")
        asynchronous.start(lambda: self.run(output_names, input_feed, run_options), callback, user_data)

    def io_binding(self) -> IOBinding:
        """Return an IOBinding, which binds inputs and outputs to memory for several runs."""
        from sardonyx.session.binding import IOBinding

        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: RunOptions | None = None) -> None:
        """Run on what is bound; `iobinding.get_outputs()` then returns the results.

        Raises ValueError for another session's binding, RuntimeError for every other error, as ONNX Runtime does.
        """
        if iobinding._session is not self:
            raise ValueError("IOBinding must be used with the session that created it.")
        iobinding._run(run_options)

    def create_ortvalue_from_shape_and_type(
        self, shape: Sequence[int], element_type: Any, device_type: str, device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """Create a tensor, see OrtValue.ortvalue_from_shape_and_type."""
        return OrtValue.ortvalue_from_shape_and_type(shape, element_type, device_type, device_id, vendor_id)

    def _watched(self, run_options: RunOptions | None) -> RunContext:
        """Return the context of a run that can be ended early, is traced, or is reported at the debug level."""
        if run_options is not None and not isinstance(run_options, RunOptions):
            raise TypeError(f"run_options must be RunOptions, not {type(run_options).__name__}")
        limit = keys.timeout(run_options) if run_options is not None else 0
        context = RunContext(run_options, self._trace, time.monotonic_ns() + limit if limit else 0)
        context.check()
        return context

    def _run_plan(
        self,
        plan: Plan,
        arrays: list[Any],
        context: RunContext,
        overrides: Mapping[str, Any] | None,
        targets: Mapping[str, Target] | None,
    ) -> list[Any]:
        """Run a plan; record the run in the trace and report its time if the context asks for it."""
        if context is QUIET and targets is None:
            return plan.run(arrays, QUIET, overrides)
        start = time.perf_counter_ns()
        outputs = plan.run(arrays, context, overrides) if targets is None else plan.run_into(arrays, targets, context, overrides)
        if context.trace is not None:
            context.trace.record_run(start, shapes_of(self._built.inputs, arrays))
        if self._verbose:
            debug.show(debug.RAN, "run", f"{(time.perf_counter_ns() - start) / 1e6:.3f} ms")
        return outputs

    def _plan_for(self, names: Sequence[str], distinct: bool = False) -> Plan:
        """Return the plan for these outputs, made at its first use. Raises InvalidArgument for an unknown name.

        distinct: axes with one name may have different sizes, see session.dimension_names.
        """
        if isinstance(names, str):
            raise TypeError(f"output names must be a list, not the string {names!r}")
        self._require_open()
        key = distinct, tuple(names)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._program_with(*key).plan(key[1])
        return plan

    def _program_with(self, distinct: bool, names: tuple[str, ...]) -> CompiledModel:
        """Return a compiled model that provides these values: the session's own, or one compiled for values that are fused away
        in it.
        """
        program = self._program(distinct)
        extra = tuple(sorted(set(names) - program.values()))
        return self._program(distinct, extra) if extra else program

    def _program(self, distinct: bool, extra: tuple[str, ...] = ()) -> CompiledModel:
        """Return the session's compiled model, or a variant compiled at its first use: with `extra` outputs, or with distinct
        sizes.
        """
        if not distinct and not extra:
            return self._built.program
        key = distinct, extra
        if key not in self._variants:
            self._variants[key] = self._obtain(variant(self._request, extra, distinct), self._trace).program
        return self._variants[key]

    # Private names of ONNX Runtime's class that some programs read.

    @property
    def _model_path(self) -> str | None:
        return None if isinstance(self._source, bytes) else os.fspath(self._source)

    @property
    def _model_bytes(self) -> bytes | None:
        return self._source if isinstance(self._source, bytes) else None

    @property
    def _sess(self) -> InferenceSession:
        return self

    @property
    def _sess_options(self) -> SessionOptions:
        return self._options

    @property
    def _inputs_meta(self) -> list[NodeArg]:
        return self._built.inputs

    @property
    def _outputs_meta(self) -> list[NodeArg]:
        return self._built.outputs

    def _require_open(self) -> None:
        """Raise InvalidArgument if the session is closed."""
        if self._closed:
            raise InvalidArgument(CLOSED)

    def close(self) -> None:
        """Free what the session holds, without waiting for runs under way: each frees its memory when it ends.

        Every later run raises InvalidArgument; questions about the model are still answered.
        """
        self._closed = True
        for program in (self._built.program, *list(self._variants.values())):
            program.close()
        self._plans.clear()
        self._variants.clear()
        self._plan = _Closed()  # type: ignore[assignment]

    # ---- asking -------------------------------------------------------------------------------------------------------------

    def get_inputs(self) -> list[NodeArg]:
        """Return the inputs that have to be fed: names, types and shapes."""
        return self._built.inputs

    def get_outputs(self) -> list[NodeArg]:
        """Return the model's outputs: names, types and shapes."""
        return self._built.outputs

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Return the inputs that have a default in the model."""
        return self._built.overridable

    def get_modelmeta(self) -> ModelMetadata:
        """Return the model's metadata."""
        return self._built.metadata

    def get_session_options(self) -> SessionOptions:
        return self._options

    def get_providers(self) -> list[str]:
        """Return the providers of the session, in order of preference."""
        return list(self._providers)

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """Return {provider: its options}."""
        return {name: dict(options) for name, options in self._providers.items()}

    def set_providers(self, providers: Providers | None = None, provider_options: Options | None = None) -> None:
        """Compile the model again for these providers."""
        self._require_open()
        self._build(providers, provider_options)

    def get_provider_graph_assignment_info(self) -> list[OrtEpAssignedSubgraph]:
        """Return the sub-graphs in the order in which they run, each with its provider and its nodes, including nodes of bodies.

        A sub-graph that is compiled at its first run (session.late) is described by what runs have compiled so far.
        """
        found: list[OrtEpAssignedSubgraph] = []
        for claimed, step in zip(self._built.assignment, self._built.program.steps, strict=True):
            inside = step.executable.assignment()
            found += [*inside] if isinstance(step.executable, LateSubgraph) and inside else [claimed, *inside]
        return found

    def get_input_memory_infos(self) -> Sequence[OrtMemoryInfo]:
        """Return the memory in which each input lies."""
        from sardonyx.session.devices import memory_infos

        return memory_infos(len(self._built.inputs))

    def get_output_memory_infos(self) -> Sequence[OrtMemoryInfo]:
        """Return the memory in which each output lies."""
        from sardonyx.session.devices import memory_infos

        return memory_infos(len(self._built.outputs))

    def get_input_epdevices(self) -> Sequence[OrtEpDevice]:
        """Return the provider and hardware device that reads each input."""
        from sardonyx.session.devices import get_ep_devices

        return get_ep_devices() * len(self._built.inputs)

    def enable_fallback(self) -> None:
        """Do nothing: a provider that fails raises an error; no other provider is tried."""

    def disable_fallback(self) -> None:
        """Do nothing, see `enable_fallback`."""

    def get_tuning_results(self) -> list[dict[str, Any]]:
        """Return an empty list: no provider here is tuned by measurements."""
        return []

    def set_tuning_results(self, results: Sequence[dict[str, Any]], *, error_on_invalid: bool = False) -> None:
        """Do nothing, see `get_tuning_results`. Raises RuntimeError if there are results and `error_on_invalid` is set."""
        if results and error_on_invalid:
            raise RuntimeError("No provider of this session takes tuning results.")

    def set_ep_dynamic_options(self, options: Mapping[str, str]) -> None:
        """Do nothing: no provider here has options that change after the session is created."""

    def release_captured_graph(self, graph_annotation_id: int = 0) -> None:
        """Do nothing: no graphs are captured on a CPU."""

    def describe(self) -> str:
        """Describe what the compiler did: each sub-graph with its provider."""
        steps = self._built.program.steps
        return "\n".join(f"{step.provider}: {step.executable.describe()}" for step in steps) or "no nodes to run"

    # ---- profiling ----------------------------------------------------------------------------------------------------------

    def end_profiling(self) -> str:
        """Stop profiling and write the trace. Return its path; "" if the session isn't profiled, or no longer.

        The trace is written at the latest when the session is freed. Raises OSError if the file can't be written.
        """
        return write_trace(self._take_trace(), self._trace_path) if self._trace is not None else ""

    def _take_trace(self) -> Trace:
        """Stop profiling, without a file, and return the trace of a session that is profiled."""
        assert self._trace is not None
        trace, self._trace = self._trace, None
        self._unwritten.detach()
        return trace

    def get_profiling_start_time_ns(self) -> int:
        """Return when profiling began, on the clock of `time.monotonic_ns`; 0 if the session was not profiled."""
        return self._trace_start


def default_options(source: str | os.PathLike[str] | bytes, read_from_model: int | None) -> SessionOptions:
    """Return the options of a session that was given none: those in the model, if they are to be read. Raises SardonyxError if
    they are invalid.
    """
    wanted = os.environ.get("ORT_LOAD_CONFIG_FROM_MODEL") == "1" if read_from_model is None else int(read_from_model) == 1
    if not wanted:
        return SessionOptions()
    from sardonyx.session.model_options import options_in

    return options_in(source)


def shapes_of(inputs: Sequence[NodeArg], values: Sequence[Any]) -> dict[str, tuple[int, ...]]:
    """Return {name: shape} of those inputs that are arrays."""
    return {argument.name: x.shape for argument, x in zip(inputs, values, strict=False) if hasattr(x, "shape")}


def raise_documented(error: Exception) -> NoReturn:
    """Raise the documented exception for an internal one; see `documented`. An exception of a signal handler is raised
    unchanged.
    """
    if isinstance(error, FromHandler):
        raise error.raised
    found = documented(error)
    if found is error:
        raise error
    raise found from error


class _Closed:
    """Takes the place of the plan in a closed session."""

    def replay(self, *_: Any) -> list[Any]:
        raise InvalidArgument(CLOSED)

    run = replay


def _restore(
    source: str | bytes, options: SessionOptions, providers: Providers | None, disabled: frozenset[str]
) -> InferenceSession:
    return InferenceSession(source, options, providers, disabled_optimizers=disabled)
