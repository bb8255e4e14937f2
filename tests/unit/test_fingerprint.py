"""The fingerprint of a dead letter: its queue, its exception and the innermost line of the plugin."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.deadletters import fingerprint
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.fingerprint import cause_of
from runner.deadletters.grouping import BARS, DeadLetterGroup, GroupedDeadLetters
from runner.deadletters.json_record import group_record
from runner.deadletters.selection import Selection
from runner.logs import traceback_of
from runner.plugins import load_plugin

NOW = 1_790_000_000
CHARGE = '  File "/srv/shop/plugins/payment.py", line 64, in charge\n    raise GatewayTimeout()\n'
TRACEBACK = f"Traceback (most recent call last):\n{CHARGE}GatewayTimeout: gateway timed out"


def failed(
    headers: dict[str, Any] | None = None, *, error: str = "gateway timed out", text: Any = TRACEBACK
) -> DeadLetter:
    known = {
        "x-exception": "GatewayTimeout",
        "x-last-error": error,
        "x-traceback": text,
        "x-failed-at": NOW,
        **(headers or {}),
    }
    return DeadLetter("pay.dlq", {"message_id": "m1"}, {name: one for name, one in known.items() if one}, b"{}")


def by_broker(reason: str) -> DeadLetter:
    death = {"queue": "pay", "reason": reason, "exchange": "orders", "time": datetime(2026, 1, 2, tzinfo=UTC)}
    return DeadLetter("pay.dlq", {}, {"x-death": [death]}, b"{}")


def grouped(*messages: DeadLetter, now: float = NOW) -> list[DeadLetterGroup]:
    found = GroupedDeadLetters(now)
    for one in messages:
        found.add(one, "pay")
    return found.groups()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (TRACEBACK, "plugins/payment.py:64 in charge"),
        (TRACEBACK.replace("/srv/shop/", ""), "plugins/payment.py:64 in charge"),
        (TRACEBACK.replace("payment.py", "payment/gateway.py"), "plugins/payment/gateway.py:64 in charge"),
        (TRACEBACK.replace("/srv/shop", "/srv/plugins/shop"), "plugins/payment.py:64 in charge"),
        # The start of a long traceback is cut off.
        (f'oad\n{CHARGE}  File "/usr/lib/python3.11/socket.py", line 5, in f\n', "plugins/payment.py:64 in charge"),
        # The last exception in a chain is the exception that the handler raised.
        (
            f"{TRACEBACK.replace('64', '9')}\n\nDuring handling of it, another exception occurred:\n\n{TRACEBACK}",
            "plugins/payment.py:64 in charge",
        ),
        # Lines of the error itself are not frames.
        (f"{TRACEBACK}\n{CHARGE.replace('64', '1')}", "plugins/payment.py:64 in charge"),
        (
            "  + Exception Group Traceback (most recent call last):\n"
            '  |   File "/srv/plugins/payment.py", line 8, in handle\n  |     raise group\n  | ExceptionGroup: two\n',
            "plugins/payment.py:8 in handle",
        ),
        ('  File "/x/runner/shipped_plugins/audit.py", line 3, in f', "runner/shipped_plugins/audit.py:3 in f"),
        ('  File "/x/site-packages/acme_billing/core.py", line 3, in f', "acme_billing/core.py:3 in f"),
        ('  File "/x/site-packages/acme_billing_more/core.py", line 3, in f', "raised outside the plugin"),
        ('  File "/x/site-packages/sqlalchemy/plugins/core.py", line 3, in f', "raised outside the plugin"),
        ('  File "/x/runner/worker/handler.py", line 3, in f', "raised outside the plugin"),
        (None, "no traceback in the headers"),
    ],
)  # fmt: skip
def test_the_place_of_a_failure_is_the_innermost_line_of_the_plugin(
    monkeypatch: pytest.MonkeyPatch, text: str | None, place: str
) -> None:
    monkeypatch.setattr(fingerprint, "_packages", lambda: ("acme_billing", "runner/shipped_plugins"))
    fingerprint._plugin_frame.cache_clear()
    assert cause_of(failed(text=text), "pay").place == place


def test_the_traceback_of_a_loaded_plugin_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "jobs.py").write_text(
        "from runner import hookimpl\n\n@hookimpl\ndef handle(message):\n"
        "    int('\\n  File \"plugins/x.py\", line 1, in x')\n"
    )
    with pytest.raises(ValueError, match="invalid literal") as caught:
        load_plugin("jobs", tmp_path).hook.handle(message=None, options=None, resources=None, store=None)
    cause = cause_of(failed(text=traceback_of(caught.value)), "pay")
    assert cause.place == "plugins/jobs.py:5 in handle"


@pytest.mark.parametrize(
    ("message", "place"),
    [
        (by_broker("expired"), "no service handled the message in time"),
        (by_broker("maxlen"), "the queue had no room for the message"),
        (by_broker("rejected"), "a consumer rejected the message and gave no reason"),
        (by_broker("delivery_limit"), "workers stopped before they acknowledged the message"),
        (by_broker("brand_new"), "the broker dead-lettered the message"),
        (DeadLetter("pay.dlq", {}, {}, b""), "another program published the message to this queue"),
        (failed({"x-crashes": 3}), "the worker process died, so there is no traceback"),
    ],
)
def test_a_message_that_no_handler_has_failed_is_described_in_words(message: DeadLetter, place: str) -> None:
    cause = cause_of(message, "pay")
    assert (cause.frame, cause.place) == (None, place)


def test_messages_of_one_queue_one_exception_and_one_line_form_one_group() -> None:
    same = grouped(failed(), failed(error="GatewayTimeout: no answer from gateway.example"), failed())
    assert [(one.count, len(one.kinds)) for one in same] == [(3, 2)]
    assert cause_of(failed(), "pay").fingerprint == same[0].cause.fingerprint
    assert re.fullmatch("[0-9a-f]{8}", same[0].cause.fingerprint)
    others = [
        cause_of(failed(), "mail"), cause_of(failed({"x-exception": "Retry"}), "pay"),
        cause_of(failed(text=TRACEBACK.replace("64", "65")), "pay"), cause_of(failed(text=None), "pay"),
        cause_of(by_broker("expired"), "pay"), cause_of(by_broker("maxlen"), "pay"),
    ]  # fmt: skip
    assert len({one.fingerprint for one in others} | {same[0].cause.fingerprint}) == 7


def test_crashes_form_one_group_for_each_signal_and_exit_status() -> None:
    def crashed(how: str) -> DeadLetter:
        headers = {"x-exception": "Crashed", "x-crashes": 3}
        return failed(headers, error=f"Crashed: the message crashed its worker {how}", text=None)

    ways = ("twice, SIGSEGV", "3 times, SIGSEGV", "once, SIGKILL", "once, exited with status 9")
    found = grouped(*map(crashed, ways))
    assert sorted(one.count for one in found) == [1, 1, 2]


def test_a_group_counts_attempts_and_replays_and_the_messages_of_the_last_hour() -> None:
    (group,) = grouped(
        failed({"x-attempt": 4, "x-failed-at": NOW - 3590}),
        failed({"x-attempt": 8, "x-replays": 2, "x-failed-at": NOW + 1}),
        failed({"x-failed-at": NOW - 299}),
        failed({"x-failed-at": NOW - 3601}),
        failed({"x-attempt": "nine", "x-failed-at": NOW + 3600}),
    )
    assert (group.attempts, group.replays, group.count) == ((4, 8), (0, 2), 5)
    assert group.last_hour == [1, *[0] * (BARS - 2), 2]
    record = group_record(group)
    assert (record["attempts"], record["replays"], record["kinds"]) == ((4, 8), (0, 2), 1)
    assert record["frame"] == {"file": "plugins/payment.py", "line": 64, "function": "charge"}
    (unknown,) = grouped(by_broker("expired"), now=0)
    assert (unknown.attempts, unknown.replays, sum(unknown.last_hour)) == (None, (0, 0), 0)


def test_a_fingerprint_selects_its_group() -> None:
    selection = Selection(fingerprint=cause_of(failed(), "pay").fingerprint)
    assert selection.matches(failed(error="GatewayTimeout: other words"), "pay")
    assert not selection.matches(failed(), "mail")
    assert not selection.matches(by_broker("expired"), "pay")
    assert not selection.is_of_queue
