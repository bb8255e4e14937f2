"""The life of a failing message: a worker dead-letters it, a user edits and replays it, a worker handles it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.jobs import CONFIG, TOPOLOGY, publish
from tests.rabbit import Rabbit, Vhost, wait_until
from tests.running import ROOT, Project

pytestmark = pytest.mark.xdist_group("dead letters beside a runner")  # all tests of this module share a runner

#: A handler that fails, or kills its worker, as long as a file named ``broken`` exists.
HANDLER = """import os, pathlib
from runner import hookimpl, Message

@hookimpl
def handle(message: Message):
    headers = message.headers
    print(f"attempt {message.attempt} of {message.id}, replayed {headers.get('x-replays', 0)}, {message.routing_key}")
    if pathlib.Path("broken").exists():
        if message.id == "deadly":
            os._exit(9)
        raise ValueError("no such luck")
    print(f"handled {message.body.decode()}")
"""


class FailingService:
    """A runner whose service handles jobs, and the commands of ``dlq``."""

    def __init__(self, project: Project, vhost: Vhost) -> None:
        self.project, self.vhost = project, vhost
        project.set_topology(TOPOLOGY)
        project.set_config({"broker": {"url": "${RABBITMQ_URL}"}, **CONFIG})
        project.plugin("jobs", HANDLER)
        self.broken = project.folder / "broken"
        self.runner = project.run(url=vhost.url, env={"PYTHONPATH": str(ROOT), "FASTCOMMERCE_SETTLE": "0"})
        self.runner.pid_of("jobs.1")

    def dlq(self, *arguments: str) -> tuple[int, str]:
        """Run a ``dlq`` command. Return its exit code and output."""
        code, output = self.project.call("dlq", *arguments, url=self.vhost.url)
        return code, output.rstrip("\n")

    def groups(self) -> Any:
        """Return the dead letters by origin and error."""
        return json.loads(self.dlq("list", "--json")[1])["groups"]


@pytest.fixture(scope="module")
def service(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailingService]:
    """Run the service for all tests of this module. Each test leaves no dead letter."""
    vhost = rabbit.make_vhost(f"test-{uuid.uuid4().hex[:8]}")
    project = Project(tmp_path_factory.mktemp("dead-letters") / "project")
    one = FailingService(project, vhost)
    yield one
    code = one.runner.process.poll() or one.runner.stop()
    project.close()
    vhost.delete()
    assert code == 0


def test_a_failed_message_is_replayed_until_it_is_handled(service: FailingService) -> None:
    runner, folder = service.runner, service.project.folder
    service.broken.touch()
    publish(service.vhost, '{"n": 1}', message_id="m-1", type="job.x")
    (group,) = wait_until(service.groups, 30, "it is dead-lettered")
    assert (group["origin"], group["error"], group["count"]) == ("jobs", "ValueError: no such luck", 1)
    # The message fails all its attempts again, and is dead-lettered with the count of its replays.
    assert service.dlq("replay", "--all") == (0, "1 message replayed")
    runner.wait_for("attempt 1 of m-1, replayed 1, job.x")
    runner.wait_for("attempt 3 of m-1, replayed 1, job.x")
    runner.wait_for("ValueError: no such luck: dead-lettered to jobs.dlq", count=2)
    record = json.loads(service.dlq("show", "m", "--json")[1])
    assert (record["replays"], record["headers"]["x-attempt"]) == (1, 3)
    service.broken.unlink()
    (folder / "edited").write_text('{"n": 2}')
    code, output = service.dlq("replay", "--id", "m-1", "--body", str(folder / "edited"))
    (kept,) = (folder / "var").glob("replaced-*.jsonl")
    assert (code, output.splitlines()[-1]) == (0, "1 message replayed")
    assert json.loads(kept.read_text())["body"] == '{"n": 1}'
    runner.wait_for("attempt 1 of m-1, replayed 2, job.x")
    runner.wait_for('handled {"n": 2}')
    assert service.dlq("list") == (0, "no dead letters")


def test_a_crashing_message_is_listed_and_can_be_replayed(service: FailingService) -> None:
    service.broken.touch()
    publish(service.vhost, '{"n": 3}', message_id="deadly")
    found = wait_until(service.groups, 60, "it is dead-lettered")
    assert [(one["origin"], one["error"]) for one in found] == [
        ("jobs", "Crashed: the message crashed its worker 3 times, exited with status 9")
    ]
    service.broken.unlink()
    assert service.dlq("replay", "--id", "deadly") == (0, "1 message replayed")
    service.runner.wait_for('handled {"n": 3}')
    assert service.groups() == []
