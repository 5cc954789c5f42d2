"""Classifies a picture of a digit: `python examples/digits/demo.py PICTURE.png`.

The picture holds one digit, dark on light, and fills the frame; it is reduced to the 8x8 pixels that the network was
trained on. Needs pillow.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

import sardonyx

MODEL = Path(__file__).parent / "digits.onnx"
RUNS = 1000


def read(path: Path) -> np.ndarray:
    """The picture at `path` as f32[1, 1, 8, 8], ink from 0 (none) to 1."""
    with Image.open(path) as image:
        grey = image.convert("L").resize((8, 8), Image.Resampling.BOX)
    return 1 - np.asarray(grey, dtype=np.float32)[None, None] / 255


def median_time(run: Callable[[], object]) -> float:
    """Seconds that one call takes, median over `RUNS`."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description="Classifies a picture of a digit.")
    parser.add_argument("picture", type=Path, help="a PNG, for instance examples/digits/pictures/7.png")
    arguments = parser.parse_args()

    start = time.perf_counter()
    session = sardonyx.InferenceSession(MODEL)
    created = time.perf_counter() - start
    feeds = {"pictures": read(arguments.picture)}
    probabilities = session.run(None, feeds)[0][0]

    print(f"{arguments.picture} shows a {probabilities.argmax()}")
    for digit in np.argsort(-probabilities)[:3]:
        print(f"  {digit}: {probabilities[digit]:7.2%} {'#' * round(40 * probabilities[digit])}")
    seconds = median_time(partial(session.run, None, feeds))
    print(f"session created in {created * 1e3:.1f} ms, one run takes {seconds * 1e6:.1f} us")
    print("what the compiler did:")
    print(session.describe())


if __name__ == "__main__":
    main()
