"""What the comparison of ONNX's cases tells apart: sequences of tensors without axes, which onnx's own runner can't compare."""

import numpy as np
import pytest

from benchmarks.onnx_cases import TOLERANCES, CaseRunner

SEQUENCE = [np.float32(1), np.array([1, 2], np.float32), np.zeros((2, 2), np.int64)]


def compare(wanted, got):
    CaseRunner.assert_similar_outputs(wanted, got, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("element", SEQUENCE)
def test_tensors_in_a_sequence_are_compared_as_tensors(element):
    compare([[element, element]], [[element.copy(), element.copy()]])
    for other in (element + 1, element.astype(np.float64), element[None]):
        with pytest.raises(AssertionError):
            compare([[element, element]], [[element, other]])


@pytest.mark.parametrize("got", [[SEQUENCE[:2]], [SEQUENCE[0]], [], [SEQUENCE, SEQUENCE]])
def test_the_number_of_values_and_their_kind_count(got):
    with pytest.raises(AssertionError):
        compare([SEQUENCE], got)


def test_sequences_of_sequences():
    compare([[SEQUENCE, SEQUENCE]], [[SEQUENCE, SEQUENCE]])
    with pytest.raises(AssertionError):
        compare([[SEQUENCE, SEQUENCE]], [[SEQUENCE, SEQUENCE[::-1]]])


def test_the_wider_tolerance_lies_between_the_cases_own_error_and_the_last_bit_of_its_numbers():
    """The case has the error of a transform in complex64 in it: the imaginary parts of its middle row are 0."""
    x = np.arange(100).reshape(10, 10)
    error = np.abs(np.fft.ifft(x.astype(np.complex64), axis=0).imag)[5].max()
    assert np.abs(np.fft.ifft(x, axis=0).imag)[5].max() < 1e-12
    assert 1e-7 < error < TOLERANCES["test_dft_inverse_opset19"]["atol"] < np.spacing(np.float32(x.max()))
