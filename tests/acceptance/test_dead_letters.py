"""A failed message's way: parked by a worker, looked at, mended, sent back, and handled in the end."""

from __future__ import annotations

import json
from typing import Any

from tests.jobs import publish
from tests.rabbit import Vhost, wait_until
from tests.running import Project

#: Fails as long as the file is there.
HANDLER = """import pathlib
from runner import hookimpl, Message

@hookimpl
def handle(message: Message):
    headers = message.headers
    print(f"try {message.attempt} of {message.id}, replayed {headers.get('x-replays', 0)}, {message.routing_key}")
    if pathlib.Path("broken").exists():
        raise ValueError("no such luck")
    print(f"handled {message.body.decode()}")
"""


def dlq(project: Project, vhost: Vhost, *arguments: str) -> tuple[int, str]:
    """``python -m runner dlq`` beside the runner that is running."""
    runner = project.run("dlq", *arguments, url=vhost.url)
    code = runner.process.wait(30)
    runner.stop()
    return code, runner.output


def listed(project: Project, vhost: Vhost) -> Any:
    return json.loads(dlq(project, vhost, "list", "--json")[1])


def test_what_failed_is_replayed_until_it_is_handled(jobs: Project, vhost: Vhost) -> None:
    jobs.plugin("jobs", HANDLER)
    broken = jobs.folder / "broken"
    broken.touch()
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    publish(vhost, '{"n": 1}', message_id="m-1", type="job.x")
    runner.wait_for("parked in jobs.dlq")
    (group,) = listed(jobs, vhost)["groups"]
    assert (group["origin"], group["error"], group["count"]) == ("jobs", "ValueError: no such luck", 1)
    # It fails again: all retries before it, and parked once more with the count of its replays.
    assert dlq(jobs, vhost, "replay", "--all") == (0, "1 message replayed")
    runner.wait_for("try 1 of m-1, replayed 1, job.x")
    runner.wait_for("try 3 of m-1, replayed 1, job.x")
    runner.wait_for("parked in jobs.dlq", count=2)
    record = json.loads(dlq(jobs, vhost, "show", "m", "--json")[1])
    assert (record["replays"], record["headers"]["x-attempt"]) == (1, 3)
    broken.unlink()
    (jobs.folder / "mended").write_text('{"n": 2}')
    code, output = dlq(jobs, vhost, "replay", "--id", "m-1", "--edit", "mended")
    (kept,) = (jobs.folder / "var").glob("replaced-*.jsonl")
    assert (code, output.splitlines()[-1]) == (0, "1 message replayed")
    assert json.loads(kept.read_text())["body"] == '{"n": 1}'
    runner.wait_for("try 1 of m-1, replayed 2, job.x")
    runner.wait_for('handled {"n": 2}')
    assert dlq(jobs, vhost, "list") == (0, "the desk is empty: no message is parked")
    assert runner.stop() == 0


def test_a_message_that_killed_its_workers_is_told_of_and_can_be_replayed(jobs: Project, vhost: Vhost) -> None:
    jobs.plugin(
        "jobs",
        "import os, pathlib\nfrom runner import hookimpl\n\n@hookimpl\ndef handle(message):\n"
        '    if pathlib.Path("broken").exists():\n        os._exit(9)\n    print("handled", message.attempt)\n',
    )
    broken = jobs.folder / "broken"
    broken.touch()
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    publish(vhost, "{}", message_id="deadly")
    found = wait_until(lambda: listed(jobs, vhost)["groups"], 60, "it is parked")
    assert [(one["origin"], one["error"]) for one in found] == [
        ("jobs", "Crashed: its worker died of it 3 times, exit 9")
    ]
    broken.unlink()
    assert dlq(jobs, vhost, "replay", "--id", "deadly") == (0, "1 message replayed")
    runner.wait_for("handled 1")
    assert runner.stop() == 0
