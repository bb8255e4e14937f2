"""Copies of a message keep all properties of its sender through retries, the dead-letter queue, replays and drains."""

from __future__ import annotations

import gzip
import struct
from typing import Any

import pytest
from click.testing import CliRunner

from runner.admin.drain import Drain
from runner.amqp.pika_adapter import VARIABLE
from runner.amqp.properties import moved_properties
from runner.amqp.wire.property_codec import Properties
from runner.cli.main import main
from runner.errors import PublishRefused, RunnerError
from tests import hostile
from tests.amqp import channel_to
from tests.dead_lettered import held, many, publish, take
from tests.hostile import nested, properties, short, sized, table
from tests.rabbit import Vhost, wait_until
from tests.running import Project

FAILING = """from runner import hookimpl

@hookimpl
def handle(message):
    raise ValueError("no such luck")
"""
CC = sized(b"A", sized(b"S", b"other"))
#: Properties as a sender writes them, and as a copy has them.
MESSAGES: list[tuple[dict[str, bytes], dict[str, Any]]] = [
    ({"content_encoding": short(b"gzip"), "priority": b"\x09"}, {"content_encoding": "gzip", "priority": 9}),
    ({"reply_to": short(b"answers"), "cluster_id": short(b"c")}, {"reply_to": "answers", "cluster_id": "c"}),
    ({"correlation_id": short(b"\xff\xfe"), "app_id": short(b"\xe9")}, {"correlation_id": b"\xff\xfe"}),
    ({"timestamp": struct.pack(">Q", 1_772_000_000_000)}, {"timestamp": 1_772_000_000_000}),
    ({"timestamp": b"\xff" * 8, "priority": b"\0"}, {"timestamp": 2**64 - 1, "priority": 0}),
    ({"content_type": short(b""), "type": short(b"\xff" * 255)}, {"content_type": "", "type": b"\xff" * 255}),
    ({"expiration": short(b"600000"), "delivery_mode": b"\1"}, {"expiration": None, "delivery_mode": 2}),
]  # fmt: skip


