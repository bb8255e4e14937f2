"""One dead letter in the page: its facts, its traceback, its body and its headers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from runner.deadletters.dead_letter import DeadLetter, text_of
from runner.deadletters.message_text import body_lines, facts_of, header_lines, one_line
from runner.deadletters.snapshot import SnapshotDeadLetter
from runner.escape import escaped
from runner.headers import TRACEBACK

#: The maximum number of characters of a body that the page shows, and that a reader can edit.
MAX_SHOWN, MAX_EDITED = 100_000, 1_000_000
#: The parts of a message between which the reader chooses.
VIEWS = ("traceback", "body", "headers")
#: The facts that are always visible. The headers of a message follow the other facts.
_MAIN_FACTS = frozenset(
    {
        "type", "published by", "failed in", "dead-lettered", "attempts", "replays", "first error", "previous error",
        "service", "signal",
    }
)  # fmt: skip


def dead_letter_facts(one: SnapshotDeadLetter | None) -> dict[str, list[tuple[str, str]]]:
    """Return the facts about a message: those that are always visible, and the others."""
    found: dict[str, list[tuple[str, str]]] = {"main": [], "other": []}
    for label, value in facts_of(one.message, one.origin) if one is not None else ():
        is_repeated = label == "first error" and one is not None and value == one.message.error_without_id
        if value not in (None, "", "-") and not is_repeated:
            found["main" if label in _MAIN_FACTS else "other"].append((label, one_line(value)))
    return found


def dead_letter_views(
    one: SnapshotDeadLetter | None, chosen: str, facts: dict[str, list[tuple[str, str]]]
) -> dict[str, Any]:
    """Return the parts of a message that exist, with the lines of the chosen part."""
    if one is None:
        return {}
    message = one.message
    traceback = text_of(message.headers.get(TRACEBACK, ""))
    names = [name for name in VIEWS if name != "traceback" or traceback]
    name = chosen if chosen in names else names[0]
    marked = range(0)
    if name == "traceback":
        lines = [escaped(line) for line in traceback.splitlines()]
        marked = _lines_of_frame(lines, one)
    elif name == "body":
        lines = body_lines(message.body)
    else:
        lines = [*(f"{label}: {value}" for label, value in facts["other"]), "", *header_lines(message.headers)]
    shown = list(_limited(lines))
    return {"names": names, "chosen": name, "lines": shown, "is_cut": len(shown) < len(lines), "marked": marked}


def _lines_of_frame(lines: Sequence[str], one: SnapshotDeadLetter) -> range:
    """Return the numbers of the lines about the frame that is part of the fingerprint."""
    frame = one.cause.frame
    end = "" if frame is None else f", line {frame.line}, in {frame.function}"
    found = [number for number, line in enumerate(lines) if frame and line.endswith(end) and frame.file in line]
    return range(found[-1], found[-1] + 2) if found else range(0)


def _limited(lines: Sequence[str]) -> Iterator[str]:
    room = MAX_SHOWN
    for line in lines:
        if room <= 0:
            return
        yield line[:room]
        room -= len(line) + 1


def why_not_edited(message: DeadLetter, *, is_masked: bool) -> str | None:
    """Return the reason why a body cannot be edited in the page, or None."""
    if is_masked:
        return "mask_personal_data is on, so the page does not show whole bodies; use dlq replay --body FILE"
    if len(message.body) > MAX_EDITED:
        return f"the body has {len(message.body):,} bytes; use dlq replay --body FILE"
    try:
        message.body.decode()
    except UnicodeDecodeError:
        return "the body is not text; use dlq replay --body FILE"
    return None
