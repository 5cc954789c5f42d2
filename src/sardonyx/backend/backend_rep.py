"""A model prepared through ONNX's backend interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx.backend.base import BackendRep

from sardonyx.session.inference_session import InferenceSession
from sardonyx.session.options import RunOptions

ALLOWED = ("log_severity_level", "log_verbosity_level", "logid", "only_execute_path_to_fetches")
"""Run options that may be given as keywords."""


class SardonyxBackendRep(BackendRep):
    """A prepared model, ready to run."""

    def __init__(self, session: InferenceSession) -> None:
        self.session = self._session = session

    def run(self, inputs: Any, **kwargs: Any) -> list[Any]:  # type: ignore[override]
        """Run the model and return its outputs, in the model's order.

        inputs: a list in the order of the model's inputs, {name: value}, or the value of the only input. kwargs: run options.
        Raises RuntimeError for options that aren't allowed here, and for a single value if the model has several inputs.
        """
        options = RunOptions()
        set_allowed(options, kwargs, ALLOWED)
        return self._session.run(None, self.feed(inputs), options)

    def feed(self, inputs: Any) -> dict[str, Any]:
        """Return the inputs as {name: value}."""
        names = [i.name for i in (*self._session.get_inputs(), *self._session.get_overridable_initializers())]
        if isinstance(inputs, Mapping):
            return dict(inputs)
        if isinstance(inputs, list | tuple):
            return {name: np.asarray(x) if isinstance(x, np.generic) else x for name, x in zip(names, inputs, strict=False)}
        if len(self._session.get_inputs()) != 1:
            raise RuntimeError(f"Model expect {len(self._session.get_inputs())} inputs")
        return {names[0]: np.asarray(inputs) if isinstance(inputs, np.generic) else inputs}


def set_allowed(options: Any, given: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    """Set options given as keywords, ignoring names that are no options. Raises RuntimeError for options that aren't allowed."""
    for name, value in given.items():
        if name in allowed:
            setattr(options, name, value)
        elif hasattr(options, name):
            raise RuntimeError(
                f"{type(options).__name__} attribute '{name}' is not permitted via the backend API. "
                f"Allowed attributes: {', '.join(sorted(allowed))}"
            )


OnnxRuntimeBackendRep = SardonyxBackendRep
