"""Each fault in words: what it is, what to expect of it, and what to look at. Each text was tried on the product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.invocation import invocation


@dataclass(frozen=True)
class Line:
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
    expect: tuple[Line, ...]
    #: Commands to type, without the beginning that all have.
    look: tuple[Line, ...]

    def told(self, facts: Mapping[str, Any]) -> tuple[str, list[str], list[str]]:
        """What was done, what to expect and what to type, of one time that it was injected."""
        expect, look = ([one.text for one in some if one.holds(facts)] for some in (self.expect, self.look))
        commands = [invocation(*(word.format(**facts) for word in one.split())) for one in look]
        return self.did.format(**facts), [one.format(**facts) for one in expect], commands


_STATUS, _LOGS = Line("status {service}"), Line("logs {service} -n 20")
_ORDERS = Line("events --since 5m", ("audit",))
_TWICE = (
    Line("with inbox: true {service} does nothing the second time, and publishes the same events again", ("inbox",)),
    Line("where two of its processes get it in one instant, both begin and one outcome is kept", ("inbox", "several")),
    Line("without inbox: true {service} handles it twice, and its events have the same ids both times", ("!inbox",)),
)

KILL = Scenario(
    "kill",
    "{slot}, pid {pid}, killed by SIGKILL",
    (
        Line("the runner says '{slot} killed by SIGKILL: restarting', and it is RUNNING again with another pid soon"),
        Line("it is no failure that counts for restart_limit, since the end came from outside"),
        Line("messages it had in hand come again, and what waits in its queues stays there", ("consumes",)),
        Line("with inbox: true what was committed is not done a second time", ("consumes", "inbox")),
        Line("without inbox: true a message that was being handled is handled again", ("consumes", "!inbox")),
        Line("requests it had in hand fail; others wait until it is back, and none is refused", ("!consumes",)),
    ),
    (_STATUS, Line("logs runner -n 5")),
)

HANG = Scenario(
    "hang",
    "{slot}, pid {pid}, stopped for {seconds} by SIGSTOP; it goes on by SIGCONT, also where this command is killed",
    (
        Line("until then it does nothing, and status calls it RUNNING: nothing has told the runner yet"),
        Line("messages in its hands wait; its other processes handle the rest", ("consumes", "several")),
        Line("messages in its queues wait", ("consumes", "!several")),
        Line("after about 20 s, two missed heartbeats, the broker gives what it held to others", ("long",)),
        Line(
            "the watchdog ({watchdog}) kills it before {seconds} are over: 'gave no sign of life', then another pid",
            ("dies",),
        ),
        Line("it may meet its watchdog ({watchdog}), which counts from its last sign of life", ("may_die",)),
        Line("its watchdog ({watchdog}) does not run out in this time: the same pid goes on", ("lives",)),
        Line("it has no watchdog, so that nobody kills it: the same pid goes on", ("unwatched",)),
        Line("the message it is at counts as over handler_timeout ({handler_timeout}) when it goes on", ("overdue",)),
        Line(
            "its handler_timeout ({handler_timeout}) cannot end it while it is stopped", ("timed", "!overdue", "!dies")
        ),
    ),
    (_STATUS, Line("logs runner -n 5"), Line("fault list")),
)

SLOW = Scenario(
    "slow",
    "each handler of {service} takes {delay} longer until {until}",
    (
        Line("nothing is restarted or retried: slow is no failure", ("!overdue",)),
        Line("messages pile up in its queues where more come than one in {delay} for each handler"),
        Line(
            "no handler is killed: {delay} is within handler_timeout ({handler_timeout})",
            ("timed", "!overdue", "!brief"),
        ),
        Line("no handler is killed: it is over before handler_timeout ({handler_timeout})", ("brief",)),
        Line("at handler_timeout ({handler_timeout}) a process is killed and restarted, as hung", ("overdue",)),
        Line("a message of {max_crashes} such ends is parked, as one that kills its workers", ("overdue",)),
        Line("what has begun by then ends at {until} at the latest"),
    ),
    (_STATUS, _LOGS, Line("fault list"), Line("fault clear"), _ORDERS),
)

DUPLICATE = Scenario(
    "duplicate",
    "{count} put into {queue} a second time, with the same id, headers and properties",
    _TWICE,
    (_LOGS, Line("status {service}"), _ORDERS),
)

POISON = Scenario(
    "poison",
    "{count} put into {queue} that can never be handled, since the body is no JSON",
    (
        Line("{service} rejects it at once: 'not usable JSON', and 'parked in {dead_letter}'", ("!keeps",)),
        Line("{service} writes down whatever comes, so that it is handled like any other and not parked", ("keeps",)),
        Line("other messages of the queue are handled"),
    ),
    (_LOGS, Line("dlq list --queue {queue}"), Line("dlq show {first}", ("!keeps",))),
)

DEADLY = Scenario(
    "poison",
    "{count} put into {queue}, which ends each process that begins with it, by SIGSEGV",
    (
        Line("the runner says 'killed by SIGSEGV: message {first} of {queue} was in hand', up to {max_crashes} times"),
        Line("after {max_crashes} deaths it is parked in {dead_letter}, with x-crashes and x-signal SIGSEGV"),
        Line("other messages of the queue are handled, and {service} is not given up", ("!many",)),
        Line(
            "the first death by each of them counts for restart_limit: so many may have {service} given up", ("many",)
        ),
        Line("sent back by dlq replay it does the same again"),
    ),
    (Line("logs runner -n 10"), Line("dlq list --queue {queue}"), Line("dlq show {first}"), _STATUS),
)

CUT = Scenario(
    "cut",
    "{whom} without a broker until {until}: sockets are closed without a goodbye, and no new ones opened",
    (
        Line("they say 'no broker for now', and 'the broker is back' within 5 s after {until}"),
        Line("no process that is RUNNING ends: status calls them RUNNING, and 'cannot work for now, tries again'"),
        Line("an API such as order_api answers 503 meanwhile, or 202 if it has an outbox", ("api",)),
        Line("messages in hand go back to their queues at once, and come again", ("consumes",)),
        Line("what a handler was at is then done twice where its service has no inbox: true", ("consumes",)),
    ),
    (Line("status"), Line("logs -n 20"), Line("fault list"), Line("fault clear")),
)

BROKER_RESTART = Scenario(
    "broker-restart",
    "the private RabbitMQ, pid {pid}, killed by SIGKILL; it answers again after {seconds} s",
    (
        Line("the runner says 'broker.1 killed by SIGKILL: restarting', and starts it with the data it had"),
        Line("workers say 'no broker for now', and 'the broker is back' within 5 s of its answer"),
        Line("whatever was confirmed is there: each order answered 202 is paid"),
        Line("messages in hand come again, and are handled twice by a service without inbox: true"),
        Line("an API such as order_api answers 503 meanwhile, or 202 if it has an outbox"),
    ),
    (Line("status"), Line("logs runner -n 10"), Line("logs -n 20")),
)
