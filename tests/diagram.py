"""The command ``python -m tests.diagram``: draws the product's states of a delivery for docs/delivery.md."""

from __future__ import annotations

from html import escape

from runner.worker.delivery import TRANSITIONS, DeliveryState
from tests.running import ROOT

PAGE, PICTURE = ROOT / "docs" / "delivery.md", ROOT / "docs" / "delivery.svg"
#: The first lines of the table in the page. The table ends at an empty line.
HEADING = "| state | event | action of the worker | next state |\n|---|---|---|---|\n"
S = DeliveryState
#: The centre of each state in the picture.
PLACES = {
    S.RECEIVED: (90, 60), S.HANDLING: (280, 60), S.PUBLISHING: (600, 60), S.RECORDING: (885, 60),
    S.POSTPONED: (90, 220), S.COMMITTING: (450, 220), S.FAILED: (330, 380),
    S.RETRYING: (630, 340), S.DEAD_LETTERING: (630, 480),
    S.ACKED: (905, 420), S.REJECTED: (330, 500), S.REQUEUED: (90, 380),
}  # fmt: skip
#: The point towards which an arrow bends, for arrows that would cross a state.
BENDS = {
    (S.PUBLISHING, S.FAILED): (560, 310), (S.RETRYING, S.RECORDING): (700, 180),
    (S.DEAD_LETTERING, S.RECORDING): (820, 340), (S.COMMITTING, S.POSTPONED): (280, 250),
    (S.HANDLING, S.POSTPONED): (150, 130), (S.POSTPONED, S.HANDLING): (255, 190), (S.RECORDING, S.ACKED): (907, 240),
}  # fmt: skip
#: The width of a state with short lines and with long lines, the height of a state without lines, and that of a line.
WIDTH, WIDE, HEIGHT, LINE = 120, 204, 26, 13
STYLE = """\
.card { fill: #f6f8fa } text { fill: #1f2328 } .note { fill: #57606a; font-size: 11px }
.state { fill: #ddf4ff; stroke: #0969da } .end { fill: #dafbe1; stroke: #1a7f37 }
.way { fill: none; stroke: #57606a; stroke-width: 1.4 } .tip { fill: #57606a }
@media (prefers-color-scheme: dark) {
.card { fill: #161b22 } text { fill: #e6edf3 } .note { fill: #9198a1 }
.state { fill: #0c2d5a; stroke: #4493f8 } .end { fill: #0f2f1a; stroke: #3fb950 }
.way { stroke: #9198a1 } .tip { fill: #9198a1 }
}"""


def table() -> str:
    """Return every transition as a table of the page."""
    rows = [f"| {before} | {event} | {do} | {after} |" for (before, event), (after, do) in TRANSITIONS.items()]
    return HEADING + "\n".join(rows) + "\n"


def tabled(page: str) -> str:
    """Return the table in a page. Raises ValueError if there is none."""
    start = page.index(HEADING)
    return page[start : page.index("\n\n", start) + 1]


def picture() -> str:
    """Return the states as SVG. An arrow is a change to another state. The text in a state has its other events."""
    events: dict[tuple[S, S], list[str]] = {}
    for (before, event), (after, _) in TRANSITIONS.items():
        events.setdefault((before, after), []).append(event)
    arrows = {ends: names for ends, names in events.items() if _is_drawn(*ends)}
    parts = [_arrow(*ends) for ends in arrows]
    parts += [_state(state) for state in S]
    parts += [_label(ends, ", ".join(names)) for ends, names in arrows.items()]
    return "\n".join([
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 540" width="1000" height="540"'
        ' font-family="system-ui, -apple-system, \'Segoe UI\', \'DejaVu Sans\', sans-serif" font-size="13"'
        ' text-anchor="middle">',
        "<title>The states of a delivery</title>",
        f"<style>\n{STYLE}\n</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="tip" d="M0 0 8 4 0 8z"/></marker></defs>',
        '<rect class="card" width="1000" height="540" rx="10"/>', *parts, "</svg>\n",
    ])  # fmt: skip


def _is_drawn(before: S, after: S) -> bool:
    return before is not after and (after not in (S.REQUEUED, S.REJECTED) or before is S.FAILED)


def _notes(state: S) -> list[str]:
    """Return the events of a state that are no arrows, with what follows."""
    found: dict[S, list[str]] = {}
    for (before, event), (after, _) in TRANSITIONS.items():
        if before is state and not _is_drawn(before, after):
            found.setdefault(after, []).append(event)
    return [f"{', '.join(names)}: {'again' if after is state else after}" for after, names in found.items()]


def _size(state: S) -> tuple[int, int]:
    notes = _notes(state)
    return WIDE if any(len(note) > 24 for note in notes) else WIDTH, HEIGHT + (LINE * len(notes) + 4 if notes else 0)


def _state(state: S) -> str:
    (x, y), (width, height) = PLACES[state], _size(state)
    kind = "state" if any(before is state for before, _ in TRANSITIONS) else "end"
    top = y - height // 2
    box = f'<rect class="{kind}" x="{x - width // 2}" y="{top}" width="{width}" height="{height}" rx="8"/>'
    rows = [f'<text x="{x}" y="{top + 17}">{state}</text>']
    for row, note in enumerate(_notes(state), 1):
        rows.append(f'<text class="note" x="{x}" y="{top + 19 + LINE * row}">{escape(note)}</text>')
    return box + "".join(rows)


def _bend(before: S, after: S) -> tuple[float, float]:
    (x1, y1), (x2, y2) = PLACES[before], PLACES[after]
    return BENDS.get((before, after), ((x1 + x2) / 2, (y1 + y2) / 2))


def _edge(state: S, towards: tuple[float, float]) -> tuple[float, float]:
    """Return the point at which the line from a state's centre leaves its box."""
    (x, y), (to_x, to_y), (width, height) = PLACES[state], towards, _size(state)
    scale = max(abs(to_x - x) / (width / 2 + 3), abs(to_y - y) / (height / 2 + 3))
    return x + (to_x - x) / scale, y + (to_y - y) / scale


def _arrow(before: S, after: S) -> str:
    bend = _bend(before, after)
    (x1, y1), (x2, y2) = _edge(before, bend), _edge(after, bend)
    path = f"M{x1:.0f} {y1:.0f}Q{bend[0]:.0f} {bend[1]:.0f} {x2:.0f} {y2:.0f}"
    return f'<path class="way" marker-end="url(#tip)" d="{path}"/>'


def _label(ends: tuple[S, S], text: str) -> str:
    bend = _bend(*ends)
    (x1, y1), (x2, y2) = (_edge(state, bend) for state in ends)
    x, y = x1 / 4 + bend[0] / 2 + x2 / 4, y1 / 4 + bend[1] / 2 + y2 / 4
    words = text.split(", ")
    lines = [", ".join(words[start : start + 2]) for start in range(0, len(words), 2)]
    wide, high = 6.2 * max(map(len, lines)) + 6, LINE * len(lines) + 2
    box = f'<rect class="card" x="{x - wide / 2:.0f}" y="{y - 8:.0f}" width="{wide:.0f}" height="{high}"/>'
    rows = [
        f'<text class="note" x="{x:.0f}" y="{y + 3 + LINE * row:.0f}">{line}</text>' for row, line in enumerate(lines)
    ]
    return box + "".join(rows)


if __name__ == "__main__":
    text = PAGE.read_text("utf-8")
    PAGE.write_text(text.replace(tabled(text), table()), "utf-8")
    PICTURE.write_text(picture(), "utf-8")
