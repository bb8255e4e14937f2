"""The age, growth and arrival rate of a queue's messages, and the table of queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from runner.admin.management_api import ManagementError
from runner.admin.statistics import Statistics, StatisticsReader
from runner.invocation import invocation
from runner.queues.backlog import Age, Sample, arrivals, is_growing, oldest_age
from runner.queues.overview import Backlog, Others
from runner.queues.queues_command import as_object, table


def samples(ready: Sequence[int], delivered: Sequence[int | None] | None = None, step: float = 5.0) -> list[Sample]:
    """Return samples at 0, ``step``, … seconds."""
    gone = delivered or [0] * len(ready)
    return [Sample(number * step, *one) for number, one in enumerate(zip(ready, gone, strict=True))]


@pytest.mark.parametrize(
    ("ready", "delivered", "seconds"),
    [
        pytest.param([0, 0, 3, 3], None, 7, id="nothing left since the queue was empty"),
        pytest.param([0, 1, 2, 3, 4], None, 17, id="the first of many that came one by one"),
        pytest.param([0, 0, 0, 9], None, 2, id="all came with the last sample"),
        pytest.param([5, 5, 0, 5], None, 2, id="it was empty in between"),
        pytest.param([7, 7, 7], None, None, id="older than every sample"),
        pytest.param([0, 0, 0], None, 2, id="it came after the last sample"),
    ],
)
def test_the_oldest_message_of_a_queue_without_a_consumer_arrived_after_the_queue_was_empty(
    ready: list[int], delivered: list[int | None] | None, seconds: float | None
) -> None:
    now = (len(ready) - 1) * 5 + 2.0
    expected = Age(now, is_older=True) if seconds is None else Age(seconds)
    assert oldest_age(samples(ready, delivered), now, is_consumed=False) == expected


@pytest.mark.parametrize(
    ("ready", "delivered", "expected"),
    [
        pytest.param([40, 40, 40, 40], [0, 20, 40, 60], Age(5), id="two steps to deliver what was ready"),
        pytest.param([10, 10, 10, 10], [0, 500, 1000, 1500], Age(0), id="a busy queue with few messages"),
        pytest.param([100, 110, 120, 130], [0, 5, 10, 15], Age(15, is_older=True), id="too slow for all samples"),
        pytest.param([0, 0, 0, 4], [0, 5, 10, 15], Age(0), id="nothing was ready before"),
        pytest.param([4, 4, 4, 0], [0, 5, 10, 15], Age(0), id="the message is younger than the samples"),
        pytest.param([4, 4], [None, None], None, id="how many left is not known"),
        pytest.param([4], [0], None, id="one sample"),
        pytest.param([], [], None, id="no sample"),
    ],
)
def test_the_oldest_message_of_a_consumed_queue_arrived_after_all_earlier_ones_left(
    ready: list[int], delivered: list[int | None], expected: Age | None
) -> None:
    assert oldest_age(samples(ready, delivered), 1000.0, is_consumed=True) == expected


@pytest.mark.parametrize(
    ("ready", "grows"),
    [
        ([0, 1, 2, 3, 4, 5], True),
        ([10, 9, 11, 12, 13, 15], True),
        ([10, 9, 11, 12, 12, 12], False),
        ([0, 5, 0, 5, 0, 5], False),
        ([0, 0, 0, 9, 9, 9], False),
        ([9, 9, 9, 9, 9, 9], False),
        ([9, 8, 7, 6, 5, 4], False),
        ([0, 1, 2, 3], False),
        ([], False),
        ([99, 99, 99, 99, 0, 1, 2, 3, 4, 5, 6], True),
    ],
)
def test_a_queue_grows_if_it_has_more_messages_than_in_the_half_minute_before(ready: list[int], grows: bool) -> None:
    assert is_growing(samples(ready)) is grows


@pytest.mark.parametrize(
    ("ready", "rate"),
    [([0, 3, 6], 3.0), ([0, 0, 0], 0.0), ([5, 5, 9], 2.0), ([5, 4, 9], None), ([5], None), ([0] * 5 + [20] * 11, 0.0)],
)
def test_the_arrival_rate_of_a_queue_without_consumers_is_its_growth_of_the_last_seconds(
    ready: list[int], rate: float | None
) -> None:
    assert arrivals(samples(ready, step=1.0)) == rate


def entry(**values: Any) -> Backlog:
    """Return an idle queue, except for some values."""
    known: dict[str, Any] = {
        "name": "pay", "ready": 0, "unacked": 0, "consumers": 1, "arriving": 0.0, "leaving": 0.0, "oldest": None,
        "retrying": 0, "dead": 0, "has_dead_letters": True, "services": ("payment",), "notes": (),
    }  # fmt: skip
    return Backlog(**known | values)


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        ({}, "pay 0 0 1 0.0 0.0 - 0 0 payment"),
        ({"ready": None, "unacked": None, "consumers": None}, "pay ? ? ? 0.0 0.0 ? 0 0 payment"),
        ({"arriving": None, "leaving": None, "retrying": None, "dead": None}, "pay 0 0 1 ? ? - ? ? payment"),
        ({"has_dead_letters": False, "dead": None, "services": ()}, "pay 0 0 1 0.0 0.0 - 0 - -"),
        ({"ready": 7, "oldest": Age(3.0)}, "pay 7 0 1 0.0 0.0 <10s 0 0 payment"),
        ({"ready": 7, "oldest": Age(75.0)}, "pay 7 0 1 0.0 0.0 1m 15s 0 0 payment"),
        ({"ready": 7, "oldest": Age(600.0, is_older=True)}, "pay 7 0 1 0.0 0.0 >10m 0s 0 0 payment"),
        ({"ready": 7}, "pay 7 0 1 0.0 0.0 ? 0 0 payment"),
        ({"ready": 7, "notes": ("no consumer", "growing")}, "pay 7 0 1 0.0 0.0 ? 0 0 payment no consumer, growing"),
        ({"name": "p\x1b[31m"}, "p\\x1b[31m 0 0 1 0.0 0.0 - 0 0 payment"),
    ],
)
def test_a_line_shows_each_number_and_a_question_mark_for_an_unknown_one(values: dict[str, Any], cells: str) -> None:
    assert " ".join(table([entry(**values)], None, None)[1].split()) == cells


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (None, ""),
        (130, ""),
        (107, "READ BY"),
        (100, "READ BY"),
        (90, "READ BY, UNACKED"),
        (80, "READ BY, UNACKED, OUT/S, IN/S"),
        (60, "READ BY, UNACKED, OUT/S, IN/S, RETRY, OLDEST, DEAD"),
        (10, "READ BY, UNACKED, OUT/S, IN/S, RETRY, OLDEST, DEAD, CONSUMERS"),
    ],
)
def test_a_narrow_terminal_lacks_columns_but_never_the_notes(
    monkeypatch: pytest.MonkeyPatch, width: int | None, left_out: str
) -> None:
    monkeypatch.setattr("runner.queues.queues_command.terminal_width", lambda: width)
    name = "notification.order.events"
    head, line, *others = table([entry(name=name, ready=20, consumers=0, notes=("no consumer",))], None, None)
    assert line.startswith(f"{name}     20")
    assert line.endswith("  no consumer")
    assert width is None or width < 60 or len(line) <= width
    names = ["QUEUE", "READY", "UNACKED", "CONSUMERS", "IN/S", "OUT/S", "OLDEST", "RETRY", "DEAD", "READ BY", "NOTE"]
    missing = left_out.split(", ")
    assert head.replace("READ BY", "READ_BY").split() == [one.replace(" ", "_") for one in names if one not in missing]
    note = f"no room for {left_out}; to see all columns, use a wider terminal or --json"
    assert others == ([note] if left_out else [])


@pytest.mark.parametrize("notes", [("no consumer",), ("growing",), ("no consumer", "growing")])
def test_a_line_that_needs_attention_stands_out_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, notes: tuple[str, ...]
) -> None:
    monkeypatch.setattr("runner.queues.queues_command.has_colour", lambda: True)
    head, quiet, loud = table([entry(), entry(ready=1, notes=notes)], None, None)
    assert head.startswith("\x1b[1m")
    assert "\x1b" not in quiet
    assert loud.startswith("\x1b[33m\x1b[1m")


def test_the_last_line_counts_the_other_queues_or_gives_the_reason_for_missing_statistics() -> None:
    lines = [table([], others, None)[-1] for others in (Others(1, 1), Others(2, None))]
    assert lines == [
        f"1 other queue on the broker, with 1 message; to list them: {invocation('plan')}",
        f"2 other queues on the broker, with an unknown number of messages; to list them: {invocation('plan')}",
    ]
    assert len(table([], Others(0, 0), None)) == 1
    assert table([], None, "no connection")[-1] == "no statistics: no connection"
    assert as_object([], None, "no connection") == {"queues": [], "others": None, "problem": "no connection"}


class Api:
    """The answers of RabbitMQ's HTTP API."""

    vhost, url = "test", "http://api"

    def __init__(self, queue: dict[str, Any], uptime: int | None = 3_600_000, **overview: Any) -> None:
        self.answers = {
            "overview": {"rates_mode": "basic", "disable_stats": False} | overview,
            "nodes": [[] if uptime is None else {"uptime": uptime}],
            "queues": [{"name": "pay", **queue}],
        }

    def request(self, method: str, *parts: str, query: str = "") -> Any:
        return self.answers[parts[0]]


