"""Docker Compose's own reading of compose.yaml and .env, by Debian's package in a folder, without an engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.compose.file import compose, environment_of, profile
from tests.matrix.debian import Debian, View, cache_folder
from tests.running import ROOT

#: Debian 13 has Compose 2.26, and Debian 12 only the Python version 1.
_SUITE = "trixie"
#: The keys that Compose and these tests must read alike, because the tests start the containers from their own reading.
_SAME = ("image", "entrypoint", "command", "user", "hostname", "read_only", "cap_drop", "security_opt", "tmpfs")


def check_reading(say: Callable[[str], None]) -> None:
    """Assert that Compose accepts both files, and selects and reads the services as these tests do."""
    release = Debian(cache_folder() / _SUITE)
    release.make(_SUITE, say)
    folder = Debian(cache_folder() / f"{_SUITE}-compose")
    folder.make_from(release, ["docker-compose"], say)
    with folder.view(ROOT) as view:
        # The files as they are here, committed or not.
        for name in ("compose.yaml", ".env"):
            view.run("sh", "-c", f"cat > /{name} <<'END'\n{(ROOT / name).read_text()}END")
        view.run("mkdir", "/plugins")
        for words, name in (([], "split"), (["--profile", "split"], "split"), (["--profile", "together"], "together")):
            _compare(_config(view, words), name)
    say("Docker Compose reads the file as these tests do")


def _config(view: View, words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        view.run("docker-compose", "-f", "/compose.yaml", *words, "config", "--format", "json")
    )
    return found


def _compare(found: dict[str, Any], name: str) -> None:
    ours = profile(compose()["services"], name)
    assert set(found["services"]) == set(ours), f"profile {name}: {sorted(found['services'])}"
    for key, service in ours.items():
        theirs = found["services"][key]
        for part in _SAME:
            assert theirs.get(part) == service.get(part), f"{key}.{part}: {theirs.get(part)}"
        assert theirs.get("environment", {}) == environment_of(service), f"{key}.environment: {theirs['environment']}"
        assert theirs["healthcheck"].get("test") == service["healthcheck"].get("test"), f"{key}.healthcheck"
        needed = {one: how["condition"] for one, how in theirs.get("depends_on", {}).items()}
        assert needed == {one: how["condition"] for one, how in service.get("depends_on", {}).items()}, (
            f"{key}: {needed}"
        )
        mounts = [
            (one["source"].removeprefix("/"), one["target"], one.get("read_only", False)) for one in theirs["volumes"]
        ]
        assert mounts == [_mount(one) for one in service["volumes"]], f"{key}.volumes: {mounts}"


def _mount(text: str) -> tuple[str, str, bool]:
    source, target, *mode = text.split(":")
    return source.removeprefix("./"), target, mode == ["ro"]
