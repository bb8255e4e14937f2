"""RabbitMQ's optional arguments and policy keys, 3.10 to 4.3: type, place and versions of each.

Sources: RabbitMQ's guides "Queues", "Policies", "Quorum Queues", "Streams", "Dead Letter Exchanges", "Time-To-Live"
and "Consumers", and the checks in its own source (``rabbit_amqqueue``, ``rabbit_policies``, each queue type's
capabilities). The broker itself takes any unknown argument of a queue and does nothing with it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.config.fault import one_of
from runner.config.value import LONGEST_INTEGER
from runner.config.version import (
    CLASSIC,
    MASTER_LOCATOR,
    OLDEST,
    QUORUM,
    STREAM,
    Deprecation,
    Span,
    Version,
    dotted,
    excludes,
)

#: The longest time of RabbitMQ's timers, in milliseconds (``rabbit_misc:check_expiry``).
LONGEST_TIMER = 4_294_967_295
_AGE = re.compile(r"\d+[YMDhms]")


@dataclass(frozen=True)
class Setting:
    """One thing that can be set of a queue or an exchange."""

    #: The policy key; the argument is ``x-`` and this, unless ``argument`` says otherwise.
    key: str
    #: ``integer``, ``text``, ``boolean``, ``age`` (such as ``7D``) or ``any``.
    kind: str
    #: The queue types that know it; none for a setting of exchanges.
    types: Collection[str] = ()
    minimum: int | None = None
    maximum: int | None = None
    #: The words that are allowed, where not every text is.
    words: tuple[str, ...] = ()
    #: The first broker version that knows it, and the first that does no more.
    since: Version = OLDEST
    until: Version | None = None
    #: Where it may stand.
    is_policy: bool = True
    is_argument: bool = True
    argument: str = field(default="")
    #: The versions that accept it as an argument of a queue type, if they differ.
    by_type: Mapping[str, Span] = field(default_factory=dict)
    #: The versions that accept a value, if they differ: as an argument, and in a policy.
    by_value: Mapping[object, Span] = field(default_factory=dict)
    policy_by_value: Mapping[object, Span] = field(default_factory=dict)
    #: The deprecated feature that it belongs to, which a broker may deny.
    deprecation: Deprecation | None = None

    @property
    def argument_key(self) -> str:
        """Its name among the arguments of ``queue.declare`` or ``exchange.declare``."""
        return self.argument or f"x-{self.key}"

    def version_problem(
        self,
        value: object,
        version: Version,
        *,
        is_policy: bool,
        queue_type: str | None = None,
        denied: Collection[str] | None = None,
    ) -> str | None:
        """Return the reason if a broker of this version does not accept this setting, or None."""
        if self.deprecation is not None and (problem := self.deprecation.problem(version, denied)) is not None:
            return problem
        span = Span(self.since, self.until)
        if queue_type is not None and not is_policy:
            span = self.by_type.get(queue_type, span)
        values = self.policy_by_value if is_policy else self.by_value
        at_value = values.get(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
        if (problem := span.problem(version)) is not None:
            return problem
        if at_value is not None and (problem := at_value.problem(version)) is not None:
            return f"{value} {problem}"
        if is_policy and queue_type is not None and excludes(self.key, queue_type, version):
            return f"excludes its whole policy from a {queue_type} queue in RabbitMQ {dotted(version)}"
        return None

    def problem(self, value: object, shown_value: str) -> str | None:
        """What is wrong with a value, and what is allowed; None where nothing is."""
        wrong = ""
        match self.kind:
            case "integer" if isinstance(value, bool) or not isinstance(value, int):
                wrong = f"not a whole number, {shown_value}; allowed: a whole number"
            case "integer" if not self._is_in_range(int(str(value))):
                is_low = self.minimum is not None and int(str(value)) < self.minimum
                end = "or more" if self.maximum is None and is_low else f"to {self.maximum or LONGEST_INTEGER}"
                wrong = f"out of range, {shown_value}; allowed: {self.minimum} {end}"
            case "boolean" if not isinstance(value, bool):
                wrong = f"not true or false, {shown_value}; allowed: true, false"
            case "text" | "age" if not isinstance(value, str):
                wrong = f"not text, {shown_value}; allowed: {', '.join(self.words) or 'text'}"
            case "text" if self.words and value not in self.words:
                wrong = f"unknown value {shown_value}; {one_of(str(value), self.words)}"
            case "age" if not _AGE.fullmatch(str(value)):
                wrong = f"not an age, {shown_value}; allowed: a number and one of Y M D h m s, such as 7D"
        return wrong or None

    def _is_in_range(self, value: int) -> bool:
        most = LONGEST_INTEGER if self.maximum is None else self.maximum
        return (self.minimum is None or value >= self.minimum) and value <= most


_BOTH = (CLASSIC, QUORUM)
_ALL = (*_BOTH, STREAM)
_MASTER_LOCATORS = ("min-masters", "client-local", "random")
_LOCATORS = ("client-local", "balanced", "random", "least-leaders")

#: What can be set of a queue.
QUEUE_SETTINGS = (
    Setting("expires", "integer", _BOTH, minimum=1, maximum=LONGEST_TIMER),
    Setting("message-ttl", "integer", _BOTH, minimum=0, maximum=LONGEST_TIMER),
    Setting("dead-letter-exchange", "text", _BOTH),
    Setting("dead-letter-routing-key", "text", _BOTH),
    Setting("dead-letter-strategy", "text", (QUORUM,), words=("at-most-once", "at-least-once")),
    Setting("max-length", "integer", _BOTH, minimum=0),
    Setting("max-length-bytes", "integer", (*_BOTH, STREAM), minimum=0),
    Setting("overflow", "text", _BOTH, words=("drop-head", "reject-publish", "reject-publish-dlx")),
    Setting("max-priority", "integer", (CLASSIC,), minimum=0, maximum=255, is_policy=False),
    Setting("single-active-consumer", "boolean", _BOTH, is_policy=False),
    Setting("queue-mode", "text", (CLASSIC,), words=("default", "lazy")),
    Setting("queue-version", "integer", (CLASSIC,), minimum=1, maximum=2, by_value={1: Span(until=(4, 3))}),
    Setting("queue-master-locator", "text", (CLASSIC,), words=_MASTER_LOCATORS, deprecation=MASTER_LOCATOR),
    Setting("queue-leader-locator", "text", _ALL, words=_LOCATORS, by_type={CLASSIC: Span((4,))}),
    Setting("delivery-limit", "integer", (QUORUM,), minimum=-1, policy_by_value={-1: Span((4,))}),
    Setting("max-in-memory-length", "integer", (QUORUM,), minimum=0),
    Setting("max-in-memory-bytes", "integer", (QUORUM,), minimum=0),
    Setting("quorum-initial-group-size", "integer", (QUORUM,), minimum=1, is_policy=False),
    Setting("target-group-size", "integer", (QUORUM,), minimum=1, since=(3, 13), argument="x-quorum-target-group-size"),
    Setting("initial-cluster-size", "integer", (STREAM,), minimum=1),
    Setting("max-age", "age", (STREAM,)),
    Setting("stream-max-segment-size-bytes", "integer", (STREAM,), minimum=0),
    Setting("stream-filter-size-bytes", "integer", (STREAM,), minimum=16, maximum=255, since=(3, 13)),
    Setting(
        "consumer-timeout",
        "integer",
        _BOTH,
        minimum=0,
        since=(3, 12),
        by_type={CLASSIC: Span((3, 12), (4, 3, 2))},
    ),
    Setting("consumer-disconnected-timeout", "integer", (QUORUM,), minimum=0, since=(4, 3)),
    Setting("delayed-retry-type", "text", (QUORUM,), words=("disabled", "all", "failed", "returned"), since=(4, 3)),
    Setting("delayed-retry-min", "integer", (QUORUM,), minimum=1, since=(4, 3)),
    Setting("delayed-retry-max", "integer", (QUORUM,), minimum=1, since=(4, 3)),
    Setting("ha-mode", "text", (CLASSIC,), words=("all", "exactly", "nodes"), until=(4,), is_argument=False),
    Setting("ha-params", "any", (CLASSIC,), until=(4,), is_argument=False),
    Setting("ha-sync-mode", "text", (CLASSIC,), words=("manual", "automatic"), until=(4,), is_argument=False),
    Setting("ha-sync-batch-size", "integer", (CLASSIC,), minimum=1, until=(4,), is_argument=False),
    Setting(
        "ha-promote-on-shutdown", "text", (CLASSIC,), words=("when-synced", "always"), until=(4,), is_argument=False
    ),
    Setting(
        "ha-promote-on-failure", "text", (CLASSIC,), words=("when-synced", "always"), until=(4,), is_argument=False
    ),
    Setting("federation-upstream", "text", _BOTH, is_argument=False),
    Setting("federation-upstream-set", "text", _BOTH, is_argument=False),
    Setting("federation-upstream-pattern", "text", _BOTH, is_argument=False),
)
#: What can be set of an exchange.
EXCHANGE_SETTINGS = (
    Setting("alternate-exchange", "text", argument="alternate-exchange"),
    Setting("federation-upstream", "text", is_argument=False),
    Setting("federation-upstream-set", "text", is_argument=False),
    Setting("federation-upstream-pattern", "text", is_argument=False),
)

QUEUE_ARGUMENTS = {one.argument_key: one for one in QUEUE_SETTINGS if one.is_argument}
QUEUE_POLICY_KEYS = {one.key: one for one in QUEUE_SETTINGS if one.is_policy}
EXCHANGE_ARGUMENTS = {one.argument_key: one for one in EXCHANGE_SETTINGS if one.is_argument}
EXCHANGE_POLICY_KEYS = {one.key: one for one in EXCHANGE_SETTINGS if one.is_policy}
#: Written as ``type`` and not among the arguments.
QUEUE_TYPE = "x-queue-type"


def argument_problem(
    key: str, value: object, shown_value: str, known: Mapping[str, Setting], queue_type: str | None = None
) -> str | None:
    """What is wrong with one argument or policy key; ``queue_type`` is None where it stands for more than one queue."""
    setting = known.get(key)
    if setting is None:
        words = "argument" if key.startswith("x-") else "key"
        return f"unknown {words} {key!r}; {one_of(key, known)}"
    if queue_type is not None and queue_type not in setting.types:
        return f"not for a {queue_type} queue, {key!r}; allowed for: {', '.join(setting.types)}"
    if key.endswith("overflow") and queue_type == QUORUM and value == "reject-publish-dlx":
        return f"not for a quorum queue, {shown_value}; allowed: drop-head, reject-publish"
    return setting.problem(value, shown_value)


def version_problems(
    settings: Mapping[str, Any],
    version: Version,
    *,
    is_policy: bool = False,
    queue_type: str | None = None,
    denied: Collection[str] | None = None,
) -> dict[str, str]:
    """Return the arguments or policy keys that this broker does not accept, each with the reason.

    ``denied`` are the deprecated features that the broker denies; None if it does not report them.
    """
    known = {**EXCHANGE_POLICY_KEYS, **QUEUE_POLICY_KEYS} if is_policy else {**EXCHANGE_ARGUMENTS, **QUEUE_ARGUMENTS}
    found = (
        (key, known[key].version_problem(value, version, is_policy=is_policy, queue_type=queue_type, denied=denied))
        for key, value in settings.items()
        if key in known
    )
    return {key: problem for key, problem in found if problem is not None}


def as_arguments(policy: Mapping[str, Any]) -> dict[str, Any]:
    """A policy's definition as arguments, for a broker whose policies cannot be set."""
    by_key = {**EXCHANGE_POLICY_KEYS, **QUEUE_POLICY_KEYS}
    return {by_key[key].argument_key: value for key, value in policy.items() if by_key[key].is_argument}
