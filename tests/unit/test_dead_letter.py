"""The data of a dead letter, and the selection of dead letters."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.deadletters.dead_letter import NO_REASON, DeadLetter
from runner.deadletters.grouping import GroupedDeadLetters
from runner.deadletters.json_record import digest, plain, record_of
from runner.deadletters.message_text import table, whole
from runner.deadletters.origins import Origins
from runner.deadletters.selection import NotDeadLettered, Selection, resolve
from runner.errors import RunnerError
from runner.escape import json_text
from runner.headers import Timestamp
from runner.topology.model import Objects, RetryDelays

AT = datetime(2026, 1, 2, tzinfo=UTC)
PLACES = Origins.of(
    Objects(
        retry_delays={
            "pay": RetryDelays(((1.0, "pay.retry.1s"),), "pay.dlq"),
            "mail": RetryDelays((), "lost"),
            "stock": RetryDelays((), "lost"),
            "pay.dlq": RetryDelays((), "pay.dlq.dlq"),
        }
    )
)


def failed(
    headers: dict[str, Any] | None = None, *, queue: str = "pay.dlq", body: bytes = b"{}", **properties: Any
) -> DeadLetter:
    return DeadLetter(queue, {"message_id": "m1", "type": "order.created", **properties}, headers or {}, body)


def death(queue: str, reason: str, **fields: Any) -> dict[str, Any]:
    return {"queue": queue, "reason": reason, "time": AT, "count": 1, "exchange": "orders", **fields}


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"x-last-error": "gateway timed out"}, "gateway timed out"),
        (
            {"x-death": [death("pay", "delivery_limit")]},
            "dead-lettered by the broker: delivered too often without an acknowledgement",
        ),
        ({"x-first-death-reason": "rejected"}, "dead-lettered by the broker: rejected by its consumer"),
        ({"x-death": [death("pay", "maxlen")]}, "dead-lettered by the broker: its queue was full"),
        ({"x-death": [death("pay", "brand_new")]}, "dead-lettered by the broker: brand_new"),
        # This message was retried, and then killed its workers.
        (
            {
                "x-last-error": "gateway timed out",
                "x-death": [death("pay", "delivery_limit"), death("pay.retry.1s", "expired")],
                "x-first-death-reason": "expired",
            },
            "dead-lettered by the broker: delivered too often without an acknowledgement",
        ),
        ({}, NO_REASON),
        ({"x-death": "nonsense", "x-last-error": b"\xff"}, "\\xff"),
    ],
)
def test_the_reason_of_a_dead_letter_is_shown_in_words(headers: dict[str, Any], words: str) -> None:
    assert failed(headers).error == words


@pytest.mark.parametrize(
    ("headers", "timestamp", "seconds"),
    [
        ({"x-failed-at": 5, "x-first-death-time": AT}, 1, 5),
        ({"x-death": [death("pay", "rejected")]}, 1, AT.timestamp()),
        ({"x-death": [death("pay", "rejected", time=Timestamp(1_700_000_000_000))]}, 1, 1_700_000_000),
        ({}, 1_700_000_000, 1_700_000_000),
        ({"x-failed-at": "soon"}, None, None),
        ({"x-failed-at": True}, 2**63, None),
    ],
)
def test_the_time_of_a_dead_letter_is_that_of_its_writer(
    headers: dict[str, Any], timestamp: int | None, seconds: float | None
) -> None:
    assert failed(headers, timestamp=timestamp).dead_lettered_at == seconds


@pytest.mark.parametrize(
    ("headers", "queue", "origin"),
    [
        ({"x-origin-queue": "pay"}, "pay.dlq", "pay"),
        ({"x-origin-queue": "gone"}, "lost", "gone"),
        ({"x-death": [death("pay", "delivery_limit"), death("pay.retry.1s", "expired")]}, "pay.dlq", "pay"),
        ({"x-first-death-queue": "pay.retry.1s"}, "lost", "pay"),
        ({"x-first-death-queue": "mail"}, "lost", "mail"),
        # The broker dead-lettered it from a dead-letter queue that a service consumes.
        ({"x-origin-queue": "pay", "x-death": [death("pay.dlq", "rejected")]}, "pay.dlq.dlq", "pay.dlq"),
        ({}, "pay.dlq", "pay"),
        ({}, "lost", None),
    ],
)
def test_the_queue_of_the_failure_is_known_by_headers_or_by_the_topology(
    headers: dict[str, Any], queue: str, origin: str | None
) -> None:
    assert PLACES.origin_of(failed(headers, queue=queue)) == origin


def test_a_queue_is_selected_by_its_own_name_or_its_dead_letter_queue_s() -> None:
    assert PLACES.choose(None) == (["pay.dlq", "lost", "pay.dlq.dlq"], None)
    assert PLACES.choose("lost") == (["lost"], None)
    assert PLACES.choose("mail") == (["lost"], "mail")
    with pytest.raises(KeyError):
        PLACES.choose("pay.retry.1s")


def test_a_message_without_an_id_always_gets_the_same_one() -> None:
    one, other = (failed({"x-delivery-count": count}, message_id=None) for count in (1, 2))
    assert one.id == other.id
    assert len(one.id) == 32
    assert failed(message_id=None, body=b"other").id != one.id


def test_a_digest_depends_only_on_the_content() -> None:
    one = failed({"b": 1, "a": AT, "x-delivery-count": 1})
    assert digest(one) == digest(failed({"a": AT, "b": 1, "x-delivery-count": 7, "x-acquired-count": 1}))
    assert len({digest(one), digest(failed({"b": 1})), digest(failed({"b": 1}, body=b"x"))}) == 3


@pytest.mark.parametrize(
    "text", ["Timed OUT", "order.cr", "M1", "corr-7", "Needle", "\N{SNOWMAN}", "STRASSE", "\udcff"]
)
def test_a_text_is_searched_in_error_type_ids_and_body_ignoring_case(text: str) -> None:
    one = failed(
        {"x-last-error": "timed out"},
        correlation_id="corr-7",
        body='{"needle": "\N{SNOWMAN} Straße"}'.encode() + b"\xff",
    )
    assert Selection(match=text).matches(one, "pay")
    assert not Selection(match=text + "?").matches(one, "pay")
    assert not Selection(match=text, origin="mail").matches(one, "pay")
    assert not Selection(match=text, ids=frozenset({"m2"})).matches(one, "pay")


def test_an_id_may_be_shortened_if_it_is_unambiguous() -> None:
    ids = ["ab1", "ab2", "abc", "abcd", "x"]
    assert resolve(["x", "ab1", "abc"], ids) == {"x", "ab1", "abc"}
    with pytest.raises(
        RunnerError,
        match=r"'ab' is ambiguous; 4 dead letters match: 'ab1', 'ab2', 'abc', 'abcd'",
    ):
        resolve(["ab"], ids)
    with pytest.raises(NotDeadLettered, match="'y': no dead letter has this message id or correlation id"):
        resolve(["y"], ids, {"xy": {"x"}})


def test_an_order_id_selects_all_its_messages_if_no_message_id_begins_with_it() -> None:
    ids, orders = ["ab1", "x1", "x2"], {"order-1": {"x1", "x2"}, "order-12": {"ab1"}, "ab": {"x2"}, "": {"x1"}}
    assert resolve(["order-1"], ids, orders) == {"x1", "x2"}
    assert resolve(["order-12", "x1"], ids, orders) == {"ab1", "x1"}
    assert resolve(["ab"], ids, orders) == {"ab1"}
    with pytest.raises(RunnerError, match=r"'ord' is ambiguous; 2 orders match: 'order-1', 'order-12'"):
        resolve(["ord"], ids, orders)


def test_messages_are_counted_by_origin_and_error() -> None:
    desk = GroupedDeadLetters()
    for number, (origin, error, at) in enumerate(
        [("pay", "a", 30), ("pay", "a", 10), ("pay", "b", None), ("mail", "a", 20), ("pay", "a", 20)]
    ):
        headers = {"x-last-error": error, "x-failed-at": at}
        desk.add(failed(headers, message_id=f"{number}" + "0" * 40), origin)
    found = [(one.origin, one.error, one.count, one.first, one.last, one.example[0]) for one in desk.groups()]
    assert found == [("mail", "a", 1, 20, 20, "3"), ("pay", "a", 3, 10, 30, "0"), ("pay", "b", 1, None, None, "2")]
    assert desk.count == 5
    assert desk.prefixes(["3" + "0" * 40]) == ["30000000"]


def test_a_group_and_its_messages_are_listed_without_the_id_in_their_error() -> None:
    id = "4240e46b-a623-4255-bfc1-ea36f17fd374"
    words = f"message {id}: the body cannot be decoded as JSON"
    message = failed({"x-last-error": words, "x-first-error": words}, message_id=id)
    groups = GroupedDeadLetters()
    groups.add(message, "pay")
    (group,) = groups.groups()
    assert (group.title, group.error) == ("the body cannot be decoded as JSON", words)
    lines = [*table([group], [id[:8]]), *whole(message, "pay")]
    # The headers remain as they are in the message.
    assert sum(id in line for line in lines if not line.startswith("  x-")) == 1
    assert sum("the body cannot be decoded as JSON" in line for line in lines) >= 2
    assert record_of(message, "pay")["error"] == words
    assert failed({"x-last-error": "order 12: full"}).error_without_id == "order 12: full"


def test_errors_that_differ_only_in_an_id_or_a_number_are_one_kind() -> None:
    desk = GroupedDeadLetters()
    for at, error in (
        (20, "order 4240e46b-a623-4255-bfc1-ea36f17fd374: 12 too many"),
        (30, "order 5F2DD97F-1CFB-40F6-A827-688DE6A16A3B: 0.5 too many"),
        (10, "order 00000000-1cfb-40f6-a827-688de6a16a3b: 7 too many"),
        (40, "order 12: 12 too many"),
    ):
        desk.add(failed({"x-last-error": error, "x-failed-at": at}, message_id=str(at)), "pay")
    first, second = desk.groups()
    assert (first.count, first.first, first.last, first.example) == (3, 10, 30, "30")
    assert first.error == "order 5F2DD97F-1CFB-40F6-A827-688DE6A16A3B: 0.5 too many"
    assert (second.count, second.error) == (1, "order 12: 12 too many")


@pytest.mark.parametrize(
    ("columns", "queue", "shown"),
    [
        (200, "pay", "QUEUE COUNT ATTEMPTS REPLAYS FIRST LAST LATEST ID FINGERPRINT RAISED AT ERROR"),
        (130, "pay", "QUEUE COUNT ATTEMPTS REPLAYS LAST LATEST ID FINGERPRINT RAISED AT ERROR"),
        (115, "pay", "QUEUE COUNT LAST LATEST ID FINGERPRINT RAISED AT ERROR"),
        (96, "payment.order.created", "QUEUE COUNT LAST LATEST ID FINGERPRINT ERROR"),
        (75, "payment.order.created.of.a.shop", "QUEUE COUNT LATEST ID ERROR"),
        (40, "payment.order.created.of.a.shop.in.town", "QUEUE"),
    ],
)
def test_a_terminal_shows_the_columns_that_fit_and_one_line_for_each_kind(
    monkeypatch: pytest.MonkeyPatch, columns: int, queue: str, shown: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr("runner.deadletters.message_text.sys", SimpleNamespace(stdout=terminal))
    desk = GroupedDeadLetters()
    headers = {"x-exception": "Retry", "x-traceback": '  File "/a/plugins/payment.py", line 7, in charge\n    x'}
    desk.add(failed({"x-last-error": "broke " * 100, "x-failed-at": 1, **headers}), queue)
    lines = table(desk.groups(), ["m1"])
    assert " ".join(lines[0].split()).removesuffix(" …") == shown
    assert [len(line) <= columns for line in lines] == [True, True]


@given(st.lists(st.text("ab", min_size=17, max_size=20), min_size=1, max_size=30))
def test_a_shown_prefix_is_unambiguous_and_no_longer_than_needed(ids: list[str]) -> None:
    desk = GroupedDeadLetters()
    for one in ids:
        desk.add(failed(message_id=one), "pay")
    for one, prefix in zip(ids, desk.prefixes(ids), strict=True):
        assert resolve([prefix], ids) == {one}
        assert len(prefix) == 8 or len({other for other in ids if other.startswith(prefix[:-1])}) > 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(AT) | st.decimals(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=30)
@given(st.dictionaries(st.text(), VALUES), st.binary())
def test_any_message_can_be_written_as_json_and_shown(headers: dict[str, Any], body: bytes) -> None:
    one = failed(headers, body=body)
    text = json_text(record_of(one, None))
    assert "\n" not in text
    assert json.loads(text)["id"] == "m1"
    for line in whole(one, None):
        assert not any(ord(char) < 32 and char != "\t" for char in line)


def test_values_that_json_lacks_are_marked() -> None:
    assert plain({"b": b"\x00", "t": AT, "ms": Timestamp(2**50), "d": Decimal("1.50"), "f": float("nan")}) == {
        "b": {"$bytes": "AA=="}, "t": {"$timestamp": "2026-01-02T00:00:00+00:00"}, "ms": {"$timestamp": 2**50},
        "d": {"$decimal": "1.50"}, "f": {"$float": "nan"},
    }  # fmt: skip


def test_a_body_is_formatted_and_not_changed() -> None:
    body = b'{"amount": 1.10, "amount": 12345678901234567890.00, "list": [1, {}], "none": [], "text": "a\\nb"}'
    lines = list(whole(failed(body=body), "pay"))
    assert lines[lines.index(f"body (without a content type, {len(body)} bytes)") + 1 :] == [
        "  {", '    "amount": 1.10,', '    "amount": 12345678901234567890.00,', '    "list": [', "      1,", "      {}",
        "    ],", '    "none": [],', '    "text": "a\\nb"', "  }",
    ]  # fmt: skip
