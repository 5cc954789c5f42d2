"""A compiled graph as it runs; what its runs give is tested with the compiler."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.errors import InvalidArgument
from sardonyx.base.options import CompileOptions
from sardonyx.providers.cpu import CPUExecutionProvider
from tests.graph.models import model


def test_feeds_of_other_sizes_are_refused():
    graph = model("g (float[N, 2] x) => (float[N, 2] y) { y = Neg(x) }").graph
    native = CPUExecutionProvider().compile(graph, CompileOptions())
    np.testing.assert_array_equal(native.run([np.ones((3, 2), np.float32)])[0], -np.ones((3, 2)))
    for shape in ((3, 3), (2,)):
        with pytest.raises(InvalidArgument, match=r"input x has shape \["):
            native.run([np.ones(shape, np.float32)])
    assert "nests" in native.describe()
    native.close()
