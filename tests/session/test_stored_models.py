"""Records of host steps: only sound ones are read. Whole programs and what comes back are tested in test_manifest and test_kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sardonyx.session.stored_models import HOST, LATE, NATIVE, REBUILT, REFERENCE, Reader

ATTRIBUTES = [["keys_strings", ["list", ["a"]]], ["values_int64s", ["list", [7]]]]
CALL = ["ai.onnx.ml", "LabelEncoder", 2, "node", ATTRIBUTES, [1], [2]]
LAYOUT = [1, 3, [], [CALL], [2]]


def reader() -> Reader:
    return Reader(iter(()), iter(()), None, 1, None)


def test_a_host_step_comes_back():
    (found,) = reader().executable([HOST, LAYOUT]).run([np.array(["a", "b"], object)])
    np.testing.assert_array_equal(found, [7, -1])


def changed(**fields: Any) -> list[Any]:
    names = ("domain", "operator", "since", "name", "attributes", "inputs", "outputs")
    return [1, 3, [], [[fields.get(name, there) for name, there in zip(names, CALL, strict=True)]], [2]]


@pytest.mark.parametrize(
    "record",
    [
        *(
            None,
            [],
            [1],
            ["other"],
            [NATIVE],
            [HOST],
            [HOST, []],
            [REFERENCE],
            [REFERENCE, "text"],
            [LATE, 0, ["x"]],
            [REBUILT, 0, "text"],
        ),
        *(
            [HOST, [9, 3, [], [CALL], [2]]],
            [HOST, [1, 3, [], [CALL], [3]]],
            [HOST, [1, 3, [[5, 1]], [CALL], [2]]],
            [HOST, [1, 0, [], [], []]],
        ),
        *(
            [HOST, changed(operator="Unheard")],
            [HOST, changed(inputs=[3])],
            [HOST, changed(outputs=[-1])],
            [HOST, changed(since="2")],
        ),
        *([HOST, changed(attributes=[["unheard", 1]])], [HOST, changed(attributes=[["keys_strings", ["list", ["a"]]]])]),
    ],
)
def test_nothing_else_is_read(record: Any):
    with pytest.raises(ValueError):  # noqa: PT011
        reader().executable(record)
