"""The text that tells processors apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from sardonyx.runtime.processor import _features_in, _identify, processor

CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 207
cpu MHz\t\t: {clock}
flags\t\t: fpu {feature}

processor\t: 1
flags\t\t: other
"""


def test_this_processor_has_one():
    assert processor() == processor()


def test_the_kernels_line_is_taken_as_it_is(tmp_path: Path):
    found = []
    for text in ("cpu:type:x86,ven0000fam0006mod00CF:feature:,0000,0001", "cpu:type:x86,ven0000fam0006mod00CF:feature:,0000"):
        (tmp_path / "modalias").write_text(text + "\n")
        found.append(_identify(str(tmp_path / "modalias"), "/nowhere") or "")
        assert found[-1].endswith(text)
    assert len(set(found)) == 2


def test_without_it_what_lasts_of_the_first_processor(tmp_path: Path):
    def told(**values: str) -> str | None:
        (tmp_path / "cpuinfo").write_text(CPUINFO.format(**values))
        return _identify("/nowhere", str(tmp_path / "cpuinfo"))

    assert told(clock="1000", feature="avx2") == told(clock="2000", feature="avx2")
    assert told(clock="1000", feature="avx2") != told(clock="1000", feature="avx512f")


def test_a_system_that_does_not_tell(tmp_path: Path):
    (tmp_path / "cpuinfo").write_text("processor : 0\ncpu MHz : 1\n")
    assert _identify("/nowhere", "/nowhere") is None
    assert _identify("/nowhere", str(tmp_path / "cpuinfo")) is None


@pytest.mark.parametrize(
    ("line", "found"), [("flags\t\t: fpu avx2", {"fpu", "avx2"}), ("Features\t: fp asimd", {"fp", "asimd"}), ("x: y", None)]
)
def test_features_by_the_systems_names(line: str, found: set[str] | None):
    assert _features_in(f"processor\t: 0\n{line}\n") == found
    assert _features_in("") is None
