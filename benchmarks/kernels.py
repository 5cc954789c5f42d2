"""Single kernels against the measured peak of fused multiply-adds: `python -m benchmarks.kernels [KERNEL ...]`.

Each kernel is an ONNX model of one node with a symbolic number of rows, and what is timed is `run()`, whole.
Convolutions read and write channels-last images (by transposes around the node) that already have their border, so
that nothing but the convolution is left to do. Peak and kernel are measured in turn, a few milliseconds each, because
the clock drifts, and rounds go through all kernels, because other tenants of the machine come and go for seconds. In a
round, the burst that is one in ten counts, of both; of rounds, the one in four.
"""

import functools
import importlib
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import onnx
import typer
from onnx import TensorProto, helper, numpy_helper

from benchmarks.engines import median_time
from benchmarks.weightless import seeded
from sardonyx.inspection.machine_peak import FmaPeak

# Winograd's algorithm takes fewer multiplications than are counted here.
DIRECT = ("session.disable_winograd", "1")

BURST_SECONDS = 0.002
PAIRS = 25

Dims = list[str | int]


@dataclass(frozen=True)
class MatMul:
    """f32[m, k] x f32[k, n], the second constant."""

    m: int
    k: int
    n: int

    @property
    def name(self) -> str:
        return f"matmul {self.m}x{self.k}x{self.n}"

    @property
    def operations(self) -> int:
        return 2 * self.m * self.k * self.n

    def feed(self) -> np.ndarray:
        return seeded(self.name).standard_normal((self.m, self.k), dtype=np.float32)

    def model(self) -> onnx.ModelProto:
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        return _model([node], ["rows", self.k], ["rows", self.n], (self.k, self.n))


@dataclass(frozen=True)
class Conv:
    """A convolution of stride 1: `kernel`² taps, `inputs` to `outputs` channels, `side`² output pixels."""

    side: int
    kernel: int
    inputs: int
    outputs: int

    @property
    def name(self) -> str:
        return f"conv {self.kernel}x{self.kernel} {self.side}x{self.side} {self.inputs}->{self.outputs}"

    @property
    def operations(self) -> int:
        return 2 * self.side**2 * self.kernel**2 * self.inputs * self.outputs

    @property
    def bordered(self) -> int:
        """Return the side of the input, including its border."""
        return self.side + self.kernel - 1

    def feed(self) -> np.ndarray:
        return seeded(self.name).standard_normal((1, self.bordered, self.bordered, self.inputs), dtype=np.float32)

    def model(self) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", ["planes", "w"], ["sums"]),
            helper.make_node("Transpose", ["sums"], ["y"], perm=[0, 2, 3, 1]),
        ]
        return _model(
            nodes,
            ["rows", self.bordered, self.bordered, self.inputs],
            ["rows", self.side, self.side, self.outputs],
            (self.outputs, self.inputs, self.kernel, self.kernel),
        )


KERNELS: tuple[MatMul | Conv, ...] = (
    MatMul(128, 768, 3072),
    MatMul(384, 768, 3072),
    MatMul(128, 3072, 768),
    MatMul(384, 3072, 768),
    MatMul(1680, 1536, 1024),
    Conv(56, 1, 64, 256),
    Conv(14, 1, 1024, 256),
    Conv(56, 3, 64, 64),
    Conv(14, 3, 256, 256),
)


def _model(nodes: list[onnx.NodeProto], x: Dims, y: Dims, weight: tuple[int, ...]) -> onnx.ModelProto:
    """A model from x to y, all f32, with one random weight `w` of the shape `weight`."""
    w = 0.05 * seeded(f"kernel {weight}").standard_normal(weight, dtype=np.float32)
    graph = helper.make_graph(
        nodes,
        "kernel",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        [numpy_helper.from_array(w, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@dataclass(frozen=True)
class KernelRate:
    """A kernel at a number of threads: its rate in operations a second and its fraction of the peak, round by round."""

    kernel: str
    threads: int
    rates: list[float]
    fractions: list[float]

    @property
    def rate(self) -> float:
        return upper_quartile(self.rates)

    @property
    def fraction(self) -> float:
        return upper_quartile(self.fractions)


def upper_quartile(numbers: Sequence[float]) -> float:
    """Return the number that a quarter of all numbers reach."""
    return sorted(numbers)[-1 - len(numbers) // 4]


@dataclass(frozen=True)
class Subject:
    """A kernel in a session of an engine with onnxruntime's API. calls: number of runs in a burst"""

    kernel: MatMul | Conv
    threads: int
    run: Callable[[], object]
    calls: int

    @classmethod
    def of(cls, kernel: MatMul | Conv, threads: int, package: Any) -> "Subject":
        options = package.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry(*DIRECT)
        session = package.InferenceSession(kernel.model().SerializeToString(), options, providers=["CPUExecutionProvider"])
        run = functools.partial(session.run, None, {"x": kernel.feed()})
        return cls(kernel, threads, run, max(1, round(BURST_SECONDS / median_time(run, seconds=0))))

    def rate(self) -> float:
        """Measure operations per second over one burst."""
        start = time.perf_counter()
        for _ in range(self.calls):
            self.run()
        return self.kernel.operations * self.calls / (time.perf_counter() - start)


def measure(subjects: Sequence[Subject], peak: FmaPeak, rounds: int) -> list[KernelRate]:
    """Time all subjects in each round, each one followed by the peak."""
    findings = [KernelRate(s.kernel.name, s.threads, [], []) for s in subjects]
    for _ in range(rounds):
        for subject, finding in zip(subjects, findings, strict=True):
            pairs = [(subject.rate(), peak.rate(subject.threads, repeats=2)) for _ in range(PAIRS)]
            ours, best = (undisturbed(side) for side in zip(*pairs, strict=True))
            finding.rates.append(ours)
            finding.fractions.append(ours / best)
    return findings


def undisturbed(rates: Sequence[float]) -> float:
    """Return the rate that one in ten measurements reaches."""
    return statistics.quantiles(rates, n=10)[-1]


def main(
    names: Annotated[list[str] | None, typer.Argument(metavar="[KERNEL]...", help="parts of kernels' names")] = None,
    threads: Annotated[str, typer.Option(help="numbers of threads, separated by commas")] = "1,2",
    rounds: Annotated[int, typer.Option(help="measurements of each kernel")] = 12,
    engine: Annotated[str, typer.Option(help="the package under test")] = "sardonyx",
    avx2: Annotated[bool, typer.Option("--avx2", help="with vectors of 256 bits, of the kernels and of the peak")] = False,
) -> None:
    """Prints each kernel's fraction of the peak. Fails if one lies above the peak: then the measurement is wrong."""
    if avx2:
        os.environ["SARDONYX_TARGET"] = "avx2"
    package = importlib.import_module(engine)
    chosen = [kernel for kernel in KERNELS if not names or any(name in kernel.name for name in names)]
    counts = [int(part) for part in threads.split(",")]
    subjects = [Subject.of(kernel, count, package) for kernel in chosen for count in counts]
    impossible = 0
    typer.echo(f"{'kernel':28}{'threads':>8}{'GFLOP/s':>10}{'of peak':>9}  range over rounds")
    for finding in measure(subjects, FmaPeak.compile(8 if avx2 else None), rounds):
        impossible += finding.fraction > 1
        span = f"{min(finding.fractions):.1%} to {max(finding.fractions):.1%}"
        typer.echo(f"{finding.kernel:28}{finding.threads:>8}{finding.rate / 1e9:>10.1f}{finding.fraction:>9.1%}  {span}")
    if impossible:
        typer.echo(f"{impossible} kernels lie above the peak")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
