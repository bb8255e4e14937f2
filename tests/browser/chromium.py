"""The browser of the tests: the Chromium that is installed on this machine, never a download."""

from __future__ import annotations

import shutil

#: The names of the program on Debian, other distributions, and machines with Google's build.
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
#: Root may not use the sandbox. A machine for tests has no graphics card. Only the page opens connections.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Pixels of a window: the smallest that the pages are made for.
WINDOW = (1280, 800)


def executable() -> str:
    """Return the path of the installed Chromium. Raises AssertionError with the remedy if there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found is not None, "the tests need Chromium: apt-get install chromium"
    return found
