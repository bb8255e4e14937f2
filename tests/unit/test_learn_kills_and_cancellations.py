"""Steps that kill a service between confirms and marks, or publish about an order, and what they show."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from runner.learn.customer import Customer
from runner.learn.evaluation import compare
from runner.learn.expectation import Expectation
from runner.learn.files_seen import FilesSeen
from runner.learn.given_step import GivenStep
from runner.learn.observation import Observation, Response
from runner.learn.outbox_marks import OutboxMarks
from runner.messages import Event
from runner.store.database import open_database
from runner.store.outbox import mark_sent, put


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return a database with two events of ``order_api``, of which the first is marked."""
    engine = open_database("sqlite:///shop.db", tmp_path)
    with engine.begin() as connection:
        for number in (1, 2):
            event = Event("order.created", {}, id=f"e{number}", exchange="orders.topic", routing_key="order.created")
            put(connection, "order_api", event)
        mark_sent(connection, [1])
    engine.dispose()
    return tmp_path / "shop.db"


def test_the_outbox_of_a_missing_or_new_database_is_empty(tmp_path: Path) -> None:
    (tmp_path / "new.db").touch()
    for name in ("missing.db", "new.db"):
        marks = OutboxMarks(tmp_path / name)
        assert (marks.waiting(), marks.confirmed()) == (0, 0)
        marks.remove("order_api")


def test_removed_marks_make_the_events_of_the_service_wait_again(database: Path) -> None:
    marks = OutboxMarks(database)
    assert (marks.waiting(), marks.confirmed()) == (1, 1)
    marks.remove("shipping")
    assert marks.confirmed() == 1
    marks.remove("order_api")
    assert (marks.waiting(), marks.confirmed()) == (2, 0)


def test_a_system_with_events_in_the_outbox_is_not_quiet_and_its_ledger_is_open() -> None:
    accepted = [Response(202, "o1", 0.0, 0.0, 1)]
    waiting = Observation(responses=accepted, outbox_waiting=1)
    assert not waiting.is_quiet
    assert Observation(responses=accepted).is_quiet
    any_loss = Expectation.model_validate({"ledger": {"lost": ">=0"}})
    assert not compare(any_loss, waiting, FilesSeen()).is_met
    assert compare(any_loss, Observation(responses=accepted), FilesSeen()).is_met


@pytest.mark.parametrize(
    "wanted", [{"response": 202}, {"response": 202, "count": 2}, {"response": [202, 202]}], ids=str
)
def test_wrong_responses_are_decided_when_all_posts_are_answered(wanted: dict[str, object]) -> None:
    expectation = Expectation.model_validate(wanted)
    responses = [Response(202, "o1", 0.0, 0.0, 1), Response(503, None, 0.0, 0.0, 2)]
    seen = compare(expectation, Observation(responses=responses), FilesSeen())
    assert (seen.is_met, seen.is_decided) == (False, True)
    assert not compare(expectation, Observation(responses=responses, is_busy=True), FilesSeen()).is_decided


def test_a_kill_has_one_moment() -> None:
    step = GivenStep.model_validate({"kill": "order_api", "when": {"confirmed": True}})
    moment = "after its events are confirmed, but before the outbox marks them as confirmed"
    assert step.words() == f"kill order_api {moment}"
    assert GivenStep.model_validate({"kill": "payment.1", "when": {"unacked": ">0"}}).words() == (
        "kill payment.1 with more than 0 messages unacked"
    )
    with pytest.raises(ValidationError, match="exactly one of these keys"):
        GivenStep.model_validate({"kill": "order_api", "when": {"confirmed": True, "unacked": 1}})


class _Api(http.server.BaseHTTPRequestHandler):
    """An order API that accepts the first two orders of three."""

    count = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        _Api.count += 1
        self.send_response(202 if _Api.count < 3 else 503)
        self.end_headers()
        self.wfile.write(json.dumps({"order_id": f"o{_Api.count}"}).encode())

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def api() -> Iterator[int]:
    """Return the port of an order API."""
    _Api.count = 0
    with http.server.HTTPServer(("127.0.0.1", 0), _Api) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_each_accepted_order_is_followed_before_the_next_order_is_posted(api: int) -> None:
    step = GivenStep.model_validate(
        {"orders": 3, "followed_by": {"exchange": "orders.topic", "keys": ["order.cancelled"]}}
    )
    assert step.words() == "post 3 orders in USD, each followed by order.cancelled"
    followed: list[tuple[str, int]] = []
    Customer(api).post(step, 1, lambda order: followed.append((order, _Api.count)))
    assert followed == [("o1", 1), ("o2", 2)]
