"""Which processor this is, without asking LLVM: one processor, one text."""

from __future__ import annotations

import functools
import platform

# x86-64 and aarch64: family, model and every feature that the kernel lets programs use, in one line. /proc/cpuinfo says the same, but
# takes milliseconds to measure clocks.
MODALIAS = "/sys/devices/system/cpu/modalias"
CPUINFO = "/proc/cpuinfo"
_LASTING = (
    *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
    *("Features", "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision"),
)
_FEATURES = ("flags", "Features")


@functools.cache
def processor() -> str | None:
    """A text that differs wherever machine code made for the one processor might not run, or not as well, on the other.

    None where the system does not tell.
    """
    return _told(MODALIAS, CPUINFO)


def _told(modalias: str, cpuinfo: str) -> str | None:
    text = _read(modalias) or _first_of(_read(cpuinfo))
    return f"{platform.system()} {platform.machine()} {text}" if text else None


def _first_of(cpuinfo: str) -> str:
    """What stays the same of the first processor's lines; empty if its features are not there."""
    first = cpuinfo.partition("\n\n")[0]
    pairs = [[word.strip() for word in line.split(":", 1)] for line in first.splitlines() if ":" in line]
    kept = {key: value for key, value in pairs if key in _LASTING}
    return repr(sorted(kept.items())) if any(kept.get(name) for name in _FEATURES) else ""


def _read(path: str) -> str:
    """The file's text; empty where it can't be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
