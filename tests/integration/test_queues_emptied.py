"""``purge`` and ``move``: at every moment each message is in its queue or safe elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from runner.deadletters.dead_letter import DeadLetter
from runner.errors import PublishRefused, RunnerError, Unroutable
from runner.messages import Event
from runner.queues import move_command as move_module
from runner.queues import purge_command as purge_module
from runner.queues.removal import Purge, Transfer
from tests import amqp
from tests.amqp import channel_to
from tests.dead_lettered import held, many, publish, take, take_all
from tests.rabbit import Vhost, wait_until
from tests.terminal import press_ctrl_c
from tests.topologies import Shop

TOPOLOGY: dict[str, Any] = {
    "exchanges": {"orders": {"type": "topic"}},
    "queues": {
        "pay": {"bind": {"orders": ["order.#"]}, "retry": ["1s"]},
        "mail": {"type": "classic"},
        "audit.events": {"type": "classic"},
        "absent": {},
    },
}
MESSAGES = 1200
ALL = [f"m{number:06}" for number in range(MESSAGES)]
#: Messages that may be unacked at once, whose copies may therefore be in both queues.
IN_FLIGHT = 500


@pytest.fixture
def shop(tmp_path: Path, vhost: Vhost) -> Shop:
    """Return a project with a quorum queue and a classic queue."""
    one = Shop(tmp_path / "shop", vhost)
    one.write(TOPOLOGY)
    with channel_to(vhost.url) as channel:
        channel.queue_declare("pay", durable=True, arguments={"x-queue-type": "quorum"})
        for name in ("mail", "audit.events", "pay.dlq"):
            channel.queue_declare(name, durable=True)
    return one


def process(shop: Shop, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a command as a separate process."""
    return subprocess.Popen(
        [sys.executable, "-m", "runner", "--project", str(shop.folder), *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options},
    )


def files(shop: Shop) -> list[Path]:
    return sorted((shop.folder / "var").glob("purged-*.jsonl"))


def written(path: Path) -> list[str]:
    """Return the ids of the messages in a file. A killed process may have written half of the last line."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["id"] for line in lines if line.endswith("}")]


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Return a function that makes a command interrupt this process after 300 messages."""

    def install(module: Any) -> None:
        @contextlib.contextmanager
        def progress(*_: Any) -> Iterator[Callable[[int], None]]:
            sent: list[int] = []

            def show(done: int) -> None:
                if done >= 300 and not sent:
                    sent.append(done)
                    os.kill(os.getpid(), signal.SIGINT)

            yield show

        monkeypatch.setattr(module, "progress", progress)

    return install


@pytest.mark.parametrize("name", ["pay", "mail"])
def test_a_purge_writes_the_ready_messages_and_removes_them(shop: Shop, vhost: Vhost, name: str) -> None:
    publish(vhost.url, name, many(5))
    with channel_to(vhost.url) as channel:
        channel.basic_get(name)
        code, output = shop.run("purge", name, "--yes")
    (path,) = files(shop)
    assert code == 0
    assert f"4 messages purged, and written to {path}" in output
    assert held(vhost.url, name) == [1]
    assert take_all(vhost.url, name) == ["m000000"]
    assert written(path) == ALL[1:5]
    assert path.stat().st_mode & 0o777 == 0o600
    one = json.loads(path.read_text().splitlines()[0])
    assert (one["queue"], json.loads(one["body"])["n"], one["headers"]["tenant"]) == (name, "m000001", "a")
    assert one["properties"]["correlation_id"] == "order-m000001"


def test_a_purge_of_more_than_a_batch_leaves_nothing(shop: Shop, vhost: Vhost) -> None:
    publish(vhost.url, "pay", many(MESSAGES + 1))
    path = shop.folder / "all"
    assert shop.run("purge", "pay", "--yes", "--file", str(path))[0] == 0
    assert written(path) == [*ALL, f"m{MESSAGES:06}"]
    assert held(vhost.url, "pay") == [0]
    code, output = shop.run("purge", "pay", "--yes")
    assert code == 0
    assert output.startswith("nothing purged: queue pay has no ready messages")
    assert files(shop) == []


