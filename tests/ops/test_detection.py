"""RoiAlign of regions that a run brings: larger than the image, elsewhere, no numbers at all. It ends, and reads the image alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fuzz.child_process import Limits, Outcome, execute
from fuzz.guard_pages import guarded_copy
from fuzz.sizes import guard_memory
from tests.ops import harness

LIMITS = Limits(processor=20, clock=100, memory=3 << 30)
IMAGE = np.random.default_rng(0).standard_normal((1, 2, 6, 7)).astype(np.float32)
HUGE = (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e9, 2.0**31, 1e-40)


def aligned(image: np.ndarray, box: np.ndarray, cells: int, mode: str, shift: float) -> np.ndarray:
    """RoiAlign by its definition, in f64, with as many points in a cell as it has pixels. image: [c, h, w] -> [c, cells, cells]"""
    ends = box.astype(np.float64) - shift
    size = [(ends[a + 2] - ends[a] if shift else max(ends[a + 2] - ends[a], 1.0)) / cells for a in (0, 1)]
    count = [int(np.ceil(s)) for s in size]
    out = np.zeros((len(image), cells, cells))
    for p, q in np.ndindex(cells, cells):
        ys, xs = (ends[a] + (c + (np.arange(count[a]) + 0.5) / count[a]) * size[a] for a, c in ((1, p), (0, q)))
        samples = np.array([[[bilinear(plane, y, x) for x in xs] for y in ys] for plane in image]).reshape(len(image), -1, 4)
        if samples.size:
            out[:, p, q] = samples.sum((1, 2)) / samples.shape[1] if mode == "avg" else samples.max((1, 2))
    return out


def bilinear(plane: np.ndarray, y: float, x: float) -> list[float]:
    """The four weighted pixels around a point; zeros outside."""
    if not (-1 <= y <= plane.shape[0] and -1 <= x <= plane.shape[1]):
        return [0.0] * 4
    ends = []
    for at, n in ((max(y, 0), plane.shape[0]), (max(x, 0), plane.shape[1])):
        low = min(int(at), n - 1)
        share = 0.0 if low >= n - 1 else at - low
        ends.append(((low, 1 - share), (min(low + 1, n - 1), share)))
    return [float(wy * wx * plane[i, j]) for i, wy in ends[0] for j, wx in ends[1]]


BOXES = (
    [0, 0, 7, 6],
    [-3, -2, 9, 12],
    [-40, -30, 60, 70],
    [2, 3, 90, 4],
    [50, 50, 80, 90],
    [-80, -9, -60, 3],
    [5, 5, 1, 1],
    [3, 3, 3, 3],
)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("transformation", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("box", BOXES, ids=str)
def test_regions_of_any_place_and_size(box: list[float], mode: str, transformation: str) -> None:
    """Samples outside the image count, as zeros."""
    rois = np.array([box], np.float32) + np.float32(0.25)
    attributes = {"output_height": 3, "output_width": 3, "mode": mode, "coordinate_transformation_mode": transformation}
    (got,) = harness.run("RoiAlign", [IMAGE, rois, np.array([0])], attributes)
    wanted = aligned(IMAGE[0], rois[0], 3, mode, 0.5 if transformation == "half_pixel" else 0.0)
    np.testing.assert_allclose(got[0], wanted, 1e-4, 1e-5)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_regions_without_end(mode: str, ratio: int, tmp_path: Path) -> None:
    """Each runs to its end in a moment, and touches nothing but its tensors."""

    def run(_: bytes) -> Outcome:
        guard_memory()
        for number in HUGE:
            for a in range(4):
                box = np.array([[-1, 0, 5, 6]], np.float32)
                box[0, a] = number
                for rois in (box, np.full_like(box, number), np.array([[-1, -1, 1, 1]], np.float32) * number):
                    inputs = [guarded_copy(IMAGE), guarded_copy(rois.astype(np.float32)), guarded_copy(np.array([0]))]
                    harness.run("RoiAlign", inputs, {"mode": mode, "sampling_ratio": ratio, "output_height": 2}, symbolic=True)
        return Outcome("done")

    _, outcome = execute(lambda: b"", run, LIMITS, tmp_path)
    assert outcome.label == "done", outcome.details[-600:]
