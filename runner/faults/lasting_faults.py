"""``fault slow``, ``cut``, ``list`` and ``clear``: faults that last for a while, told to workers by files."""

from __future__ import annotations

import time
from pathlib import Path

import click

from runner.config.value import format_duration
from runner.escape import json_text
from runner.faults.active import ActiveFault
from runner.faults.fault_project import PERIOD, FaultProject, as_json, is_period
from runner.faults.scenario import CUT, SLOW, report
from runner.invocation import invocation


@click.command(short_help="Make each handler of a service take longer.")
@click.argument("service")
@click.argument("delay", type=PERIOD)
@click.option("--for", "seconds", type=PERIOD, default="30s", show_default=True, help="How long it lasts.")
@as_json
@click.pass_obj
def slow(folder: Path, service: str, delay: float, seconds: float, is_json: bool) -> None:
    """Make each handler of a service take longer by DELAY, such as 2s, for a while.

    It holds for all processes of the service, also for those that start meanwhile.
    """
    lab = FaultProject.of(folder)
    settings = lab.consumer(service)
    active = ActiveFault("slow", service, time.time(), seconds, delay)
    lab.faults.write(f"slow.{service}", active)
    limit = settings.handler_timeout
    facts = lab.facts(service, settings) | {
        "delay": format_duration(delay), "until": active.clock, "handler_timeout": format_duration(limit),
        "overdue": 0 < limit < min(delay, seconds), "brief": 0 < limit < delay and seconds <= limit,
    }  # fmt: skip
    found = {"delay": delay, "seconds": seconds, "until": active.until}
    report(SLOW, service, found, facts, is_json=is_json)


@click.command(short_help="Take the broker away from all workers, or from a service's.")
@click.argument("seconds", metavar="[5s]", required=False)
@click.argument("service", metavar="[SERVICE]", required=False)
@as_json
@click.pass_obj
def cut(folder: Path, seconds: str | None, service: str | None, is_json: bool) -> None:
    """Take the broker away from all workers for a while, or from those of one service, as by a broken network.

    Their sockets are closed without a goodbye, and until the time is over they open no new ones.
    """
    if seconds is not None and not is_period(seconds):
        seconds, service = service, seconds  # the service alone, or before the time
    period = PERIOD.convert(seconds or "5s", None, None)
    lab = FaultProject.of(folder)
    services = lab.project.config.services
    if service is not None:
        lab.service(service)
    here = lab.status["services"]
    named = [service] if service is not None else [one for one in services if here.get(one)]
    active = ActiveFault("cut", service or "", time.time(), period)
    lab.faults.write("cut" if service is None else f"cut.{service}", active)
    facts = {
        "whom": f"{service} is" if service is not None else "all workers are", "until": active.clock,
        "api": any(services[one].publishes and not services[one].consumes for one in named),
        "consumes": any(services[one].consumes for one in named),
    }  # fmt: skip
    report(CUT, service or "", {"seconds": period, "until": active.until}, facts, is_json=is_json)


@click.command("list", short_help="What lasts now, and until when.")
@as_json
@click.pass_obj
def list_(folder: Path, is_json: bool) -> None:
    """Show the faults that last now: slow, cut, hang and duplicate, and until when."""
    lab = FaultProject.of(folder)
    active = lab.faults.active()
    look = [invocation(*(["fault", "clear"] if active else ["status"]))]
    if is_json:
        found = {"fault": "list", "target": "", "active": _objects(active), "expect": [], "look": look}
        click.echo(json_text(found, indent=2))
        return
    for one in active:
        click.echo(line_of(one))
    if not active:
        click.echo("no fault lasts now")


@click.command(short_help="End slow, cut, hang and duplicate at once.")
@as_json
@click.pass_obj
def clear(folder: Path, is_json: bool) -> None:
    """End all faults that last, at once; what hang has stopped goes on, whatever became of what was to let it go on."""
    lab = FaultProject.of(folder)
    ended = lab.faults.clear()
    look = [invocation("status")]
    if is_json:
        found = {"fault": "clear", "target": "", "ended": _objects(ended), "expect": [], "look": look}
        click.echo(json_text(found, indent=2))
        return
    for one in ended:
        click.echo(f"ended: {line_of(one)}")
    if any(one.fault == "cut" for one in ended):
        click.echo("workers connect again within 5 s")
    if not ended:
        click.echo("no fault lasted")


def line_of(active: ActiveFault) -> str:
    """One fault that lasts, in words."""
    words = [active.fault, active.target or "all workers"]
    words += [f"by {format_duration(active.delay)}"] if active.delay else []
    left = max(0.0, active.until - time.time())
    return f"{' '.join(words)} until {active.clock}, for {left:.1f} s more"


def _objects(active: list[ActiveFault]) -> list[dict[str, object]]:
    now = time.time()
    return [
        {
            "fault": one.fault, "target": one.target, "until": one.until, "left": round(max(0.0, one.until - now), 3),
            **({"delay": one.delay} if one.delay else {}),
        }
        for one in active
    ]  # fmt: skip
