"""docs/troubleshooting.md: the script that sends recorded events to one queue again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.amqp import channel_to
from tests.dead_lettered import take
from tests.rabbit import Vhost
from tests.running import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
SCRIPT = PAGE.partition("```python\n")[2].partition("```\n")[0]
QUEUE = "payment.order.created"


def event(id: str, order: str, kind: str = "order.created") -> dict[str, Any]:
    """Return an event as ``events --json`` prints it."""
    return {
        "id": id, "type": kind, "order_id": order, "published_at": "2026-11-30T08:08:13.761Z",
        "exchange": "orders.topic", "routing_key": kind, "app_id": "order_api", "causation_id": None,
        "content_type": "application/json", "headers": {"x-sent-at": 1796026093761},
        "body": json.dumps({"order_id": order, "customer_email": "ü@example.com"}),
    }  # fmt: skip


def resend(vhost: Vhost, folder: Path, events: list[dict[str, Any]], *, more: bool = False) -> tuple[int, str, str]:
    """Run the page's script with the test's broker. Return its exit code, output and errors."""
    script = folder / "resend.py"
    address = f"{vhost.rabbit.management}/api/exchanges/{vhost.name}/amq.default/publish"
    changed = SCRIPT.replace("http://localhost:15672/api/exchanges/%2F/amq.default/publish", address)
    assert changed != SCRIPT
    script.write_text(changed, "utf-8")
    text = json.dumps({"events": events, "more": more})
    done = subprocess.run([sys.executable, script], input=text, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


def test_only_orders_without_a_payment_event_are_sent_and_keep_their_ids(vhost: Vhost, tmp_path: Path) -> None:
    with channel_to(vhost.url) as channel:
        channel.queue_declare(QUEUE, durable=True)
    events = [
        event("e1", "paid"), event("p1", "paid", "payment.success"),
        event("e2", "declined"), event("p2", "declined", "payment.failed"),
        event("e3", "missed"), event("e4", "missed too"), event("p5", "unknown", "payment.success"),
    ]  # fmt: skip
    code, output, errors = resend(vhost, tmp_path, events)
    assert (code, output) == (0, "missed sent\nmissed too sent\n"), errors
    found = take(vhost.url, QUEUE, 2)
    assert [(one.message_id, one.type, one.correlation_id, one.app_id) for _, one, _ in found] == [
        ("e3", "order.created", "missed", "order_api"),
        ("e4", "order.created", "missed too", "order_api"),
    ]
    assert {(one.content_type, one.delivery_mode) for _, one, _ in found} == {("application/json", 2)}
    assert json.loads(found[0][2]) == {"order_id": "missed", "customer_email": "ü@example.com"}


@pytest.mark.parametrize("more", [False, True])
def test_an_event_that_cannot_be_sent_is_reported(vhost: Vhost, tmp_path: Path, more: bool) -> None:
    code, output, errors = resend(vhost, tmp_path, [event("e1", "missed")], more=more)
    assert (code, output, errors) == (
        (1, "", "older events are left out: raise --limit\n") if more else (0, "missed NOT sent: no such queue\n", "")
    )
