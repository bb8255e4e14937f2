"""Differences between RabbitMQ versions, except in arguments and policy keys.

``runner.config.argument`` lists the RabbitMQ versions that support each argument and policy key. The sources are
RabbitMQ's release notes and source code. An integration test compares both modules with the behaviour of a real broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

Version = tuple[int, ...]
CLASSIC, QUORUM, STREAM = "classic", "quorum", "stream"
#: The oldest and the newest supported broker version. Commands that need no broker assume the newest version.
OLDEST: Final[Version] = (3, 10)
NEWEST: Final[Version] = (4, 3, 6)


@dataclass(frozen=True)
class Span:
    """The versions from ``since`` up to but not including ``until``."""

    since: Version = OLDEST
    until: Version | None = None

    def covers(self, version: Version) -> bool:
        """Return True if the span includes a version."""
        return version >= self.since and (self.until is None or version < self.until)

    def problem(self, version: Version) -> str | None:
        """Return why a version is outside the span, or None if the span includes the version."""
        if version < self.since:
            return f"needs RabbitMQ {dotted(self.since)} or later (this broker runs {dotted(version)})"
        if self.until is not None and version >= self.until:
            return f"is refused by RabbitMQ {dotted(self.until)} and later (this broker runs {dotted(version)})"
        return None


EVERY_VERSION: Final = Span()


def parsed(text: str) -> Version:
    """Return the numbers in a version string from RabbitMQ, such as ``3.13.0-rc.1``."""
    return tuple(int(part) for part in text.partition("-")[0].split(".")[:3] if part.isdigit())


def dotted(version: Version) -> str:
    """Return a version in the usual notation, such as ``3.13``."""
    return ".".join(str(part) for part in version) if len(version) > 1 else f"{version[0]}.0"


@dataclass(frozen=True)
class Behaviour:
    """A behaviour that RabbitMQ has in a span of versions."""

    name: str
    span: Span

    def holds(self, version: Version) -> bool:
        """Return True if a broker of this version has the behaviour."""
        return self.span.covers(version)


#: A quorum queue without its own limit drops a message on the 21st delivery (RabbitMQ: "Quorum Queues").
DEFAULT_DELIVERY_LIMIT = 20
HAS_DELIVERY_LIMIT = Behaviour("quorum queues have a default delivery limit", Span((4,)))
#: Before 4.3, every requeued message counts as a failed delivery. Since 4.3, a ``basic.nack`` with ``requeue`` does not
#: count. In all versions, the unacked messages of a closed channel count.
NACK_IS_NO_FAILURE = Behaviour("quorum queues do not count a nack as a failed delivery", Span((4, 3)))
#: Since 4.3, a broker cancels the consumer after a late acknowledgement, but only on quorum queues.
CLOSES_CHANNELS = Behaviour("the consumer timeout closes the channel", Span(until=(4, 3)))
#: Declaring a quorum queue writes the names of earlier quorum queues to disk. No other version is known to do so.
WRITES_EARLIER_NAMES = Behaviour(
    "declaring a quorum queue also writes the names of earlier quorum queues to disk", Span((3, 10, 8), (3, 11))
)
#: Policies can apply to ``classic_queues``, ``quorum_queues`` or ``streams``.
HAS_POLICIES_BY_TYPE = Behaviour("policies can apply to one queue type", Span((3, 12)))
#: The maximum number of ``#`` words in the binding key of a topic exchange (``rabbit_exchange_type_topic`` of RabbitMQ
#: 4.3.6). Each ``#`` makes matching slower.
MOST_HASHES = 2
LIMITS_HASHES = Behaviour("topic exchanges limit the number of # words in a binding key", Span((4, 3)))
#: The default time in seconds within which a consumer must acknowledge a message (RabbitMQ: "Consumers").
CONSUMER_TIMEOUT = 1800.0

#: The exchange types that some supported versions lack.
EXCHANGE_TYPE_VERSIONS: Mapping[str, Span] = {"x-local-random": Span((4,))}


@dataclass(frozen=True)
class Deprecation:
    """A deprecated feature of RabbitMQ, with the name that RabbitMQ's log and HTTP API use.

    Newer brokers report whether they deny the feature. For older brokers, ``span`` contains the versions that allow the
    feature.
    """

    feature: str
    span: Span

    def problem(self, version: Version, denied: Iterable[str] | None) -> str | None:
        """Return why a broker refuses the feature, or None if the broker allows it.

        ``denied`` is None if the broker reports no features.
        """
        if denied is None:
            return self.span.problem(version)
        if self.feature in denied:
            return f"is refused by this broker (RabbitMQ {dotted(version)}), which denies {self.feature}"
        return None


TRANSIENT_QUEUES = Deprecation("transient_nonexcl_queues", Span(until=(4, 3)))
MASTER_LOCATOR = Deprecation("queue_master_locator", Span(until=(4, 3)))

_MIRRORING = ("ha-mode", "ha-params", "ha-sync-mode", "ha-promote-on-shutdown", "ha-promote-on-failure")
_IN_MEMORY = ("max-in-memory-length", "max-in-memory-bytes")
_SELECTORS = dict.fromkeys(("selector-fields", "selector-field-max-bytes"), Span((4, 3)))

#: The policy keys for which RabbitMQ ignores the whole policy, by queue type (``unsupported_policies`` in
#: ``rabbit_classic_queue``, ``rabbit_quorum_queue`` and ``rabbit_stream_queue``). Other keys that a type does not use,
#: such as ``queue-version`` for a quorum queue, are ignored individually.
EXCLUDING: Mapping[str, Mapping[str, Span]] = {
    CLASSIC: {
        **dict.fromkeys(
            (
                "max-age",
                "stream-max-segment-size-bytes",
                "initial-cluster-size",
                "delivery-limit",
                "dead-letter-strategy",
            ),
            EVERY_VERSION,
        ),
        "queue-leader-locator": Span(until=(4,)),
        **dict.fromkeys((*_IN_MEMORY, "target-group-size"), Span((3, 12, 7))),
        **_SELECTORS,
    },
    QUORUM: {
        **dict.fromkeys((*_MIRRORING, "max-priority", "queue-mode", "queue-master-locator"), EVERY_VERSION),
        **dict.fromkeys(("max-age", "stream-max-segment-size-bytes", "initial-cluster-size"), EVERY_VERSION),
        "single-active-consumer": Span(until=(4, 2)),
        **_SELECTORS,
    },
    STREAM: {
        **dict.fromkeys((*_MIRRORING, "max-priority", "queue-mode", "queue-master-locator"), EVERY_VERSION),
        **dict.fromkeys(
            ("expires", "message-ttl", "max-length", "overflow", "delivery-limit", *_IN_MEMORY), EVERY_VERSION
        ),
        **dict.fromkeys(("dead-letter-exchange", "dead-letter-routing-key", "dead-letter-strategy"), EVERY_VERSION),
        "single-active-consumer": Span(until=(4, 2)),
        "target-group-size": Span((3, 12, 7)),
        **_SELECTORS,
    },
}


def excludes(key: str, queue_type: str, version: Version | None = None) -> bool:
    """Return True if RabbitMQ ignores a whole policy with this key for queues of this type.

    If ``version`` is None, the newest version is assumed.
    """
    span = EXCLUDING.get(queue_type, {}).get(key)
    return span is not None and span.covers(NEWEST if version is None else version)
