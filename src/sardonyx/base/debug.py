"""The debug dial: what Sardonyx prints about its work on standard error, and where it writes the same texts to files.

    SARDONYX_DEBUG   1 what ran and how long, 2 kernels and why each value is placed as it is, 3 graph and values after each step,
                     4 loop IR, 5 LLVM IR, 6 assembly
    SARDONYX_DUMP    a directory: texts of all levels are written there, one file each, whatever SARDONYX_DEBUG says
    SARDONYX_PASSES  a regular expression: only graph passes whose name it matches run
    SARDONYX_STEPS   a number or a name: optional graph passes and steps of lowering after this one do not run, to find the one
                     that breaks a model
    SARDONYX_VERIFY  if it is set, the graph is verified after each pass, and the loops of every kernel

The environment is read at each call, so that a test or a debugger can change the dial while the process runs.
"""

from __future__ import annotations

import itertools
import os
import re
import sys

RAN, KERNELS, GRAPH, LOOPS, LLVM, ASSEMBLY = range(1, 7)

_numbers = itertools.count()


def level() -> int:
    """Return the dial's level; 0 is silent. Raises ValueError if the variable is not a number."""
    return _number("SARDONYX_DEBUG", 0)


def show(at: int, name: str, text: str) -> None:
    """Print `text` under the heading `name` if the dial is at level `at` or above, and dump it if a directory is set."""
    if level() >= at:
        print(f"--- {name}\n{text.rstrip()}", file=sys.stderr)
    dump(name, text)


def dump(name: str, text: str) -> None:
    """Write `text` to a numbered file named after `name` in SARDONYX_DUMP, if that is set. Numbers follow the order of calls."""
    folder = os.environ.get("SARDONYX_DUMP")
    if not folder:
        return
    os.makedirs(folder, exist_ok=True)
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:120]
    with open(os.path.join(folder, f"{next(_numbers):05d}-{safe}.txt"), "w") as file:
        file.write(text)


def dumping() -> bool:
    """Tell whether a directory is set. Call this before making a text that is costly to make."""
    return bool(os.environ.get("SARDONYX_DUMP"))


def wants(at: int) -> bool:
    """Tell whether `show` at this level would print or dump anything."""
    return level() >= at or dumping()


def is_set() -> bool:
    """Tell whether the dial is above 0 or any of its other variables is set."""
    return level() > 0 or any(os.environ.get(name) for name in ("SARDONYX_DUMP", "SARDONYX_PASSES", "SARDONYX_STEPS"))


def pass_enabled(name: str) -> bool:
    """Tell whether SARDONYX_PASSES allows the graph pass `name` to run."""
    pattern = os.environ.get("SARDONYX_PASSES")
    return not pattern or re.search(pattern, name) is not None


def stop() -> str | None:
    """Return the last step that runs even if it is optional, by its number or name (see base.steps); None for all."""
    return os.environ.get("SARDONYX_STEPS") or None


def verifying() -> bool:
    """Tell whether SARDONYX_VERIFY asks for checks that take time. `is_set` ignores it: it does not change what is compiled."""
    return bool(os.environ.get("SARDONYX_VERIFY"))


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable)
    if not text:
        return default
    if not text.isdigit():
        raise ValueError(f"{variable} is {text!r}, not a number")
    return int(text)
