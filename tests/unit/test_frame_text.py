"""A frame as text for a terminal: everything that is not normal first, and never more lines than the terminal has."""

from __future__ import annotations

from typing import Any

import pytest

from runner.dashboard import frame_text as module
from runner.dashboard.frame_text import ScreenSection, frame_text, shared
from runner.dashboard.page_text import MISSING
from runner.dashboard.symptom import symptoms_of, title_of

TIMES = "\N{MULTIPLICATION SIGN}"


def slot(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "slot": name, "service": name.partition(".")[0], "role": "holder", "state": "RUNNING", "why": "consuming",
        "problem": "", "in_hand": 3, "cpu_percent": 1.25, "memory": 40 << 20, "restarts": 0,
        "messages_per_second": 4.5, **changes,
    }  # fmt: skip


def service(count: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "instances": f"{TIMES}{count}", "count": count, "state": "running", "handled_rate": 9.0,
        "published_rate": 2.0, "handler_time": "52 ms", **changes,
    }  # fmt: skip


def queue(**changes: Any) -> dict[str, Any]:
    return {
        "ready": 0, "unacked": 0, "retry": 0, "dead": 0, "growth_rate": 0.0, "rate": "0/s", "consumers": 1,
        "consumed_by": ["payment"], **changes,
    }  # fmt: skip


def frame(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "n": 2, "time": 1790000000.0, "live": "ok", "runner": {"pid": 42, "uptime": 75.0, "stopping": False},
        "services": {"payment": service(2), "order_api": service(handler_time=MISSING)},
        "slots": {one: slot(one) for one in ("payment.1", "payment.2", "order_api.1")},
        "queues": {"payment.order.created": queue(ready=7, growth_rate=1.5, rate="9.0/s", consumers=2)},
        "edges": {"service order_api>exchange orders.topic": 2.0, "service payment>dead payment.order.created": 9.5},
        **changes,
    }  # fmt: skip
    return {**found, "symptoms": symptoms_of(found), "title": title_of(found)}


CRASH = {"time": 1790000000.0, "kind": "crashed", "subject": "payment.1", "text": "exited with status 1"}
#: A system with 60 queues, 20 services and many problems.
LARGE = frame(
    services={f"service_{number}": service(3) for number in range(20)},
    slots={f"service_{n}.{m}": slot(f"service_{n}.{m}") for n in range(20) for m in range(3)}
    | {"service_7.2": slot("service_7.2", state="FATAL", why="exited with status 1")},
    queues={f"a.queue.with.a.long.name.number.{number}": queue() for number in range(59)}
    | {"the.queue.with.dead.letters": queue(dead=3, rate="1,204/s")},
    edges={f"service service_{number}>exchange events": float(number) for number in range(20)},
)


def test_the_text_shows_services_slots_queues_edges_and_changes() -> None:
    text = frame_text(frame(), [CRASH], None, None)
    rows = [line.split() for line in text.splitlines()]
    assert rows[0][:6] == ["FastCommerce,", "pid", "42,", "up", "1m", "15s"]
    assert ["payment", f"{TIMES}2", "RUNNING", "9.0", "6", "52", "ms", "2.5%", "80M", "0"] in rows
    assert ["payment.1", "RUNNING", "4.5", "3", "1.2%", "40M", "0"] in rows
    assert ["payment.order.created", "7", "0", "0", "0", "+1.5/s", "9.0", "2"] in rows
    assert "order_api.1" not in text, "a service with one slot is one row"
    edges = [line for line in text.splitlines() if "→" in line]
    assert [line.split("  ")[0] for line in edges] == [
        "payment → [payment.order.created] dead letters", "order_api → orders.topic",
    ]  # fmt: skip
    assert text.splitlines()[-1].endswith("payment.1: exited with status 1")


def test_everything_that_is_not_normal_comes_first() -> None:
    found = frame(
        slots={"payment.1": slot("payment.1", state="STOPPED", why="start it"), "payment.2": slot("payment.2")},
        queues={"payment.order.created": queue(dead=2)},
    )
    head, *lines = frame_text(found, [], 100, 24).splitlines()
    assert head.startswith("2 dead · FastCommerce, pid 42")
    assert lines[0] == "! payment.order.created has 2 dead letters."
    assert lines[1].startswith("- payment.1 was stopped")


