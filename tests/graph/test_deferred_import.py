"""Stand-ins for modules that are imported but seldom used. In processes of their own: nothing may be loaded yet."""

from __future__ import annotations

import subprocess
import sys

import pytest

CASES = {
    "nothing is loaded by the import, and nothing is left where others look": """
from sardonyx.graph import onnx_ir
assert not {"sympy", "onnx_ir._symbolic_shapes"} & set(sys.modules)
assert str(onnx_ir.Shape(["n", 3])[0]) == "n" and not "sympy" in sys.modules
""",
    "who imports it afterwards gets the module itself": """
import sardonyx.graph, sympy, sympy.core.expr
assert type(sympy) is types.ModuleType and sympy.Integer(2) + 3 == 5
""",
    "arithmetic on sizes loads it": """
from sardonyx.graph import onnx_ir
assert (onnx_ir.SymbolicDim("n") + 1).value == "n + 1"
assert onnx_ir.SymbolicDim("max(n, 2)").evaluate({"n": 5}) == 5
import sympy
assert isinstance(onnx_ir.SymbolicDim("n")._expr, sympy.Expr)
""",
    "what is loaded already is used": """
import sympy, sardonyx.graph
assert sys.modules["sympy"] is sympy and onnx_ir_core().sympy is sympy
""",
    "onnx_ir that is loaded already stays as it is": """
import onnx_ir as before
from sardonyx.graph import onnx_ir
assert onnx_ir is before and type(onnx_ir_core().sympy) is types.ModuleType
""",
    "another thread that imports it meanwhile gets the module itself": """
from sardonyx.graph.deferred_import import imports_deferred
def look():
    import sympy.core.expr
    found.append(sympy.core.expr.Expr)
found = []
with imports_deferred("onnx_ir._core", "sympy"):
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
assert found[0].__module__ == "sympy.core.expr" and type(sys.modules["sympy"]) is types.ModuleType
""",
    "an import that fails leaves nothing behind": """
from sardonyx.graph.deferred_import import imports_deferred
before = list(sys.meta_path)
try:
    with imports_deferred("onnx_ir._core", "sympy"):
        raise ImportError
except ImportError:
    assert sys.meta_path == before
""",
    "its source can be shown": """
import inspect
import sardonyx.graph
assert "import sympy" in inspect.getsource(onnx_ir_core())
""",
    "onnx brings nothing that converts, prints or joins models": """
import sardonyx.graph, onnx
unused = {f"onnx.{name}" for name in sardonyx.graph.UNUSED} | {"importlib.metadata", "email", "argparse"}
unused |= {f"google.protobuf.{name}" for name in ("json_format", "text_format", "internal.python_message")}
assert not unused & set(sys.modules), unused & set(sys.modules)
""",
    "all that onnx has is still there": """
import sardonyx.graph, onnx, importlib.metadata
for name in sardonyx.graph.UNUSED:
    module = importlib.import_module(f"onnx.{name}")
    assert getattr(onnx, name) is module
assert onnx.__version__ == importlib.metadata.version("onnx")
""",
    "protobuf's messages in Python load if protobuf uses them": """
import os
os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
import sardonyx.graph, onnx
assert onnx.TensorProto.FromString(onnx.helper.make_tensor("t", 1, [2], [1, 2]).SerializeToString()).dims == [2]
""",
    "an attribute of a deferred module loads it": """
import sardonyx.graph, onnx
model = onnx.helper.make_model(onnx.parser.parse_graph("g (float[2] x) => (float[2] y) { y = Relu(x) }"))
assert onnx.load_model_from_string(model.SerializeToString()) == model and "Relu" in onnx.printer.to_text(model)
assert "merge_models" in dir(onnx.compose) and callable(onnx.utils.extract_model)
""",
    "onnx that is loaded already stays as it is": """
import onnx
before = dict(vars(onnx))
import sardonyx.graph
assert all(vars(onnx)[name] is before[name] for name in before)
""",
    "a version that no single folder tells is asked of importlib.metadata": """
import pathlib, tempfile
from sardonyx.graph.deferred_import import QuickMetadata
metadata = QuickMetadata()
assert metadata.version("numpy") == __import__("numpy").__version__ and "importlib.metadata" not in sys.modules
for version in ("1.0", "2.0"):
    sys.path.append(tempfile.mkdtemp())
    folder = pathlib.Path(sys.path[-1]) / f"twice-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Name: twice\\nVersion: {version}\\n")
assert metadata.version("twice") == "1.0"
try:
    metadata.version("no_such_distribution")
except metadata.PackageNotFoundError:
    pass
else:
    raise AssertionError
""",
}
HEAD = """
import sys, threading, types
def onnx_ir_core():
    return sys.modules["onnx_ir._core"]
"""


@pytest.mark.parametrize("code", CASES.values(), ids=CASES)
def test_stand_ins(code: str):
    done = subprocess.run([sys.executable, "-c", HEAD + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
