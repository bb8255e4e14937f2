"""Interrupted ``dlq`` commands: no message is lost, and the next run completes the work."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.dead_lettered import TOPOLOGY, failed, held, many, publish, take_all
from tests.proof import QUEUE_TYPES, times
from tests.rabbit import Vhost, wait_until
from tests.terminal import press_ctrl_c
from tests.topologies import Shop

pytestmark = pytest.mark.kills_broker
MESSAGES = times(1000, 2000)
ALL = {f"m{number:06}" for number in range(MESSAGES)}
#: Messages that may be unconfirmed at once, plus those that are confirmed and not yet acknowledged.
IN_FLIGHT = 500 + 100
#: At this rate a replay takes at least 5 s, so it is still running when it is killed after the first messages.
SLOW_RATE = ("--rate", str(times(200, 300)))


def full_shop(folder: Path, vhost: Vhost, kind: str = "quorum", count: int = MESSAGES) -> Shop:
    """Create a project whose dead-letter queue, of the given type, contains numbered messages of one queue."""
    shop = Shop(folder, vhost)
    queues = {**TOPOLOGY["queues"], "pay": {"type": kind, "dead_letter": "pay.dlq"}}
    shop.write({"exchanges": TOPOLOGY["exchanges"], "queues": queues})
    assert shop.run("apply")[0] == 0
    publish(vhost.url, "pay.dlq", many(count))
    return shop


def start_dlq(shop: Shop, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start ``dlq`` as a separate process."""
    return subprocess.Popen(
        [sys.executable, "-m", "runner", "--project", str(shop.folder), "dlq", *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options},
    )


def has_started(vhost: Vhost, least: int = 100) -> Callable[[], bool]:
    return lambda: held(vhost.url, "pay")[0] >= least


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_replay_that_is_killed_loses_nothing(tmp_path: Path, vhost: Vhost, kind: str) -> None:
    shop = full_shop(tmp_path / "shop", vhost, kind)
    with start_dlq(shop, "replay", "--all", *SLOW_RATE) as process:
        wait_until(has_started(vhost), 20, "the replay has started")
        process.kill()
    assert process.returncode == -signal.SIGKILL
    wait_until(lambda: held(vhost.url, "pay.dlq")[0] > 0, 10, "unacked messages are requeued")
    code, output = shop.run("dlq", "replay", "--all")
    assert (code, output.endswith("messages replayed\n")) == (0, True)
    assert held(vhost.url, "pay.dlq") == [0]
    replayed = take_all(vhost.url, "pay")
    assert set(replayed) == ALL
    assert len(replayed) - MESSAGES <= IN_FLIGHT


def test_after_a_kill_each_message_is_in_its_dead_letter_queue_or_its_own_queue(tmp_path: Path, vhost: Vhost) -> None:
    shop = full_shop(tmp_path / "shop", vhost)
    with start_dlq(shop, "replay", "--all", *SLOW_RATE) as process:
        wait_until(has_started(vhost), 20, "the replay has started")
        process.kill()
    assert process.returncode == -signal.SIGKILL
    wait_until(lambda: sum(held(vhost.url, "pay", "pay.dlq")) >= MESSAGES, 10, "unacked messages are requeued")
    left, replayed = take_all(vhost.url, "pay.dlq"), take_all(vhost.url, "pay")
    assert set(left) | set(replayed) == ALL
    assert left == sorted(left)
    assert len(set(left)) == len(left)
    assert len(set(left) & set(replayed)) <= IN_FLIGHT


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_replay_completes_its_unconfirmed_messages_and_reports_the_rest(
    tmp_path: Path, vhost: Vhost, number: signal.Signals, code: int
) -> None:
    shop = full_shop(tmp_path / "shop", vhost)
    with start_dlq(shop, "replay", "--all", *SLOW_RATE) as process:
        wait_until(has_started(vhost), 20, "the replay has started")
        process.send_signal(number)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == code
    wait_until(lambda: sum(held(vhost.url, "pay", "pay.dlq")) == MESSAGES, 10, "unacked messages are requeued")
    replayed, left = held(vhost.url, "pay", "pay.dlq")
    assert output == f"interrupted: {replayed} messages replayed, {left} left\n"
    assert set(take_all(vhost.url, "pay.dlq")) | set(take_all(vhost.url, "pay")) == ALL


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", QUEUE_TYPES)
def test_a_replay_loses_nothing_in_a_broker_kill_and_the_next_run_continues(
    tmp_path: Path, mortal: Vhost, kind: str
) -> None:
    shop = full_shop(tmp_path / "shop", mortal, kind)
    with start_dlq(shop, "replay", "--all", *SLOW_RATE) as process:
        wait_until(has_started(mortal), 20, "the replay has started")
        mortal.rabbit.kill()
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    assert "messages replayed, and no message has been lost; to replay the rest, run the command again" in output
    assert "Traceback" not in output
    mortal.rabbit.start()
    wait_until(lambda: sum(held(mortal.url, "pay", "pay.dlq")) >= MESSAGES, 60, "the queues are there again")
    assert shop.run("dlq", "replay", "--all")[0] == 0
    assert set(take_all(mortal.url, "pay")) == ALL


def answer(shop: Shop, answer: str | signal.Signals, *arguments: str) -> tuple[int, str]:
    """Run ``dlq discard`` on a terminal with a user's answer."""
    master, slave = pty.openpty()
    try:
        with start_dlq(shop, "discard", *arguments, stdin=slave) as process:
            try:
                if isinstance(answer, str):
                    os.write(master, answer.encode())
                else:
                    wait_until(lambda: list((shop.folder / "var").glob("*.jsonl")), 20, "it asks or is about to ask")
                    press_ctrl_c(process)
                output, _ = process.communicate(timeout=30)
            finally:
                process.kill()
    finally:
        os.close(master)
        os.close(slave)
    return process.returncode, output


def test_discard_asks_before_it_removes_messages(tmp_path: Path, vhost: Vhost) -> None:
    others = 50
    shop = full_shop(tmp_path / "shop", vhost, count=others)
    publish(
        vhost.url, "pay.dlq", [failed("x1", error="other"), failed("x2", error="other"), failed("x3", error="other")]
    )
    for text, code in (("n\n", 1), ("\n", 1), (signal.SIGINT, 130)):
        assert answer(shop, text, "--match", "other")[0] == code
        assert held(vhost.url, "pay.dlq") == [others + 3]
        assert list((shop.folder / "var").glob("*.jsonl")) == []
    code, output = answer(shop, "y\n", "--match", "other")
    assert code == 0
    assert "discard 3 messages? [y/N]: " in output
    assert "3 messages discarded, and written to " in output
    wait_until(lambda: held(vhost.url, "pay.dlq") == [others], 10)


def test_a_killed_discard_has_written_all_messages_that_it_removed(tmp_path: Path, vhost: Vhost) -> None:
    shop = full_shop(tmp_path / "shop", vhost)
    file = tmp_path / "discarded"
    with start_dlq(shop, "discard", "--all", "--yes", "--file", str(file)) as process:
        wait_until(lambda: file.exists() and file.stat().st_size > 100_000, 20, "it writes")
        process.kill()
    wait_until(lambda: _is_settled(vhost), 20, "unacked messages are requeued")
    written = {line.split('"', 4)[3] for line in file.read_text().splitlines() if line.endswith("}")}
    assert set(take_all(vhost.url, "pay.dlq")) | written >= ALL


def _is_settled(vhost: Vhost) -> bool:
    return all(not one.get("messages_unacknowledged") for one in vhost.queues().values())
