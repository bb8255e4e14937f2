"""A ``lint`` finding, which is a probable mistake with a code, a position and a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.config.cross_checks import UNKNOWN_ARGUMENT
from runner.config.error_detail import Path
from runner.config.project import Project
from runner.invocation import invocation

#: The maximum number of findings to print by ``check``, at a start and at a reload. ``lint`` prints all findings.
MOST_SHOWN = 10
#: The code of findings about exchange types that are not built into RabbitMQ.
UNKNOWN_TYPE = "unknown-exchange-type"
_DOCS = "https://www.rabbitmq.com/docs/"


@dataclass(frozen=True)
class Rule:
    """The remedy for a code, and the page of RabbitMQ's documentation. Empty if the code is not about RabbitMQ."""

    remedy: str
    link: str = ""


RULES = {
    "unroutable-key": Rule("bind a queue to it, or do not publish it", f"{_DOCS}publishers#unroutable"),
    "only-alternate": Rule("bind a queue to it, if a service should get it", f"{_DOCS}ae"),
    "only-recorded": Rule("bind a queue to it, if a service should get it", f"{_DOCS}exchanges"),
    "unmatched-binding": Rule("correct the key, or remove the binding", f"{_DOCS}exchanges"),
    "ignored-key": Rule("use bindings with arguments, or an exchange of type topic", f"{_DOCS}exchanges"),
    "unread-queue": Rule("let a service consume it, or remove it", f"{_DOCS}queues"),
    "unfed-queue": Rule("bind it to an exchange", f"{_DOCS}queues"),
    "unhandled-event": Rule("bind the queue to other keys, or let another service consume it"),
    "missed-event": Rule("bind one of its queues to the key"),
    "shared-queue": Rule("give each service a queue of its own, bound to the same keys", f"{_DOCS}consumers"),
    "own-events": Rule("bind the queue to other keys", f"{_DOCS}exchanges"),
    "missing-field": Rule("add the field to the event, or do not require it in the handler"),
    "unknown-field": Rule("name a field of the event's body"),
    "unknown-event": Rule("name an event of the plugin, or remove it"),
    "same-address": Rule("give one of them another port"),
    "order-not-kept": Rule("remove one of the two", f"{_DOCS}consumers#single-active-consumer"),
    "drops-oldest": Rule("set overflow: reject-publish", f"{_DOCS}maxlength#overflow-behaviour"),
    "alternate-nowhere": Rule("bind a queue to the alternate exchange", f"{_DOCS}ae"),
    "dead-letter-nowhere": Rule("bind a queue for it, or name another exchange", f"{_DOCS}dlx"),
    "retry-nowhere": Rule("let it return to a queue that exists", f"{_DOCS}ttl"),
    "dead-letter-cycle": Rule(
        "dead-letter one of them to a queue outside the cycle", f"{_DOCS}dlx#automatic-dead-letter-cycles"
    ),
    "hidden-policy": Rule("put all keys into one policy, or let them match different names", f"{_DOCS}policies"),
    "unused-exchange": Rule("publish to it, bind something to it, or remove it", f"{_DOCS}exchanges"),
    "consumer-timeout": Rule(
        "raise it, or lower prefetch or handler_timeout", f"{_DOCS}consumers#acknowledgement-timeout"
    ),
    "outlived-by-restart": Rule("give the queue a longer time, or none", f"{_DOCS}ttl"),
    "stop-timeout": Rule("raise stop_timeout, or lower handler_timeout", f"{_DOCS}consumers"),
    "inbox-forgets": Rule("raise inbox.retention", f"{_DOCS}confirms"),
    "expiring-retry-queue": Rule("let the policy match other names", f"{_DOCS}ttl#queue-ttl"),
    "expiring-dead-letters": Rule("let the policy match other names", f"{_DOCS}ttl"),
    "transient-queue": Rule("make it durable", f"{_DOCS}queues#transient-queues"),
    UNKNOWN_ARGUMENT: Rule("check its name, or ignore the finding", f"{_DOCS}plugins"),
    UNKNOWN_TYPE: Rule("check its name, or ignore the finding", f"{_DOCS}plugins"),
    "removed-setting": Rule("remove it", f"{_DOCS}upgrade"),
    "unused-ignore": Rule("correct it or remove it"),
}


@dataclass(frozen=True)
class Finding:
    """One probable mistake."""

    code: str
    #: The name of the object that the finding is about, as used under ``lint.ignore``.
    name: str
    #: The file, and the path in the file.
    file: str
    path: Path
    reason: str
    #: A more specific remedy than the rule's, or an empty text.
    advice: str = ""

    @property
    def rule(self) -> Rule:
        """The rule for the code."""
        return RULES[self.code]

    @property
    def remedy(self) -> str:
        """The finding's own advice if there is any, or the rule's remedy."""
        return self.advice or self.rule.remedy

    def line(self, project: Project) -> str:
        """Return ``file:line: code: reason; remedy``."""
        return f"{project.place(self.file, self.path)}: {self.code}: {self.reason}; {self.remedy}"


def finding_lines(findings: Sequence[Finding], project: Project) -> list[str]:
    """Return a line for each of the first ten findings, and a line with the number of further findings."""
    lines = [one.line(project) for one in findings[:MOST_SHOWN]]
    if more := len(findings) - len(lines):
        lines.append(f"and {more} more finding{'s' if more > 1 else ''}; to print them all: {invocation('lint')}")
    return lines
