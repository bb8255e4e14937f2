"""The figures of the benchmarks of orders."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bench.http import CONNECTION, FASTSTREAM, figures
from bench.latency_mail import TimedTransport, paid_at
from bench.latency_orders import at_pace
from plugins.notification.mail import Email, compose
from runner import Message


class Taken:
    def __init__(self) -> None:
        self.mails: list[Email] = []

    def send(self, mail: Email, order: str) -> None:
        self.mails.append(mail)


def test_only_the_email_about_the_payment_is_timed_and_each_one_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    taken = Taken()
    transport = TimedTransport(taken)
    before = time.monotonic()
    for subject in ("We have your order o-1", "Your order o-1 is paid"):
        message = Message(b"", "q", id="event-1")
        transport.send(compose(message, "shop@example.com", "a@example.com", subject, "text"), "o-1")
    with (tmp_path / "mails.txt").open("a") as file:
        file.write("1.5 o-2 Your order o-2 is pa")  # a file that is still being written
    assert len(taken.mails) == 2
    found = paid_at(tmp_path)
    assert found.keys() == {"o-1"}
    assert before - 0.001 <= found["o-1"] <= time.monotonic()


def test_without_a_folder_of_emails_no_order_is_paid(tmp_path: Path) -> None:
    assert paid_at(tmp_path) == {}


def test_orders_that_alternate_are_each_sent_once_and_not_before_they_are_due() -> None:
    sent: dict[int, float] = {}
    began = time.monotonic()
    for first in range(3):
        at_pace(200, 8, lambda number: sent.update({number: time.monotonic() - began}), first, 3)
    assert sorted(sent) == list(range(8))
    assert all(at >= number / 200 for number, at in sent.items())


@pytest.mark.parametrize(("busy", "goal"), [(1.0, "ratio >= 1.5"), (1.9, None)])
def test_four_processes_should_do_more_only_if_cores_are_free(
    monkeypatch: pytest.MonkeyPatch, busy: float, goal: str | None
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    server = {"rate": [100.0, 300.0, 200.0], "p50": [2.0], "p99": [8.0], "cpu": [300.0], "busy": [busy]}
    names = ("ours", FASTSTREAM, CONNECTION, "four")
    found = {one.name + (one.peer_name or ""): one for one in figures({name: server for name in names})}
    assert found["POST /orders, 4 processesours, one process"].goal == goal
    assert found[f"POST /orders, one process{FASTSTREAM}"].goal == "ratio >= 1.1"
    assert found[f"POST /orders, one process{CONNECTION}"].ours == 200
    assert found[f"POST /orders, p99{FASTSTREAM}"].is_met()
