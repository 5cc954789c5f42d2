"""How the outputs of ONNX's backend cases are compared: by onnx's own runner, mended where it can't compare.

The runner takes each tensor in a sequence for a sequence of tensors once more, which a tensor without axes is not: it then raises
TypeError, whatever the backend gives. Here tensors in sequences are compared as tensors.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx.backend.test.runner import Runner

TOLERANCES = {"test_dft_inverse_opset19": {"atol": 1e-6}}
"""Other tolerances than the cases' own, as the runner's `test_kwargs`.

test_dft_inverse_opset19: the case expects 1.9e-7, an error of numpy's transform in complex64, where the exact value is 0. The case allows
1e-7, less than the error of its own numbers; the largest number in it is 94.5, whose last bit is 7.6e-6.
"""


class CaseRunner(Runner):
    """onnx's runner of backend cases, with the comparison of this file."""

    @classmethod
    def assert_similar_outputs(
        cls, ref_outputs: Sequence[Any], outputs: Sequence[Any], rtol: float, atol: float, model_dir: str | None = None
    ) -> None:
        """Raises AssertionError where the outputs differ in number, kind, shape, dtype, or by more than the tolerance."""
        np.testing.assert_equal(
            len(outputs), len(ref_outputs), err_msg=f"{len(outputs)} values where {len(ref_outputs)} are expected"
        )
        for wanted, got in zip(ref_outputs, outputs, strict=True):
            if isinstance(wanted, list | tuple) != isinstance(got, list | tuple):
                raise AssertionError(f"Unexpected type {type(got)}; expected is {type(wanted)}")
            if isinstance(wanted, list | tuple):
                cls.assert_similar_outputs(wanted, got, rtol, atol, model_dir)
            else:
                super().assert_similar_outputs([wanted], [got], rtol, atol, model_dir)
