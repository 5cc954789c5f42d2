"""ONNX's own backend tests. Cases that don't pass stand in backend_failures.txt, each with its reason; one that passes fails here."""

import unittest
import warnings
from pathlib import Path

import pytest

import sardonyx
from benchmarks.onnx_cases import TOLERANCES, CaseRunner
from sardonyx.backend import SardonyxBackend

LIST = Path(__file__).with_name("backend_failures.txt")


class Strict(SardonyxBackend):
    """Doesn't let a case be skipped because its model can't be prepared."""

    @classmethod
    def is_compatible(cls, model, device="CPU", **kwargs):
        return True


def listed():
    """{case: why it doesn't pass}"""
    lines = [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split(maxsplit=1) for line in lines)


def make_cases():
    """The test classes, without the cases for devices that we don't have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classes = CaseRunner(Strict, __name__, test_kwargs=TOLERANCES).test_cases
    for case in classes.values():
        for name in [name for name in vars(case) if name.endswith("_cuda")]:
            delattr(case, name)
        for name in listed().keys() & vars(case).keys():
            setattr(case, name, unittest.expectedFailure(getattr(case, name)))
    return classes


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory):
    """The tests of whole models unpack them into a folder of their own, not into the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONNX_HOME", str(tmp_path_factory.mktemp("onnx")))
        yield


@pytest.fixture(autouse=True)
def _same_draws():
    """Random operators draw the same in each run of the tests: a case that expects others would pass by chance now and then."""
    sardonyx.set_seed(1)


CASES = make_cases()
globals().update(CASES)


def test_every_listed_case_exists():
    there = {name for case in CASES.values() for name in vars(case)}
    assert not listed().keys() - there
