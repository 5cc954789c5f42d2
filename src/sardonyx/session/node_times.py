"""Times of a model's nodes, from a trace: which part of the time of fused kernels is due to which node.

A kernel's time is divided among the nodes that it computes in proportion to estimates of their operations, since a fused loop has no
boundaries that could be measured. The times of a run's nodes add up to the time that its kernels took.
"""

from __future__ import annotations

import bisect
from collections.abc import Container, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from sardonyx.base.context import Event, Span, Trace
from sardonyx.session.profiled_model import ProfiledModel, ProfiledNode

Names = tuple[str, ...]


class Group(Struct):
    """Calls that compute the same nodes. nanoseconds: of all of them in a run. members: the model's nodes among them."""

    provider: str
    nanoseconds: float = 0.0
    members: list[ProfiledNode] = field(default_factory=list)


class NodeTime(Struct):
    """What a node took in a run. node: None for what belongs to no node of the model's file.

    home: the node with the most work in the kernels in which this node spends most of its time. fused: all nodes with the same home,
    itself included; empty if there are no others.
    """

    node: ProfiledNode | None
    provider: str
    nanoseconds: float = 0.0
    home: int = -1
    fused: tuple[int, ...] = ()


class RunTimes(Struct):
    """The times of a run's nodes in the order of the file, then of what belongs to none, and the run's symbolic sizes by name."""

    run: Event
    sizes: Mapping[str, int]
    nodes: list[NodeTime]


def run_times(trace: Trace) -> list[RunTimes]:
    """Return the times of the nodes in each run that ended without an error."""
    model: ProfiledModel | None = trace.model
    if model is None:
        return []
    spans = sorted(trace.spans, key=lambda span: span.start)
    starts = [span.start for span in spans]
    members = members_by_name(model, {name for span in spans for names, _ in span.calls for name in names})
    found = []
    for run in sorted(trace.runs, key=lambda run: run.start):
        first, end = bisect.bisect_left(starts, run.start), bisect.bisect_right(starts, run.start + run.duration)
        own = without_inner([span for span in spans[first:end] if span.thread == run.thread], members)
        sizes = model.sizes_in(run.details)
        found.append(RunTimes(run, sizes, node_times(model, groups_of(own, members), sizes)))
    return found


def without_inner(spans: Sequence[Span], known: Container[str]) -> list[Span]:
    """Subtract from each span those that lie inside it: an interpreted Loop takes the time of its body's kernels too.

    A span inside another is dropped, and not subtracted, if its calls name no node of the model: it is a part of how the
    other's node is computed. spans: of one thread, in the order of their start. known: names that stand for nodes of the model.
    """
    kept: list[Span] = []
    around: list[int] = []  # positions in `kept`
    left: list[int] = []
    for span in spans:
        while around and kept[around[-1]].start + kept[around[-1]].duration <= span.start:
            around.pop()
        if around and not any(name in known for names, _ in span.calls for name in names):
            continue
        if around:
            left[around[-1]] -= span.duration
        around.append(len(kept))
        kept.append(span)
        left.append(span.duration)
    return [replace(span, duration=max(own, 0)) for span, own in zip(kept, left, strict=True)]


def members_by_name(model: ProfiledModel, named: set[str]) -> dict[str, list[ProfiledNode]]:
    """Return {name that calls have: the nodes of the model that these calls compute}."""
    found: dict[str, list[ProfiledNode]] = {}
    for node, names in zip(model.nodes, model.calls_of(named), strict=True):
        for name in names:
            found.setdefault(name, []).append(node)
    return found


def groups_of(spans: Sequence[Span], members: Mapping[str, list[ProfiledNode]]) -> list[Group]:
    """Sum up calls that compute the same nodes, in the order of their first calls."""
    groups: dict[Names, Group] = {}
    for span in spans:
        total = sum(share for _, share in span.calls)
        for names, share in span.calls:
            if names not in groups:
                inside = {node.index: node for name in names for node in members.get(name, ())}
                groups[names] = Group(span.provider, members=[inside[index] for index in sorted(inside)])
            groups[names].nanoseconds += span.duration * share / total
    return list(groups.values())


def node_times(model: ProfiledModel, groups: Sequence[Group], sizes: Mapping[str, int]) -> list[NodeTime]:
    """Divide the groups' times among the nodes. -> one for each node of the model, then those of what belongs to no node"""
    shared: dict[int, int] = {}
    for group in groups:
        for node in group.members:
            shared[node.index] = shared.get(node.index, 0) + 1
    times: dict[int, NodeTime] = {}
    others: list[NodeTime] = []
    most: dict[int, float] = {}
    for group in groups:
        if not group.members:
            others.append(NodeTime(None, group.provider, group.nanoseconds))
            continue
        work = [node.operations(sizes) for node in group.members]
        home = group.members[work.index(max(work))].index
        weights = [n / shared[node.index] for n, node in zip(work, group.members, strict=True)] if any(work) else [1.0] * len(work)
        for node, weight in zip(group.members, weights, strict=True):
            time = times.setdefault(node.index, NodeTime(node, group.provider))
            taken = group.nanoseconds * weight / sum(weights)
            time.nanoseconds += taken
            if taken > most.get(node.index, -1.0):
                most[node.index], time.home = taken, home
    set_fused(times)
    return [*(times.get(node.index) or NodeTime(node, "", home=node.index) for node in model.nodes), *others]


def set_fused(times: Mapping[int, NodeTime]) -> None:
    """Set the nodes that have the same home."""
    homes: dict[int, list[int]] = {}
    for index in sorted(times):
        homes.setdefault(times[index].home, []).append(index)
    for time in times.values():
        time.fused = tuple(homes[time.home]) if len(homes[time.home]) > 1 else ()
