"""Requests to an HTTP API that fails for a moment, as while it starts, are repeated. Refused requests are not."""

from __future__ import annotations

import http.client
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from runner.admin import management_api as management_module
from runner.admin.management import Management
from runner.admin.management_api import ManagementError
from runner.topology.model import Queue
from tests.rabbit import Rabbit, Vhost
from tests.topologies import Shop

TOPOLOGY: dict[str, Any] = {"exchanges": {"e": {"type": "topic"}}, "queues": {"q": {"bind": {"e": ["#"]}}}}
Failure = Callable[[http.server.BaseHTTPRequestHandler], None]


def status(code: int, body: bytes = b'{"error":"x","reason":"it &lt;&lt;\\"starts\\"&gt;&gt;"}') -> Failure:
    def answer(one: http.server.BaseHTTPRequestHandler) -> None:
        one.send_response(code)
        one.send_header("Content-Length", str(len(body)))
        one.end_headers()
        one.wfile.write(body)

    return answer


def cut_short(one: http.server.BaseHTTPRequestHandler) -> None:
    one.send_response(200)
    one.send_header("Content-Length", "1000")
    one.end_headers()
    one.wfile.write(b'[{"name":')
    one.close_connection = True


def reset(one: http.server.BaseHTTPRequestHandler) -> None:
    one.close_connection = True


class Proxy:
    """A proxy before a real HTTP API. It answers with each of ``failures`` once before it forwards requests."""

    def __init__(self, target: str) -> None:
        self.failures: list[Failure] = []
        self.lasting: Failure | None = None
        self.asked = 0
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.asked += 1
                failure = proxy.failures.pop(0) if proxy.failures else proxy.lasting
                if failure is not None:
                    failure(self)
                    return
                connection = http.client.HTTPConnection(urlsplit(target).netloc, timeout=10)
                connection.request(self.command, self.path, body, {
                    name: value for name, value in self.headers.items() if name in ("Authorization", "Content-Type")
                })  # fmt: skip
                answer = connection.getresponse()
                status(answer.status, answer.read())(self)
                connection.close()

            do_GET = do_PUT = do_DELETE = do_POST = _answer  # noqa: N815 - the names of the base class

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()


@pytest.fixture
def proxy(rabbit: Rabbit) -> Iterator[Proxy]:
    one = Proxy(rabbit.management)
    yield one
    one.close()


@pytest.fixture
def shop(tmp_path: Path, vhost: Vhost, proxy: Proxy) -> Shop:
    one = Shop(tmp_path / "shop", vhost)
    one.config["broker"]["management"] = proxy.url
    one.write(TOPOLOGY)
    return one


FAILURES: dict[str, list[Failure]] = {
    "500 while it boots": [status(500)] * 3,
    "503 of a proxy": [status(503, b"<html>no server</html>")],
    "502 and 504": [status(502, b""), status(504, b"")],
    "cut short": [cut_short, cut_short, cut_short],
    "reset": [reset, reset, reset, reset],
    "not JSON": [status(200, b"<html>just a moment</html>")] * 2,
    "half of a JSON": [status(200, b'{"rabbitmq_version":')],
    "one after the other": [status(500), cut_short, status(200, b"x"), status(503), reset],
}


@pytest.mark.parametrize("failures", FAILURES.values(), ids=FAILURES)
def test_a_passing_failure_is_not_reported(shop: Shop, proxy: Proxy, failures: list[Failure]) -> None:
    proxy.failures = list(failures)
    assert shop.run("apply")[0] == 0
    assert not proxy.failures
    proxy.failures = list(failures)
    assert shop.run("plan") == (0, "nothing to do\n")


@pytest.mark.parametrize("command", [("plan",), ("import", "live"), ("dlq", "list")])
def test_every_command_repeats_a_failed_request(shop: Shop, proxy: Proxy, command: tuple[str, ...]) -> None:
    assert shop.run("apply")[0] == 0
    before = shop.run(*command)
    proxy.failures = list(FAILURES["one after the other"])
    assert shop.run(*command) == before
    assert not proxy.failures


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405])
def test_a_refusal_is_final(vhost: Vhost, proxy: Proxy, code: int) -> None:
    proxy.lasting = status(code)
    with pytest.raises(ManagementError) as caught:
        Management(vhost.url, proxy.url).live()
    assert (caught.value.status, caught.value.is_failure, proxy.asked) == (code, False, 1)


@pytest.mark.parametrize(("failure", "words"), [
    (status(500), "the request failed with HTTP status 500: it 'starts'"),
    (status(503, b""), "HTTP status 503: an empty answer"),
    (cut_short, "IncompleteRead"), (reset, "closed connection"), (status(200, b"<html>"), "not JSON"),
])  # fmt: skip
def test_a_lasting_failure_is_reported_after_a_bounded_time(
    shop: Shop, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, failure: Failure, words: str
) -> None:
    monkeypatch.setattr(management_module, "PATIENCE", 0.5)
    proxy.lasting = failure
    began = time.monotonic()
    with pytest.raises(ManagementError, match=words) as caught:
        Management(shop.vhost.url, proxy.url).live()
    assert caught.value.is_failure
    assert 0.5 <= time.monotonic() - began < 5
    assert shop.run("plan")[1].startswith("not compared: ")


class Clock:
    """A clock that moves only when its user sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405])
@pytest.mark.parametrize("before", [0, 1])
def test_a_refusal_does_not_use_up_the_retries_of_later_failures(
    vhost: Vhost, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, code: int, before: int
) -> None:
    clock = Clock()
    monkeypatch.setattr(management_module, "time", clock)
    management = Management(vhost.url, proxy.url)
    proxy.failures = [*[status(500)] * before, status(code)]
    with pytest.raises(ManagementError):
        management.request("GET", "overview")
    clock.now += 60
    proxy.failures = [status(500)] * 3
    assert management.request("GET", "overview")["rabbitmq_version"]


@pytest.mark.parametrize("kind", ["classic", "quorum", "stream"])
def test_the_deletion_of_a_deleted_queue_is_no_error(vhost: Vhost, proxy: Proxy, kind: str) -> None:
    management = Management(vhost.url, proxy.url)
    # The broker had deleted the queue before it failed.
    proxy.failures = [status(500)]
    management.delete_queue(Queue("gone", True, {"x-queue-type": kind}))
    assert proxy.asked == 2
