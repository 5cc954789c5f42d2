"""Profiles a model on given inputs: the mean time of each node, its rate, and the nodes with which it is fused."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from sardonyx.inspection.machine_peak import Peak
from sardonyx.inspection.printable import printable
from sardonyx.session.inference_session import InferenceSession
from sardonyx.session.node_times import NodeTime, RunTimes, run_times
from sardonyx.session.options import SessionOptions
from sardonyx.session.profiled_model import ProfiledModel, ProfiledNode, Sizes
from sardonyx.session.profiling import write_trace

WIDTH = 160
"""Columns of the table if it is not printed to a terminal."""


class NodeProfile(Struct):
    """A node of the model's file, or what belongs to none (index -1).

    nanoseconds: mean of a run. group: number of its fused group; nodes of one group share kernels. gflops: the rate of its operations
    on numbers, which are estimated; a fused node has its group's rate, since only the group's time is measured. gbytes: the rate
    at which inputs are read and outputs written; 0 for a fused node, which leaves some in registers.
    """

    index: int
    name: str
    operator: str
    provider: str
    nanoseconds: float
    share: float
    gflops: float
    gbytes: float
    constant: bool
    group: int
    fused: tuple[str, ...] = ()
    output: str = ""

    def part_of(self, peak: Peak) -> tuple[str, float]:
        """Return the rate that is nearer to its peak as text, and which part of the peak it is.

        Bytes that move faster than memory does come from the caches; then only operations count.
        """
        computed, copied = self.gflops / peak.gflops, self.gbytes / peak.gbytes
        if copied > 1 or computed >= copied:
            return (f"{self.gflops:.2f} GFLOP/s", computed) if self.gflops else ("", 0.0)
        return f"{self.gbytes:.2f} GB/s", copied


class Profile(Struct):
    """The nodes in the order of the file, and the times of the runs in nanoseconds. kernels: the mean time in kernels."""

    model: str
    nodes: list[NodeProfile]
    runs: list[int]
    kernels: float
    sizes: Mapping[str, int]


def measure(
    model: Path, feeds: Mapping[str, Any], options: SessionOptions, iterations: int, warmup: int = 1, trace_file: Path | None = None
) -> Profile:
    """Run the model with profiling. trace_file: where to write the trace too. Raises SardonyxError, ValueError and OSError."""
    timed = copy.copy(options)
    timed._values = {**options._values, "enable_profiling": True}
    session = InferenceSession(model, timed)
    trace = session._take_trace()
    for _ in range(warmup):
        session.run(None, feeds)
    session._trace = trace
    for _ in range(iterations):
        session.run(None, feeds)
    session._trace = None
    session.close()
    if trace_file is not None:
        write_trace(trace, str(trace_file))
    return summed(str(model), trace.model, run_times(trace))


def summed(name: str, model: ProfiledModel, runs: Sequence[RunTimes]) -> Profile:
    """Return the means over runs."""
    spent: dict[int, float] = {}
    last: dict[int, NodeTime] = {}
    for run in runs:
        for time_of in run.nodes:
            index = time_of.node.index if time_of.node is not None else -1
            spent[index] = spent.get(index, 0.0) + time_of.nanoseconds / len(runs)
            last[index] = time_of
    total = sum(spent.values())
    groups = {index: time_of.home for index, time_of in last.items()}
    fused = {index: time_of.fused for index, time_of in last.items()}
    sizes = runs[-1].sizes if runs else {}
    nodes = [
        NodeProfile(
            node.index,
            node.name,
            node.operator,
            last[node.index].provider if node.index in last else "",
            spent.get(node.index, 0.0),
            spent.get(node.index, 0.0) / total if total else 0.0,
            *rates(model, node, sizes, spent, [model.nodes[other] for other in fused.get(node.index, ())]),
            node.constant,
            groups.get(node.index, node.index),
            tuple(model.nodes[other].name for other in fused.get(node.index, ()) if other != node.index),
            output_text(model, node.outputs, sizes),
        )
        for node in model.nodes
    ]
    if spent.get(-1):
        nodes.append(NodeProfile(-1, "(copies)", "", last[-1].provider, spent[-1], spent[-1] / total, 0.0, 0.0, False, -1))
    return Profile(name, nodes, [run.run.duration for run in runs], total, sizes)


def rates(
    model: ProfiledModel, node: ProfiledNode, sizes: Sizes, spent: Mapping[int, float], fused: Sequence[ProfiledNode]
) -> tuple[float, float]:
    """Return operations and bytes per nanosecond, see NodeProfile. fused: the nodes of its fused group, if it has one"""
    members = fused or [node]
    time = sum(spent.get(other.index, 0.0) for other in members)
    if not time or not spent.get(node.index):
        return 0.0, 0.0
    moved = 0 if fused else bytes_of(model, {*node.inputs, *node.outputs}, sizes)
    return sum(other.flops_in(sizes) for other in members) / time, moved / time


def bytes_of(model: ProfiledModel, names: set[str], sizes: Sizes) -> int:
    """Return the bytes of these values."""
    return sum(model.values[name].bytes(sizes) for name in names if name in model.values)


def output_text(model: ProfiledModel, names: Sequence[str], sizes: Sizes) -> str:
    """Describe the first output: its type and shape; "" if it is unknown."""
    value = model.values.get(names[0]) if names else None
    shape = value.sizes(sizes) if value is not None else None
    return f"{value.element_type}{shape}" if value is not None and shape is not None else ""


def as_record(profile: Profile, peak: Peak | None = None) -> dict[str, Any]:
    """Return the profile as JSON shows it. peak: also give each node's rate as a part of it."""
    nodes = []
    for node in profile.nodes:
        record: dict[str, Any] = {"index": node.index, "name": node.name, "op_name": node.operator, "provider": node.provider}
        record |= {"ms": node.nanoseconds / 1e6, "share": node.share, "gflops": node.gflops, "gbytes_per_second": node.gbytes}
        record |= {"group": node.group, "fused_with": list(node.fused), "output": node.output, "constant": node.constant}
        if peak is not None:
            record["rate"], record["of_peak"] = node.part_of(peak)
        nodes.append(record)
    found: dict[str, Any] = {"model": profile.model, "runs": len(profile.runs), "run_ms": statistics.median(profile.runs) / 1e6}
    found |= {"kernel_ms": profile.kernels / 1e6, "sizes": dict(profile.sizes), "nodes": nodes}
    if peak is not None:
        found["peak"] = {"gflops": peak.gflops, "gbytes_per_second": peak.gbytes, "threads": peak.threads}
    return found


