"""Each mutant still fits the code that it changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.chaos.mutant import MUTANTS, Mutant
from tests.running import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_changes_texts_that_occur_once_in_its_file(mutant: Mutant, tmp_path: Path) -> None:
    copy = tmp_path / mutant.file
    copy.parent.mkdir(parents=True)
    shutil.copy(ROOT / mutant.file, copy)
    mutant.apply(tmp_path)
    assert copy.read_text() != (ROOT / mutant.file).read_text()
    compile(copy.read_text(), mutant.file, "exec")
