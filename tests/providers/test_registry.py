"""Providers by name. What a session does with them is in tests/session/test_pipeline.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sardonyx.providers import registry
from sardonyx.providers.cpu import CPUExecutionProvider
from sardonyx.providers.reference import ReferenceExecutionProvider


def test_each_name_has_its_provider() -> None:
    assert isinstance(registry.create(registry.CPU, {}), CPUExecutionProvider)
    assert isinstance(registry.create(registry.REFERENCE, {}), ReferenceExecutionProvider)
    assert registry.create(registry.CPU, {"a": "b"}).options == {"a": "b"}
    assert [registry.create(name, {}).name for name in registry.names()] == registry.names()
    with pytest.raises(KeyError):
        registry.create("Nobody", {})


WITHOUT = """
import sys
sys.modules[{module!r}] = None
import onnx, sardonyx as sx
model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) {{ y = Relu(x) }}')
try:
    sx.InferenceSession(model.SerializeToString())
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("module", ["llvmlite", "llvmlite.binding", "sardonyx.codegen.emit"])
def test_without_the_compiler_there_is_no_session(module: str, tmp_path) -> None:
    """Nothing stands in for it without a word."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(module=module)],
        env={"PYTHONPATH": ":".join(sys.path), "SARDONYX_CACHE": "off"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("Fail [ONNXRuntimeError] : 1 : FAIL : CPUExecutionProvider cannot be imported"), done.stdout
    assert module in done.stdout
