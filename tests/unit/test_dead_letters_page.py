"""The page Dead letters: what it shows of a snapshot, and that nothing in a message becomes markup."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from runner.dashboard.collector import Collector
from runner.dashboard.dead_letter_cache import DeadLetterCache
from runner.dashboard.dead_letters_page import when
from runner.dashboard.web_app import create_app
from runner.dashboard.web_server import Dashboard, DashboardSettings
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.fingerprint import cause_of
from runner.deadletters.snapshot import DeadLetterSnapshot, SnapshotDeadLetter
from runner.errors import BrokerUnreachable
from runner.http.flask_views import answer_problems

SCRIPT = "</pre><script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
BODY = b'{"customer_email": "alice@example.com", "amount": 1.10, "big": 12345678901234567890.00}'


def dead_letter(
    id: str = "a1", queue: str = "pay", body: bytes = BODY, order: str = "o1", **headers: Any
) -> SnapshotDeadLetter:
    known = {
        "x-exception": "Retry", "x-last-error": "gateway timed out", "x-failed-at": time.time() - 60, "x-attempt": 4,
        "x-traceback": '  File "/srv/plugins/payment.py", line 64, in charge\n    x\nRetry: alice@example.com',
    }  # fmt: skip
    properties = {"message_id": id, "correlation_id": order, "type": "order.created"}
    headers = {**known, **{name.replace("_", "-"): value for name, value in headers.items()}}
    message = DeadLetter(f"{queue}.dlq", properties, headers, body)
    return SnapshotDeadLetter(message, queue, cause_of(message, queue))


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, attribute: str) -> list[str | None]:
        """Return the values of an attribute in the order of the elements."""
        return [attrs[attribute] for _, attrs in self.tags if attribute in attrs]


Opener = Callable[..., FlaskClient]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Provide a function that returns a client of a dashboard with the given dead letters."""
    monkeypatch.setattr(Collector, "_keep_running", lambda _: None)

    def open_with(*letters: SnapshotDeadLetter, problem: str = "", more: int = 0, **settings: Any) -> FlaskClient:
        def read(_: Path) -> DeadLetterSnapshot:
            if problem:
                raise BrokerUnreachable(problem)
            counts = {"pay.dlq": len(letters) + more} if letters or more else {}
            return DeadLetterSnapshot(letters, counts, ("a warning",), time.time())

        dashboard = Dashboard(tmp_path, DashboardSettings(**settings))
        dashboard.dead_letters = DeadLetterCache(tmp_path, lambda: 1, lambda: False, read)
        app = create_app(dashboard)
        answer_problems(app, logging.getLogger("dashboard"))
        return app.test_client()

    return open_with


def page_of(client: FlaskClient, query: str = "") -> Page:
    answer = client.get(f"/dead-letters{query}")
    assert answer.status_code == 200
    return Page(answer.text)


def test_nothing_in_a_message_becomes_markup(opened: Opener) -> None:
    hostile = dead_letter(
        SCRIPT, SCRIPT, SCRIPT.encode(), SCRIPT, x_last_error=SCRIPT, x_traceback=SCRIPT, x_service=SCRIPT, other=SCRIPT
    )
    client = opened(hostile)
    own = [tag for tag, _ in page_of(opened(dead_letter()), f"?group={dead_letter().cause.fingerprint}").tags]
    for view in ("traceback", "body", "headers", SCRIPT):
        page = page_of(client, f"?group={hostile.cause.fingerprint}&view={view}&text=&rate={SCRIPT}&message={SCRIPT}")
        assert [tag for tag, _ in page.tags if tag in ("script", "img")] == [tag for tag in own if tag == "script"]
        assert not any(name.startswith("on") or name == "style" for _, attrs in page.tags for name in attrs)
        assert "alert(1)" in page.text
    assert all(str(href).startswith(("/", "#")) for href in page.values("href"))


def test_a_group_is_opened_by_the_url_and_shows_its_latest_message(opened: Opener) -> None:
    old, new = dead_letter("a1", x_failed_at=time.time() - 90), dead_letter("b2", x_replays=1)
    client = opened(old, new, dead_letter("c3", "mail"))
    page = page_of(client, f"?group={old.cause.fingerprint}")
    assert page.values("data-select") == ["b2", "a1"]
    assert "plugins/payment.py:64 in charge" in page.text
    assert "dead-lettered again" in page.text
    commands = [str(command) for command in page.values("data-command")]
    assert any(command.endswith(f"dlq replay --fingerprint {old.cause.fingerprint}") for command in commands)
    assert any(command.endswith("dlq replay --id b2") for command in commands)
    chosen = page_of(client, f"?group={old.cause.fingerprint}&message=a1&rate=5&again=1&view=body")
    assert '"big": 12345678901234567890.00' in chosen.text
    commands = [str(command) for command in chosen.values("data-command")]
    assert any(command.endswith("dlq discard --id a1") for command in commands)
    assert any(command.endswith(" --include-replayed --rate 5") for command in commands)
    assert page_of(client, "?group=unknown&shown=x&rate=-1").values("data-select") == []