def test_a_purged_message_is_noted_in_the_order_history(shop: Shop, vhost: Vhost) -> None:
    shop.write(TOPOLOGY, {"audit": {"consumes": ["audit.events"]}})
    publish(vhost.url, "pay", many(3))
    publish(vhost.url, "pay.dlq", many(1))
    for queue in ("pay", "pay.dlq"):
        assert shop.run("purge", queue, "--yes")[0] == 0
    notes = [json.loads(body) for _, _, body in take(vhost.url, "audit.events", 4)]
    assert [(one["queue"], one["instance"], one["outcome"], one["message_id"]) for one in notes] == [
        *(("pay", "pay", "discarded", name) for name in ALL[:3]),
        ("pay", "pay.dlq", "discarded", ALL[0]),
    ]
    assert held(vhost.url, "pay", "pay.dlq") == [0, 0]
    # Notes can be purged too, and a purged note is not noted again.
    publish(vhost.url, "audit.events", many(1))
    assert shop.run("purge", "audit.events", "--yes")[0] == 0
    assert held(vhost.url, "audit.events") == [0]


def test_no_message_is_purged_without_a_note(shop: Shop, vhost: Vhost) -> None:
    shop.write(TOPOLOGY, {"audit": {"consumes": ["audit.events"]}})
    vhost.delete_queue("audit.events")
    publish(vhost.url, "pay", many(3))
    code, output = shop.run("purge", "pay", "--yes")
    assert code == 75
    assert "does not exist, and messages are not removed without a note in the order history" in output
    wait_until(lambda: held(vhost.url, "pay") == [3], 10, "they are requeued")


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["pay"], "standard input is not a terminal, so the command cannot ask for confirmation; use --yes", 2),
        (["pai", "--yes"], "unknown queue 'pai'; did you mean 'pay'?", 2),
        (["absent", "--yes"], "queue 'absent': not on the broker yet", 1),
        (["log", "--yes"], "queue 'log': messages cannot be removed from a stream; they expire after its max-age", 1),
        (["pay", "--yes", "--file", "config.yaml"], "config.yaml: already exists; allowed: a new file", 1),
        (["pay", "--yes", "--file", "no/folder/file"], "no folder 'no/folder'", 2),
        (["pay", "--yes", "--file", "."], "exists", 1),
    ],
)
def test_an_invalid_purge_is_refused_and_removes_nothing(
    shop: Shop, vhost: Vhost, arguments: list[str], words: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop.folder)
    with channel_to(vhost.url) as channel:
        channel.queue_declare("log", durable=True, arguments={"x-queue-type": "stream"})
    publish(vhost.url, "pay", many(2))
    found, output = shop.run("purge", *arguments)
    assert found == code
    assert words in output
    assert held(vhost.url, "pay") == [2]


def answered(shop: Shop, answer: str | signal.Signals) -> tuple[int, str]:
    """Run ``purge pay`` on a terminal with a user's answer."""
    master, slave = pty.openpty()
    output = ""
    try:
        with process(shop, "purge", "pay", stdin=slave) as one:
            assert one.stdout is not None
            try:
                while not output.endswith("[y/N]: "):
                    output += one.stdout.read(1)
                if isinstance(answer, str):
                    os.write(master, answer.encode())
                else:
                    press_ctrl_c(one)
                output += one.communicate(timeout=30)[0]
            finally:
                one.kill()
    finally:
        os.close(master)
        os.close(slave)
    return one.returncode, output


def test_on_a_terminal_nothing_is_purged_without_a_yes(shop: Shop, vhost: Vhost) -> None:
    publish(vhost.url, "pay", many(3))
    answers: list[tuple[str | signal.Signals, int]] = [("n\n", 1), ("\n", 1), (signal.SIGINT, 130)]
    for answer, code in answers:
        found, output = answered(shop, answer)
        assert output.startswith("purge 3 messages from queue pay? [y/N]: ")
        assert found == code
        assert held(vhost.url, "pay") == [3]
        assert files(shop) == []
    found, output = answered(shop, "y\n")
    assert found == 0
    assert "3 messages purged, and written to " in output
    assert held(vhost.url, "pay") == [0]


def test_a_purge_that_is_interrupted_ends_with_each_message_in_one_place(
    shop: Shop, vhost: Vhost, ctrl_c: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Purge, "window", 200)
    monkeypatch.setattr(Purge, "batch", 100)
    publish(vhost.url, "pay", many(MESSAGES))
    ctrl_c(purge_module)
    code, output = shop.run("purge", "pay", "--yes")
    (path,) = files(shop)
    done = len(written(path))
    assert code == 130
    assert 300 <= done < MESSAGES
    assert f"interrupted: {done} messages purged, and written to {path}; {MESSAGES - done} messages left" in output
    assert written(path) + take_all(vhost.url, "pay") == ALL


