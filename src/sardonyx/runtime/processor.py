"""Identifies the processor without LLVM: equal processors give equal texts."""

from __future__ import annotations

import functools
import platform

from msgspec import Struct

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


class Needs(Struct, frozen=True):
    """What code needs of the machine that runs it.

    architecture, system: as `platform.machine()` and `platform.system()` name them. features: as Linux names them in
    /proc/cpuinfo. only: the text of the only processor that may run it, see `processor`; "" for any that has the features.
    """

    architecture: str
    system: str
    features: tuple[str, ...] = ()
    only: str = ""


def unmet(needs: Needs) -> str:
    """Return why this machine can't run code with these needs; "" if it can."""
    here = platform.system(), platform.machine()
    if here != (needs.system, needs.architecture):
        return f"it is for {needs.system} on {needs.architecture}, and this is {here[0]} on {here[1]}"
    if needs.only:
        return "" if needs.only == processor() else "it is for the processor on which it was compiled, and this is another one"
    if not needs.features:
        return ""
    there = features()
    if there is None:
        return "it needs certain features of the processor, and this system doesn't tell which there are"
    missing = [name for name in needs.features if name not in there]
    return f"it needs features that this processor lacks: {', '.join(missing)}" if missing else ""


@functools.cache
def features() -> frozenset[str] | None:
    """Return the features of the processor, as Linux names them; None if the system doesn't tell."""
    return _features_in(_read(CPUINFO))


def _features_in(cpuinfo: str) -> frozenset[str] | None:
    found = _fields_of_first(cpuinfo)
    listed = next((found[name] for name in _FEATURES if name in found), None)
    return None if listed is None else frozenset(listed.split())


def _identify(modalias: str, cpuinfo: str) -> str | None:
    text = _read(modalias) or _first_of(_read(cpuinfo))
    return f"{platform.system()} {platform.machine()} {text}" if text else None


def _first_of(cpuinfo: str) -> str:
    """Return the constant fields of the first processor in /proc/cpuinfo; empty if its features are missing."""
    kept = {key: value for key, value in _fields_of_first(cpuinfo).items() if key in _LASTING}
    return repr(sorted(kept.items())) if any(kept.get(name) for name in _FEATURES) else ""


def _fields_of_first(cpuinfo: str) -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo by their names."""
    lines = [line.partition(":") for line in cpuinfo.partition("\n\n")[0].splitlines() if ":" in line]
    return {name.strip(): content.strip() for name, _, content in lines}


def _read(path: str) -> str:
    """Return the file's text; empty if it can't be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
