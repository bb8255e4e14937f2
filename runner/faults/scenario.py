"""The texts for each injected fault: the action, the expected effects, and the commands that show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from runner.escape import json_text
from runner.invocation import invocation


@dataclass(frozen=True)
class ScenarioLine:
    """One expectation or command, with the facts on which it depends."""

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
    #: The action of the command.
    did: str
    expect: tuple[ScenarioLine, ...]
    #: The commands that show the effect, without the name of the program.
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
        "with inbox: true {service} handles each message once, and publishes the same events again", ("inbox",)
    ),
    ScenarioLine(
        "if two processes get a message at the same time, both handlers start and one result is kept",
        ("inbox", "several"),
    ),
    ScenarioLine(
        "without inbox: true {service} handles each message twice, and its events have the same ids both times",
        ("!inbox",),
    ),
)

KILL = Scenario(
    "kill",
    "{slot}, pid {pid}, killed by SIGKILL",
    (
        ScenarioLine(
            "the supervisor logs '{slot} killed by SIGKILL: restarting', and the slot is soon RUNNING with another pid"
        ),
        ScenarioLine("the kill does not count for restart_limit, because it came from outside"),
        ScenarioLine("its unacked messages are delivered again, and messages in its queues stay there", ("consumes",)),
        ScenarioLine("with inbox: true committed work is not repeated", ("consumes", "inbox")),
        ScenarioLine("without inbox: true an interrupted message is handled again", ("consumes", "!inbox")),
        ScenarioLine("its open requests fail; new requests wait for the restart, and none is refused", ("!consumes",)),
    ),
    (_STATUS, ScenarioLine("logs runner -n 5")),
)

PAUSE = Scenario(
    "pause",
    "{slot}, pid {pid}, is paused for {seconds} by SIGSTOP; SIGCONT resumes it even if this command is killed",
    (
        ScenarioLine("meanwhile the process does nothing, and status shows RUNNING because the watchdog has not fired"),
        ScenarioLine(
            "its unacked messages wait; other processes of {service} handle the rest", ("consumes", "several")
        ),
        ScenarioLine("messages in its queues wait", ("consumes", "!several")),
        ScenarioLine(
            "after about 20 s, two missed heartbeats, the broker delivers its unacked messages again", ("long",)
        ),
        ScenarioLine(
            "the watchdog ({watchdog}) kills it before {seconds} are over: 'sent no watchdog ping', then another pid",
            ("dies",),
        ),
        ScenarioLine("the watchdog ({watchdog}) may kill it, as it counts from the last ping", ("may_die",)),
        ScenarioLine("its watchdog ({watchdog}) does not expire in this time: the same pid goes on", ("lives",)),
        ScenarioLine("it has no watchdog, so it is not killed: the same pid goes on", ("unwatched",)),
        ScenarioLine(
            "when it is resumed, its current message has exceeded handler_timeout ({handler_timeout})", ("overdue",)
        ),
        ScenarioLine(
            "handler_timeout ({handler_timeout}) cannot kill it while it is paused", ("timed", "!overdue", "!dies")
        ),
    ),
    (_STATUS, ScenarioLine("logs runner -n 5"), ScenarioLine("fault list")),
)

SLOW = Scenario(
    "slow",
    "each handler of {service} takes {delay} longer until {until}",
    (
        ScenarioLine("nothing is restarted or retried, because a slow handler does not fail", ("!overdue",)),
        ScenarioLine("messages wait in its queues if each handler gets more than one message per {delay}"),
        ScenarioLine(
            "no handler is killed: {delay} is within handler_timeout ({handler_timeout})",
            ("timed", "!overdue", "!brief"),
        ),
        ScenarioLine("no handler is killed: the fault ends before handler_timeout ({handler_timeout})", ("brief",)),
        ScenarioLine(
            "a handler that exceeds handler_timeout ({handler_timeout}) hangs: its process is killed and restarted",
            ("overdue",),
        ),
        ScenarioLine("a message with {max_crashes} such kills is dead-lettered as a crashing message", ("overdue",)),
        ScenarioLine("delays that have begun by then end at {until} at the latest"),
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
    "{count} published to {queue} that can never be handled, because the body is not JSON",
    (
        ScenarioLine(
            "{service} rejects it at once with 'cannot be decoded as JSON', and dead-letters it in {dead_letter}",
            ("!keeps",),
        ),
        ScenarioLine(
            "{service} records every message, so it handles this message and does not dead-letter it", ("keeps",)
        ),
        ScenarioLine("other messages of the queue are handled"),
    ),
    (_LOGS, ScenarioLine("dlq list --queue {queue}"), ScenarioLine("dlq show {first}", ("!keeps",))),
)

CRASHING = Scenario(
    "poison",
    "{count} published to {queue} that crashes each worker by SIGSEGV",
    (
        ScenarioLine(
            "the supervisor logs 'killed by SIGSEGV while handling message {first} of {queue}', up to {max_crashes}"
            " times"
        ),
        ScenarioLine(
            "after {max_crashes} crashes it is dead-lettered in {dead_letter}, with x-crashes and x-signal SIGSEGV"
        ),
        ScenarioLine("other messages of the queue are handled, and {service} is not given up", ("!many",)),
        ScenarioLine(
            "the first crash by each message counts for restart_limit, so the supervisor may give up {service}",
            ("many",),
        ),
        ScenarioLine("after dlq replay the message crashes workers again"),
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
    "{whom} disconnected from the broker until {until}: the sockets are closed, and no new ones are opened",
    (
        ScenarioLine("workers log 'waiting for the broker', and 'the broker is back' within 5 s after {until}"),
        ScenarioLine("no RUNNING process exits: status shows RUNNING, and 'cannot work at present, retrying'"),
        ScenarioLine("an API such as order_api answers 503 meanwhile, or 202 if it has an outbox", ("api",)),
        ScenarioLine("unacked messages return to their queues at once, and are delivered again", ("consumes",)),
        ScenarioLine("a service without inbox: true handles an interrupted message twice", ("consumes",)),
    ),
    (ScenarioLine("status"), ScenarioLine("logs -n 20"), ScenarioLine("fault list"), ScenarioLine("fault clear")),
)

BROKER_RESTART = Scenario(
    "broker-restart",
    "the private RabbitMQ, pid {pid}, killed by SIGKILL; it answers again after {seconds} s",
    (
        ScenarioLine("the supervisor logs 'broker.1 killed by SIGKILL: restarting', and starts it with the same data"),
        ScenarioLine("workers log 'waiting for the broker', and 'the broker is back' within 5 s of its answer"),
        ScenarioLine("confirmed messages are kept: each order answered 202 is paid"),
        ScenarioLine("unacked messages are delivered again, and handled twice by a service without inbox: true"),
        ScenarioLine("an API such as order_api answers 503 meanwhile, or 202 if it has an outbox"),
    ),
    (ScenarioLine("status"), ScenarioLine("logs runner -n 10"), ScenarioLine("logs -n 20")),
)


def report(
    scenario: Scenario,
    target: str,
    found: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    is_json: bool,
) -> None:
    """Print the texts about an injected fault. ``found`` has results for programs, such as ``pid`` or ``ids``."""
    did, expect, look = scenario.texts(facts)
    if is_json:
        what = {"fault": scenario.name, "target": target, **found, "did": did, "expect": expect, "look": look}
        click.echo(json_text(what, indent=2))
        return
    click.echo(did)
    for title, lines in (("expect", expect), ("look", look)):
        click.echo(f"{title}:")
        for line in lines:
            click.echo(f"  {line}")
