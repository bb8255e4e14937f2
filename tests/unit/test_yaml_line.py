"""A YAML file as numbered lines: links from names, marks of edits, and the filter."""

from __future__ import annotations

import time

from runner.config.document import Document
from runner.dashboard.yaml_line import LineNote, NodeLinks, yaml_lines

TEXT = """\
# payment is a comment
queues:
  payment.order.created:
    bind: {orders.topic: ["payment.order.created"]}
  "audit.events":
    bind: {orders.topic: ["order.#"]}
"""
LINKS = NodeLinks(
    {name: f"queue {name}" for name in ("payment.order.created", "audit.events")}
    | {"orders.topic": "exchange orders.topic"},
    frozenset({"payment"}),
)


def lines(find: str = "", running: str | None = None, notes: dict[int, list[LineNote]] | None = None, text: str = TEXT):
    return yaml_lines(Document("topology.yaml", text, {}), notes or {}, LINKS, running, find)


def test_names_are_links_but_not_in_comments_and_routing_keys() -> None:
    found = {one.number: [part.href for part in one.parts if part.href] for one in lines() if one}
    assert found == {
        1: [],
        2: [],
        3: ["/?node=queue+payment.order.created"],
        4: ["/?node=exchange+orders.topic"],
        5: ["/?node=queue+audit.events"],
        6: ["/?node=exchange+orders.topic"],
    }
    assert ["".join(part.text for part in one.parts) for one in lines() if one] == TEXT.splitlines()


def test_a_service_is_a_link_only_at_its_own_entry() -> None:
    text = "services:\n  payment:\n    options: {payment: 1}\n"
    found = [part.href for one in lines(text=text) if one for part in one.parts if part.href]
    assert found == ["/?node=service+payment"]


def test_edited_lines_are_marked() -> None:
    before = TEXT.replace("order.#", "order.created")
    assert [one.number for one in lines(running=before) if one and one.is_edited] == [6]
    assert not any(one.is_edited for one in lines() if one)


def test_a_note_below_the_last_line_is_shown_at_the_last_line() -> None:
    found = lines(notes={3: [LineNote("warn", "a finding"), LineNote("bad", "an error")], 99: [LineNote("bad", "end")]})
    assert {one.number: (one.level, len(one.notes)) for one in found if one and one.notes} == {
        3: ("bad", 2),
        6: ("bad", 1),
    }


def test_the_filter_keeps_matches_with_the_keys_above_and_the_lines_below() -> None:
    found = lines("audit", notes={1: [LineNote("bad", "always shown")]})
    assert [one and one.number for one in found] == [1, 2, None, 5, 6]
    assert [one.number for one in found if one and one.is_match] == [5]
    assert lines("nothing") == [None]


def test_the_marks_of_edits_in_a_long_file_take_no_noticeable_time() -> None:
    before = [line for number in range(1500) for line in (f"  q{number}:", "    type: quorum", "    retry: 5s 30s")]
    after = [f"{line}x" if number % 7 == 0 else line for number, line in enumerate(before)]
    began = time.process_time()
    found = lines(text="\n".join(after), running="\n".join(before))
    assert time.process_time() - began < 5
    assert [one.number for one in found if one and one.is_edited] == list(range(1, len(after) + 1, 7))
