import itertools
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner

from benchmarks import kernels
from benchmarks.kernels import KERNELS, Conv, KernelRate, MatMul
from sardonyx.inspection.machine_peak import FmaPeak


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_models_are_valid_and_fit_their_feeds(kernel: MatMul | Conv) -> None:
    model = kernel.model()
    onnx.checker.check_model(model, full_check=True)
    assert [d.dim_value or d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim] == [
        "rows",
        *kernel.feed().shape[1:],
    ]


@pytest.mark.parametrize("kernel", [MatMul(3, 8, 5), Conv(4, 3, 2, 6), Conv(4, 1, 2, 6)], ids=lambda it: it.name)
def test_operations_are_two_for_each_multiplication(kernel: MatMul | Conv) -> None:
    model = kernel.model()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": kernel.feed()})
    weight = model.graph.initializer[0].dims
    summed = weight[0] if isinstance(kernel, MatMul) else int(np.prod(weight[1:]))
    assert kernel.operations == 2 * y.size * summed


def test_the_peak_loop_computes_what_it_says() -> None:
    """acc = acc * x + y from 0 .. 11: with x = 1, y = 0 the sum stays 66; with x = 0, y = 2 every chain ends at 2."""
    peak = FmaPeak.compile()
    assert peak.chains(3, 1.0, 0.0) == 66.0
    assert peak.chains(3, 0.0, 2.0) == 24.0
    assert peak.rate(threads=1, repeats=1) > 0


def test_a_kernel_above_the_peak_fails_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "measure", lambda subjects, *_: [KernelRate(s.kernel.name, 1, [1e9], [1.01]) for s in subjects])
    app = kernels.typer.Typer()
    app.command()(kernels.main)
    result = CliRunner().invoke(app, ["1680", "--engine", "onnxruntime", "--threads", "1"])
    assert result.exit_code == 1
    assert "1 kernels lie above the peak" in result.output


def test_rounds_set_a_kernel_against_the_peak_of_the_same_moments() -> None:
    rates = itertools.chain.from_iterable([rate] * kernels.PAIRS for rate in (10.0, 30.0, 18.0, 20.0, 5.0))
    peaks = itertools.chain.from_iterable([rate] * kernels.PAIRS for rate in (40.0, 40.0, 20.0, 40.0, 40.0))
    subject = SimpleNamespace(kernel=MatMul(3, 8, 5), threads=1, rate=lambda: next(rates))
    (finding,) = kernels.measure([subject], SimpleNamespace(rate=lambda threads, repeats: next(peaks)), 5)
    assert finding.rates == [10.0, 30.0, 18.0, 20.0, 5.0]
    assert finding.fractions == [0.25, 0.75, 0.9, 0.5, 0.125]
    assert finding.fraction == 0.75
