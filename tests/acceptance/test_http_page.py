"""docs/http.md and docs/supervisor.md: their plugins work as printed, in a folder outside of this repository."""

from __future__ import annotations

import http.client
import json
import re
import socket
from contextlib import closing

from tests.ports import free_port
from tests.rabbit import Vhost
from tests.running import ROOT, Project

PAGE = (ROOT / "docs" / "http.md").read_text("utf-8")
SUPERVISOR_PAGE = (ROOT / "docs" / "supervisor.md").read_text("utf-8")


def test_the_plugin_serves_its_page_values_and_stream(project: Project, vhost: Vhost) -> None:
    ((name, source),) = re.findall(r"`plugins/(\w+)\.py`:\n\n```python\n(.*?)```", PAGE, re.DOTALL)
    imported = re.findall(r"^(?:from|import) (runner[\w.]*)", source, re.MULTILINE)
    assert imported == ["runner", "runner.http"]
    project.plugin(name, source)
    port, hello = free_port(), free_port()
    (greeting,) = re.findall(r"```python\n(.*?)```", SUPERVISOR_PAGE, re.DOTALL)
    project.plugin("hello", greeting.replace("8100", str(hello)))
    services = {name: {"options": {"port": port}}, "hello": {"instances": 2}}
    project.set_config({"broker": {"url": vhost.url}, "services": services})
    project.set_topology({})
    runner = project.run(url=vhost.url)
    runner.wait_for("everything is RUNNING")
    assert f"listening on http://127.0.0.1:{port}" in runner.output

    def ask(path: str) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read()

    for _ in range(3):
        with socket.create_connection(("127.0.0.1", hello), 10) as client, client.makefile("rb") as stream:
            assert stream.read() == b"hello\n"
    assert b"EventSource" in ask("/")[2]
    assert re.fullmatch(r"\d\d:\d\d:\d\d", json.loads(ask("/now/utc")[2])["now"])
    status, kind, body = ask("/now/mars")
    assert (status, kind) == (404, "application/problem+json")
    assert json.loads(body)["detail"] == "unknown zone 'mars'; allowed: utc"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with closing(connection):
        connection.request("GET", "/ticks")
        answer = connection.getresponse()
        lines = iter(answer.readline, b"")
        assert b"event: tick\n" in lines
        assert b'data: {"now":' in next(lines)
        assert runner.stop() == 0
        assert all(line.strip() == b"" or line.startswith((b"event", b"data")) for line in lines), "the stream ends"
