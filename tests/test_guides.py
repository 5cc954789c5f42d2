"""What README and CONTRIBUTING say is so: their examples run, and what they name is there."""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path

import pytest
from llvmlite import binding as llvm
from typer.main import get_command

from docs.compiler import __main__ as compiler_page
from sardonyx.cli import app

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING, RUNNING = (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docs/running.md"))
GUIDES = [README, CONTRIBUTING]
GLOSSARY = ROOT / "docs" / "glossary.md"
KERNELS = ROOT / "docs" / "kernels.md"
COMPILER = ROOT / "docs" / "compiler.md"
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other in one namespace, in a folder with the repository's examples and a model.onnx."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    shutil.copy(ROOT / "examples" / "digits" / "digits.onnx", tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    blocks = python_blocks(README)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, namespace)
    assert namespace["probabilities"].shape() == [5, 10]  # type: ignore[attr-defined]
    assert namespace["hidden"].shape == (5, 16, 8, 8)  # type: ignore[attr-defined]
    assert namespace["binding"].get_outputs()[0].data_ptr() == namespace["probabilities"].data_ptr()  # type: ignore[attr-defined]


def test_the_operator_stands_in_the_code_as_it_is_shown() -> None:
    code = (ROOT / "src" / "sardonyx" / "ops" / "movement.py").read_text(encoding="utf-8")
    blocks = python_blocks(CONTRIBUTING)
    assert len(blocks) == 2
    for block in blocks:
        assert block in code


@pytest.mark.snapshot
def test_the_way_of_one_layer_is_current() -> None:
    """As far as it depends neither on LLVM's version nor on how kernels are named."""
    if "x86_64" not in llvm.get_default_triple() or not llvm.get_host_cpu_features().get("avx2"):
        pytest.skip("the layer is shown for AVX2, which this processor has not")
    script = runpy.run_path(str(ROOT / "docs" / "one_node.py"))
    page, texts = CONTRIBUTING.read_text(encoding="utf-8"), script["dumped"]()
    for word in ("graph_after", "nests", "loops"):
        assert script["last"](texts, word) in page, "stale: run `make docs`"
    assert "vfmadd" in script["section"](texts).split("Level 6")[1]


@pytest.mark.snapshot
def test_the_kernels_are_current() -> None:
    page = KERNELS.read_text(encoding="utf-8")
    assert runpy.run_path(str(ROOT / "docs" / "kernels.py"))["filled"](page) == page, "stale: run `make docs`"


@pytest.mark.snapshot
def test_the_way_through_the_compiler_is_current() -> None:
    """Texts and pictures, but for what depends on LLVM's version."""
    page = COMPILER.read_text(encoding="utf-8")
    found = compiler_page.sections()
    assert "vfmadd231ps" in found["assembly"]
    assert "fdiv <8 x float>" in found["llvm"]
    for name in compiler_page.ON_LLVM:
        del found[name]
    assert compiler_page.filled(page, found) == page, "stale: run `make docs`"
    drawn = compiler_page.drawings()
    assert {path.stem for path in compiler_page.IMAGES.iterdir()} == set(drawn)
    for name, picture in drawn.items():
        assert (compiler_page.IMAGES / f"{name}.svg").read_text(encoding="utf-8") == picture, f"{name} is stale: run `make docs`"
        assert f"](images/compiler/{name}.svg)" in page


def test_what_decides_on_kernels_is_where_the_page_says() -> None:
    pages = [page.read_text(encoding="utf-8") for page in (KERNELS, COMPILER)]
    places = [found for page in pages for found in re.findall(r"`([\w.]+)`\s+in\s+`(\w+/\w+\.py)`", page)]
    assert places
    for name, file in places:
        code = (ROOT / "src" / "sardonyx" / file).read_text(encoding="utf-8")
        for word in name.split("."):
            assert re.search(rf"^ *(def|class) {word}\b|^{word} = ", code, re.MULTILINE), f"{name} in {file}"


@pytest.mark.parametrize("page", [GLOSSARY, COMPILER], ids=lambda path: path.name)
def test_pages_name_files_that_exist(page: Path) -> None:
    files = re.findall(r"`(\w+/\w+\.py)`", page.read_text(encoding="utf-8"))
    assert files
    assert [file for file in files if not (ROOT / "src" / "sardonyx" / file).exists()] == []


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_paths_exist(guide: Path) -> None:
    words = re.split(r"[\s()`|]+", guide.read_text(encoding="utf-8"))
    paths = [w.rstrip(".,:;").split("#")[0] for w in words if re.match(r"(src|tests|docs|examples|benchmarks)/", w)]
    assert paths
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_make_targets_and_modules_exist(guide: Path) -> None:
    text = guide.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"(?:^ {4}|`)make ([a-z-]+)", text, re.MULTILINE)
    assert targets
    assert [t for t in targets if f"\n{t}:" not in makefile] == []
    modules = re.findall(r"python -m ((?:benchmarks|sardonyx)[.\w]*)", text)
    places = [f"{top}/{{}}{end}" for top in (".", "src") for end in (".py", "/__main__.py")]
    assert [m for m in modules if not any((ROOT / place.format(m.replace(".", "/"))).exists() for place in places)] == []


@pytest.mark.parametrize("guide", [RUNNING, CONTRIBUTING], ids=lambda path: path.name)
def test_variables_and_config_entries_exist(guide: Path) -> None:
    text = guide.read_text(encoding="utf-8")
    names = set(re.findall(r"SARDONYX_[A-Z]+|(?:session|run)\.[a-z_.]*[a-z]_[a-z_]+\b(?!\()", text))
    assert names
    assert [name for name in names if f'"{name}"' not in SOURCES] == []


def test_commands_exist() -> None:
    commands = set(re.findall(r"^ {4}sardonyx (\w+)", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert commands == set(get_command(app).commands)  # type: ignore[attr-defined]


def test_pages_are_in_the_menu_of_the_site() -> None:
    menu = set(re.findall(r": (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert menu - {"reference.md"} == {path.name for path in (ROOT / "docs").glob("*.md")} - {"PLAN.md"}
