"""`sardonyx describe`: nests, places, and loops of kernels."""

from __future__ import annotations

import json
import re
from pathlib import Path

import onnx

from tests.cli.invoke import DIGITS, call


def test_describe_shows_nests_and_places() -> None:
    done = call("describe", DIGITS)
    assert done.exit_code == 0
    assert "input   pictures: tensor(float)['batch', 1, 8, 8]" in done.stdout
    assert "output  probabilities: tensor(float)['batch', 10]" in done.stdout
    assert "CPUExecutionProvider" in done.stdout
    assert "TILE" in done.stdout


def test_describe_shows_the_loops_of_kernels() -> None:
    every = call("describe", DIGITS, "--loops").stdout
    assert every.startswith(call("describe", DIGITS).stdout.partition("nest ")[0])
    names = re.findall(r"^(k_\w+) of .*\nkernel\(", every, re.MULTILINE)
    assert f" {len(names)} kernels" in every
    for prefix in (names[-1][:10], "/7/"):
        shown = call("describe", DIGITS, "--kernel", prefix).stdout
        assert re.findall(r"^(k_\w+) of", shown, re.MULTILINE) == names[-1:]
        assert "tile " in shown
    done = call("describe", DIGITS, "--kernel", "nothing")
    assert done.exit_code == 2
    assert done.stderr == "sardonyx: neither a kernel nor a node of one has a name that begins with 'nothing'\n"


def test_the_loops_of_a_model_with_steps_on_the_host(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 4]> g (string[n] s, float[n] x) => (float[n] y) {
        t = ai.onnx.ml.LabelEncoder <keys_strings = ["a"], values_floats = [1.0], default_float = 0.0> (s)
        y = Add(x, t)
    }"""
    (tmp_path / "host.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    done = call("describe", tmp_path / "host.onnx", "--loops")
    assert done.exit_code == 0
    assert len(re.findall(r"^kernel\(", done.stdout, re.MULTILINE)) == 1


def test_describe_as_json() -> None:
    found = json.loads(call("describe", DIGITS, "--loops", "--json").stdout)
    assert found["inputs"] == [{"name": "pictures", "type": "tensor(float)", "shape": ["batch", 1, 8, 8]}]
    assert [part["provider"] for part in found["parts"]] == ["CPUExecutionProvider"]
    assert len(found["parts"][0]["nodes"]) == 9
    assert "TILE" in found["description"]
    assert all("kernel(" in text for text in found["loops"])
