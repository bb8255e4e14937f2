"""The ``status`` command, which shows the state of the supervisor and its services."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from runner.cli.table_columns import GAP, fitting_columns, no_room, width_of
from runner.cli.terminal import has_colour, redrawn, terminal_width, wrapped
from runner.errors import EXIT_FAILURE, EXIT_OK, RunnerError
from runner.supervisor.control.client import NoRunner, ask

#: Seconds between two updates with --watch.
INTERVAL = 1.0
#: Seconds between two requests to the broker with --watch. The broker logs a connection for each request.
READY_INTERVAL = 5.0
#: Seconds within which the supervisor must answer.
PATIENCE = 10.0
#: Seconds within which the broker must report the ready messages.
READY_TIMEOUT = 1.0
_HEAD = ("SLOT", "STATE", "PID", "UPTIME", "RESTARTS", "CPU", "MEMORY", "MSG/S", "READY", "IN FLIGHT")
_RIGHT = range(2, 10)
#: The columns to omit on a narrow terminal, with the least useful column first.
_DISPENSABLE = ("MEMORY", "CPU", "MSG/S", "UPTIME", "RESTARTS", "PID", "IN FLIGHT", "READY")
#: The minimum width of the WHY column in characters. If less room is left, the reason is shown below the row.
_LEAST_ROOM = 40
_COLOURS = {"RUNNING": "green", "FATAL": "red", "BACKOFF": "yellow", "STARTING": "cyan", "WAITING": "cyan"}


@click.command(short_help="Show the state of every service, and the reason for it.")
@click.option("--json", "as_json", is_flag=True, help="Print the status as one JSON object.")
@click.option("--watch", is_flag=True, help="Update the status every second, until Ctrl-C.")
@click.argument("service", required=False)
@click.pass_obj
def status(folder: Path, service: str | None, as_json: bool, watch: bool) -> None:
    """Show the state of all services or of one service, with the reason for each state.

    CPU is the CPU time that the process used over the last few seconds, as a percentage of one core. MSG/S is the
    number of messages handled or events published per second. READY is the number of ready messages in the service's
    queues, or "-" if the broker does not answer within a second. With --watch and --json, prints one JSON object per
    line. Exits with 0 if every service that should be running is running, and otherwise with 1.
    """
    ready: dict[str, int | None] = {}
    due = 0.0
    while True:
        try:
            (found,) = ask(folder, "status", patience=PATIENCE)
        except NoRunner as error:
            if not watch:
                raise
            found = {"error": str(error)}
        if "error" not in found:
            if time.monotonic() >= due:
                ready, due = ready_messages(folder), time.monotonic() + READY_INTERVAL
            found["ready"] = dict(ready)
            if service is not None:
                _choose(found, service)
        if as_json:
            found.pop("ok", None)
            click.echo(json.dumps(found, indent=None if watch else 2, ensure_ascii=False))
        else:
            text = found["error"] if "error" in found else _text(found)
            click.echo(redrawn(text) if watch else text)
        if not watch:
            sys.exit(
                EXIT_OK if all(_is_well(slot) for slot in found["slots"] if slot["role"] == "holder") else EXIT_FAILURE
            )
        sys.stdout.flush()
        time.sleep(INTERVAL)


def ready_messages(folder: Path) -> dict[str, int | None]:
    """Return the number of ready messages for each consuming service, or None if the broker does not answer.

    The result is empty if the configuration is invalid, because the running services use an earlier configuration.
    """
    # These modules are imported here, because the AMQP client and the file models load more slowly than the rest of the
    # command.
    from runner.admin.queue_counts import look
    from runner.config.project import load_project

    try:
        project = load_project(folder)
    except RunnerError:
        return {}
    services = {name: one.consumes for name, one in project.config.services.items() if one.consumes}
    names = list(dict.fromkeys(queue for consumes in services.values() for queue in consumes))
    deadline, unknown = time.monotonic() + READY_TIMEOUT, dict[str, str]()
    counts = {}
    for url in project.config.broker.url if names else ():
        try:
            counts = look([url], names, unknown, max(0.05, deadline - time.monotonic()))[1]
            break
        except RunnerError:
            continue
    held = {name: found.messages for name, found in counts.items() if found is not None}
    return {
        service: sum(held[queue] for queue in consumes) if held.keys() >= set(consumes) else None
        for service, consumes in services.items()
    }


def _choose(found: dict[str, Any], service: str) -> None:
    if service not in found["services"]:
        allowed = ", ".join(sorted(found["services"]))
        raise RunnerError(f"unknown service, {service!r}; allowed: {allowed}")
    found["slots"] = [one for one in found["slots"] if one["service"] == service]
    found["services"] = {service: found["services"][service]}
    found["ready"] = {name: count for name, count in found["ready"].items() if name == service}


def _is_well(slot: dict[str, Any]) -> bool:
    is_done = slot["state"] == "EXITED" and slot["last_exit"] and slot["last_exit"]["code"] == 0
    return (slot["state"] in ("RUNNING", "STOPPED") and not slot["problem"]) or is_done


def _text(found: dict[str, Any]) -> str:
    ready, slots = dict(found["ready"]), found["slots"]
    # All slots of a service consume from the same queues, so only the first slot shows the number of ready messages.
    rows = [_HEAD, *(_row(slot, ready.pop(slot["service"], None)) for slot in slots)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    screen = terminal_width()
    shown, left_out = fitting_columns(_HEAD, widths, screen, _DISPENSABLE)
    margin = width_of([widths[column] for column in shown]) + len(GAP)
    longest = max((len(slot["why"]) for slot in slots), default=0)
    is_beside = screen is None or screen - margin >= min(longest, _LEAST_ROOM)
    runner = found["runner"]
    is_stopping = ", stopping" if runner["stopping"] else ""
    lines = [f"runner, pid {runner['pid']}, up {duration(runner['uptime'])}{is_stopping}"]
    for row, slot in zip(rows, [None, *slots], strict=True):
        cells = [row[one].rjust(widths[one]) if one in _RIGHT else row[one].ljust(widths[one]) for one in shown]
        if has_colour():
            cells[1] = click.style(cells[1], fg=_COLOURS.get(row[1]), bold=slot is None or None)
        why = "WHY" if slot is None else slot["why"]
        if is_beside:
            lines.append(GAP.join([*cells, wrapped(" " * margin + why, margin).lstrip()]).rstrip())
        else:
            lines.append(GAP.join(cells).rstrip())
            lines += [wrapped(f"    {why}")] if slot is not None and why else []
        lines += [wrapped(line, 6) for line in (_details(slot) if slot is not None else ())]
    lines += [f"{name} has no instances" for name, count in found["services"].items() if not count]
    lines += [no_room(left_out)] if left_out else []
    return "\n".join(lines)


def _row(slot: dict[str, Any], ready: int | None) -> tuple[str, ...]:
    def shown(value: Any, form: str = "{}") -> str:
        return "-" if value is None else form.format(value)

    memory = None if slot["memory"] is None else slot["memory"] / 2**20
    return (
        slot["slot"] + {"fresh": " (new)", "old": " (old)"}.get(slot["role"], ""),
        slot["state"],
        shown(slot["pid"]),
        "-" if slot["uptime"] is None else duration(slot["uptime"]),
        str(slot["restarts"]),
        shown(slot["cpu_percent"], "{:.1f}%"),
        shown(memory, "{:.0f}M"),
        shown(slot["messages_per_second"], "{:.1f}"),
        shown(ready),
        shown(slot["in_hand"]),
    )


def _details(slot: dict[str, Any]) -> list[str]:
    last = slot["last_exit"]
    lines = []
    if last is not None and (slot["restarts"] or slot["lines"]):
        lines.append(f"    last exit {duration(last['ago'])} ago: {last['words']}")
    return [*lines, *(f"    | {line}" for line in slot["lines"])]


def duration(seconds: float) -> str:
    """Return a duration in its two largest units, such as ``3h 20m`` or ``12s``."""
    whole = int(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "m"), (whole % 60, "s")]
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{number}{unit}" for number, unit in parts[:2])
