"""The forms in which providers and their options are given, beside onnxruntime's own reading of them."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from onnxruntime.capi.onnxruntime_inference_collection import check_and_normalize_provider_args

import sardonyx as sx
from sardonyx.session.provider_arguments import normalise
from tests.session.models import relu

CPU = "CPUExecutionProvider"
AVAILABLE = [CPU, "ReferenceExecutionProvider"]


@pytest.mark.parametrize(
    ("providers", "options", "expected"),
    [
        (None, None, {}),
        ([], None, {}),
        ([CPU], None, {CPU: {}}),
        ((CPU,), None, {CPU: {}}),
        ([(CPU, {"arena": 1})], None, {CPU: {"arena": "1"}}),
        ([CPU], [{"arena": True}], {CPU: {"arena": "True"}}),
        (["ReferenceExecutionProvider", CPU], None, {"ReferenceExecutionProvider": {}, CPU: {}}),
    ],
)
def test_forms(providers: Any, options: Any, expected: dict[str, dict[str, str]]) -> None:
    found = normalise(providers, options, AVAILABLE)
    assert found == expected
    assert list(found) == list(expected), "the user's order is kept"


WRONG: list[tuple[Any, Any]] = [
    ({CPU}, None),
    ([3], None),
    ([[CPU, {}]], None),
    ([(CPU, {}, 1)], None),
    ([(CPU, "x")], None),
    ([CPU], {}),
    ([CPU], [{}, {}]),
    ([CPU], ["x"]),
    ([(CPU, {})], [{}]),
]


@pytest.mark.parametrize(("providers", "options"), WRONG)
def test_other_forms_are_refused_with_onnxruntimes_words(providers: Any, options: Any) -> None:
    """onnxruntime's session catches its own error, prints it and falls back; here it is the caller's to see."""
    with pytest.raises(ValueError, match="provider") as mine:
        sx.InferenceSession(relu(), providers=providers, provider_options=options)
    with pytest.raises(ValueError, match="provider") as theirs:
        check_and_normalize_provider_args(providers, options, AVAILABLE)
    assert str(mine.value) == str(theirs.value)


def test_one_name_is_no_sequence_of_names() -> None:
    """onnxruntime warns of eighteen providers, one for each letter."""
    with pytest.raises(ValueError, match="'providers' should be a sequence"):
        normalise(CPU, None, AVAILABLE)


def test_a_provider_that_is_not_there_is_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"Specified provider 'NoneExecutionProvider' is not in available provider names") as seen:
        session = sx.InferenceSession(relu(), providers=["NoneExecutionProvider", CPU])
    assert seen[0].filename == __file__, "the warning points at the caller's line"
    assert session.get_providers()[0] == CPU


def test_a_provider_given_twice_is_taken_once() -> None:
    with pytest.warns(UserWarning, match=f"Duplicate provider '{CPU}' encountered, ignoring"):
        assert normalise([(CPU, {"a": "1"}), CPU], None, AVAILABLE) == {CPU: {"a": "1"}}


def test_right_arguments_warn_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sx.InferenceSession(relu(), providers=[CPU])
