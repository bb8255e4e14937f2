"""A ``lint`` finding, which is a probable mistake with a code, a position and a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.config.cross_checks import UNKNOWN_ARGUMENT
from runner.config.error_detail import Path
from runner.config.project import Project
from runner.invocation import invocation

#: The maximum number of findings that ``check``, a start or a reload prints. ``lint`` prints all findings.
MOST_SHOWN = 10
#: The code of findings about exchange types that are not built into RabbitMQ.
UNKNOWN_TYPE = "unknown-exchange-type"
_DOCS = "https://www.rabbitmq.com/docs/"


@dataclass(frozen=True)
class Rule:
    """The remedy for a finding code. The link is empty if RabbitMQ's documentation has no page about the code."""

    remedy: str
    link: str = ""


RULES = {
    "unroutable-key": Rule("bind a queue to the key, or do not publish the event", f"{_DOCS}publishers#unroutable"),
    "only-alternate": Rule("bind a queue to the key if a service should get the event", f"{_DOCS}ae"),
    "only-recorded": Rule("bind a queue to the key if another service should get the event", f"{_DOCS}exchanges"),
    "unmatched-binding": Rule("correct the key, or remove the binding", f"{_DOCS}exchanges"),
    "ignored-key": Rule("use bindings with arguments, or a topic exchange", f"{_DOCS}exchanges"),
    "unread-queue": Rule("let a service consume the queue, or remove the queue", f"{_DOCS}queues"),
    "unfed-queue": Rule("bind the queue to an exchange", f"{_DOCS}queues"),
    "unhandled-event": Rule("bind the queue to other keys, or let another service consume the queue"),
    "missed-event": Rule("bind a queue of the service to the key"),
    "shared-queue": Rule("give each service its own queue, bound to the same keys", f"{_DOCS}consumers"),
    "own-events": Rule("bind the queue to other keys", f"{_DOCS}exchanges"),
    "missing-field": Rule("add the field to the event, or make the field optional in the handler"),
    "unknown-field": Rule("use a field from the event body"),
    "unknown-event": Rule("use an event that the plugin publishes, or remove the entry"),
    "same-address": Rule("give each service a different port"),
    "order-not-kept": Rule("remove one of the two settings", f"{_DOCS}consumers#single-active-consumer"),
    "drops-oldest": Rule("set overflow: reject-publish", f"{_DOCS}maxlength#overflow-behaviour"),
    "alternate-nowhere": Rule("bind a queue to the alternate exchange", f"{_DOCS}ae"),
    "dead-letter-nowhere": Rule("bind a queue for dead letters, or use another dead-letter exchange", f"{_DOCS}dlx"),
    "retry-nowhere": Rule("return expired messages to an existing queue", f"{_DOCS}ttl"),
    "dead-letter-cycle": Rule(
        "dead-letter one of the queues to a queue outside the cycle", f"{_DOCS}dlx#automatic-dead-letter-cycles"
    ),
    "hidden-policy": Rule(
        "put all keys into one policy, or let the patterns match different names", f"{_DOCS}policies"
    ),
    "unused-exchange": Rule("use the exchange in a service or a binding, or remove the exchange", f"{_DOCS}exchanges"),
    "consumer-timeout": Rule(
        "raise consumer-timeout, or lower prefetch or handler_timeout", f"{_DOCS}consumers#acknowledgement-timeout"
    ),
    "outlived-by-restart": Rule("raise or remove the time limit of the queue", f"{_DOCS}ttl"),
    "stop-timeout": Rule("raise stop_timeout, or lower handler_timeout", f"{_DOCS}consumers"),
    "inbox-forgets": Rule("raise inbox.retention", f"{_DOCS}confirms"),
    "expiring-retry-queue": Rule("exclude the queue from the policy's pattern", f"{_DOCS}ttl#queue-ttl"),
    "expiring-dead-letters": Rule("exclude the queue from the policy's pattern", f"{_DOCS}ttl"),
    "transient-queue": Rule("make the queue durable", f"{_DOCS}queues#transient-queues"),
    UNKNOWN_ARGUMENT: Rule("check the spelling, or ignore the finding", f"{_DOCS}plugins"),
    UNKNOWN_TYPE: Rule("check the spelling, or ignore the finding", f"{_DOCS}plugins"),
    "removed-setting": Rule("remove the setting", f"{_DOCS}upgrade"),
    "unused-ignore": Rule("correct or remove the entry"),
}


@dataclass(frozen=True)
class Finding:
    """One probable mistake."""

    code: str
    #: The name of the object that the finding is about, as written under ``lint.ignore``.
    name: str
    #: The file, and the path of the setting in the file.
    file: str
    path: Path
    reason: str
    #: A remedy that is more specific than the rule's remedy, or an empty string if there is none.
    advice: str = ""

    @property
    def rule(self) -> Rule:
        """The rule for the code of this finding."""
        return RULES[self.code]

    @property
    def remedy(self) -> str:
        """The advice in the finding, or else the remedy of the rule."""
        return self.advice or self.rule.remedy

    def line(self, project: Project) -> str:
        """Return ``file:line: code: reason; remedy``."""
        return f"{project.place(self.file, self.path)}: {self.code}: {self.reason}; {self.remedy}"


def finding_lines(findings: Sequence[Finding], project: Project) -> list[str]:
    """Return a line for each of the first ten findings, and a last line with the number of remaining findings."""
    lines = [one.line(project) for one in findings[:MOST_SHOWN]]
    if more := len(findings) - len(lines):
        lines.append(f"and {more} more finding{'s' if more > 1 else ''}; to print all findings: {invocation('lint')}")
    return lines