def test_a_killed_purge_has_written_all_messages_that_it_removed(shop: Shop, vhost: Vhost, tmp_path: Path) -> None:
    publish(vhost.url, "pay", many(MESSAGES))
    path = tmp_path / "purged"
    with process(shop, "purge", "pay", "--yes", "--file", str(path)) as one:
        wait_until(path.exists, 20, "it writes")
        one.kill()
    wait_until(lambda: not unacked(vhost, "pay"), 20, "unacked messages are requeued")
    left = take_all(vhost.url, "pay")
    assert sorted({*written(path), *left}) == ALL


def unacked(vhost: Vhost, name: str) -> bool:
    """Return True if a command still has an open connection to the queue."""
    with channel_to(vhost.url) as channel:
        return bool(channel.queue_declare(name, passive=True).method.consumer_count)


@pytest.mark.parametrize("at", [1, 50, 101, 250, 300])
def test_a_full_disk_keeps_messages_that_are_not_written(vhost: Vhost, at: int) -> None:
    publish_all = many(300)
    with channel_to(vhost.url) as channel:
        channel.queue_declare("mail", durable=True)
    publish(vhost.url, "mail", publish_all)
    lines: list[str] = []
    saved: list[str] = []

    def write(dead_letter: Any) -> None:
        if len(lines) == at - 1:
            raise RunnerError("file: cannot be written, no space left")
        lines.append(dead_letter.id)

    one = Purge(vhost.url, "mail", 300, write, lambda: saved.extend(lines[len(saved) :]))
    one.batch = 100
    with pytest.raises(RunnerError, match="no space left"):
        one.run()
    assert saved[: one.done] == ALL[: one.done]
    assert take_all(vhost.url, "mail") == ALL[one.done : 300]


@pytest.mark.parametrize(("source", "target"), [("pay", "mail"), ("mail", "pay")])
def test_a_move_keeps_order_properties_and_headers(shop: Shop, vhost: Vhost, source: str, target: str) -> None:
    with channel_to(vhost.url) as channel:
        channel.exchange_declare("orders", "topic")
        channel.queue_bind(source, "orders", "#")
        for number in range(3):
            properties = pika.BasicProperties(
                message_id=f"p{number}", priority=3, expiration="900000", content_encoding="gzip", headers={"a": [1]}
            )
            amqp.publish(channel, "orders", "order.created", b"\xff", properties)
    publish(vhost.url, target, many(1))
    assert shop.run("move", source, target, "--dry-run") == (
        0,
        f"would move 3 messages from {source} to {target}; nothing was changed\n",
    )
    assert held(vhost.url, source, target) == [3, 1]
    assert shop.run("move", source, target) == (0, f"3 messages moved to {target}\n")
    assert held(vhost.url, source) == [0]
    _, *moved = take(vhost.url, target, 4)
    assert [one[1].message_id for one in moved] == ["p0", "p1", "p2"]
    _, properties, body = moved[0]
    assert (body, properties.priority, properties.content_encoding) == (b"\xff", 3, "gzip")
    assert (properties.expiration, properties.headers["a"]) == ("900000", [1])
    assert (properties.headers["x-origin-exchange"], properties.headers["x-origin-routing-key"]) == (
        "orders",
        "order.created",
    )


