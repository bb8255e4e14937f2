"""Files of other projects in this repository: each is listed with its licence, and is unchanged."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.running import ROOT

LIST = "VENDORED.toml"
#: ``member`` is the path of the file in its package.
KEYS = {"path", "package", "version", "licence", "licence_files", "source", "sha256", "size"}
#: Licences (SPDX identifiers) whose files may be distributed with programs under the MIT licence.
LICENCES = {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0"}
FOLDERS = sorted(path.parent for room in ("runner", "tests") for path in (ROOT / room).rglob(LIST))


def entries(folder: Path) -> list[dict[str, Any]]:
    """Return the vendored files that a folder lists."""
    found: list[dict[str, Any]] = tomllib.loads((folder / LIST).read_text("utf-8"))["file"]
    return found


def test_the_vendored_files_of_the_tests_are_listed() -> None:
    assert ROOT / "tests" / "browser" / "vendor" in FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_vendored_file_is_unchanged_and_has_a_licence(folder: Path) -> None:
    files = entries(folder)
    for one in files:
        content = (folder / one["path"]).read_bytes()
        assert (one["size"], one["sha256"]) == (len(content), hashlib.sha256(content).hexdigest()), one["path"]
        assert set(one) - {"member"} == KEYS
        assert one["licence"] in LICENCES
        assert one["licence_files"]
    listed = {LIST} | {name for one in files for name in (one["path"], *one["licence_files"])}
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == listed