def print_table(profile: Profile, peak: Peak | None = None, by_time: bool = True, top: int = 0) -> None:
    """Print a row for each node. top: only so many rows; 0 for all."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("node", overflow="fold")
    table.add_column("operator")
    for title in ("ms", "share", *(("rate", "of peak") if peak is not None else ())):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("fused with", overflow="fold")
    rows = sorted(profile.nodes, key=lambda node: -node.nanoseconds) if by_time else profile.nodes
    for node in rows[: top or None]:
        rate, part = node.part_of(peak) if peak is not None else ("", 0.0)
        measured = (rate, f"{part:.0%}" if rate else "") if peak is not None else ()
        with_whom = (
            "computed at load" if node.constant else printable(", ".join(node.fused[:4])) + (", ..." if len(node.fused) > 4 else "")
        )
        cells = (
            printable(node.name),
            printable(node.operator),
            f"{node.nanoseconds / 1e6:.4f}",
            f"{node.share:.1%}",
            *measured,
            with_whom,
        )
        table.add_row(*map(escape, cells))
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=WIDTH)
    console.print(table)
    median = statistics.median(profile.runs) / 1e6
    console.print(
        f"{len(profile.runs)} runs: {median:.3f} ms each (median), {profile.kernels / 1e6:.3f} ms of it in kernels (mean)"
    )
    if peak is not None:
        console.print(
            f"peak of this machine, {peak.threads} threads: {peak.gflops:.0f} GFLOP/s of f32 multiply-adds, {peak.gbytes:.1f} GB/s copied"
        )
    if any(node.fused for node in profile.nodes):
        console.print("Nodes that are fused share kernels; their times are parts of the kernels', by estimates of their work.")