@pytest.mark.parametrize(
    ("source", "target", "noted"),
    [
        ("pay", "mail", "pay"),
        ("pay.dlq", "mail", "pay"),
        ("pay.dlq", "pay", None),
        ("pay", "pay.dlq", None),
        ("pay.retry.1s", "pay", None),
        ("audit.events", "mail", None),
    ],
)
def test_a_message_that_moves_out_of_its_queue_s_account_is_noted(
    shop: Shop, vhost: Vhost, source: str, target: str, noted: str | None
) -> None:
    shop.write(TOPOLOGY, {"audit": {"consumes": ["audit.events"]}})
    with channel_to(vhost.url) as channel:
        channel.queue_declare("pay.retry.1s", durable=True)
    publish(vhost.url, source, many(2))
    assert shop.run("move", source, target)[0] == 0
    assert held(vhost.url, target) == [2]
    notes = [json.loads(body) for _, _, body in take(vhost.url, "audit.events", 0 if noted is None else 2)]
    expected = [] if noted is None else [(noted, source, "discarded", "moved to mail", name) for name in ALL[:2]]
    kept = ("queue", "instance", "outcome", "error", "message_id")
    assert [tuple(one[name] for name in kept) for one in notes] == expected


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["pay", "pay"], "FROM and TO are the same queue, 'pay'; allowed: two different queues", 2),
        (["pai", "mail"], "Invalid value for FROM: unknown queue 'pai'; did you mean 'pay'?", 2),
        (["pay", "mial"], "Invalid value for TO: unknown queue 'mial'; did you mean 'mail'?", 2),
        (["pay", "absent"], "queue 'absent': not on the broker yet", 1),
        (["log", "mail"], "queue 'log': messages cannot be moved from a stream", 1),
        (
            ["pay", "small"],
            "queue 'small': with max-length 3, the queue might drop some of its 4 messages",
            1,
        ),
        (["pay", "bytes"], "queue 'bytes': with max-length-bytes 100, the queue might drop some of its", 1),
        (
            ["pay", "capped"],
            "queue 'capped': with max-length 2, the queue might drop some of its 4 messages",
            1,
        ),
    ],
)
def test_an_invalid_move_is_refused_and_moves_nothing(
    shop: Shop, vhost: Vhost, arguments: list[str], words: str, code: int
) -> None:
    with channel_to(vhost.url) as channel:
        channel.queue_declare("log", durable=True, arguments={"x-queue-type": "stream"})
        channel.queue_declare("small", durable=True, arguments={"x-max-length": 3})
        channel.queue_declare("bytes", durable=True, arguments={"x-max-length-bytes": 100})
    publish(vhost.url, "pay", many(4))
    if "capped" in arguments:
        policy = {"pattern": "^capped$", "apply-to": "queues", "definition": {"max-length": 2}}
        vhost.rabbit.api("PUT", f"/policies/{vhost.name}/cap", policy)
        # The queue is so new that the statistics do not have its policy.
        with channel_to(vhost.url) as channel:
            channel.queue_declare("capped", durable=True, arguments={"x-queue-type": "quorum"})
    found, output = shop.run("move", *arguments)
    assert found == code
    assert words in output
    assert held(vhost.url, "pay") == [4]


def test_a_target_that_refuses_messages_gets_no_message_twice(shop: Shop, vhost: Vhost) -> None:
    with channel_to(vhost.url) as channel:
        arguments = {"x-max-length": 30, "x-overflow": "reject-publish"}
        channel.queue_declare("full", durable=True, arguments=arguments)
    publish(vhost.url, "pay", many(100))
    code, output = shop.run("move", "pay", "full")
    moved = take_all(vhost.url, "full")
    assert code == 1
    assert "not moved to full: queue 'full' refused a message; the queue may be full" in output
    assert f"{len(moved)} messages moved, {100 - len(moved)} left in pay" in output
    assert moved == ALL[:30]
    wait_until(lambda: held(vhost.url, "pay") == [70], 10, "they are requeued")
    assert take_all(vhost.url, "pay") == ALL[30:100]


def test_a_deletion_of_the_target_loses_no_message(vhost: Vhost) -> None:
    with channel_to(vhost.url) as channel:
        channel.queue_declare("mail", durable=True)
    publish(vhost.url, "mail", many(100))
    with pytest.raises(Unroutable, match="queue 'gone' does not exist"):
        Transfer(vhost.url, "mail", "gone", 100).run()
    wait_until(lambda: held(vhost.url, "mail") == [100], 10, "they are requeued")


@pytest.mark.parametrize("is_full", [False, True])
def test_a_refused_note_duplicates_no_message(vhost: Vhost, is_full: bool) -> None:
    with channel_to(vhost.url) as channel:
        channel.queue_declare("mail", durable=True)
        channel.queue_declare("other", durable=True)
        if is_full:
            arguments = {"x-max-length": 30, "x-overflow": "reject-publish"}
            channel.queue_declare("notes", durable=True, arguments=arguments)
    publish(vhost.url, "mail", many(300))

    def note(dead_letter: DeadLetter, number: int) -> Event:
        return Event("note", {"id": dead_letter.id}, exchange="", routing_key="notes")

    one = Transfer(vhost.url, "mail", "other", 300, note)
    with pytest.raises(PublishRefused if is_full else Unroutable, match="notes"):
        one.run()
    moved = take_all(vhost.url, "other")
    assert one.done == len(moved)
    assert one.unnoted == len(moved) - (30 if is_full else 0)
    assert moved == ALL[: len(moved)]
    wait_until(lambda: held(vhost.url, "mail") == [300 - len(moved)], 10, "the others are requeued")
    assert take_all(vhost.url, "mail") == ALL[len(moved) : 300]


