"""The differences between versions of RabbitMQ, except differences in arguments and policy keys.

``runner.config.argument`` has the versions of arguments and policy keys. The sources are RabbitMQ's release notes and
source code. An integration test compares both tables with answers from a real broker.
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
        """Return the reason why this version is outside the span, or None."""
        if version < self.since:
            return f"needs RabbitMQ {dotted(self.since)}, this is {dotted(version)}"
        if self.until is not None and version >= self.until:
            return f"is refused since RabbitMQ {dotted(self.until)}, this is {dotted(version)}"
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
    """A behaviour of RabbitMQ in a span of versions."""

    name: str
    span: Span

    def holds(self, version: Version) -> bool:
        """Return True if a broker of this version has the behaviour."""
        return self.span.covers(version)


#: A quorum queue without a limit of its own drops a message at its 21st delivery (RabbitMQ: "Quorum Queues").
DEFAULT_DELIVERY_LIMIT = 20
HAS_DELIVERY_LIMIT = Behaviour("quorum queues have a default delivery limit", Span((4,)))
#: Earlier brokers count every requeued message as a failed delivery. Later brokers do not count a ``basic.nack`` with
#: ``requeue``. All brokers count unacked messages of a closed channel.
NACK_IS_NO_FAILURE = Behaviour("a nack is no failed delivery to a quorum queue", Span((4, 3)))
#: After a late acknowledgement, later brokers cancel the consumer instead, and only for quorum queues.
CLOSES_CHANNELS = Behaviour("the consumer timeout closes the channel", Span(until=(4, 3)))
#: A declaration of a quorum queue writes the names of earlier quorum queues to the disk. This is not known of any other
#: version.
WRITES_EARLIER_NAMES = Behaviour("a declaration writes the names of earlier quorum queues", Span((3, 10, 8), (3, 11)))
#: Policies can be for ``classic_queues``, ``quorum_queues`` and ``streams``.
HAS_POLICIES_BY_TYPE = Behaviour("policies apply to one queue type", Span((3, 12)))
#: The maximum number of ``#`` words in the binding key of a topic exchange (``rabbit_exchange_type_topic`` of RabbitMQ
#: 4.3.6). A match takes longer with each ``#``.
MOST_HASHES = 2
LIMITS_HASHES = Behaviour("a topic exchange limits the words # of a binding key", Span((4, 3)))
#: The default time in seconds within which a consumer must acknowledge a message (RabbitMQ: "Consumers").
CONSUMER_TIMEOUT = 1800.0

#: The exchange types that some supported versions lack.
EXCHANGE_TYPE_VERSIONS: Mapping[str, Span] = {"x-local-random": Span((4,))}


@dataclass(frozen=True)
class Deprecation:
    """A deprecated feature of RabbitMQ, with the name that RabbitMQ's log and HTTP API use.

    Newer brokers report whether they deny the feature. ``span`` is for older brokers.
    """

    feature: str
    span: Span

    def problem(self, version: Version, denied: Iterable[str] | None) -> str | None:
        """Return why a broker refuses the feature, or None. ``denied`` is None if the broker reports no features."""
        if denied is None:
            return self.span.problem(version)
        if self.feature in denied:
            return f"is refused by this broker, RabbitMQ {dotted(version)}, which denies {self.feature}"
        return None


TRANSIENT_QUEUES = Deprecation("transient_nonexcl_queues", Span(until=(4, 3)))
MASTER_LOCATOR = Deprecation("queue_master_locator", Span(until=(4, 3)))

_MIRRORING = ("ha-mode", "ha-params", "ha-sync-mode", "ha-promote-on-shutdown", "ha-promote-on-failure")
_IN_MEMORY = ("max-in-memory-length", "max-in-memory-bytes")
_SELECTORS = dict.fromkeys(("selector-fields", "selector-field-max-bytes"), Span((4, 3)))

#: The policy keys that exclude a whole policy for a queue of a type: ``unsupported_policies`` in the capabilities of
#: ``rabbit_classic_queue``, ``rabbit_quorum_queue`` and ``rabbit_stream_queue``. Other keys
#: without a use for the type, such as ``queue-version`` for a quorum queue, are ignored alone.
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
    """Return True if a policy with this key does not apply to a queue of this type at all.

    If ``version`` is None, the newest version is assumed.
    """
    span = EXCLUDING.get(queue_type, {}).get(key)
    return span is not None and span.covers(NEWEST if version is None else version)
