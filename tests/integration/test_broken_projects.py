"""Each folder in ``tests/broken`` is a project with configuration errors. ``expected.txt`` contains the report.

``{project}`` in that file stands for the project's folder. The shipped plugins are beside those of the project. The
project's own plugins are named ``*.py.txt``, because tools would read a file that is wrong on purpose.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runner.errors import ConfigError
from runner.inspection.checked_project import checked_project

BROKEN = Path(__file__).parent.parent / "broken"
SHIPPED = Path(__file__).parent.parent.parent
SECRET = "correct-horse-battery-staple"


def make_project(source: Path, folder: Path) -> Path:
    """Create a copy of ``source`` with the shipped plugins."""
    shutil.copytree(SHIPPED / "plugins", folder / "plugins")
    for name in ("topology.yaml", "config.yaml"):
        if (source / name).exists():
            shutil.copy(source / name, folder / name)
    for plugin in source.glob("plugins/*.py.txt"):
        shutil.copy(plugin, folder / "plugins" / plugin.stem)
    return folder


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SHOP_SECRET", SECRET)
    monkeypatch.setenv("SHOP_EMPTY", "")
    monkeypatch.setenv("SHOP_LOST_FILE", "/nowhere/password")
    monkeypatch.setenv("SHOP_NOTHING_FILE", "/dev/null")
    # This variable contains the secret itself, where the name of a file belongs.
    monkeypatch.setenv("SHOP_SECRET_HERE_FILE", f"postgresql://shop:{SECRET}@shop/shop")
    monkeypatch.delenv("SHOP_NOT_SET", raising=False)
    return SECRET


@pytest.mark.parametrize("source", sorted(BROKEN.iterdir()), ids=lambda source: source.name)
def test_every_configuration_error_is_reported_at_its_line_without_secrets(
    source: Path, tmp_path: Path, secret: str
) -> None:
    folder = make_project(source, tmp_path)
    expected = (source / "expected.txt").read_text(encoding="utf-8").replace("{project}", str(folder))
    with pytest.raises(ConfigError) as caught:
        checked_project(folder)
    assert caught.value.faults == expected.splitlines()
    assert caught.value.exit_code == 78
    assert secret not in str(caught.value)
    assert "correct-horse" not in str(caught.value)
    assert not (folder / "owned").exists()


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "], ids=["lists", "mappings", "dashes"])
def test_endless_brackets_are_a_configuration_error_and_no_crash(opening: str, tmp_path: Path) -> None:
    # A recursive parser that overflows the stack kills its process, so it needs a process of its own.
    (tmp_path / "topology.yaml").write_text("queues:\n  " + opening * 100_000)
    (tmp_path / "config.yaml").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "runner", "--project", str(tmp_path), "check"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 78
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("topology.yaml:2: ")
    assert "deep" in done.stderr
