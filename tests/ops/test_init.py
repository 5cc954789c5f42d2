"""The table of families: it names every operator that a family defines, and finding one imports no other family."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sardonyx import ops

FOLDER = Path(ops.__path__[0])


@pytest.mark.parametrize("family", ops.OPERATORS)
def test_a_family_defines_the_operators_that_the_table_names(family: str) -> None:
    assert ops.OPERATORS[family].split() == sorted({op.name for op in ops.operators_of(family)})


def test_every_file_with_records_is_in_the_table() -> None:
    there = {
        path.stem for path in FOLDER.glob("*.py") if "\nOPS = (" in path.read_text("utf-8") or "\nOPS: " in path.read_text("utf-8")
    }
    assert there == set(ops.OPERATORS)


def test_records_are_found_by_domain_and_version() -> None:
    newest, oldest = ops.find("", "Add", 17), ops.find("", "Add", 1)
    assert newest is not None
    assert oldest is not None
    assert (newest.since, oldest.since) == (7, 1)
    assert ops.find("com.microsoft", "Add", 1) is None
    assert ops.find("", "NoSuchOperator", 1) is None


def test_finding_an_operator_imports_few_families() -> None:
    code = "import sys; from sardonyx import ops; assert ops.find('', 'Erf', 17); print(*(m for m in sys.modules if m in "
    code += f"{[f'sardonyx.ops.{family}' for family in ops.OPERATORS]}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "sardonyx.ops.math" in done.stdout.split()
    assert len(done.stdout.split()) <= 3
