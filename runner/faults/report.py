"""What a fault's command prints: what it did, what to expect, and what to type next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click

from runner.config.value import parse_duration
from runner.escape import json_text
from runner.faults.fault_project import FaultProject
from runner.faults.scenario import Scenario

#: Seconds; a fault that somebody forgets is over by then.
LONGEST = 3600.0


class Period(click.ParamType):  # type: ignore[type-arg]  # older ones of click take no argument
    """A duration such as 500ms or 2s, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it, or fail with what is allowed."""
        if isinstance(value, float):
            return value
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            self.fail(f"{str(error).replace(';', f', {value!r};', 1)}", param, ctx)
        if not 0 < seconds <= LONGEST:
            self.fail(f"out of range, {value!r}; allowed: more than 0s, up to 1h", param, ctx)
        return seconds


PERIOD = Period()
as_json = click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")


def is_period(text: str) -> bool:
    """Whether this is a duration and not a service's name."""
    return re.match(r"\d", text) is not None


def report(
    lab: FaultProject,
    scenario: Scenario,
    target: str,
    found: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    is_json: bool,
) -> None:
    """Tell of a fault that was injected: ``found`` is what programs want to know, such as ``pid`` or ``ids``."""
    did, expect, look = scenario.told(facts)
    if is_json:
        what = {"fault": scenario.name, "target": target, **found, "did": did, "expect": expect, "look": look}
        click.echo(json_text(what, indent=2))
        return
    click.echo(did)
    for title, lines in (("expect", expect), ("look", look)):
        click.echo(f"{title}:")
        for line in lines:
            click.echo(f"  {line}")
