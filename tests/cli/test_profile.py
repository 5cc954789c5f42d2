"""`sardonyx profile`: the table, JSON, the trace, and the page as a browser shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import onnx
import pytest

from sardonyx.inspection.machine_peak import Peak
from sardonyx.inspection.profile import NodeProfile
from tests.cli.invoke import DIGITS, call

BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
HOSTILE = """<ir_version: 10, opset_import: ["" : 21]> g (float[n,3] x) => (float[n,3] y) {
    a = Relu (x)
    y = Softmax (a)
}"""


def test_the_table_has_a_row_for_each_node() -> None:
    done = call("profile", DIGITS, "--size", "batch=64", "--iterations", "3", "--sort", "model")
    assert done.exit_code == 0
    rows = re.findall(r"^(/\d/\w+) +(\w+) +[\d.]+ +([\d.]+)%(.*)$", done.stdout, re.MULTILINE)
    assert [(name, operator) for name, operator, _, _ in rows][:2] == [("/0/Conv", "Conv"), ("/1/Relu", "Relu")]
    assert len(rows) == 9
    assert abs(sum(float(share) for _, _, share, _ in rows) - 100) < 1
    assert "/8/Softmax" in next(rest for name, _, _, rest in rows if name == "/7/Gemm")
    assert re.search(r"peak of this machine, \d+ threads: \d+ GFLOP/s", done.stdout)
    assert len(re.findall(r"^/\d/", call("profile", DIGITS, "--top", "2").stdout, re.MULTILINE)) == 2


def test_json_and_the_trace_agree_on_the_nodes(tmp_path: Path) -> None:
    done = call("profile", DIGITS, "--size", "batch=64", "--iterations", "4", "--json", "--trace", tmp_path / "t.json")
    found = json.loads(done.stdout)
    events = [event for event in json.loads((tmp_path / "t.json").read_text()) if event["cat"] == "Node"]
    assert len(events) == 4 * 9
    for node in found["nodes"]:
        own = [int(event["args"]["duration_ns"]) for event in events if event["name"] == f"{node['name']}_kernel_time"]
        assert abs(sum(own) / 4e6 - node["ms"]) < 1e-5
    assert found["sizes"] == {"batch": 64}


def test_an_order_that_there_is_not() -> None:
    done = call("profile", DIGITS, "--sort", "colour")
    assert done.exit_code == 2
    assert "there is no order 'colour': choose time or model" in done.stderr


def test_a_rate_is_a_part_of_the_nearer_peak() -> None:
    peak = Peak(gflops=100, gbytes=10, threads=1)

    def node(gflops: float, gbytes: float) -> NodeProfile:
        return NodeProfile(0, "n", "Op", "", 1.0, 1.0, gflops, gbytes, False, 0)

    assert node(50, 4).part_of(peak) == ("50.00 GFLOP/s", 0.5)
    assert node(10, 4).part_of(peak) == ("4.00 GB/s", 0.4)
    assert node(10, 40).part_of(peak) == ("10.00 GFLOP/s", 0.1)  # the caches', not the memory's
    assert node(0, 0).part_of(peak) == ("", 0.0)


def page_after(page: Path, script: str) -> str:
    """The page's document after a script has run in it, as a browser shows it on a phone."""
    if BROWSER is None:
        pytest.skip("no Chromium to show the page with: .ci/run installs it")
    page.write_text(page.read_text() + f"<script>{script}</script>")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=390,800", "--dump-dom"]
    profile = f"--user-data-dir={page.parent / 'browser'}"
    done = subprocess.run([BROWSER, *options, profile, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_the_page_sorts_searches_and_shows_groups(tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    assert call("profile", DIGITS, "--size", "batch=64", "--html", page, "--iterations", "2").exit_code == 0
    assert "http" not in re.sub(r"<html.*?>", "", page.read_text())  # nothing is fetched
    script = """
        const names = () => [...document.querySelectorAll("#rows td.name")].map(td => td.textContent);
        const report = {all: names()};
        document.querySelector("#grouped").click();
        document.querySelector('th[data-key="name"]').click();
        report.sorted = names();
        const search = document.querySelector("#search");
        search.value = "conv"; search.dispatchEvent(new Event("input"));
        report.found = names();
        search.value = "zzz"; search.dispatchEvent(new Event("input"));
        report.none = !document.querySelector("#empty").hidden;
        search.value = ""; search.dispatchEvent(new Event("input"));
        document.querySelector("#flame .row button").click();
        report.group = names();
        report.fits = document.documentElement.scrollWidth <= innerWidth;
        document.body.append(Object.assign(document.createElement("pre"), {id: "report", textContent: JSON.stringify(report)}));
    """
    report = json.loads(re.search(r'<pre id="report">(.*?)</pre>', page_after(page, script), re.DOTALL)[1])  # type: ignore[index]
    assert any(name.startswith("5 fused nodes: ") for name in report["all"])
    assert report["sorted"] == sorted(report["sorted"])
    assert len(report["sorted"]) == 9
    assert report["found"] == ["/0/Conv", "/3/Conv"]
    assert report["none"]
    assert report["group"] == ["/0/Conv"]
    assert report["fits"]


def test_without_a_peak_there_are_no_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> int:
        raise NotImplementedError("no fused multiply-add")

    monkeypatch.setattr("sardonyx.inspection.machine_peak.vector_lanes", none)
    done = call("profile", DIGITS, "--html", tmp_path / "p.html", "--iterations", "1")
    assert done.exit_code == 0
    assert "/0/Conv" in done.stdout
    assert "GFLOP/s" not in done.stdout
    assert '"peak": {' not in (tmp_path / "p.html").read_text()


def test_names_of_nodes_are_text_on_the_page(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(HOSTILE)
    model.graph.node[0].name = "</script><script>document.title='owned'</script><img src=x onerror=document.title='owned'>"
    model.graph.node[1].name = "softmax\u2028 /*PROFILE*/null"
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    page = tmp_path / "p.html"
    assert call("profile", tmp_path / "m.onnx", "--html", page, "--iterations", "1").exit_code == 0
    shown = page_after(page, "document.body.dataset.ran = 'yes'")
    assert 'data-ran="yes"' in shown
    assert "<title>owned" not in shown
    assert "&lt;/script&gt;" in shown
