"""Each fault in words: what it is, what to expect of it, and what to type next; and how its command prints that.

Each text was tried on the product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from runner.escape import json_text
from runner.invocation import invocation


@dataclass(frozen=True)
class ScenarioLine:
    """One thing to expect; ``when`` names the facts that must hold for it, ``!`` before one that must not."""

    text: str
    when: tuple[str, ...] = ()

    def holds(self, facts: Mapping[str, Any]) -> bool:
        """Whether it is to be expected, as things are."""
        return all(not facts.get(one[1:]) if one.startswith("!") else facts.get(one) for one in self.when)


@dataclass(frozen=True)
class Scenario:
    """One fault; its texts are filled in with facts, such as ``{slot}``."""

    name: str
    #: What was done.
    did: str
    expect: tuple[ScenarioLine, ...]
    #: Commands to type, without the beginning that all have.
    look: tuple[ScenarioLine, ...]

    def told(self, facts: Mapping[str, Any]) -> tuple[str, list[str], list[str]]:
        """What was done, what to expect and what to type, of one time that it was injected."""
        expect, look = ([one.text for one in some if one.holds(facts)] for some in (self.expect, self.look))
        commands = [invocation(*(word.format(**facts) for word in one.split())) for one in look]
        return self.did.format(**facts), [one.format(**facts) for one in expect], commands


_STATUS, _LOGS = ScenarioLine("status {service}"), ScenarioLine("logs {service} -n 20")
_ORDERS = ScenarioLine("events --since 5m", ("audit",))
_TWICE = (
    ScenarioLine(
        "with inbox: true {service} does nothing the second time, and publishes the same events again", ("inbox",)
    ),
    ScenarioLine(
        "where two of its processes get it in one instant, both begin and one outcome is kept", ("inbox", "several")
    ),
    ScenarioLine(
        "without inbox: true {service} handles it twice, and its events have the same ids both times", ("!inbox",)
    ),
)

KILL = Scenario(
    "kill",
    "{slot}, pid {pid}, killed by SIGKILL",
    (
        ScenarioLine(
            "the runner says '{slot} killed by SIGKILL: restarting', and it is RUNNING again with another pid soon"
        ),
        ScenarioLine("it is no failure that counts for restart_limit, since the end came from outside"),
        ScenarioLine("messages it had in hand come again, and what waits in its queues stays there", ("consumes",)),
        ScenarioLine("with inbox: true what was committed is not done a second time", ("consumes", "inbox")),
        ScenarioLine("without inbox: true a message that was being handled is handled again", ("consumes", "!inbox")),
        ScenarioLine("requests it had in hand fail; others wait until it is back, and none is refused", ("!consumes",)),
    ),
    (_STATUS, ScenarioLine("logs runner -n 5")),
)

HANG = Scenario(
    "hang",
    "{slot}, pid {pid}, stopped for {seconds} by SIGSTOP; it goes on by SIGCONT, also where this command is killed",
    (
        ScenarioLine("until then it does nothing, and status calls it RUNNING: nothing has told the runner yet"),
        ScenarioLine("messages in its hands wait; its other processes handle the rest", ("consumes", "several")),
        ScenarioLine("messages in its queues wait", ("consumes", "!several")),
        ScenarioLine("after about 20 s, two missed heartbeats, the broker gives what it held to others", ("long",)),
        ScenarioLine(
            "the watchdog ({watchdog}) kills it before {seconds} are over: 'sent no watchdog ping', then another pid",
            ("dies",),
        ),
        ScenarioLine("it may meet its watchdog ({watchdog}), which counts from its last sign of life", ("may_die",)),
        ScenarioLine("its watchdog ({watchdog}) does not run out in this time: the same pid goes on", ("lives",)),
        ScenarioLine("it has no watchdog, so that nobody kills it: the same pid goes on", ("unwatched",)),
        ScenarioLine(
            "the message it is at counts as over handler_timeout ({handler_timeout}) when it goes on", ("overdue",)
        ),
        ScenarioLine(
            "its handler_timeout ({handler_timeout}) cannot end it while it is stopped", ("timed", "!overdue", "!dies")
        ),
    ),
    (_STATUS, ScenarioLine("logs runner -n 5"), ScenarioLine("fault list")),
)

SLOW = Scenario(
    "slow",
    "each handler of {service} takes {delay} longer until {until}",
    (
        ScenarioLine("nothing is restarted or retried: slow is no failure", ("!overdue",)),
        ScenarioLine("messages pile up in its queues where more come than one in {delay} for each handler"),
        ScenarioLine(
            "no handler is killed: {delay} is within handler_timeout ({handler_timeout})",
            ("timed", "!overdue", "!brief"),
        ),
        ScenarioLine("no handler is killed: it is over before handler_timeout ({handler_timeout})", ("brief",)),
        ScenarioLine("at handler_timeout ({handler_timeout}) a process is killed and restarted, as hung", ("overdue",)),
        ScenarioLine("a message of {max_crashes} such ends is parked, as one that kills its workers", ("overdue",)),
        ScenarioLine("what has begun by then ends at {until} at the latest"),
    ),
    (_STATUS, _LOGS, ScenarioLine("fault list"), ScenarioLine("fault clear"), _ORDERS),
)

DUPLICATE = Scenario(
    "duplicate",
    "{count} put into {queue} a second time, with the same id, headers and properties",
    _TWICE,
    (_LOGS, ScenarioLine("status {service}"), _ORDERS),
)

POISON = Scenario(
    "poison",
    "{count} put into {queue} that can never be handled, since the body is no JSON",
    (
        ScenarioLine("{service} rejects it at once: 'not usable JSON', and 'parked in {dead_letter}'", ("!keeps",)),
        ScenarioLine(
            "{service} writes down whatever comes, so that it is handled like any other and not parked", ("keeps",)
        ),
        ScenarioLine("other messages of the queue are handled"),
    ),
    (_LOGS, ScenarioLine("dlq list --queue {queue}"), ScenarioLine("dlq show {first}", ("!keeps",))),
)

DEADLY = Scenario(
    "poison",
    "{count} put into {queue}, which ends each process that begins with it, by SIGSEGV",
    (
        ScenarioLine(
            "the runner says 'killed by SIGSEGV while handling message {first} of {queue}', up to {max_crashes} times"
        ),
        ScenarioLine("after {max_crashes} deaths it is parked in {dead_letter}, with x-crashes and x-signal SIGSEGV"),
        ScenarioLine("other messages of the queue are handled, and {service} is not given up", ("!many",)),
        ScenarioLine(
            "the first death by each of them counts for restart_limit: so many may have {service} given up", ("many",)
        ),
        ScenarioLine("sent back by dlq replay it does the same again"),
    ),
    (
        ScenarioLine("logs runner -n 10"),
        ScenarioLine("dlq list --queue {queue}"),
        ScenarioLine("dlq show {first}"),
        _STATUS,
    ),
)

CUT = Scenario(
    "cut",
    "{whom} without a broker until {until}: sockets are closed without a goodbye, and no new ones opened",
    (
        ScenarioLine("they say 'no broker for now', and 'the broker is back' within 5 s after {until}"),
        ScenarioLine(
            "no process that is RUNNING ends: status calls them RUNNING, and 'cannot work at present, retrying'"
        ),
        ScenarioLine("an API such as order_api answers 503 meanwhile, or 202 if it has an outbox", ("api",)),
        ScenarioLine("messages in hand go back to their queues at once, and come again", ("consumes",)),
        ScenarioLine("what a handler was at is then done twice where its service has no inbox: true", ("consumes",)),
    ),
    (ScenarioLine("status"), ScenarioLine("logs -n 20"), ScenarioLine("fault list"), ScenarioLine("fault clear")),
)

BROKER_RESTART = Scenario(
    "broker-restart",
    "the private RabbitMQ, pid {pid}, killed by SIGKILL; it answers again after {seconds} s",
    (
        ScenarioLine("the runner says 'broker.1 killed by SIGKILL: restarting', and starts it with the data it had"),
        ScenarioLine("workers say 'no broker for now', and 'the broker is back' within 5 s of its answer"),
        ScenarioLine("whatever was confirmed is there: each order answered 202 is paid"),
        ScenarioLine("messages in hand come again, and are handled twice by a service without inbox: true"),
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
