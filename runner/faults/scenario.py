"""The texts for each injected fault: the action, the expected effects, and the commands that show the effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from runner.escape import json_text
from runner.invocation import invocation
from runner.supervisor.control.client import post_note


@dataclass(frozen=True)
class ScenarioLine:
    """An expectation or a command, with the facts on which the line depends."""

    text: str
    #: The names of facts that must be true. The prefix ``!`` marks a fact that must be false.
    when: tuple[str, ...] = ()

    def holds(self, facts: Mapping[str, Any]) -> bool:
        """Return True if the line applies to these facts."""
        return all(not facts.get(one[1:]) if one.startswith("!") else facts.get(one) for one in self.when)


@dataclass(frozen=True)
class Scenario:
    """The texts for one fault, with facts in braces, such as ``{slot}``."""

    name: str
    #: The action that the command performed.
    did: str
    expect: tuple[ScenarioLine, ...]
    #: The commands that show the effects, without the program name.
    look: tuple[ScenarioLine, ...]

    def texts(self, facts: Mapping[str, Any]) -> tuple[str, list[str], list[str]]:
        """Return the action, the expectations and the complete commands for one injection."""
        expect, look = ([one.text for one in some if one.holds(facts)] for some in (self.expect, self.look))
        commands = [invocation(*(word.format(**facts) for word in one.split())) for one in look]
        return self.did.format(**facts), [one.format(**facts) for one in expect], commands


_STATUS, _LOGS = ScenarioLine("status {service}"), ScenarioLine("logs {service} -n 20")
_ORDERS = ScenarioLine("events --since 5m", ("audit",))
_TWICE = (
    ScenarioLine(
        "with 'inbox: true', {service} handles each message once, and publishes the same events again", ("inbox",)
    ),
    ScenarioLine(
        "if two processes receive a message at the same time, both handlers start, but only one result is kept",
        ("inbox", "several"),
    ),
    ScenarioLine(
        "without 'inbox: true', {service} handles each message twice and publishes events with the same ids",
        ("!inbox",),
    ),
)

KILL = Scenario(
    "kill",
    "{slot} (pid {pid}) killed by SIGKILL",
    (
        ScenarioLine(
            "the supervisor logs '{slot} killed by SIGKILL: restarting', and the slot is soon RUNNING with a new pid"
        ),
        ScenarioLine("the kill does not count toward restart_limit, because the signal came from outside"),
        ScenarioLine(
            "unacked messages of {slot} are delivered again, and all other messages remain in their queues",
            ("consumes",),
        ),
        ScenarioLine("with 'inbox: true', committed work is not repeated", ("consumes", "inbox")),
        ScenarioLine("without 'inbox: true', an interrupted message is handled again", ("consumes", "!inbox")),
        ScenarioLine(
            "open requests to {slot} fail, but new requests wait for the restart and are not refused", ("!consumes",)
        ),
    ),
    (_STATUS, ScenarioLine("logs runner -n 5")),
)

PAUSE = Scenario(
    "pause",
    "{slot} (pid {pid}) paused by SIGSTOP for {seconds}; SIGCONT resumes the process even if this command is killed",
    (
        ScenarioLine("the paused process does no work, but status shows RUNNING because the watchdog has not fired"),
        ScenarioLine(
            "unacked messages of {slot} wait, and other processes of {service} handle all other messages",
            ("consumes", "several"),
        ),
        ScenarioLine("messages in the queues of {service} wait", ("consumes", "!several")),
        ScenarioLine(
            "after two missed heartbeats (about 20 s), the broker redelivers the unacked messages of {slot}", ("long",)
        ),
        ScenarioLine(
            "the watchdog ({watchdog}) kills {slot} during the pause ('sent no watchdog ping'), and the pid changes",
            ("dies",),
        ),
        ScenarioLine(
            "the watchdog ({watchdog}) might kill {slot}, because the timeout starts with the last ping", ("may_die",)
        ),
        ScenarioLine("the watchdog ({watchdog}) does not expire during the pause, so {slot} keeps its pid", ("lives",)),
        ScenarioLine("{service} has no watchdog, so {slot} is not killed and keeps its pid", ("unwatched",)),
        ScenarioLine(
            "when {slot} is resumed, its current message has exceeded handler_timeout ({handler_timeout})", ("overdue",)
        ),
        ScenarioLine(
            "a paused process cannot be killed by handler_timeout ({handler_timeout})", ("timed", "!overdue", "!dies")
        ),
    ),
    (_STATUS, ScenarioLine("logs runner -n 5"), ScenarioLine("fault list")),
)

SLOW = Scenario(
    "slow",
    "each handler of {service} takes {delay} longer until {until}",
    (
        ScenarioLine(
            "no process is restarted and no message is retried, because a slow handler does not fail", ("!overdue",)
        ),
        ScenarioLine("messages wait in the queues of {service} if each handler gets more than one message per {delay}"),
        ScenarioLine(
            "no handler is killed, because {delay} is within handler_timeout ({handler_timeout})",
            ("timed", "!overdue", "!brief"),
        ),
        ScenarioLine(
            "no handler is killed, because the fault ends before handler_timeout ({handler_timeout})", ("brief",)
        ),
        ScenarioLine(
            "if a handler exceeds handler_timeout ({handler_timeout}), its process is killed and restarted",
            ("overdue",),
        ),
        ScenarioLine(
            "a message whose worker is killed {max_crashes} times is dead-lettered as a crashing message", ("overdue",)
        ),
        ScenarioLine("delays in progress end at {until} at the latest"),
    ),
    (_STATUS, _LOGS, ScenarioLine("fault list"), ScenarioLine("fault clear"), _ORDERS),
)

DUPLICATE = Scenario(
    "duplicate",
    "{count} published to {queue} a second time, with the same id, headers and properties",
    _TWICE,
    (_LOGS, ScenarioLine("status {service}"), _ORDERS),
)

POISON = Scenario(
    "poison",
    "{count} published to {queue}, impossible to handle because the body is not JSON",
    (
        ScenarioLine(
            "{service} immediately rejects the message ('cannot be decoded as JSON') and dead-letters it to"
            " {dead_letter}",
            ("!keeps",),
        ),
        ScenarioLine(
            "{service} records every message, so the poison message is handled and not dead-lettered", ("keeps",)
        ),
        ScenarioLine("other messages in the queue are still handled"),
    ),
    (_LOGS, ScenarioLine("dlq list --queue {queue}"), ScenarioLine("dlq show {first}", ("!keeps",))),
)

CRASHING = Scenario(
    "poison",
    "{count} published to {queue}, to crash each worker with SIGSEGV",
    (
        ScenarioLine(
            "the supervisor logs 'killed by SIGSEGV while handling message {first} of {queue}', up to {max_crashes}"
            " times"
        ),
        ScenarioLine(
            "after {max_crashes} crashes, the message is dead-lettered to {dead_letter}, with x-crashes and x-signal"
        ),
        ScenarioLine(
            "other messages in the queue are handled, and the supervisor does not give up on {service}", ("!many",)
        ),
        ScenarioLine(
            "the first crash by each message counts toward restart_limit, so the supervisor may give up on {service}",
            ("many",),
        ),
        ScenarioLine("after 'dlq replay', the message crashes workers again"),
    ),
    (
        ScenarioLine("logs runner -n 10"),
        ScenarioLine("dlq list --queue {queue}"),
        ScenarioLine("dlq show {first}"),
        _STATUS,
    ),
)

DISCONNECT = Scenario(
    "disconnect",
    "{whom} disconnected from the broker until {until}; the sockets are closed, and no new sockets are opened",
    (
        ScenarioLine("workers log 'waiting for the broker', and 'the broker is back' within 5 s after {until}"),
        ScenarioLine("no RUNNING process exits, and status shows RUNNING with 'cannot work at present, retrying'"),
        ScenarioLine(
            "an API such as order_api answers 503 until the broker is back, or 202 if the API has an outbox", ("api",)
        ),
        ScenarioLine("unacked messages return to their queues immediately, and are delivered again", ("consumes",)),
        ScenarioLine("a service without 'inbox: true' handles an interrupted message twice", ("consumes",)),
    ),
    (ScenarioLine("status"), ScenarioLine("logs -n 20"), ScenarioLine("fault list"), ScenarioLine("fault clear")),
)

BROKER_RESTART = Scenario(
    "broker-restart",
    "the private RabbitMQ (pid {pid}) killed by SIGKILL; the broker answers again after {seconds} s",
    (
        ScenarioLine(
            "the supervisor logs 'broker.1 killed by SIGKILL: restarting', and restarts the broker with its data"
        ),
        ScenarioLine(
            "workers log 'waiting for the broker', and 'the broker is back' within 5 s after the broker answers"
        ),
        ScenarioLine("confirmed messages are kept, so each order that was answered with 202 is paid"),
        ScenarioLine(
            "unacked messages are delivered again, and a service without 'inbox: true' handles these messages twice"
        ),
        ScenarioLine("an API such as order_api answers 503 until the broker is back, or 202 if the API has an outbox"),
    ),
    (ScenarioLine("status"), ScenarioLine("logs runner -n 10"), ScenarioLine("logs -n 20")),
)


def report(
    folder: Path,
    scenario: Scenario,
    target: str,
    found: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    is_json: bool,
) -> None:
    """Print the texts about an injected fault, and add the fault to the timeline of the supervisor in ``folder``.

    ``found`` contains results for programs, such as ``pid`` or ``ids``.
    """
    did, expect, look = scenario.texts(facts)
    post_note(folder, "fault", target or "all workers", f"fault {scenario.name}: {did}")
    if is_json:
        what = {"fault": scenario.name, "target": target, **found, "did": did, "expect": expect, "look": look}
        click.echo(json_text(what, indent=2))
        return
    click.echo(did)
    for title, lines in (("expect", expect), ("look", look)):
        click.echo(f"{title}:")
        for line in lines:
            click.echo(f"  {line}")
