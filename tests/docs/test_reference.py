"""The API reference: every public name is in it, with its docstring."""

from __future__ import annotations

import inspect

import pytest

import sardonyx
from docs.reference import page, prose

PAGE = page()


@pytest.mark.parametrize("name", sorted(name for name in sardonyx.__all__ if not name.startswith("_")))
def test_a_public_name_is_in_the_reference(name: str) -> None:
    value = getattr(sardonyx, name)
    if inspect.ismodule(value) or not callable(value):
        pytest.skip("neither a class nor a function")
    assert f"\n### {name}\n" in PAGE


def test_methods_are_shown_as_they_are_called() -> None:
    section = PAGE.split("### InferenceSession\n")[1].split("\n### ")[0]
    assert "InferenceSession.run(output_names: Sequence[str] | None, input_feed: Mapping[str, Any]," in section
    assert "Run the model and return the named outputs" in section
    assert "#### InferenceSession.end_profiling" in section
    assert "InferenceSession._" not in section


def test_what_markdown_would_take_for_tags_is_written_as_text() -> None:
    def function() -> None:
        """Return `<prefix>` and a * b, <c>.

            code <stays>

        End.
        """

    assert prose(function) == "Return `<prefix>` and a \\* b, \\<c>.\n\n    code <stays>\n\nEnd.\n"


def test_exceptions_and_inner_modules_are_in_the_reference() -> None:
    for title in (
        "- `InvalidArgument`: code 2, INVALID_ARGUMENT",
        "### sardonyx.dropin.install",
        "### sardonyx.datasets.get_example",
    ):
        assert f"\n{title}\n" in PAGE
    assert "\n## sardonyx.backend\n" in PAGE
