"""The optional arguments and policy keys of RabbitMQ 3.10 to 4.3, with their types, uses and versions.

Sources: RabbitMQ's guides "Queues", "Policies", "Quorum Queues", "Streams", "Dead Letter Exchanges", "Time-To-Live" and
"Consumers", and the checks in RabbitMQ's source (``rabbit_amqqueue``, ``rabbit_policies``, each queue type's
capabilities). The broker accepts unknown queue arguments and ignores them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from runner.config.error_detail import misspelt, one_of
from runner.config.setting import Setting
from runner.config.value import MAX_NAME_BYTES
from runner.config.version import (
    CLASSIC,
    MASTER_LOCATOR,
    QUORUM,
    STREAM,
    Span,
    Version,
)

#: The longest time that a RabbitMQ timer supports, in milliseconds (``rabbit_misc:check_expiry``).
LONGEST_TIMER = 4_294_967_295
#: The maximum size of a stream segment, in bytes (``rabbit_stream_queue``).
LONGEST_SEGMENT = 3_000_000_000
_BOTH = (CLASSIC, QUORUM)
_ALL = (*_BOTH, STREAM)
_SINCE_4_3 = Span((4, 3))
_MASTER_LOCATORS = ("min-masters", "client-local", "random")
_LOCATORS = ("client-local", "balanced", "random", "least-leaders")

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
    Setting(
        "target-group-size",
        "integer",
        (QUORUM,),
        minimum=1,
        since=(3, 13),
        argument="x-quorum-target-group-size",
        compared=None,
    ),
    Setting("initial-cluster-size", "integer", (STREAM,), minimum=1),
    Setting("max-age", "age", (STREAM,)),
    Setting("stream-max-segment-size-bytes", "integer", (STREAM,), minimum=0, maximum=LONGEST_SEGMENT),
    Setting(
        "stream-filter-size-bytes", "integer", (STREAM,), minimum=16, maximum=255, since=(3, 13), compared=_SINCE_4_3
    ),
    Setting(
        "consumer-timeout",
        "integer",
        _BOTH,
        minimum=0,
        since=(3, 12),
        by_type={CLASSIC: Span((3, 12), (4, 3, 2))},
        compared=_SINCE_4_3,
    ),
    Setting("consumer-disconnected-timeout", "integer", (QUORUM,), minimum=0, since=(4, 3), compared=_SINCE_4_3),
    Setting(
        "delayed-retry-type",
        "text",
        (QUORUM,),
        words=("disabled", "all", "failed", "returned"),
        since=(4, 3),
        compared=_SINCE_4_3,
    ),
    Setting("delayed-retry-min", "integer", (QUORUM,), minimum=1, since=(4, 3), compared=_SINCE_4_3),
    Setting("delayed-retry-max", "integer", (QUORUM,), minimum=1, since=(4, 3), compared=_SINCE_4_3),
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
#: The queue argument that topology.yaml calls ``type``.
QUEUE_TYPE = "x-queue-type"


def name_problem(name: str) -> str | None:
    """Return the error in an argument's name, or None if the name is valid."""
    if (size := len(name.encode())) <= MAX_NAME_BYTES:
        return None
    return f"the name has {size} bytes; allowed: up to {MAX_NAME_BYTES} bytes (AMQP 0-9-1)"


def argument_problem(
    key: str,
    value: object,
    shown_value: str,
    known: Mapping[str, Setting],
    queue_type: str | None = None,
    *,
    is_policy: bool = False,
    accepted: Collection[str] = (),
) -> str | None:
    """Return the error in an argument or a policy key, or None if there is no error.

    ``queue_type`` is None if the setting applies to queues of several types. RabbitMQ refuses unknown policy keys, but
    ignores unknown arguments, because plugins add their own arguments. ``accepted`` contains allowed unknown names.
    """
    setting = known.get(key)
    if setting is None:
        if (problem := name_problem(key)) is not None:
            return problem
        if key in accepted or (not is_policy and misspelt(key, known) is None):
            return None
        words = "argument" if key.startswith("x-") else "key"
        return f"unknown {words} {key!r}; {one_of(key, known)}"
    if queue_type is not None and queue_type not in setting.types:
        return f"{key!r} cannot be set for a {queue_type} queue; allowed for: {', '.join(setting.types)}"
    if key.endswith("overflow") and queue_type == QUORUM and value == "reject-publish-dlx":
        return f"{shown_value} cannot be used for a quorum queue; allowed: drop-head, reject-publish"
    return setting.problem(value, shown_value)


def version_problems(
    settings: Mapping[str, Any],
    version: Version,
    *,
    is_policy: bool = False,
    queue_type: str | None = None,
    denied: Collection[str] | None = None,
) -> dict[str, str]:
    """Return the arguments or policy keys that the broker refuses, with the reason for each.

    ``denied`` contains the deprecated features that the broker denies, or is None if the broker does not report any.
    """
    known = {**EXCHANGE_POLICY_KEYS, **QUEUE_POLICY_KEYS} if is_policy else {**EXCHANGE_ARGUMENTS, **QUEUE_ARGUMENTS}
    found = (
        (key, known[key].version_problem(value, version, is_policy=is_policy, queue_type=queue_type, denied=denied))
        for key, value in settings.items()
        if key in known
    )
    return {key: problem for key, problem in found if problem is not None}


def as_arguments(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a policy's definition to arguments, for a broker on which policies cannot be set.

    Policy keys from plugins are omitted, because they have no corresponding arguments.
    """
    by_key = {**EXCHANGE_POLICY_KEYS, **QUEUE_POLICY_KEYS}
    known = ((by_key[key], value) for key, value in policy.items() if key in by_key)
    return {setting.argument_key: value for setting, value in known if setting.is_argument}
