"""The ``fault slow``, ``disconnect``, ``list`` and ``clear`` commands, which start, list and end active faults."""

from __future__ import annotations

import time
from pathlib import Path

import click

from runner.config.value import format_duration
from runner.escape import json_text
from runner.faults.active import ActiveFault
from runner.faults.fault_project import PERIOD, FaultProject, as_json, is_period
from runner.faults.scenario import DISCONNECT, SLOW, report
from runner.invocation import invocation
from runner.supervisor.control.client import post_note


@click.command(short_help="Delay each handler of a service.")
@click.argument("service")
@click.argument("delay", type=PERIOD)
@click.option("--for", "seconds", type=PERIOD, default="30s", show_default=True, help="The duration of the fault.")
@as_json
@click.pass_obj
def slow(folder: Path, service: str, delay: float, seconds: float, is_json: bool) -> None:
    """Delay each handler of a service by DELAY, such as 2s.

    The fault affects all processes of the service, including processes that start during the fault.
    """
    fault_project = FaultProject.of(folder)
    settings = fault_project.consumer(service)
    active = ActiveFault("slow", service, time.time(), seconds, delay)
    fault_project.faults.write(f"slow.{service}", active)
    limit = settings.handler_timeout
    facts = fault_project.facts(service, settings) | {
        "delay": format_duration(delay), "until": active.clock, "handler_timeout": format_duration(limit),
        "overdue": 0 < limit < min(delay, seconds), "brief": 0 < limit < delay and seconds <= limit,
    }  # fmt: skip
    found = {"delay": delay, "seconds": seconds, "until": active.until}
    report(folder, SLOW, service, found, facts, is_json=is_json)


@click.command(short_help="Disconnect the workers of all services, or of one service, from the broker.")
@click.argument("seconds", metavar="[5s]", required=False)
@click.argument("service", metavar="[SERVICE]", required=False)
@as_json
@click.pass_obj
def disconnect(folder: Path, seconds: str | None, service: str | None, is_json: bool) -> None:
    """Disconnect the workers of all services, or of one service, from the broker, as a broken network would.

    The workers close their sockets without closing the AMQP connection, and open no new sockets until the fault ends.
    """
    if seconds is not None and not is_period(seconds):
        seconds, service = service, seconds  # the service was given alone or first
    period = PERIOD.convert(seconds or "5s", None, None)
    fault_project = FaultProject.of(folder)
    services = fault_project.project.config.services
    if service is not None:
        fault_project.service(service)
    here = fault_project.status["services"]
    named = [service] if service is not None else [one for one in services if here.get(one)]
    active = ActiveFault("disconnect", service or "", time.time(), period)
    fault_project.faults.write("disconnect" if service is None else f"disconnect.{service}", active)
    facts = {
        "whom": f"{service} is" if service is not None else "all workers are", "until": active.clock,
        "api": any(services[one].publishes and not services[one].consumes for one in named),
        "consumes": any(services[one].consumes for one in named),
    }  # fmt: skip
    report(folder, DISCONNECT, service or "", {"seconds": period, "until": active.until}, facts, is_json=is_json)


@click.command("list", short_help="List active faults.")
@as_json
@click.pass_obj
def list_(folder: Path, is_json: bool) -> None:
    """List the active faults and their end times. Only slow, disconnect, pause and duplicate faults have a duration."""
    fault_project = FaultProject.of(folder)
    active = fault_project.faults.active()
    look = [invocation(*(["fault", "clear"] if active else ["status"]))]
    if is_json:
        found = {"fault": "list", "target": "", "active": _objects(active), "expect": [], "look": look}
        click.echo(json_text(found, indent=2))
        return
    for one in active:
        click.echo(line_of(one))
    if not active:
        click.echo("no fault is active")


@click.command(short_help="End all active faults.")
@as_json
@click.pass_obj
def clear(folder: Path, is_json: bool) -> None:
    """End all active faults immediately, and resume all paused processes."""
    fault_project = FaultProject.of(folder)
    ended = fault_project.faults.clear()
    for one in ended:
        post_note(folder, "fault", one.target or "all workers", f"fault clear: {one.fault} ended")
    look = [invocation("status")]
    if is_json:
        found = {"fault": "clear", "target": "", "ended": _objects(ended), "expect": [], "look": look}
        click.echo(json_text(found, indent=2))
        return
    for one in ended:
        click.echo(f"ended: {line_of(one)}")
    if any(one.fault == "disconnect" for one in ended):
        click.echo("workers reconnect within 5 s")
    if not ended:
        click.echo("no fault was active")


def line_of(active: ActiveFault) -> str:
    """Return a description of an active fault in one line."""
    words = [active.fault, active.target or "all workers"]
    words += [f"by {format_duration(active.delay)}"] if active.delay else []
    left = max(0.0, active.until - time.time())
    return f"{' '.join(words)} until {active.clock}, {left:.1f} s left"


def _objects(active: list[ActiveFault]) -> list[dict[str, object]]:
    now = time.time()
    return [
        {
            "fault": one.fault, "target": one.target, "until": one.until, "left": round(max(0.0, one.until - now), 3),
            **({"delay": one.delay} if one.delay else {}),
        }
        for one in active
    ]  # fmt: skip
