"""``python -m deploy.documentation_site``: the pages of docs/ as a site in the folder site/, which needs no server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "site"
SOURCE = ROOT / "docs" / "site"
#: Pages whose place on the site differs from their place in this repository.
MOVED = {"README.md": "index.md", "docs/README.md": "readers.md", "CHANGELOG.md": "changelog.md"}
#: The script that the theme loads from another server, so that its search works without a server.
SHIM = re.compile(r'"?https://unpkg\.com/iframe-worker/shim"?')
#: A request that a page makes to another server when it is opened.
FOREIGN = re.compile(
    r'<(?:script|img|iframe)[^>]*\bsrc="?https?:|<link[^>]*rel="?(?:stylesheet|preconnect)[^>]*href="?https?:'
)


def pages() -> dict[str, Path]:
    """Return each page by its path on the site."""
    sources = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
    return {_place(path): path for path in sources}


def _place(path: Path) -> str:
    name = path.relative_to(ROOT).as_posix()
    return MOVED.get(name, name.removeprefix("docs/"))


def on_site(source: Path) -> str:
    """Return the text of a page with its links as they are on the site; links to code become plain text."""

    def link(found: re.Match[str]) -> str:
        shown, address = found["shown"], found["address"]
        if address.startswith(("http://", "https://", "#")):
            return found[0]
        path, hash_, anchor = address.partition("#")
        target = (source.parent / path).resolve()
        if target.suffix == ".md" and _place(target) in pages():
            return f"[{shown}]({_place(target)}{hash_}{anchor})"
        if target.parent == ROOT / "docs" and target.suffix == ".svg":
            return f"[{shown}]({target.name})"
        return str(shown)

    return _outside_samples(
        source.read_text("utf-8"), lambda text: re.sub(r"\[(?P<shown>[^]]*)\]\((?P<address>[^)\s]+)\)", link, text)
    )


def _outside_samples(text: str, change: Callable[[str], str]) -> str:
    parts = re.split(r"(^( *)```.*?^\2```$)", text, flags=re.MULTILINE | re.DOTALL)
    # The expression has two groups, so every third part is between samples.
    return "".join(change(part) if place % 3 == 0 else part for place, part in enumerate(parts) if place % 3 != 2)


def prepare(folder: Path) -> Path:
    """Write everything that the generator reads into a folder; return its configuration."""
    docs = folder / "docs"
    docs.mkdir()
    for name, source in pages().items():
        (docs / name).write_text(on_site(source), "utf-8")
    for asset in [*(ROOT / "docs").glob("*.svg"), SOURCE / "site.css", SOURCE / "iframe-worker.js"]:
        shutil.copy(asset, docs)
    configuration = folder / "mkdocs.yml"
    shutil.copy(SOURCE / "mkdocs.yml", configuration)
    return configuration


def finish(site: Path) -> None:
    """Make a built site independent of other servers. Raises SystemExit if a page still loads from one."""
    for page in site.rglob("*.html"):
        depth = len(page.relative_to(site).parts) - 1
        text = SHIM.sub(f'"{"../" * depth}iframe-worker.js"', page.read_text("utf-8"))
        if found := FOREIGN.search(text):
            sys.exit(f"{page.name}: loads from another server: {found[0]}")
        page.write_text(text, "utf-8")


def build() -> None:
    """Build the site. Raises SystemExit if a link of a page leads nowhere."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        configuration = prepare(folder)
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(configuration)]
        done = subprocess.run(command, env={**os.environ, "NO_COLOR": "1"}, cwd=folder, check=False)
        if done.returncode:
            sys.exit(done.returncode)
        finish(folder / "site")
        shutil.rmtree(SITE, ignore_errors=True)
        shutil.copytree(folder / "site", SITE)
    print(f"open {SITE / 'index.html'}")


if __name__ == "__main__":
    build()
