"""Compile options are values: equal by content, hashable, and unchangeable."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from sardonyx import GraphOptimizationLevel
from sardonyx.base import options
from sardonyx.base.options import CompileOptions


def test_levels_have_onnxruntimes_numbers() -> None:
    mine = (options.DISABLED, options.BASIC, options.EXTENDED, options.LAYOUT, options.ALL)
    assert mine == tuple(int(level) for level in GraphOptimizationLevel)


def test_options_are_frozen_and_compare_by_content() -> None:
    assert CompileOptions(threads=2) == CompileOptions(threads=2)
    assert len({CompileOptions(), CompileOptions(), CompileOptions(winograd=False)}) == 2
    with pytest.raises(AttributeError):
        CompileOptions().level = 0  # type: ignore[misc]


@pytest.mark.parametrize("field", CompileOptions.__struct_fields__)
def test_each_option_tells_two_requests_apart(field: str) -> None:
    """The session cache takes the options as part of its key: none of them may be left out of the comparison."""
    default = getattr(CompileOptions(), field)
    other = {"level": 1, "threads": 3, "target": "sse2", "disabled": frozenset({"a"})}.get(field, not default)
    changed = replace(CompileOptions(), **{field: other})
    assert changed != CompileOptions()
    assert repr(changed) != repr(CompileOptions())
