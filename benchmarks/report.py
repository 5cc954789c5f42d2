"""Report of `benchmarks.compare`: text on the terminal, JSON, Markdown and a chart."""

import json
import math
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from benchmarks.compare import Comparison, Creation


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean of positive numbers, NaN if there are none."""
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms)) if logarithms else math.nan


def best_ratios(comparisons: Iterable["Comparison"]) -> list[float]:
    """Return, for each case that was timed on ours and a peer, the best peer's time over ours."""
    return [c.ratio(c.best_peer) for c in comparisons if c.best_peer is not None]


def machine() -> dict[str, object]:
    """Return what the figures depend on: processor, number of cores, versions of the engines."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    packages = ("sardonyx", "onnxruntime", "openvino", "numpy", "llvmlite", "onnx")
    installed = {item.metadata["Name"]: item.version for item in metadata.distributions()}
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: installed[name] for name in packages if name in installed},
    }


def _row(comparison: "Comparison", engines: list[str]) -> list[str]:
    """Return model, case, threads, milliseconds of each engine, ratio to the best peer, and its range over the rounds."""
    cells = [comparison.model, comparison.case, str(comparison.threads)]
    for engine in engines:
        if engine in comparison.times:
            cells.append(f"{comparison.median(engine) * 1e3:.3f}")
        elif engine in comparison.disagreements:
            cells.append(f"differs by {comparison.disagreements[engine]:.1e}")
        else:
            cells.append("failed" if engine in comparison.failures else "-")
    best = comparison.best_peer
    if best is None:
        return [*cells, "-"]
    ratios = comparison.ratios(best)
    return [*cells, f"{comparison.ratio(best):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"]


def _engine_names(comparisons: Iterable["Comparison"]) -> list[str]:
    """Return all engines that appear, ours first."""
    names: dict[str, None] = {}
    for c in comparisons:
        names |= dict.fromkeys((c.ours, *c.times, *c.disagreements, *c.failures))
    return list(names)


def _run_table(comparisons: list["Comparison"]) -> tuple[list[str], list[list[str]]]:
    engines = _engine_names(comparisons)
    header = ["model", "case", "threads", *(f"{engine} ms" for engine in engines), "best peer / ours (rounds)"]
    return header, [_row(comparison, engines) for comparison in comparisons]


def _creation_table(creations: list["Creation"]) -> tuple[list[str], list[list[str]]]:
    header = ["model", "threads", "engine", "created cold, ms", "with a cache, ms"]
    rows = [
        [c.model, str(c.threads), c.engine, f"{c.cold * 1e3:.1f}", "-" if c.warm is None else f"{c.warm * 1e3:.1f}"]
        for c in creations
    ]
    return header, rows


def show(creations: list["Creation"], comparisons: list["Comparison"]) -> None:
    """Print the tables of one model."""
    show_table(*_run_table(comparisons))
    show_table(*_creation_table(creations))
    for message in dict.fromkeys(f"{c.model}: {message}" for c in comparisons for message in c.failures.values()):
        Console().print(f"[red]{message}")


def show_table(header: list[str], rows: list[list[str]], title: str | None = None) -> None:
    """Print one table."""
    table = Table(*header, title=title)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """Return the table as Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def summary(comparisons: list["Comparison"]) -> str:
    """Return one line for each number of threads: the geometric mean of the best peer's time over ours."""
    lines = []
    for threads in sorted({c.threads for c in comparisons}):
        ratios = best_ratios(c for c in comparisons if c.threads == threads)
        mean = geometric_mean(ratios)
        lines.append(f"{threads} threads: geometric mean against the best peer {mean:.2f} over {len(ratios)} cases")
    return "\n".join(lines)


def markdown(creations: list["Creation"], comparisons: list["Comparison"]) -> str:
    """Return the whole report as Markdown."""
    facts = machine()
    return "\n".join(
        (
            f"{facts['processor']}, {facts['cores']} cores; {facts['packages']}\n",
            markdown_table(*_run_table(comparisons)),
            summary(comparisons) + "\n",
            markdown_table(*_creation_table(creations)),
        )
    )


def draw_chart(comparisons: list["Comparison"], path: Path) -> None:
    """Draw one bar for each case and peer: the peer's time over ours."""
    from matplotlib.figure import Figure

    timed = [c for c in comparisons if c.best_peer is not None]
    peers = [name for name in _engine_names(timed) if timed and name != timed[0].ours]
    height = 0.8 / max(1, len(peers))
    figure = Figure(figsize=(9, 1.5 + 0.35 * len(timed)), layout="constrained")
    axes = figure.add_subplot()
    for index, peer in enumerate(peers):
        places = [row + height * index for row, c in enumerate(timed) if peer in c.times]
        axes.barh(places, [c.ratio(peer) for c in timed if peer in c.times], height, label=peer)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(
        [row + height * (len(peers) - 1) / 2 for row in range(len(timed))],
        [f"{c.model} {c.case}, {c.threads} threads" for c in timed],
    )
    axes.invert_yaxis()
    axes.set_xlabel(f"time of the peer / time of {timed[0].ours}" if timed else "nothing was timed")
    axes.legend()
    figure.savefig(path, dpi=120)


def write(creations: list["Creation"], comparisons: list["Comparison"], folder: Path) -> None:
    """Write compare.json, compare.md and compare.png into `folder`, and print the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": machine(),
        "creations": [asdict(c) for c in creations],
        "comparisons": [asdict(c) | {"ratios": {p: c.ratios(p) for p in c.peers}} for c in comparisons],
    }
    (folder / "compare.json").write_text(json.dumps(content, indent=1) + "\n")
    (folder / "compare.md").write_text(markdown(creations, comparisons))
    draw_chart(comparisons, folder / "compare.png")
    print(summary(comparisons))
    print(f"written to {folder}")
