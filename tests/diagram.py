"""``python -m tests.diagram`` writes the states of a delivery into docs/delivery.md, from the table of the product."""

from __future__ import annotations

from runner.worker.delivery import ENDS, TRANSITIONS, DeliveryState
from tests.running import ROOT

PAGE = ROOT / "docs" / "delivery.md"
FIRST, LAST = "```mermaid\nstateDiagram-v2\n", "```\n"


def diagram() -> str:
    """All states and transitions as a state diagram of Mermaid."""
    edges: dict[tuple[str, str, str], list[str]] = {}
    for (before, event), (after, action) in TRANSITIONS.items():
        edges.setdefault((_name(before), _name(after), action), []).append(event)
    lines = [f'state "{state}" as {_name(state)}' for state in DeliveryState if _name(state) != state]
    lines.append(f"[*] --> {DeliveryState.RECEIVED}")
    lines += [f"{before} --> {after}: {', '.join(events)} / {do}" for (before, after, do), events in edges.items()]
    lines += [f"{state} --> [*]" for state in ENDS]
    return FIRST + "".join(f"    {line}\n" for line in lines) + LAST


def _name(state: DeliveryState) -> str:
    return state.replace("-", "_")


def drawn(page: str) -> str:
    """The diagram in a page. Raises ValueError if there is none."""
    start = page.index(FIRST)
    return page[start : page.index(LAST, start + len(FIRST)) + len(LAST)]


if __name__ == "__main__":
    page = PAGE.read_text("utf-8")
    PAGE.write_text(page.replace(drawn(page), diagram()), "utf-8")
