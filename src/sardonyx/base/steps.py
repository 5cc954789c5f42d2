"""Named steps, run one after the other: the passes over a graph, then the steps of lowering. SARDONYX_STEPS counts both in one order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from sardonyx.base import debug

Subject = TypeVar("Subject")

if TYPE_CHECKING:  # a protocol takes long to make
    from typing import Protocol

    Seen = TypeVar("Seen", contravariant=True)

    class Step(Protocol[Seen]):
        """What has a name and works on its subject in place."""

        @property
        def name(self) -> str: ...

        @property
        def run(self) -> Callable[[Seen], object]: ...


def run_steps(numbered: Iterable[tuple[int, Step[Subject]]], subject: Subject, title: str, text: Callable[[Subject], str]) -> None:
    """Run the steps. Debug level 1 prints how long each step took, level 3 the subject's text after each step that changed it."""
    watched, shown = debug.wants(debug.RAN), debug.wants(debug.GRAPH)
    last = text(subject) if shown else ""
    times: list[str] = []
    for number, step in numbered:
        start = time.perf_counter()
        step.run(subject)
        if watched:
            times.append(f"{number:3} {step.name:36} {1e3 * (time.perf_counter() - start):9.3f} ms")
        if shown and (now := text(subject)) != last:
            last = now
            debug.show(debug.GRAPH, f"{title} after step {number} ({step.name})", now)
    if watched:
        debug.show(debug.RAN, f"steps of {title}", "\n".join(times))


def last_optional(names: Sequence[str], more_follow: bool = False) -> int:
    """Return the number, from 1, of the last step that runs even if it is optional: that of SARDONYX_STEPS, or of the last step.

    more_follow: other steps come after these, and a name may be theirs. Raises ValueError for a name that no step has.
    """
    wanted = debug.stop()
    if wanted is None:
        return len(names)
    if wanted.isdigit():
        return int(wanted)
    if wanted in names:
        return names.index(wanted) + 1
    if not more_follow:
        raise ValueError(f"SARDONYX_STEPS is {wanted!r}, neither a number nor one of the steps {', '.join(names)}")
    return len(names)
