"""What compiled code needs of a processor."""

from __future__ import annotations

import platform

import pytest

from sardonyx.codegen.features import AVX2, AVX512, NEON, SSE2, TARGETS, WASM, baseline, host
from sardonyx.codegen.needs import X86_NAMES, needs_of
from sardonyx.runtime.processor import features, unmet


def test_this_machine_runs_code_for_itself() -> None:
    assert unmet(needs_of(host())) == ""
    assert unmet(needs_of(baseline())) == ""


@pytest.mark.parametrize("name", TARGETS)
def test_each_row_has_needs(name: str) -> None:
    assert needs_of(TARGETS[name]).architecture == TARGETS[name].architecture


def test_wider_rows_need_more() -> None:
    needed = [set(needs_of(row).features) for row in (SSE2, AVX2, AVX512)]
    assert needed[0] < needed[1] < needed[2]
    assert (needs_of(NEON).system, needs_of(NEON).features) == ("Linux", ("asimd",))
    assert (needs_of(WASM).system, needs_of(WASM).features) == ("WebAssembly", ())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of x86-64's features")
def test_linux_knows_the_names() -> None:
    """The rows' features exist under these names, where the processor has them at all; so do the host's."""
    there = features()
    assert there is not None
    needed = set(needs_of(host()).features)
    assert needed
    assert needed <= there
    row = AVX512 if "avx512vl" in there else AVX2 if "avx2" in there else SSE2
    assert set(needs_of(row).features) <= there
    assert set(needs_of(row).features) <= set(X86_NAMES.values())