@pytest.mark.parametrize(
    "answers",
    [
        {"overview": []},
        {"overview": None},
        {"nodes": {"uptime": 5}, "queues": {"error": "x"}},
        {"queues": [{"messages": 1}]},
        {"queues": [7]},
        {"queues": None},
        {"queues": [{"name": "pay", "messages_ready": 1, "messages_ready_details": {"samples": [{"sample": 1}]}}]},
        {"queues": [{"name": "pay", "messages_ready": 1, "message_stats": {"publish_details": {"rate": "fast"}}}]},
        {"queues": [{"name": "pay", "messages_ready": 1, "message_stats": [1]}]},
        {"queues": "<html>"},
    ],
)
def test_an_answer_that_is_not_from_rabbitmq_is_an_error_of_one_line(answers: dict[str, Any]) -> None:
    api = Api({})
    api.answers |= answers
    with pytest.raises(ManagementError, match=r"not an answer from RabbitMQ, [^\n]+$"):
        read(api)


class DeniesNodes(Api):
    """A user who may not list the nodes."""

    def request(self, method: str, *parts: str, query: str = "") -> Any:
        if parts[0] == "nodes":
            raise ManagementError("no", 403)
        return super().request(method, *parts, query=query)


def details(*counts: int) -> dict[str, Any]:
    """Return a history with a sample every 5 s, the latest first, as in the API."""
    known = [{"sample": count, "timestamp": (1000 + 5 * number) * 1000} for number, count in enumerate(counts)]
    return {"rate": 1.5, "samples": known[::-1]}


