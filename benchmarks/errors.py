"""Errors against float64, beside onnxruntime's: `python -m benchmarks.errors [sums|narrow|winograd ...]`.

- sums: products and reductions over long axes, of numbers that are equal, positive, or of either sign
- narrow: networks in f16, against the same ones with their weights in f32, as they were before they were rounded
- winograd: networks of 3 x 3 convolutions, with normalisation over groups of channels and without

Each line: the largest error in parts of the largest output, and ours divided by onnxruntime's. float64 is numpy's for products, and
for networks our own compiled code in float64, which has no faster convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
import onnxruntime
import typer
from onnx import helper, numpy_helper

import sardonyx

Array = np.ndarray[Any, Any]


# ---- networks -----------------------------------------------------------------------------------------------------------


class Network:
    """A graph under construction, its weights by name."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: dict[str, Array] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def weight(self, a: Array) -> str:
        self.weights[f"w{len(self.weights)}"] = a
        return f"w{len(self.weights) - 1}"

    def normal(self, *shape: int, scale: float = 1.0, mean: float = 0.0) -> str:
        return self.weight(mean + scale * self.random.standard_normal(shape))

    def model(self, result: str, shape: list[int], dtype: Any) -> bytes:
        """Serialise the model with its weights in this dtype."""
        code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        tensors = [numpy_helper.from_array(a.astype(dtype) if a.dtype.kind == "f" else a, n) for n, a in self.weights.items()]
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("x", code, shape)],
            [helper.make_tensor_value_info(result, code, None)],
            tensors,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        return bytes(model.SerializeToString())


def perceptron(n: Network) -> tuple[str, list[int]]:
    x = "x"
    for _ in range(6):
        x = n.op("Relu", n.op("Add", n.op("MatMul", x, n.normal(64, 64, scale=1 / 8)), n.normal(64, scale=0.1)))
    return x, [5, 64]


def convolutions(n: Network) -> tuple[str, list[int]]:
    x = "x"
    for _ in range(5):
        y = n.op("Conv", x, n.normal(16, 16, 3, 3, scale=1 / 12), n.normal(16, scale=0.1), pads=[1, 1, 1, 1])
        x = n.op("Add", n.op("Mul", y, n.op("Sigmoid", y)), x)
    return x, [1, 16, 11, 11]


def recurrent(n: Network) -> tuple[str, list[int]]:
    w, r, b = n.normal(1, 96, 32, scale=1 / 6), n.normal(1, 96, 32, scale=1 / 6), n.normal(1, 192, scale=0.1)
    return n.op("GRU", "x", w, r, b, hidden_size=32), [20, 2, 32]


def layer_norm(n: Network, x: str, width: int) -> str:
    centred = n.op("Sub", x, n.op("ReduceMean", x, axes=[-1]))
    variance = n.op("ReduceMean", n.op("Pow", centred, n.weight(np.array(2.0))), axes=[-1])
    deviation = n.op("Sqrt", n.op("Add", variance, n.weight(np.array(1e-5))))
    scaled = n.op("Mul", n.op("Div", centred, deviation), n.normal(width, scale=0.1, mean=1))
    return n.op("Add", scaled, n.normal(width, scale=0.1))


