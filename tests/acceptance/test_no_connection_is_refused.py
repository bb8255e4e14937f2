"""Orders are accepted without a break while the order API is reloaded, killed and scaled."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
import time
import uuid

import pytest

from tests.load import BODY, Answer, Load
from tests.proof import IS_FULL, times
from tests.rabbit import Vhost, wait_until
from tests.running import Project

RATE = times(40, 200)


class KeepAliveLoad(Load):
    """A load with keep-alive connections, which sends an order again if its connection was closed without an answer.

    A server may close an idle connection while a request is on its way (RFC 9112, section 9.3.1). The key makes the
    second request safe.
    """

    def __init__(self, port: int, rate: int, clients: int = 8) -> None:
        self._kept = threading.local()
        self.connections: list[http.client.HTTPConnection] = []
        self.repeats = 0
        super().__init__(port, rate, clients)

    def stop(self) -> list[Answer]:
        """Wait for the requests in progress, and return all answers."""
        answers = super().stop()
        for connection in self.connections:
            connection.close()
        return answers

    def _post(self) -> int:
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        kept: http.client.HTTPConnection | None = getattr(self._kept, "connection", None)
        if kept is not None:
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                return self._ask(kept, headers)
            kept.close()
            self.repeats += 1
        self._kept.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        self.connections.append(self._kept.connection)
        try:
            return self._ask(self._kept.connection, headers)
        except http.client.HTTPException as error:
            raise ConnectionResetError("no answer") from error

    def _ask(self, connection: http.client.HTTPConnection, headers: dict[str, str]) -> int:
        connection.request("POST", "/orders", BODY, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.will_close:
            self._kept.connection = None
        return answer.status


def command(project: Project, *arguments: str) -> None:
    """Run a command of the runner."""
    code, output = project.call(*arguments)
    assert code == 0, output


def api_pids(project: Project) -> list[int]:
    slots = project.slots().values()
    return [one["pid"] for one in slots if one["service"] == "order_api" and one["state"] == "RUNNING"]


@pytest.mark.timeout(600)
@pytest.mark.xdist_group("load")
def test_reloads_kills_and_scaling_under_load_refuse_no_connection(
    project: Project, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", vhost.url)
    project.options("payment", failure_rate=0.0, latency="0ms")
    if not IS_FULL:
        # The other services do not affect connections.
        config = project.config()
        config["services"] = {"order_api": config["services"]["order_api"]}
        project.set_config(config)
    runner = project.run(url=vhost.url)
    runner.wait_for("everything is RUNNING")
    project.first_order()
    loads = [Load(project.port, RATE // 2), kept := KeepAliveLoad(project.port, RATE // 2)]
    kills: list[float] = []
    kills_of: list[int] = []
    rounds = times(2, 20)
    for number in range(rounds):
        project.options("order_api", threads=16 + number % 2)
        command(project, "reload")
    for count in (2, 3, 4):
        command(project, "scale", "order_api", str(count))
    for _ in range(rounds):
        pid = wait_until(lambda: api_pids(project))[0]
        kills.append(time.monotonic())
        kills_of.append(pid)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(set(api_pids(project)) - {kills_of[-1]}) == 4)
    for count in (3, 2, 1):
        command(project, "scale", "order_api", str(count))
    for _ in range(times(1, 5)):
        (pid,) = api_pids(project)
        kills.append(time.monotonic())
        kills_of.append(pid)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: api_pids(project) not in ([], [kills_of[-1]]))
    answers = [answer for load in loads for answer in load.stop()]
    assert runner.output.count("order_api.1: starting a new process before stopping the old process") == rounds
    failures = [answer for answer in answers if answer.status != 202]
    print(f"{len(answers)} orders, {len(kills)} kills, {len(failures)} failed: {failures}")
    print(f"{len(kept.connections)} connections kept, {kept.repeats} orders sent again")
    assert len(kept.connections) < len(kept.answers) / 4
    refused = [answer for answer in failures if answer.problem == "ConnectionRefusedError"]
    assert not refused
    others = [one for one in failures if not any(one.began <= kill + 0.05 and one.ended >= kill for kill in kills)]
    assert not others, "only requests of a killed worker may fail"
    assert runner.stop() == 0