def read(api: Api, now: float = 1012.0) -> Statistics:
    return StatisticsReader(api).read(now)["pay"]  # type: ignore[arg-type]


KNOWN = {
    "messages": 3,
    "messages_ready": 2,
    "messages_unacknowledged": 1,
    "messages_ready_details": details(0, 1, 2, 2),
}


@pytest.mark.parametrize(
    ("api", "expected"),
    [
        pytest.param(Api({}), Statistics(), id="a queue without statistics"),
        pytest.param(Api(KNOWN, rates_mode="none"), Statistics(3, 1), id="a broker without rates"),
        pytest.param(Api(KNOWN, disable_stats=True), Statistics(3, 1), id="a broker without statistics"),
        pytest.param(
            Api(KNOWN),
            Statistics(3, 1, 0.0, 0.0, ((1000, 0, 0), (1005, 1, 0), (1010, 2, 0))),
            id="a queue in which nothing was counted yet",
        ),
        pytest.param(
            Api(
                {
                    **KNOWN,
                    "message_stats": {
                        "publish_details": {"rate": 2.5},
                        "ack_details": {"rate": 1.0},
                        "get_no_ack_details": {"rate": 0.5},
                        "deliver_get_details": details(0, 4, 9),
                        "redeliver_details": details(0, 1, 2),
                    },
                }
            ),
            Statistics(3, 1, 2.5, 1.5, ((1000, 0, 0), (1005, 1, 3), (1010, 2, 7))),
            id="a busy queue",
        ),
        pytest.param(Api(KNOWN, uptime=20_000), Statistics(3, 1, 0.0, 0.0, ((1010, 2, 0),)), id="a young broker"),
        pytest.param(Api(KNOWN, uptime=None), Statistics(3, 1, 0.0, 0.0), id="a node that has just started"),
        pytest.param(DeniesNodes(KNOWN), Statistics(3, 1, 0.0, 0.0), id="a user who may not see the nodes"),
    ],
)
def test_a_value_that_the_statistics_do_not_report_is_unknown_and_not_zero(api: Api, expected: Statistics) -> None:
    assert read(api) == expected