@pytest.mark.parametrize(
    ("queues", "slots", "text"),
    [
        ({"pay": queue(ready=1, consumers=0)}, {}, "has no consumer, and 1 message is ready."),
        ({"pay": queue(ready=1204, consumers=0)}, {}, "has no consumer, and 1,204 messages are ready."),
        ({"pay": queue(ready=12, growth=1, growth_rate=1.0)}, {}, "grows by 1 message a second, and 12 are ready."),
        ({"pay": queue(ready=12, growth=1, growth_rate=1.5)}, {}, "grows by 1.5 messages a second, and 12 are ready."),
        ({}, {"pay.1": slot("pay.1", state="STOPPED", why="start it with: x")}, "was stopped. Start it with: x"),
        ({}, {"pay.1": slot("pay.1", state="STOPPED", why="")}, "was stopped."),
    ],
)
def test_the_sentence_of_a_problem_is_correct_for_one_and_for_many(
    queues: dict[str, Any], slots: dict[str, Any], text: str
) -> None:
    (found,) = symptoms_of(frame(queues=queues, slots=slots))
    assert found["text"] == text


def test_a_supervisor_that_does_not_answer_is_the_first_problem() -> None:
    found = frame(live="no supervisor is running", runner={}, services={}, slots={}, queues={}, edges={})
    lines = frame_text(found, [], 80, 24).splitlines()
    assert lines[0].startswith("no supervisor · FastCommerce")
    assert lines[1] == "! The supervisor does not answer: no supervisor is running"


@pytest.mark.parametrize("height", [1, 2, 5, 10, 23, 40, 60, 200])
def test_a_large_system_fits_into_the_height_of_the_terminal(height: int) -> None:
    lines = frame_text(LARGE, [CRASH] * 500, 80, height).splitlines()
    assert len(lines) <= height
    assert len(lines) == height or not 10 <= height <= 60, "no line is wasted"


def test_on_a_terminal_of_80_by_24_the_rows_that_matter_stay() -> None:
    lines = frame_text(LARGE, [CRASH] * 500, 80, 23).splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "! service_7.2 has failed: exited with status 1" in text
    assert "the.queue.with.dead.letters" in text
    assert "service_19 → events" in text
    for word in ("slots", "queues", "edges", "changes"):
        assert f" more {word}" in text


def test_the_name_of_a_queue_is_cut_only_if_no_other_column_can_be_omitted() -> None:
    long = "a" * 100
    found = frame(queues={long: queue(ready=7)})
    for width in (60, 80, 120):
        (line,) = (one for one in frame_text(found, [], width, None).splitlines() if one.startswith("aaa"))
        name = line.split()[0]
        assert len(line) <= width
        assert name.endswith("…")
        assert len(name) >= 34
    assert f"{long}  " in frame_text(found, [], None, None)


def test_control_characters_in_names_and_reasons_are_escaped() -> None:
    found = frame(queues={"evil\x1b[2J": queue()}, slots={"payment.1": slot("payment.1", state="FATAL", why="a\nb")})
    text = frame_text(found, [{**CRASH, "text": "first\nsecond"}], None, None)
    assert "\x1b" not in text
    assert r"evil\x1b[2J" in text
    assert r"first\nsecond" in text


def test_colours_appear_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in frame_text(LARGE, [CRASH], 80, 24)
    monkeypatch.setattr(module, "has_colour", lambda: True)
    text = frame_text(LARGE, [CRASH], 80, 24)
    assert "\x1b[31m! service_7.2 has failed" in text
    assert "\x1b[31mthe.queue.with.dead.letters" in text


def test_room_is_shared_between_sections_and_the_last_sections_give_way() -> None:
    sections = [ScreenSection(["A"], [["a"]] * rows, least=3) for rows in (2, 10, 10)]
    assert shared(sections, None) == [2, 10, 10]
    assert shared(sections, 100) == [2, 10, 10]
    assert shared(sections, 15) == [2, 5, 5]
    assert shared(sections, 10) == [2, 3, 2]
    assert shared(sections, 8) == [2, 4, 0]
    assert shared(sections, 3) == [2, 0, 0]
    assert shared(sections, 1) == [0, 0, 0]
