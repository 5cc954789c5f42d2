"""Fuzzer of numbers: one operator whose attributes, sizes and indices are small or near the limits of 32 and 64 bits.

`python -m fuzz.sizes --executions 1000 --seed 1 --state DIR`. Inputs, outputs and arenas are between inaccessible pages, so that an
access outside them raises a signal. Signals and hangs are findings. An execution may compute or refuse; a run may take as long as
the numbers demand, and ends at its deadline.
"""

from __future__ import annotations

import base64
import io
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fuzz.campaign import main
from fuzz.child_process import Outcome
from fuzz.guard_pages import guarded, guarded_copy, guarded_empty
from sardonyx import InferenceSession, RunOptions
from sardonyx.base.errors import SardonyxError
from sardonyx.runtime import execution

Array = np.ndarray[Any, Any]
Draw = Callable[[], int]

MAGNITUDES = (0, 1, 2, 3, 5, 8, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**33 + 3, 2**61, 2**62, 2**62 + 1, 2**63 - 8, 2**63 - 1)
SECONDS = "1.5"  # time limit of a run; work that the numbers demand is refused or must stop then
EDGES = (*MAGNITUDES, *(-n for n in MAGNITUDES), -(2**63))


@dataclass(frozen=True)
class Trial:
    """A node of `operator`. inputs: arrays, None for absent ones. numbers: indices of inputs that may be constants or fed"""

    operator: str
    inputs: Sequence[Array | None] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()
    outputs: int = 1


def ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def whole(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


def scalar(number: int) -> Array:
    return np.array(number, np.int64)


def real(*numbers: float) -> Array:
    return np.array(numbers, np.float32)


def windows(r: random.Random, d: Draw, names: Sequence[str]) -> dict[str, Any]:
    """Draw some of the attributes of a window over two axes."""
    lengths = {"pads": 4, "strides": 2, "dilations": 2, "output_padding": 2}
    return {name: [d() for _ in range(lengths[name])] for name in names if r.random() < 0.5}


def window_trials(r: random.Random, d: Draw) -> list[Callable[[], Trial]]:
    image = ones(2, 3, 8, 8)
    pools = ("MaxPool", "AveragePool", "LpPool")

    def pool() -> Trial:
        operator = r.choice(pools)
        names = ("pads", "strides") if operator == "AveragePool" else ("pads", "strides", "dilations")
        return Trial(operator, [image], {"kernel_shape": [d(), d()], **windows(r, d, names)})

    def convolution() -> Trial:
        return Trial("Conv", [image, ones(4, 3, 3, 3)], windows(r, d, ("pads", "strides", "dilations")), (1,))

    def transposed() -> Trial:
        names = ("pads", "strides", "dilations", "output_padding")
        return Trial("ConvTranspose", [image, ones(3, 4, 3, 3)], windows(r, d, names), (1,))

    def unfolded() -> Trial:
        shape, window = (whole(d(), d()), whole(3, 3)) if r.random() < 0.5 else (whole(6, 6), whole(d(), d()))
        return Trial("Col2Im", [ones(1, 18, 16), shape, window], windows(r, d, ("pads", "strides", "dilations")), (1, 2))

    def roi() -> Trial:
        sizes = {name: d() for name in ("output_height", "output_width", "sampling_ratio") if r.random() < 0.5}
        return Trial("RoiAlign", [ones(1, 2, 5, 5), real(0, 0, d(), d()).reshape(1, 4), whole(d())], sizes, (2,))

    def grid() -> Trial:
        at = real(d(), d()).reshape(1, 1, 1, 2)
        modes = {"mode": r.choice(["linear", "nearest", "cubic"]), "padding_mode": r.choice(["zeros", "border", "reflection"])}
        return Trial("GridSample", [ones(1, 1, 4, 4), at], modes)

    def resize() -> Trial:
        sizes, scales = (whole(1, 1, d(), d()), None) if r.random() < 0.5 else (None, real(1, 1, d(), d()))
        return Trial("Resize", [ones(1, 1, 4, 5), None, scales, sizes], {"mode": r.choice(["nearest", "linear", "cubic"])}, (2, 3))

    return [
        *(pool, pool, convolution, convolution, transposed, unfolded, roi, grid, resize),
        lambda: Trial("MaxUnpool", [ones(1, 1, 2, 2), whole(d(), d(), d(), d()).reshape(1, 1, 2, 2)], {"kernel_shape": [2, 2]}),
        lambda: Trial("LRN", [ones(1, 4, 3, 3)], {"size": d()}),
        lambda: Trial("GroupNormalization", [ones(1, 4, 3, 3), ones(4), ones(4)], {"num_groups": d()}, (1, 2)),
        lambda: Trial("DepthToSpace", [ones(1, 16, 2, 3)], {"blocksize": d()}),
        lambda: Trial("SpaceToDepth", [ones(1, 3, 4, 6)], {"blocksize": d()}),
        lambda: Trial("AffineGrid", [ones(1, 2, 3), whole(1, 1, d(), d())], {}, (1,)),
    ]


def shape_trials(r: random.Random, d: Draw) -> list[Callable[[], Trial]]:
    x = ones(4, 6)
    some = r.choice([0, 1])
    modes = ["constant", "edge", "reflect", "wrap"]
    two = range(2)
    return [
        lambda: Trial("Pad", [x, whole(d(), d(), d(), d())], {"mode": r.choice(modes)}, (1,)),
        lambda: Trial("Slice", [x, *(whole(*(d() for _ in two)) for _ in two), whole(0, 1), whole(d(), d())], {}, (1, 2, 3, 4)),
        lambda: Trial("Slice", [x, *(whole(d()) for _ in range(4))], {}, (1, 2, 3, 4)),
        lambda: Trial("Expand", [ones(2, 1), whole(d(), d(), d())], {}, (1,)),
        lambda: Trial("Tile", [x, whole(d(), d())], {}, (1,)),
        lambda: Trial("ConstantOfShape", [whole(d(), d())], {}, (0,)),
        lambda: Trial("Range", [scalar(d()) for _ in range(3)], {}, (0, 1, 2)),
        lambda: Trial("Reshape", [x, whole(d(), d())], {}, (1,)),
        lambda: Trial("Split", [x, whole(d(), d())], {"axis": some}, (1,), 2),
        lambda: Trial("CumSum", [x, scalar(d())], {}, (1,)),
        lambda: Trial("Trilu", [x, scalar(d())], {"upper": some}, (1,)),
        lambda: Trial("EyeLike", [x], {"k": d()}),
        lambda: Trial("Flatten", [x], {"axis": d()}),
        lambda: Trial("Shape", [x], {"start": d(), "end": d()}),
        lambda: Trial("CenterCropPad", [x, whole(d(), d())], {}, (1,)),
        lambda: Trial("Unsqueeze", [x, whole(d(), d())], {}, (1,)),
        lambda: Trial("Squeeze", [ones(1, 4, 1), whole(d())], {}, (1,)),
        lambda: Trial("SplitToSequence", [x, scalar(d())], {}, (1,)),
        lambda: Trial("Concat", [ones(2, 3), ones(4, 3)], {"axis": d()}),
        lambda: Trial("Transpose", [x], {"perm": [d(), d()]}),
        lambda: Trial("ReduceSum", [x, whole(d())], {}, (1,)),
        lambda: Trial("ArgMax", [x], {"axis": d()}),
        lambda: Trial("Softmax", [x], {"axis": d()}),
        lambda: Trial("HannWindow", [scalar(d())], {}, (0,)),
        lambda: Trial("STFT", [ones(1, 32, 1), scalar(d()), None, scalar(d())], {}, (1, 3)),
        lambda: Trial("DFT", [ones(1, 8, 1), None, scalar(d())], {}, (2,)),
        lambda: Trial("RandomNormal", [], {"shape": [d(), d()]}),
        lambda: Trial("Multinomial", [ones(2, 3)], {"sample_size": d()}),
    ]


def index_trials(r: random.Random, d: Draw) -> list[Callable[[], Trial]]:
    x, some = ones(4, 6), r.choice([0, 1])
    reduction = r.choice(["none", "add", "mul", "max"])

    def square() -> Array:
        return whole(d(), d(), d(), d()).reshape(2, 2)

    boxes, scores = r.random(), r.random()
    return [
        lambda: Trial("Gather", [x, whole(d(), d())], {"axis": r.choice([0, 1, d()])}, (1,)),
        lambda: Trial("GatherElements", [x, square()], {"axis": some}, (1,)),
        lambda: Trial("GatherND", [x, square()], {}, (1,)),
        lambda: Trial("GatherND", [x, whole(d(), d()).reshape(2, 1)], {}, (1,)),
        lambda: Trial("ScatterElements", [x, square(), ones(2, 2)], {"axis": some, "reduction": reduction}, (1,)),
        lambda: Trial("ScatterND", [x, square(), ones(2)], {"reduction": reduction}, (1,)),
        lambda: Trial("ScatterND", [x, whole(d(), d()).reshape(2, 1), ones(2, 6)], {"reduction": reduction}, (1,)),
        lambda: Trial("OneHot", [whole(d(), d(), d()), scalar(d()), ones(2)], {"axis": r.choice([-1, 0, 1, d()])}, (1,)),
        lambda: Trial("TopK", [x, whole(d())], {"axis": r.choice([0, 1, d()])}, (1,), 2),
        lambda: Trial("ReverseSequence", [x, whole(*(d() for _ in range(6)))], {}, (1,)),
        lambda: Trial("Compress", [x, np.array([True, False, True, True, True])], {"axis": some}, (1,)),
        lambda: Trial(
            "NonMaxSuppression",
            [ones(1, 5, 4) * real(0, 0, boxes, 1), ones(1, 2, 5) * real(scores), scalar(d()), real(0.5), real(0)],
            {},
            (2, 3, 4),
        ),
    ]


FAMILIES = (window_trials, shape_trials, index_trials)


def trial(r: random.Random) -> Trial:
    def number() -> int:
        return r.choice(EDGES) if r.random() < 0.7 else r.randrange(-4, 9)

    return r.choice(r.choice(FAMILIES)(r, number))()


def model(found: Trial, constant: bool, symbolic: bool) -> bytes:
    """Make the trial's model, which also holds its feeds. constant: `numbers` are initializers. symbolic: sizes of inputs are
    unknown
    """
    names, inputs, initializers, feeds = [], [], [], {}
    for i, array in enumerate(found.inputs):
        names.append("" if array is None else f"x{i}")
        if array is None:
            continue
        if constant and i in found.numbers:
            initializers.append(numpy_helper.from_array(array, f"x{i}"))
            continue
        shape = [f"n{i}_{axis}" for axis in range(array.ndim)] if symbolic else array.shape
        inputs.append(helper.make_tensor_value_info(f"x{i}", helper.np_dtype_to_tensor_dtype(array.dtype), shape))
        feeds[f"x{i}"] = array
    outputs = [f"y{i}" for i in range(found.outputs)]
    node = helper.make_node(found.operator, names, outputs, "node", **found.attributes)
    graph = helper.make_graph([node], "g", inputs, [helper.make_empty_tensor_value_info(y) for y in outputs], initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    held = io.BytesIO()
    np.savez(held, **feeds)
    helper.set_model_props(made, {"feeds": base64.b64encode(held.getvalue()).decode()})
    return bytes(made.SerializeToString())


def feeds_of(data: bytes) -> tuple[str, dict[str, Array]]:
    """Return (operator, feeds) of such a model."""
    found = onnx.load_from_string(data)
    held = np.load(io.BytesIO(base64.b64decode(found.metadata_props[0].value)))
    return found.graph.node[0].op_type, {name: held[name] for name in held}


class GuardedMemory(execution.OutputMemory):
    """Allocates outputs between inaccessible pages."""

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        return guarded_empty(shape, dtype)


def guard_memory() -> None:
    """Make this process allocate outputs and arenas between inaccessible pages from now on."""
    execution.allocate = guarded
    execution.OutputMemory = GuardedMemory
    execution.KEPT_BYTES = 1 << 62  # arenas are never reused


class Sizes:
    """The fuzzer of numbers."""

    name = "sizes"

    def load(self) -> None:
        plain = model(Trial("Add", [ones(2), ones(2)]), False, True)
        InferenceSession(plain).run(None, feeds_of(plain)[1])

    def make(self, r: random.Random) -> bytes:
        while True:
            found = trial(r)
            try:
                return model(found, r.random() < 0.5, r.random() < 0.5)
            except (ValueError, OverflowError):  # an attribute that a file can't hold
                continue

    def run(self, data: bytes) -> Outcome:
        operator, feeds = feeds_of(data)
        guard_memory()
        try:
            options = RunOptions()
            options.add_run_config_entry("run.timeout_seconds", SECONDS)
            session = InferenceSession(data)
            for run_options in (options, None, None):  # a replay has none; it is as long as the run that it repeats
                session.run(None, {name: guarded_copy(array) for name, array in feeds.items()}, run_options)
        except SardonyxError as error:
            return Outcome(f"{operator} {type(error).__name__}", "", str(error))
        except Exception as error:
            return Outcome(f"{operator} {type(error).__name__}", "", str(error))
        return Outcome(f"{operator} computed")

    def smaller(self, data: bytes) -> Iterator[bytes]:
        return iter(())


if __name__ == "__main__":
    sys.exit(main(Sizes()))
