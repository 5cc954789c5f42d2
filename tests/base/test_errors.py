"""Errors: onnxruntime's codes and texts, and what survives pickling."""

from __future__ import annotations

import pickle

import pytest

from sardonyx.base import errors
from sardonyx.base.errors import SardonyxError, Unsupported

CODED = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, SardonyxError) and e is not SardonyxError]


def coded_ids() -> list[str]:
    return [e.__name__ for e in CODED]


@pytest.mark.parametrize("error", CODED, ids=coded_ids())
def test_the_text_is_onnxruntimes(error: type[SardonyxError]) -> None:
    assert str(error("why")) == f"[ONNXRuntimeError] : {error.code} : {error.label} : why"
    assert error("why").detail == "why"


@pytest.mark.parametrize("error", CODED, ids=coded_ids())
def test_pickling_keeps_class_and_text(error: type[SardonyxError]) -> None:
    copy = pickle.loads(pickle.dumps(error("why")))
    assert type(copy) is error
    assert str(copy) == str(error("why"))


def test_codes_and_labels_are_onnxruntimes() -> None:
    """The numbers of OrtErrorCode in onnxruntime_c_api.h; the classes that onnxruntime has are compared with its own."""
    state = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    assert sorted({e.code for e in CODED}) == list(range(1, 15))
    for error in CODED:
        assert hasattr(state, error.__name__) or error.__name__ in NOT_RAISED_THERE, error


NOT_RAISED_THERE = {"ModelLoadCanceled", "ModelRequiresCompilation", "NotFound"}
"""Codes of onnxruntime's C interface that some versions of its Python module have no exception for."""


def test_coded_errors_derive_from_exception_alone() -> None:
    """As onnxruntime's do: code that catches RuntimeError or ValueError must not swallow them."""
    assert SardonyxError.__mro__ == (SardonyxError, Exception, BaseException, object)
    assert not issubclass(Unsupported, SardonyxError)
