"""Write the foreign files of the dashboard, in the versions of VENDORED.toml, and check them against their checksums.

usage: python -m deploy.vendor [--update]      needs npm; --update writes new checksums after a change of a version
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "runner" / "dashboard" / "static" / "vendor"
LIST = FOLDER / "VENDORED.toml"
#: The icons of the sprite, and their names in lucide.
ICONS = {
    "pause": "pause", "play": "play", "theme": "contrast", "copy": "copy", "search": "search", "restart": "rotate-cw",
    "stop": "square", "logs": "text", "more": "ellipsis", "close": "x", "slow": "turtle", "edit": "pencil",
    "link": "link", "right": "chevron-right", "down": "chevron-down", "delete": "trash-2", "plus": "plus",
    "minus": "minus", "send": "send", "look": "eye", "save": "download", "kill": "zap",
}  # fmt: skip
_DRAWING = re.compile(r"<(?:path|rect|circle|line|polyline|polygon|ellipse)[^>]*/>")


def main() -> int:
    """Write the files. Return 1 if a package differs from its checksum."""
    files = tomllib.loads(LIST.read_text("utf-8"))["file"]
    text = LIST.read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for entry in files:
            name = entry["package"]
            package = _package(f"{name}@{entry['version']}", Path(folder))
            content = _sprite(package) if name == "lucide-static" else _member(package, entry["member"])
            found = hashlib.sha256(content).hexdigest()
            if found != entry["sha256"] and "--update" not in sys.argv:
                print(f"{name}: sha256 {found} differs from VENDORED.toml; check the package, then use --update")
                return 1
            (FOLDER / entry["path"]).write_bytes(content)
            (FOLDER / entry["licence_files"][0]).write_bytes(_member(package, "LICENSE"))
            print(f"{entry['path']}: {len(content):,} bytes of {name} {entry['version']}, {entry['licence']}")
            head, mark, rest = text.partition(f'package = "{name}"')
            rest = re.sub(r'sha256 = "[^"]*"\nsize = \d+', f'sha256 = "{found}"\nsize = {len(content)}', rest, count=1)
            text = head + mark + rest
    if "--update" in sys.argv:
        LIST.write_text(text, "utf-8")
    return 0


def _package(name: str, folder: Path) -> Path:
    npm = shutil.which("npm") or "npm"
    done = subprocess.run([npm, "pack", "--silent", name], cwd=folder, check=True, capture_output=True, text=True)
    return folder / done.stdout.strip()


def _member(package: Path, name: str) -> bytes:
    with tarfile.open(package) as archive:
        file = archive.extractfile(f"package/{name}")
        if file is None:
            raise SystemExit(f"{package.name}: not a file, {name}")
        return file.read()


def _sprite(package: Path) -> bytes:
    """Return one SVG file with a symbol for each icon."""
    symbols = []
    for name, source in ICONS.items():
        drawing = "".join(_DRAWING.findall(_member(package, f"icons/{source}.svg").decode()))
        symbols.append(f'<symbol id="{name}" viewBox="0 0 24 24">{drawing}</symbol>')
    return ('<svg xmlns="http://www.w3.org/2000/svg">\n' + "\n".join(symbols) + "\n</svg>\n").encode()


if __name__ == "__main__":
    sys.exit(main())
