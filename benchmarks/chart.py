"""Draws what `benchmarks.compare` measured as the chart of the README: `python -m benchmarks.chart compare.json speed.svg`.

One bar for each model and peer: how many times as long the peer takes, the geometric mean over the model's cases with one
thread. The chart is text (SVG), so that a change of figures shows in a diff.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.report import geometric_mean

WIDTH, LEFT, RIGHT, TOP = 760, 150, 40, 54
BAR, GAP = 9, 10
COLOURS = {"onnxruntime": "#8a5a9e", "openvino": "#4a90a4"}
OTHER = "#888888"
TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def ratios(comparisons: list[dict[str, Any]], threads: int = 1) -> dict[str, dict[str, float]]:
    """Return {model: {peer: the peer's time over ours}}: medians over rounds, geometric means over cases."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for c in comparisons:
        if c["threads"] == threads:
            for peer, rounds in c["ratios"].items():
                found[c["model"]][peer].append(median(rounds))
    return {model: {peer: geometric_mean(each) for peer, each in peers.items()} for model, peers in found.items()}


def draw(table: dict[str, dict[str, float]], machine: str) -> str:
    """Draw the chart as SVG, the model with the longest bar first. Raises ValueError if there is nothing to draw."""
    if not table:
        raise ValueError("no model was measured with one thread")
    rows = sorted(table.items(), key=lambda row: -max(row[1].values()))
    peers = list(dict.fromkeys(peer for _, found in rows for peer in found))
    longest = max(1.0, *(ratio for _, found in rows for ratio in found.values()))
    scale = (WIDTH - LEFT - RIGHT) / longest
    row_height = BAR * len(peers) + GAP
    height = TOP + row_height * len(rows) + 28
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="18" font-size="14">How many times as long as Sardonyx (one thread)</text>',
    ]
    at = LEFT
    for peer in peers:
        out.append(f'<rect x="{at}" y="28" width="12" height="12" fill="{COLOURS.get(peer, OTHER)}"/>')
        out.append(f'<text x="{at + 18}" y="39">{escape(TITLES.get(peer, peer))}</text>')
        at += 130
    for i, (model, found) in enumerate(rows):
        y = TOP + i * row_height
        middle = y + BAR * len(peers) / 2 + 4
        out.append(f'<text x="{LEFT - 8}" y="{middle:.0f}" text-anchor="end">{escape(model)}</text>')
        for j, peer in enumerate(peers):
            if peer in found:
                length, top = found[peer] * scale, y + BAR * j
                fill = COLOURS.get(peer, OTHER)
                out.append(f'<rect x="{LEFT}" y="{top}" width="{length:.1f}" height="{BAR - 1}" fill="{fill}"/>')
                out.append(f'<text x="{LEFT + length + 3:.1f}" y="{top + 8}" font-size="9">{found[peer]:.2f}</text>')
    one, bottom = LEFT + scale, TOP + row_height * len(rows)
    out.append(f'<line x1="{one:.1f}" y1="{TOP - 6}" x2="{one:.1f}" y2="{bottom}" stroke="#000000" stroke-dasharray="3 3"/>')
    out.append(f'<text x="{one:.1f}" y="{bottom + 14}" text-anchor="middle">1: as fast</text>')
    out.append(f'<text x="{WIDTH - 6}" y="{height - 6}" text-anchor="end" font-size="9">{escape(machine)}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def main(source: Path, chart: Path) -> None:
    """Draw the chart of the figures in `source`."""
    told = json.loads(source.read_text())
    facts = told["machine"]
    packages = ", ".join(f"{name} {facts['packages'][name]}" for name in ("onnxruntime", "openvino") if name in facts["packages"])
    chart.parent.mkdir(parents=True, exist_ok=True)
    chart.write_text(draw(ratios(told["comparisons"]), f"{facts['processor']}, {facts['cores']} cores; {packages}"))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
