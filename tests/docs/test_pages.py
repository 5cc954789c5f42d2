"""What the pages of the site say is so: their examples run, their tables are complete, their links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from enum import IntEnum
from pathlib import Path

import pytest
from typer.main import get_command

import sardonyx
from sardonyx.cli import app
from sardonyx.session import options as keys
from sardonyx.session.options import Option
from tests.surface.test_names import MISSING

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WITH_EXAMPLES = ("compiled_files", "custom_operators", "index", "onnxruntime", "options", "profiling", "providers", "reliability")


def text_of(page: str) -> str:
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def rows_of(text: str) -> dict[str, list[str]]:
    """{first cell: the other cells} of the rows of all tables in a text; the first cells are code."""
    cells = [line.strip("| \n").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {first.strip().strip("`"): [cell.strip() for cell in rest] for first, *rest in cells}


@pytest.mark.parametrize("page", WITH_EXAMPLES)
def test_the_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other in one namespace, in a folder with the repository's examples."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL)
    assert blocks
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(block, namespace)


def test_no_page_has_examples_that_are_not_run() -> None:
    shown_elsewhere = {"compiler", "kernels", "figures"}  # these are made from the code
    having = {path.stem for path in DOCS.glob("*.md") if "```python" in path.read_text(encoding="utf-8")}
    assert having - shown_elsewhere == set(WITH_EXAMPLES)


@pytest.mark.parametrize("kind", ["SessionOptions", "RunOptions"])
def test_every_attribute_is_in_the_table_with_its_default(kind: str) -> None:
    part = text_of("options").split(f"## Attributes of {kind}")[1].split("\n## ")[0]
    found = {name: cells[0] for name, cells in rows_of(part).items()}
    attributes = {name: value.default for name, value in vars(getattr(sardonyx, kind)).items() if isinstance(value, Option)}

    def written(default: object) -> str:
        return default.name if isinstance(default, IntEnum) else repr(default).replace("'", '"')

    assert found == {name: f"`{written(default)}`" for name, default in attributes.items()}


def test_every_config_entry_that_has_an_effect_is_in_the_table() -> None:
    part = text_of("options").split("## Config entries")[1].split("\n## ")[0]
    names = {value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str) and "." in value}
    assert set(rows_of(part)) == names


def test_every_name_that_is_missing_is_told() -> None:
    part = text_of("onnxruntime").split("## Names that are missing")[1]
    told = {name for line in part.splitlines() if line.startswith("|") for name in re.findall(r"`([\w*]+)`", line.split("|")[1])}
    assert told == set(MISSING)


def test_commands_are_told() -> None:
    told = set(re.findall(r"`sardonyx (\w+)", text_of("commands")))
    assert told == set(get_command(app).commands)  # type: ignore[attr-defined]


def test_the_entries_of_events_are_told(tmp_path: Path) -> None:
    source = (ROOT / "src" / "sardonyx" / "session" / "profiling.py").read_text(encoding="utf-8")
    written = set(re.findall(r'details\["(\w+)"\]', source)) | {"op_name", "provider", "node_index", "duration_ns"}
    told = {
        name
        for line in text_of("profiling").splitlines()
        if line.startswith("|")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert told - {"args"} == written


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_links_to_pages_and_headings_lead_there(page: Path) -> None:
    for place, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
        target = (page.parent / place) if place else page
        assert target.exists(), f"{page.name} links to {place}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}, (
                f"{page.name}: #{anchor}"
            )


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Links and anchors that lead nowhere are warnings, and so is a page that is not in the menu."""
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed: pip install -e '.[dev]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {path.parent.name for path in (tmp_path / "site").rglob("index.html")}
    assert {path.stem for path in DOCS.glob("*.md")} - {"index", "PLAN"} <= pages
    assert "reference" in pages
    shown = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r'<(?:script|link)[^>]*(?:src|href)="https?://', shown)  # nothing is fetched from others
