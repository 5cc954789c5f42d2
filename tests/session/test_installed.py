"""Which code is installed: any module counts, and nothing is imported to find out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sardonyx
from sardonyx.session import installed as module
from sardonyx.session.installed import installed, package, record, sources


def test_it_imports_nothing():
    code = (
        "import sys; from sardonyx.session.installed import installed; print(installed());"
        f"print(sorted({set(module.LIBRARIES)!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{installed()}\n[]\n"


def test_every_module_counts(tmp_path: Path):
    (tmp_path / "a" / "__pycache__").mkdir(parents=True)
    for name in ("m.py", "a/n.py", "a/__pycache__/n.pyc", "a/data.txt"):
        (tmp_path / name).write_text("x = 1\n")
        os.utime(tmp_path / name, (1000, 1000))
    found = sources(str(tmp_path))
    assert found == [f"{tmp_path}/a/n.py 6 1000", f"{tmp_path}/m.py 6 1000"]
    (tmp_path / "a" / "n.py").write_text("x = 11\n")
    assert sources(str(tmp_path)) != found


def test_an_installers_record_counts_for_all_modules(tmp_path: Path):
    folder = tmp_path / "sardonyx"
    assert record(str(folder)) == []
    noted = tmp_path / f"sardonyx-{sardonyx.__version__}.dist-info" / "RECORD"
    noted.parent.mkdir()
    noted.write_text("sardonyx/__init__.py,sha256=0,1\n")
    os.utime(noted, (1000, 1000))
    assert record(str(folder)) == [f"{noted} 32 1000"]


def test_a_librarys_version_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    sys.path_importer_cache.pop(str(tmp_path), None)
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "__init__.py").write_text("")
    (tmp_path / "some-1.0.dist-info").mkdir()
    assert package("some")[1:] == ["some-1.0.dist-info"]
    with pytest.raises(FileNotFoundError):
        package("none")


def test_a_library_that_can_not_be_found_means_no_answer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LIBRARIES", ("numpy", "no_such_library"))
    assert installed.__wrapped__() is None