def transformer(n: Network) -> tuple[str, list[int]]:
    width, heads, length = 64, 4, 10
    x = "x"
    split = n.weight(np.array([0, length, heads, width // heads]))
    back = n.weight(np.array([0, length, width]))
    for _ in range(3):
        inside = layer_norm(n, x, width)
        q, k, v = (
            n.op(
                "Transpose",
                n.op("Reshape", n.op("MatMul", inside, n.normal(width, width, scale=1 / 8)), split),
                perm=[0, 2, 3, 1] if key else [0, 2, 1, 3],
            )
            for key in (False, True, False)
        )
        scores = n.op("Mul", n.op("MatMul", q, k), n.weight(np.array((width // heads) ** -0.5)))
        heard = n.op("Reshape", n.op("Transpose", n.op("MatMul", n.op("Softmax", scores), v), perm=[0, 2, 1, 3]), back)
        x = n.op("Add", x, n.op("MatMul", heard, n.normal(width, width, scale=1 / 8)))
        hidden = n.op("MatMul", layer_norm(n, x, width), n.normal(width, 4 * width, scale=1 / 8))
        hidden = n.op("Mul", hidden, n.op("Sigmoid", hidden))
        x = n.op("Add", x, n.op("MatMul", hidden, n.normal(4 * width, width, scale=1 / 16)))
    return x, [2, length, width]


def grouped(n: Network, layers: int = 20, channels: int = 64, side: int = 28, groups: int = 8) -> tuple[str, list[int]]:
    """Build layers of convolution, normalisation over groups of channels as torch exports it, scale, bias and SiLU. Without
    residuals, errors grow from layer to layer.
    """
    x = "x"
    apart, back = n.weight(np.array([0, groups, -1])), n.weight(np.array([1, channels, side, side]))
    ones, zeros = n.weight(np.ones(groups)), n.weight(np.zeros(groups))
    for _ in range(layers):
        y = n.op("Conv", x, n.normal(channels, channels, 3, 3, scale=(9 * channels) ** -0.5), pads=[1, 1, 1, 1])
        y = n.op("Reshape", n.op("InstanceNormalization", n.op("Reshape", y, apart), ones, zeros), back)
        y = n.op("Add", n.op("Mul", y, n.normal(channels, 1, 1, scale=0.1, mean=1)), n.normal(channels, 1, 1, scale=0.1))
        x = n.op("Mul", y, n.op("Sigmoid", y))
    return x, [1, channels, side, side]


def plain(n: Network, layers: int = 12, channels: int = 64, side: int = 28) -> tuple[str, list[int]]:
    """Build layers of convolution, bias and ReLU."""
    x = "x"
    for _ in range(layers):
        weight = n.normal(channels, channels, 3, 3, scale=(2 / (9 * channels)) ** 0.5)
        x = n.op("Relu", n.op("Conv", x, weight, n.normal(channels, scale=0.1), pads=[1, 1, 1, 1]))
    return x, [1, channels, side, side]


NARROW = (perceptron, convolutions, recurrent, transformer)
Maker = Callable[[Network], tuple[str, list[int]]]


def output(package: Any, model: bytes, x: Array, threads: int = 1) -> Array:
    """Return the only output of a model, run by sardonyx or onnxruntime."""
    options = package.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    found: Array = package.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    return found


def error(y: Array, exact: Array) -> float:
    """Return the largest difference, relative to the largest output."""
    wide = exact.astype(np.float64)
    return float(abs(y.astype(np.float64) - wide).max() / abs(wide).max())


def numbers(kind: str, *shape: int) -> Array:
    """Return numbers of a kind: "equal" along all axes but the last, so that rounding errors don't cancel; "positive"; "normal";
    "ones".
    """
    generator = np.random.default_rng([len(kind), *shape])
    if kind == "equal":
        return np.ascontiguousarray(np.broadcast_to(generator.uniform(0.5, 1, shape[-1:]).astype(np.float32), shape))
    if kind == "ones":
        return np.ones(shape, np.float32)
    return generator.random(shape, np.float32) if kind == "positive" else generator.standard_normal(shape, np.float32)


# ---- comparisons --------------------------------------------------------------------------------------------------------

Line = tuple[str, float, float]
"""What was computed; our error; onnxruntime's."""


def sums() -> Iterator[Line]:
    for depth in (1000, 3072, 14_000, 50_000):
        for kind in ("equal", "positive", "normal"):
            for rows in (1, 8):
                x, w = numbers("ones" if kind == "equal" else kind, rows, depth), numbers(kind, depth, 64)
                n = Network(0)
                model = n.model(n.op("MatMul", "x", n.weight(w)), [rows, depth], np.float32)
                exact = x.astype(np.float64) @ w.astype(np.float64)
                yield f"{rows} x {depth} x 64, {kind}", *(error(output(p, model, x), exact) for p in (sardonyx, onnxruntime))
    for axes in ([0, 2, 3], [0, 1], [3], [0, 1, 2, 3]):
        for kind in ("equal", "positive"):
            x, n = numbers(kind, 30, 8, 56, 56), Network(0)
            model = n.model(n.op("ReduceMean", "x", axes=axes), list(x.shape), np.float32)
            exact = x.astype(np.float64).mean(tuple(axes), keepdims=True)
            yield f"mean over {axes}, {kind}", *(error(output(p, model, x), exact) for p in (sardonyx, onnxruntime))


def narrow() -> Iterator[Line]:
    for make in NARROW:
        for seed in range(3):
            n = Network(seed)
            result, shape = make(n)
            x = n.random.standard_normal(shape).astype(np.float16)
            exact = output(onnxruntime, n.model(result, shape, np.float32), x.astype(np.float32))
            model = n.model(result, shape, np.float16)
            yield f"{make.__name__} in f16, seed {seed}", *(error(output(p, model, x), exact) for p in (sardonyx, onnxruntime))


def winograd() -> Iterator[Line]:
    makers: dict[str, Maker] = {
        "12 convolutions": plain,
        "20 with groups of 8": grouped,
        "20 with groups of 2": lambda n: grouped(n, groups=32),
        "10 with 256 channels": lambda n: grouped(n, 10, 256, 16, 32),
        "40 with groups of 8": lambda n: grouped(n, 40),
    }
    for name, make in makers.items():
        for seed in range(2):
            n = Network(seed)
            result, shape = make(n)
            x = n.random.standard_normal(shape).astype(np.float32)
            n.weights = {k: a.astype(np.float32) if a.dtype.kind == "f" else a for k, a in n.weights.items()}
            exact = output(sardonyx, n.model(result, shape, np.float64), x.astype(np.float64))
            model = n.model(result, shape, np.float32)
            yield f"{name}, seed {seed}", *(error(output(p, model, x), exact) for p in (sardonyx, onnxruntime))


KINDS: dict[str, Callable[[], Iterator[Line]]] = {"sums": sums, "narrow": narrow, "winograd": winograd}


def main(
    kinds: Annotated[list[str] | None, typer.Argument(metavar="[KIND]...", help="sums, narrow, winograd; all by default")] = None,
) -> None:
    """Prints errors beside onnxruntime's."""
    for kind in kinds or KINDS:
        typer.echo(f"{kind:32}{'ours':>10}{'theirs':>10}{'ratio':>8}")
        for name, ours, theirs in KINDS[kind]():
            typer.echo(f"{name:32}{ours:>10.1e}{theirs:>10.1e}{ours / max(theirs, 1e-9):>8.1f}")


if __name__ == "__main__":
    typer.run(main)
