"""Identifies the processor without LLVM: equal processors give equal texts."""

from __future__ import annotations

import functools
import platform

# One line with family, model and every feature that programs may use, on x86-64 and aarch64. /proc/cpuinfo says the same, but
# reading it takes milliseconds, because it measures clocks.
MODALIAS = "/sys/devices/system/cpu/modalias"
CPUINFO = "/proc/cpuinfo"
_LASTING = (
    *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
    *("Features", "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision"),
)
_FEATURES = ("flags", "Features")


@functools.cache
def processor() -> str | None:
    """Return a text that differs between two processors if code compiled for one might not run, or run as well, on the other.

    None if the system doesn't tell.
    """
    return _identify(MODALIAS, CPUINFO)


def _identify(modalias: str, cpuinfo: str) -> str | None:
    text = _read(modalias) or _first_of(_read(cpuinfo))
    return f"{platform.system()} {platform.machine()} {text}" if text else None


def _first_of(cpuinfo: str) -> str:
    """Return the constant fields of the first processor in /proc/cpuinfo; empty if its features are missing."""
    first = cpuinfo.partition("\n\n")[0]
    pairs = [[word.strip() for word in line.split(":", 1)] for line in first.splitlines() if ":" in line]
    kept = {key: value for key, value in pairs if key in _LASTING}
    return repr(sorted(kept.items())) if any(kept.get(name) for name in _FEATURES) else ""


def _read(path: str) -> str:
    """Return the file's text; empty if it can't be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
