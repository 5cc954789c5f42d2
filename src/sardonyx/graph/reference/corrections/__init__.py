"""Operators that onnx.reference lacks, gets wrong or refuses, in numpy of ours."""

from __future__ import annotations

import functools
import inspect

from sardonyx.graph.reference.corrections import elementwise, images, ml, recurrent, tensors, trees, windows
from sardonyx.graph.reference.corrections.table import Correction
from sardonyx.graph.schemas import ML

__all__ = ["TABLES", "Correction", "find", "wants_outputs"]

TABLES = (
    ("", elementwise.TABLE),
    ("", images.TABLE),
    ("", recurrent.TABLE),
    ("", tensors.TABLE),
    ("", windows.TABLE),
    (ML, ml.TABLE),
    (ML, trees.TABLE),
)


@functools.cache
def find(domain: str, name: str, since: int) -> Correction | None:
    """The correction for the version of an operator that came in opset `since`, if there is one."""
    for home, table in TABLES:
        found = None
        for first, function in table.get(name, ()) if home == domain else ():
            if first <= since:
                found = function
        if found is not None:
            return found
    return None


def wants_outputs(function: Correction) -> bool:
    """Does the function ask how many outputs its node has?"""
    return "outputs" in inspect.signature(function).parameters
