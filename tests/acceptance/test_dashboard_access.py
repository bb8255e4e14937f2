"""The dashboard refuses forbidden requests of other web pages and other users, and its streams delay no request."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.machine import in_time
from tests.rabbit import Rabbit, Vhost, wait_until
from tests.running import Project, Runner

pytestmark = pytest.mark.xdist_group("dashboard access")

TOKEN = "a-token-of-some-length"


class Site:
    """A running system with a dashboard, and a client for it."""

    def __init__(self, project: Project, runner: Runner) -> None:
        self.project, self.runner = project, runner

    def ask(
        self, path: str, method: str = "GET", body: str | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send a request. Underscores in the names of headers become hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.project.dashboard_port, timeout=20)
        with closing(connection):
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            if body is not None:
                given = {"Content-Type": "application/x-www-form-urlencoded", **given}
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def csrf(self, **headers: str) -> str:
        """Return the token of a page for changes."""
        return str(json.loads(self.ask("/live", **headers)[2])["csrf"])

    def act(self, name: str, body: str = "", **headers: str) -> tuple[int, Any]:
        """Run an action."""
        status, _, content = self.ask(f"/actions/{name}", "POST", body, **headers)
        return status, json.loads(content)


def _site(folder: Path, vhost: Vhost, options: dict[str, Any]) -> Iterator[Site]:
    project = Project(folder, dashboard=True)
    project.options("dashboard", **options)
    runner = project.run(url=vhost.url)
    try:
        runner.wait_for("everything is RUNNING")
        yield Site(project, runner)
        assert runner.stop() == 0
    finally:
        project.close()


@pytest.fixture(scope="module")
def vhost_of_module(rabbit: Rabbit) -> Iterator[Vhost]:
    one = rabbit.make_vhost("dashboard")
    yield one
    one.delete()


@pytest.fixture(scope="module")
def site(vhost_of_module: Vhost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from _site(tmp_path_factory.mktemp("dashboard") / "shop", vhost_of_module, {})


def test_a_foreign_host_is_refused(site: Site) -> None:
    for host in ("evil.example", f"evil.example:{site.project.dashboard_port}", "127.0.0.1.evil.example", ""):
        status, _, body = site.ask("/", Host=host)
        assert (status, json.loads(body)["detail"]) == (
            400, f"this service does not answer for the host {host!r}; see allowed_hosts",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({}, "X-CSRF-Token: missing or from an earlier process; reload the page"),
        ({"X_CSRF_Token": "guessed"}, "X-CSRF-Token: missing or from an earlier process; reload the page"),
        ({"X_CSRF_Token": "CSRF", "Sec_Fetch_Site": "cross-site"}, "another web page requested this change; allowed: "),
        ({"X_CSRF_Token": "CSRF", "Sec_Fetch_Site": "same-site"}, "another web page requested this change; allowed: "),
        ({"X_CSRF_Token": "CSRF", "Origin": "http://evil.example"}, "Origin: 'http://evil.example' requested this "),
        ({"X_CSRF_Token": "CSRF", "Origin": "null"}, "Origin: 'null' requested this change; allowed: this page itself"),
        ({"X_CSRF_Token": "CSRF", "Origin": "http://127.0.0.1:1"}, "Origin: 'http://127.0.0.1:1' requested this "),
    ],
)
def test_a_change_that_the_page_did_not_request_is_refused(site: Site, headers: dict[str, str], problem: str) -> None:
    pid = site.project.slots()["payment.1"]["pid"]
    given = {name: site.csrf() if value == "CSRF" else value for name, value in headers.items()}
    status, answer = site.act("restart", "target=payment", **given)
    assert status == 403
    assert answer["detail"].startswith(problem)
    assert site.project.slots()["payment.1"]["pid"] == pid


def test_an_action_runs_the_command_line_that_it_shows(site: Site) -> None:
    status, job = site.act("restart", "target=payment&no_wait=1", X_CSRF_Token=site.csrf())
    assert (status, job["state"]) == (200, "running")
    assert re.fullmatch(r".*python -m runner(?: --project \S+)? restart payment", job["command"])

    def finished() -> Any:
        found = json.loads(site.ask(f"/jobs/{job['id']}")[2])
        return found if found["state"] != "running" else None

    done = wait_until(finished, 20, "the end of the command")
    assert (done["state"], done["exit_code"], done["lines"][-1]) == ("done", 0, "payment.1 restarted")


@pytest.mark.parametrize(
    ("action", "fields", "status", "problem"),
    [
        ("restart", "target=--help", 422, "target: not valid, '--help'; allowed: a name"),
        ("restart", "", 422, "target: not valid, ''; allowed: a name"),
        ("restart", "target=a%0Ab", 422, "target: not valid, 'a\\nb'; allowed: a name"),
        ("scale", "target=payment&instances=-1", 422, "instances: not valid, '-1'; allowed: a number"),
        ("slow", "target=payment&delay=soon", 422, "delay: not valid, 'soon'; allowed: a duration, such as 2s"),
        ("shell", "target=payment", 404, "unknown action, 'shell'; allowed: "),
    ],
)
def test_an_invalid_action_runs_nothing(site: Site, action: str, fields: str, status: int, problem: str) -> None:
    found, answer = site.act(action, fields, X_CSRF_Token=site.csrf())
    assert found == status
    assert answer["detail"].startswith(problem)


def test_a_failed_action_shows_the_error_of_the_command(site: Site) -> None:
    status, job = site.act("restart", "target=shipping", X_CSRF_Token=site.csrf())
    assert (status, job["state"], job["exit_code"]) == (200, "failed", 1)
    assert job["lines"][-1].startswith("unknown service, 'shipping'; allowed: ")


def test_every_page_has_a_strict_policy_and_no_script_or_style_in_its_markup(site: Site) -> None:
    status, headers, body = site.ask("/")
    assert status == 200
    assert "script-src 'self'; style-src 'self'" in headers["Content-Security-Policy"]
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
    page = body.decode()
    assert re.findall(r"<script(?![^>]* src=)[^>]*>", page) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", page) == []


def test_seventy_streams_delay_no_request_and_further_pages_can_poll(site: Site) -> None:
    request = f"GET /stream HTTP/1.1\r\nHost: 127.0.0.1:{site.project.dashboard_port}\r\n\r\n".encode()
    with ExitStack() as stack:
        heads = []
        for _ in range(70):
            one = socket.create_connection(("127.0.0.1", site.project.dashboard_port), 10)
            stack.enter_context(one)
            one.sendall(request)
            heads.append(one.makefile("rb"))
            stack.enter_context(heads[-1])
        statuses = [head.readline().split()[1] for head in heads]
        assert (statuses.count(b"200"), statuses.count(b"503")) == (64, 6)
        for _ in range(5):
            began = time.monotonic()
            assert site.ask("/live")[0] == 200
            assert time.monotonic() - began < in_time(2)
        frames = [head for head, status in zip(heads, statuses, strict=True) if status == b"200"]
        for head in (frames[0], frames[-1]):
            assert b"event: frame\n" in iter(head.readline, b""), "each page gets frames"


def test_frames_are_small_and_the_collector_stops_with_the_last_page(site: Site) -> None:
    pid = site.project.slots()["dashboard.1"]["pid"]

    def threads() -> int:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))

    request = f"GET /stream HTTP/1.1\r\nHost: 127.0.0.1:{site.project.dashboard_port}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", site.project.dashboard_port), 10) as one:
        one.sendall(request)
        with one.makefile("rb") as stream:
            sizes: list[int] = []
            while len(sizes) < 4:
                if stream.readline() == b"event: frame\n":
                    sizes.append(len(stream.readline()))
        collecting = threads()
    # The first frame after the start contains everything.
    assert max(sizes[1:]) < 3000
    wait_until(lambda: threads() <= collecting - 2, 20, "both threads of the collector have stopped")


@pytest.fixture
def guarded(vhost: Vhost, tmp_path: Path) -> Iterator[Site]:
    yield from _site(tmp_path / "guarded", vhost, {"token": TOKEN})


def test_a_page_with_a_token_answers_only_clients_that_send_it(guarded: Site) -> None:
    for path in ("/", "/live", "/stream", "/static/page.js"):
        assert guarded.ask(path)[0] == 401
        assert guarded.ask(f"{path}?token=wrong")[0] == 401
    assert guarded.act("restart", "target=payment")[0] == 401
    status, headers, _ = guarded.ask(f"/?token={TOKEN}")
    assert (status, headers["Location"]) == (303, "/")
    for path, location in (
        (f"/orders?text=a%26b&token={TOKEN}&status=paid", "/orders?text=a%26b&status=paid"),
        (f"/%C3%A9?token={TOKEN}", "/%C3%A9"),
    ):
        assert guarded.ask(path)[1]["Location"] == location
    cookie = headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict"} <= {part.strip() for part in cookie.split(";")}
    known = cookie.partition(";")[0]
    assert guarded.ask("/", Cookie=known)[0] == 200
    assert guarded.ask("/live", Authorization=f"Bearer {TOKEN}")[0] == 200
    csrf = guarded.csrf(Cookie=known)
    assert guarded.act("restart", "target=payment", Cookie=known, X_CSRF_Token=csrf)[0] == 200


@pytest.mark.parametrize(("host", "token"), [("0.0.0.0", ""), ("0.0.0.0", "short"), ("192.0.2.1", "")])
def test_an_address_that_other_machines_reach_requires_a_token(project: Project, host: str, token: str) -> None:
    config = project.config()
    config["services"]["dashboard"] = {"options": {"host": host, "token": token}}
    project.set_config(config)
    code, output = project.call("check")
    assert code == 78
    assert f"a token of at least 16 characters is required for the host '{host}'" in output
