"""A model that ONNX's backend interface has prepared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx.backend.base import BackendRep

from sardonyx.session.inference_session import InferenceSession
from sardonyx.session.options import RunOptions

ALLOWED = ("log_severity_level", "log_verbosity_level", "logid", "only_execute_path_to_fetches")
"""Options of a run that may be given as keywords."""


class SardonyxBackendRep(BackendRep):
    """A model that is ready to run."""

    def __init__(self, session: InferenceSession) -> None:
        self.session = self._session = session

    def run(self, inputs: Any, **kwargs: Any) -> list[Any]:  # type: ignore[override]
        """The outputs, in the model's order.

        inputs: a list in the order of the model's inputs, {name: value}, or the value of the only input. kwargs: options of the run.
        Raises RuntimeError for options that may not be given here, and for one value where the model has several inputs.
        """
        options = RunOptions()
        set_allowed(options, kwargs, ALLOWED)
        return self._session.run(None, self.feed(inputs), options)

    def feed(self, inputs: Any) -> dict[str, Any]:
        """{name: value}"""
        names = [i.name for i in (*self._session.get_inputs(), *self._session.get_overridable_initializers())]
        if isinstance(inputs, Mapping):
            return dict(inputs)
        if isinstance(inputs, list | tuple):
            return {name: np.asarray(x) if isinstance(x, np.generic) else x for name, x in zip(names, inputs, strict=False)}
        if len(self._session.get_inputs()) != 1:
            raise RuntimeError(f"Model expect {len(self._session.get_inputs())} inputs")
        return {names[0]: np.asarray(inputs) if isinstance(inputs, np.generic) else inputs}


def set_allowed(options: Any, given: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    """Sets options by keywords; those that aren't options are passed over. Raises RuntimeError for those that are not allowed."""
    for name, value in given.items():
        if name in allowed:
            setattr(options, name, value)
        elif hasattr(options, name):
            raise RuntimeError(
                f"{type(options).__name__} attribute '{name}' is not permitted via the backend API. "
                f"Allowed attributes: {', '.join(sorted(allowed))}"
            )


OnnxRuntimeBackendRep = SardonyxBackendRep