def dlq(project: Project, *arguments: str) -> str:
    result = CliRunner().invoke(main, ["--project", str(project.folder), "dlq", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_a_copy_has_all_properties_and_is_not_routed_again(
    jobs: Project, vhost: Vhost, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", vhost.url)
    topology = jobs.topology()
    topology["queues"]["jobs"] |= {"type": kind, "retry": ["200ms"]}
    topology["queues"]["other"] = {"type": "classic", "bind": {"work": ["other"]}}
    jobs.set_topology(topology)
    jobs.plugin("jobs", FAILING)
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    body = gzip.compress(b'{"n": 1}', mtime=0)
    sent = [
        (properties(headers=table((b"CC", CC), (b"tenant", b"t\1")), message_id=short(b"m%d" % number), **fields), body)
        for number, (fields, _) in enumerate(MESSAGES)
    ]
    hostile.Client(vhost.url, "work", "job.x").publish(sent)
    wait_until(lambda: held(vhost.url, "jobs.dlq", "other") == [len(sent)] * 2, 20, "all are dead-lettered")
    assert f"{len(sent)} messages replayed" in dlq(jobs, "replay", "--all")
    wait_until(lambda: runner.output.count("dead-lettered to jobs.dlq") == 2 * len(sent), 20, "all failed again")
    wait_until(lambda: held(vhost.url, "jobs.dlq") == [len(sent)], 20)
    found = {copy.message_id: (copy, content) for _, copy, content in take(vhost.url, "jobs.dlq", len(sent))}
    for number, (fields, kept) in enumerate(MESSAGES):
        copy, content = found[f"m{number}"]
        assert {name: getattr(copy, name) for name in kept} == kept
        assert (content, copy.headers["tenant"], copy.headers["x-attempt"]) == (body, True, 2)
        original = {"CC": ["other"]} | ({"expiration": "600000"} if "expiration" in fields else {})
        assert copy.headers["x-original"] == original
        assert "CC" not in copy.headers
    # Each message reached the other queue once, by its first publish.
    assert held(vhost.url, "other") == [len(sent)]
    assert runner.stop() == 0


@pytest.mark.parametrize(("kind", "connection"), [("quorum", ""), ("classic", ""), ("quorum", "plain")])
def test_a_message_that_cannot_be_decoded_is_dead_lettered_with_the_reason_and_replayed_as_it_was(
    jobs: Project, vhost: Vhost, monkeypatch: pytest.MonkeyPatch, kind: str, connection: str
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", vhost.url)
    monkeypatch.setenv(VARIABLE, connection)
    topology = jobs.topology()
    topology["queues"]["jobs"] |= {"type": kind}
    jobs.set_topology(topology)
    jobs.plugin(
        "jobs", "from runner import Event, hookimpl\n\n@hookimpl\ndef handle(message):\n    return Event('done', {})\n"
    )
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    values = [nested(500), nested(65, b"F"), nested(2000), nested(1000, b"F"), sized(b"A", b"V" + nested(100) + b"V")]
    sent = [
        (
            properties(headers=table((b"deep", one), (b"tenant", b"t\1")), message_id=short(b"m%d" % number)),
            b"{}" * size,
        )
        for number, (one, size) in enumerate(zip(values, [1, 1, 1, 1, 200_000], strict=True))
    ]
    good = (properties(message_id=short(b"good")), b"{}")
    hostile.Client(vhost.url, "work", "job.x").publish([good, *sent, good])
    wait_until(lambda: held(vhost.url, "jobs.dlq", "done", "jobs") == [len(sent), 2, 0], 10, "the others continue")
    assert "header 'deep': cannot be decoded, nested too deeply; allowed: 64 levels" in dlq(jobs, "list")
    assert "$undecoded" in dlq(jobs, "show", "m1", "--json")
    assert f"{len(sent)} messages replayed" in dlq(jobs, "replay", "--all")
    wait_until(lambda: runner.output.count("dead-lettered to jobs.dlq") == 2 * len(sent), 20)
    wait_until(lambda: held(vhost.url, "jobs.dlq") == [len(sent)], 20)
    assert f"{len(sent)} messages discarded" in dlq(jobs, "discard", "--all", "--yes")
    assert runner.output.count("jobs.1 RUNNING") == 1
    assert runner.stop() == 0


@pytest.mark.usefixtures("each_connection")
def test_a_drain_moves_messages_that_cannot_be_decoded_and_routes_none_again(vhost: Vhost) -> None:
    with channel_to(vhost.url) as channel:
        for name in ("source", "target", "other"):
            channel.queue_declare(name, durable=True)
    deep = nested(500)
    full = properties(headers=table((b"h", sized(b"S", b"x" * 131_000))), message_id=short(b"full"))
    messages = [
        properties(headers=table((b"deep", deep), (b"CC", CC)), priority=b"\x05", expiration=short(b"600000")),
        full,
        *(properties(headers=table((b"h", value), (b"x-death", b"V"))) for value in hostile.VALUES),
    ]
    hostile.Client(vhost.url, "", "source").publish([(one, b"x") for one in messages])
    assert Drain(vhost.url, "source", "target").run() == len(messages)
    assert held(vhost.url, "source", "target", "other") == [0, len(messages), 1]
    assert Drain(vhost.url, "target", "source").run() == len(messages)
    assert held(vhost.url, "source", "target", "other") == [len(messages), 0, 1]


@pytest.mark.parametrize(
    ("kind", "room"), [("classic", 1), ("classic", 44), ("classic", 100), ("classic", 107), ("quorum", 250)]
)
def test_a_drain_whose_target_refuses_messages_leaves_no_message_in_both_queues(
    vhost: Vhost, kind: str, room: int
) -> None:
    with channel_to(vhost.url) as channel:
        channel.queue_declare("source", durable=True, arguments={"x-queue-type": kind})
        arguments = {"x-max-length": room, "x-overflow": "reject-publish"}
        channel.queue_declare("target", durable=True, arguments=arguments)
    publish(vhost.url, "source", many(400))
    drain = Drain(vhost.url, "source", "target")
    with pytest.raises(PublishRefused, match="queue 'target' refused a message; the queue may be full"):
        drain.run()
    wait_until(lambda: held(vhost.url, "source", "target") == [400 - room, room], 10, "the others are requeued")
    assert drain.done == room


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_drain_that_has_moved_enough_returns_no_message_to_its_source(vhost: Vhost, kind: str) -> None:
    with channel_to(vhost.url) as channel:
        channel.queue_declare("source", durable=True, arguments={"x-queue-type": kind})
        channel.queue_declare("target", durable=True)
    publish(vhost.url, "source", many(1500))
    moved = Drain(vhost.url, "source", "target").run(enough=100)
    assert 100 <= moved < 1500
    assert held(vhost.url, "source", "target") == [1500 - moved, moved]
    left = take(vhost.url, "source", 1500 - moved)
    assert [properties.message_id for _, properties, _ in left] == [f"m{number:06}" for number in range(moved, 1500)]
    assert not any(method.redelivered for method, *_ in left)


def test_a_drain_moves_the_messages_before_a_message_that_cannot_be_copied(
    vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(method: Any, properties: Any, **options: Any) -> Properties:
        if properties.message_id == "m000120":
            raise ValueError("cannot be written")
        return moved_properties(method, properties, **options)

    monkeypatch.setattr("runner.admin.drain.moved_properties", refuse)
    with channel_to(vhost.url) as channel:
        for name in ("source", "target"):
            channel.queue_declare(name, durable=True)
    publish(vhost.url, "source", many(400))
    with pytest.raises(RunnerError, match="message m000120: cannot be written; export and remove the message"):
        Drain(vhost.url, "source", "target").run()
    wait_until(lambda: held(vhost.url, "source", "target") == [280, 120], 10, "the others are requeued")


def test_a_message_that_leaves_no_room_for_our_headers_stays_a_dead_letter_with_the_reason(
    jobs: Project, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", vhost.url)
    CliRunner().invoke(main, ["--project", str(jobs.folder), "apply"], catch_exceptions=False)
    full = Properties(properties(headers=table((b"h", sized(b"S", b"x" * 131_000))), message_id=short(b"full")))
    publish(vhost.url, "jobs.dlq", [(b"{}", full)])
    result = CliRunner().invoke(main, ["--project", str(jobs.folder), "dlq", "replay", "--all"])
    assert result.exit_code == 1
    assert "the message cannot be copied: the headers have 13109" in result.output
    assert held(vhost.url, "jobs.dlq") == [1]
