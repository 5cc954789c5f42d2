"""The debug dial: what Sardonyx tells about itself on standard error, and where it writes the same to files.

    SARDONYX_DEBUG   1 what ran and how long, 2 kernels, 3 graph after each pass, 4 loop IR, 5 LLVM IR, 6 assembly
    SARDONYX_DUMP    a directory: texts of every level are written there, one file each, whatever the level
    SARDONYX_PASSES  a regular expression: only graph passes whose name it matches are run
    SARDONYX_STEPS   a number: graph passes stop after so many steps, to find the one that breaks a model

The environment is read at each question, so that a test or a debugger can turn the dial while the process runs.
"""

from __future__ import annotations

import itertools
import os
import re
import sys

RAN, KERNELS, GRAPH, LOOPS, LLVM, ASSEMBLY = range(1, 7)

_numbers = itertools.count()


def level() -> int:
    """The dial's level; 0 is silent. Raises ValueError if the variable isn't a number."""
    return _number("SARDONYX_DEBUG", 0)


def show(at: int, name: str, text: str) -> None:
    """Prints `text` under the heading `name` if the dial stands at level `at` or above, and dumps it if a directory is set."""
    if level() >= at:
        print(f"--- {name}\n{text.rstrip()}", file=sys.stderr)
    dump(name, text)


def dump(name: str, text: str) -> None:
    """Writes `text` to a numbered file named after `name` in SARDONYX_DUMP, if that is set; numbers follow the order of calls."""
    folder = os.environ.get("SARDONYX_DUMP")
    if not folder:
        return
    os.makedirs(folder, exist_ok=True)
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:120]
    with open(os.path.join(folder, f"{next(_numbers):05d}-{safe}.txt"), "w") as file:
        file.write(text)


def dumping() -> bool:
    """Is a directory set? Asked before making a text that is dear to make."""
    return bool(os.environ.get("SARDONYX_DUMP"))


def wants(at: int) -> bool:
    """Will `show` at this level do anything?"""
    return level() >= at or dumping()


def is_set() -> bool:
    """Is the dial turned, or one of its variables set?"""
    return level() > 0 or any(os.environ.get(name) for name in ("SARDONYX_DUMP", "SARDONYX_PASSES", "SARDONYX_STEPS"))


def pass_enabled(name: str) -> bool:
    """Does SARDONYX_PASSES let the graph pass `name` run?"""
    pattern = os.environ.get("SARDONYX_PASSES")
    return not pattern or re.search(pattern, name) is not None


def step_limit() -> int | None:
    """How many steps of the pass pipeline may run; None is all."""
    return _number("SARDONYX_STEPS", -1) if os.environ.get("SARDONYX_STEPS") else None


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable)
    if not text:
        return default
    if not text.isdigit():
        raise ValueError(f"{variable} is {text!r}, not a number")
    return int(text)