def test_the_filter_is_in_the_url_and_in_the_command_lines(opened: Opener) -> None:
    client = opened(dead_letter("a1"), dead_letter("b2", "mail", x_last_error="no server"), dead_letter("a1", "stock"))
    assert len(page_of(client).values("aria-expanded")) == 3
    page = page_of(client, "?queue=mail&text=NO+server%00")
    assert len(page.values("aria-expanded")) == 1
    assert "1 of them match" in page.text
    assert any(str(one).endswith("dlq replay --queue mail --match 'NO server'") for one in page.values("data-command"))
    assert "No dead letter matches" in page_of(client, "?text=nothing").text
    # The same message failed in two queues, so its id is not sufficient.
    page = page_of(client, f"?group={dead_letter('a1').cause.fingerprint}")
    assert any(str(one).endswith("dlq replay --id a1 --queue pay.dlq") for one in page.values("data-command"))


def test_the_first_messages_of_a_large_group_are_shown(opened: Opener) -> None:
    client = opened(*(dead_letter(f"m{number:02}") for number in range(30)), more=70)
    group = dead_letter().cause.fingerprint
    page = page_of(client, f"?group={group}")
    assert len(page.values("data-select")) == 12
    assert "first 30 of 100 messages" in page.text
    assert len(page_of(client, f"?group={group}&shown=24").values("data-select")) == 24


def test_e_mail_addresses_are_hidden_on_request(opened: Opener) -> None:
    client = opened(dead_letter(), mask_personal_data=True)
    for view in ("traceback", "body", "headers"):
        page = page_of(client, f"?group={dead_letter().cause.fingerprint}&view={view}")
        assert "alice@example.com" not in page.text
        assert "alice@example.com" not in str(page.tags)
    answer = client.get("/dead-letters/body?id=a1")
    assert (answer.status_code, "alice" in answer.text) == (422, False)


def test_a_body_is_edited_without_a_change_of_its_numbers(opened: Opener) -> None:
    client = opened(dead_letter(), dead_letter("raw", body=b"\xff"), dead_letter("large", body=b" " * 1_000_001))
    answer = client.get("/dead-letters/body?id=a1&queue=pay.dlq")
    assert answer.mimetype == "text/plain"
    assert '"amount": 1.10,\n' in answer.text
    assert "12345678901234567890.00" in answer.text
    assert client.get("/dead-letters/body?id=a1&queue=mail").status_code == 404
    for id, words in (("raw", "the body is not text"), ("large", "the body has 1,000,001 bytes")):
        answer = client.get(f"/dead-letters/body?id={id}")
        assert answer.status_code == 422
        assert words in json.loads(answer.data)["detail"]


def test_messages_that_failed_again_after_a_replay_are_counted(opened: Opener) -> None:
    client = opened(
        dead_letter("a1", x_replays=1, x_replayed_at=2000), dead_letter("b2", x_replays=1, x_replayed_at=1000)
    )
    assert client.get("/dead-letters/again?since=2000").json == {"count": 1}
    assert client.get("/dead-letters/again?since=x").json == {"count": 0}


def test_no_id_precedes_the_cause_of_a_group(opened: Opener) -> None:
    id = "4240e46b-a623-4255-bfc1-ea36f17fd374"
    words = f"message {id}: the body cannot be decoded as JSON"
    one = dead_letter(id, x_last_error=words, x_first_error=words)
    text = page_of(opened(one), f"?group={one.cause.fingerprint}").text
    assert text.count("the body cannot be decoded as JSON") == 2
    assert "message 4240e46b" not in text


def test_an_empty_page_says_what_to_do_next(opened: Opener) -> None:
    page = page_of(opened())
    assert "No dead letters" in page.text
    assert "fault poison QUEUE" in page.text
    assert "/learn/10-poison-message" in page.values("href")
    assert "Exercise 10, A poison message, explains" in page.text
    page = page_of(opened(problem="127.0.0.1:5672: refused <b>"))
    assert "Dead letters cannot be read: 127.0.0.1:5672: refused <b>" in page.text
    assert "No dead letters" not in page.text


def test_a_time_of_another_day_or_year_is_shown_with_its_date() -> None:
    now = datetime.now().replace(hour=13, minute=5, second=9)
    assert when(now.timestamp()) == "13:05:09"
    assert when(datetime(now.year, 2, 3, 13, 5).timestamp()) in ("Feb 3, 13:05", "13:05:00")
    assert when(datetime(2023, 11, 4, 13, 5).timestamp()) == "Nov 4, 2023"
    assert when(None) == "\N{EN DASH}"
