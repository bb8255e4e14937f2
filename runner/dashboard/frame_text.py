"""A frame as text for a terminal, which fits into its width and height."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from runner.cli.status_command import duration
from runner.cli.table_columns import GAP, fitting_columns, width_of
from runner.cli.terminal import has_colour
from runner.dashboard.edge_rates import ends_of
from runner.dashboard.page_text import MISSING, clock, number, rate
from runner.escape import one_line

#: The minimum width of the column with names in characters, if other columns can be omitted instead.
NAME_WIDTH = 34
#: The columns of text in addition to the first column.
_LEFT = ("STATE",)
_STATES = {"running": "green", "fatal": "red", "backoff": "yellow", "starting": "cyan", "waiting": "cyan"}
_LEVELS = {"bad": "red", "warn": "yellow", "off": None}
_KINDS = {"crashed": "red", "fatal": "red", "refused": "red", "restarting": "yellow", "fault": "yellow"}


@dataclass
class ScreenSection:
    """A heading and rows. If there is not enough room, the rows with the lowest ranks are omitted."""

    head: Sequence[str]
    rows: list[Sequence[str]]
    #: The rank of each row, or an empty list if the first rows have the highest ranks.
    ranks: list[float] = field(default_factory=list)
    colours: list[str | None] = field(default_factory=list)
    #: The minimum number of rows.
    least: int = 3
    #: The columns to omit on a narrow terminal, with the least useful column first.
    dispensable: Sequence[str] = ()
    #: The word for the omitted rows.
    word: str = "lines"

    def lines(self, width: int | None, count: int) -> list[str]:
        """Return the heading and ``count`` rows. The last row names the number of omitted rows, if there are any."""
        if not self.rows or count < 1:
            return []
        chosen = list(range(len(self.rows)))
        if is_cut := len(chosen) > count:
            ranks = self.ranks or [-float(one) for one in chosen]
            chosen = sorted(sorted(chosen, key=lambda one: -ranks[one])[: max(1, count - 1)])
        text = self._table([self.rows[one] for one in chosen], width)
        head, *rows = text
        colours = self.colours or [None] * len(self.rows)
        lines = [styled(head, bold=True)] if any(self.head) else []
        lines += [styled(row, colours[one]) for row, one in zip(rows, chosen, strict=True)]
        return [*lines, f"… {len(self.rows) - len(chosen)} more {self.word}"] if is_cut and count > 1 else lines

    def _table(self, rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
        table = [self.head, *rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.head))]
        longest, widths[0] = widths[0], min(widths[0], NAME_WIDTH)
        shown, _ = fitting_columns(self.head, widths, width, self.dispensable)
        others = width_of([widths[one] for one in shown[1:]]) + len(GAP) if len(shown) > 1 else 0
        widths[0] = longest if width is None else max(8, min(longest, width - others))
        return [GAP.join(self._cell(row, one, widths[one]) for one in shown).rstrip() for row in table]

    def _cell(self, row: Sequence[str], column: int, width: int) -> str:
        text = row[column] if len(row[column]) <= width else row[column][: width - 1] + "…"
        return text.ljust(width) if not column or self.head[column] in _LEFT else text.rjust(width)


def frame_text(
    frame: Mapping[str, Any], timeline: Sequence[Mapping[str, Any]], width: int | None, height: int | None
) -> str:
    """Return a frame as text. None for ``width`` or ``height``, in characters, means that there is no limit."""
    sections = [_services(frame), _queues(frame), _edges(frame), _timeline(timeline, unlimited=height is None)]
    lines = [_heading(frame, width)]
    symptoms = _symptoms(frame)
    room = None if height is None else height - len(lines)
    counts = shared([symptoms, *sections], room)
    lines += symptoms.lines(width, counts[0])
    # A blank line before each section, if there is room for all of them.
    blocks = [one.lines(width, count) for one, count in zip(sections, counts[1:], strict=True)]
    blocks = [block for block in blocks if block]
    is_roomy = height is None or len(lines) + sum(map(len, blocks)) + len(blocks) <= height
    for block in blocks:
        lines += ["", *block] if is_roomy else block
    return "\n".join(lines[:height])


def shared(sections: Sequence[ScreenSection], room: int | None) -> list[int]:
    """Return the number of rows of each section, so that all sections with their headings fit into ``room`` lines.

    If the room is too small for the minimum of all sections, the last sections are omitted.
    """
    wanted = [len(one.rows) for one in sections]
    if room is None:
        return wanted
    given = [0] * len(sections)
    for place, one in enumerate(sections):
        heading = int(any(one.head))
        # A heading above a line that only counts rows would be useless.
        if wanted[place] and room >= heading + min(wanted[place], 1 + heading):
            given[place] = min(wanted[place], one.least, room - heading)
            room -= heading + given[place]
    while room > 0 and any(0 < count < most for count, most in zip(given, wanted, strict=True)):
        for place, most in enumerate(wanted):
            if room > 0 and 0 < given[place] < most:
                given[place] += 1
                room -= 1
    return given


def styled(text: str, colour: str | None = None, *, bold: bool = False) -> str:
    """Return a text in a colour, if the output shows colours."""
    return click.style(text, fg=colour, bold=bold or None) if has_colour() and (colour or bold) else text


def _heading(frame: Mapping[str, Any], width: int | None) -> str:
    runner = frame["runner"]
    text = frame["title"]
    if frame["live"] == "ok" and runner:
        text += f", pid {runner['pid']}, up {duration(runner['uptime'])}{', stopping' if runner['stopping'] else ''}"
    now = clock(frame["time"] or time.time())
    gap = 2 if width is None else max(2, width - len(text) - len(now))
    return styled(f"{text}{' ' * gap}{now}", bold=True)


def _symptoms(frame: Mapping[str, Any]) -> ScreenSection:
    found = frame["symptoms"]
    rows = [[one_line(f"{'-' if one['level'] == 'off' else '!'} {one['subject']} {one['text']}")] for one in found]
    return ScreenSection([""], [*rows], colours=[_LEVELS[one["level"]] for one in found], word="problems")


def _services(frame: Mapping[str, Any]) -> ScreenSection:
    head = ("SERVICE", "STATE", "MSG/S", "IN FLIGHT", "HANDLER", "CPU", "MEMORY", "RESTARTS")
    rows: list[Sequence[str]] = []
    ranks: list[float] = []
    colours: list[str | None] = []
    for name, service in frame["services"].items():
        slots = [one for one in frame["slots"].values() if one["service"] == name]
        title = name if service["count"] == 1 else f"{name} {service['instances']}"
        busy = max(service["handled_rate"], service["published_rate"])
        rows.append([title, service["state"].upper(), rate(busy), *_load(slots, service["handler_time"])])
        ranks.append(1e9)
        colours.append(None if service["state"] == "running" else _STATES.get(service["state"]))
        for slot in slots if len(slots) > 1 else ():
            label = f"  {slot['slot']}" + {"fresh": " (new)", "old": " (old)"}.get(slot["role"], "")
            rows.append([label, slot["state"], rate(slot["messages_per_second"]), *_load([slot], "")])
            ranks.append(0.0 if slot["state"] == "RUNNING" else 1.0)
            colours.append(None if slot["state"] == "RUNNING" else _STATES.get(slot["state"].lower()))
    return ScreenSection(head, rows, ranks, colours, 6, ("RESTARTS", "MEMORY", "CPU", "HANDLER"), "slots")


def _load(slots: Sequence[Mapping[str, Any]], handler_time: str) -> list[str]:
    """Return the cells that a service and a slot have in common."""

    def total(name: str) -> float | None:
        values = [one[name] for one in slots if one.get(name) is not None]
        return sum(values) if values else None

    cpu, memory = total("cpu_percent"), total("memory")
    return [
        number(total("in_hand")),
        handler_time,
        MISSING if cpu is None else f"{cpu:.1f}%",
        MISSING if memory is None else f"{memory / 2**20:.0f}M",
        number(total("restarts")),
    ]


def _queues(frame: Mapping[str, Any]) -> ScreenSection:
    head = ("QUEUE", "READY", "UNACKED", "RETRY", "DEAD", "GROWTH", "MSG/S", "CONSUMERS")
    rows: list[Sequence[str]] = []
    ranks: list[float] = []
    colours: list[str | None] = []
    for name, one in frame["queues"].items():
        growth = one["growth_rate"]
        rows.append([
            one_line(name), *(number(one[figure]) for figure in ("ready", "unacked", "retry", "dead")),
            MISSING if growth is None else f"{growth:+.1f}/s" if growth else "0", one["rate"].removesuffix("/s"),
            number(one["consumers"]),
        ])  # fmt: skip
        waiting = sum(one[figure] or 0 for figure in ("ready", "unacked", "retry", "dead"))
        ranks.append(1e9 if one.get("missing") else waiting + float(one["rate"].removesuffix("/s").replace(",", "")))
        is_bad = one["dead"] or one.get("unrouted") or one.get("missing")
        colours.append("red" if is_bad else None)
    return ScreenSection(head, rows, ranks, colours, 5, ("CONSUMERS", "UNACKED", "MSG/S", "GROWTH"), "queues")


def _edges(frame: Mapping[str, Any]) -> ScreenSection:
    rows: list[Sequence[str]] = []
    for edge, count in sorted(frame["edges"].items(), key=lambda item: -item[1]):
        source, target = ends_of(edge)
        rows.append([one_line(f"{_name(source)} → {_name(target)}"), rate(count)])
    return ScreenSection(("EDGE", "MSG/S"), rows, word="edges")


def _name(end: str) -> str:
    """Return the name of one end of an edge. Names of queues are in brackets, as in the diagram of the tour."""
    kind, _, name = end.partition(" ")
    if kind in ("service", "exchange"):
        return name
    return {"queue": f"[{name}]", "retry": f"[{name}] retry", "dead": f"[{name}] dead letters"}.get(kind, end)


def _timeline(entries: Sequence[Mapping[str, Any]], *, unlimited: bool) -> ScreenSection:
    rows: list[Sequence[str]] = []
    colours: list[str | None] = []
    # The newest entries come first, so that they stay if there is not enough room.
    for one in sorted(entries, key=lambda entry: -entry["time"])[: 10 if unlimited else None]:
        rows.append([one_line(f"{clock(one['time'])}  {one['subject']}: {one['text']}")])
        colours.append(_KINDS.get(one["kind"]))
    return ScreenSection(("LATEST CHANGES",), rows, colours=colours, word="changes")