def test_a_message_that_is_not_moved_is_not_noted_as_moved(shop: Shop, vhost: Vhost) -> None:
    shop.write(TOPOLOGY, {"audit": {"consumes": ["audit.events"]}})
    with channel_to(vhost.url) as channel:
        arguments = {"x-max-length": 30, "x-overflow": "reject-publish"}
        channel.queue_declare("full", durable=True, arguments=arguments)
    publish(vhost.url, "pay", many(100))
    assert shop.run("move", "pay", "full")[0] == 1
    moved = take_all(vhost.url, "full")
    notes = [json.loads(body) for _, _, body in take(vhost.url, "audit.events", len(moved))]
    assert [one["message_id"] for one in notes] == moved
    assert held(vhost.url, "audit.events") == [0]


@pytest.mark.parametrize(
    ("target", "arguments", "is_known"),
    [
        ("other", {}, False),
        ("other", {"x-max-length": 2}, False),
        ("other", {"x-max-length-bytes": 100}, False),
        ("other", {"x-queue-type": "quorum"}, False),
        ("other", {"x-max-length": 2, "x-overflow": "reject-publish"}, False),
        ("mail", {}, True),
        ("pay.dlq", {}, True),
    ],
)
def test_without_the_http_api_nothing_moves_to_a_queue_with_unknown_limits(
    shop: Shop, vhost: Vhost, target: str, arguments: dict[str, Any], is_known: bool
) -> None:
    shop.config["broker"]["management"] = "http://127.0.0.1:1"
    shop.write(TOPOLOGY)
    with channel_to(vhost.url) as channel:
        if not is_known:
            channel.queue_declare(target, durable=True, arguments=arguments)
    publish(vhost.url, "pay", many(4))
    code, output = shop.run("move", "pay", target)
    assert code == (0 if is_known else 1)
    assert is_known or f"queue '{target}': its type and limits are unknown, so the queue might drop" in output
    assert held(vhost.url, "pay", target) == ([0, 4] if is_known else [4, 0])


def test_a_move_that_is_interrupted_ends_with_each_message_in_one_queue(
    shop: Shop, vhost: Vhost, ctrl_c: Callable[[Any], None]
) -> None:
    publish(vhost.url, "pay", many(MESSAGES))
    ctrl_c(move_module)
    code, output = shop.run("move", "pay", "mail")
    moved, left = held(vhost.url, "mail", "pay")
    assert code == 130
    assert 300 <= moved < MESSAGES
    assert output == f"interrupted: {moved} messages moved, {left} left in pay\n"
    assert take_all(vhost.url, "mail") + take_all(vhost.url, "pay") == ALL


def test_a_killed_move_loses_nothing_and_the_next_move_completes_it(shop: Shop, vhost: Vhost) -> None:
    publish(vhost.url, "pay", many(MESSAGES))
    with process(shop, "move", "pay", "mail") as one:
        wait_until(lambda: held(vhost.url, "mail")[0] > 0, 20, "it moves")
        one.kill()
    wait_until(lambda: not unacked(vhost, "pay"), 20, "unacked messages are requeued")
    assert shop.run("move", "pay", "mail")[0] == 0
    moved = take_all(vhost.url, "mail")
    assert sorted(set(moved)) == ALL
    assert len(moved) - MESSAGES <= IN_FLIGHT
    assert held(vhost.url, "pay") == [0]


def test_a_move_warns_of_consumers_and_of_dead_letters(shop: Shop, vhost: Vhost) -> None:
    publishes = {"orders": ["payment.success", "payment.failed"]}
    shop.write(TOPOLOGY, {"payment": {"consumes": ["pay"], "publishes": publishes}})
    publish(vhost.url, "pay.dlq", many(2))
    with channel_to(vhost.url) as channel:
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume("pay", lambda *_: None)
        assert (
            "queue pay: read by 1 consumer (payment), which may receive some of the messages"
            in shop.run("move", "pay", "mail")[1]
        )
    assert (
        "is a dead-letter queue; to also reset the attempts of its messages, use dlq replay"
        in (shop.run("move", "pay.dlq", "mail")[1])
    )
    assert held(vhost.url, "mail") == [2]
