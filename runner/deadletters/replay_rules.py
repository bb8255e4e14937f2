"""The rules of a replay: the selection of messages, the headers of the copies, and the rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.json_record import digest
from runner.deadletters.origins import Origins
from runner.deadletters.selection import Selection
from runner.headers import (
    ATTEMPT,
    CRASHES,
    EXCEPTION,
    FAILED_AT,
    HOST,
    LAST_ERROR,
    MAX_COUNT,
    ORIGIN_EXCHANGE,
    ORIGIN_KEY,
    PID,
    PUBLISHED_AT,
    REPLAYED_AT,
    REPLAYS,
    SENT_AT,
    SERVICE,
    SIGNAL,
    TRACEBACK,
    copy_headers,
    milliseconds_of,
)

#: The number of replays after which a message is replayed only with ``--id`` or ``--include-replayed``.
MOST_REPLAYS = 3
#: The maximum number of example ids in a warning about messages that are not replayed.
MOST_EXAMPLES = 3
UNLIMITED = 1_000_000
#: The maximum duration of a replay in milliseconds. A later replay time in a header was set by the sender.
LONGEST_RUN = 7 * 86_400_000
#: Headers about the last failure, which a replayed copy must not keep.
_FAILURE_HEADERS = frozenset(
    {
        ATTEMPT, LAST_ERROR, EXCEPTION, TRACEBACK, SERVICE, HOST, PID, FAILED_AT,
        CRASHES, SIGNAL,
    }
)  # fmt: skip


def replayed_headers(message: DeadLetter, now: int) -> dict[str, Any]:
    """Return the headers of a copy that is replayed at ``now`` (in milliseconds since the epoch).

    The copy keeps the sender's headers, the first error, and the exchange and routing key of the original message.
    """
    copied = copy_headers(message.trusted_headers)
    headers = {name: value for name, value in copied.items() if name not in _FAILURE_HEADERS}
    exchange, key = message.published
    if exchange and key is not None:
        # The copy is published to the default exchange, but its handler must see the original exchange.
        headers |= {ORIGIN_EXCHANGE: exchange, ORIGIN_KEY: key}
    if (sent_at := milliseconds_of(headers.get(SENT_AT))) is not None:
        # The copy gets a new sending time, but the time of the event does not change.
        headers.setdefault(PUBLISHED_AT, sent_at)
    return headers | {SENT_AT: now, REPLAYS: min(message.replays + 1, MAX_COUNT), REPLAYED_AT: now}


@dataclass(frozen=True)
class ReplayRules:
    """Rules that choose the target queue of each message, or state the reason why the message is not replayed."""

    places: Origins
    selection: Selection
    #: The start of the replay, in milliseconds since the epoch.
    started: int
    #: True to include messages that were already replayed MOST_REPLAYS times.
    include_replayed: bool = False
    #: Messages that were replayed at this time or later are skipped. In milliseconds since the epoch, or None for the
    #: start of the replay.
    since: int | None = None
    #: The digest of the only message to replay, or None for any message.
    only: bytes | None = None

    def judge(self, message: DeadLetter) -> tuple[str | None, str | None]:
        """Return the target queue of a message and the reason why it is not replayed.

        For an unselected message, the queue and the reason are None.
        """
        origin = self.places.origin_of(message)
        if not self.selection.matches(message, origin):
            return None, None
        since = self.started if self.since is None else min(self.since, self.started)
        if since <= message.replayed_at < self.started + LONGEST_RUN:
            return None, None  # the message failed again after this replay, or the continued replay, had sent it
        if self.only is not None and digest(message) != self.only:
            return None, None
        if self.selection.ids is None and not self.include_replayed and message.replays >= MOST_REPLAYS:
            return (
                None,
                f"already replayed {MOST_REPLAYS} times and dead-lettered again; use --id or --include-replayed to"
                " replay anyway",
            )
        if origin is None:
            return None, "the original queue is unknown"
        return origin, None


@dataclass
class Stay:
    """Messages that remain in their queue for the same reason."""

    count: int = 0
    #: The ids of the first few messages.
    examples: list[str] = field(default_factory=list)


@dataclass
class Tally:
    """The results of a replay so far."""

    replayed: int = 0
    #: The selected messages that are not replayed, by dead-letter queue and reason.
    stays: dict[str, dict[str, Stay]] = field(default_factory=dict)

    def stay(self, message: DeadLetter, why: str) -> None:
        """Count a message that is not replayed, and store the reason."""
        one = self.stays.setdefault(message.queue, {}).setdefault(why, Stay())
        one.count += 1
        if len(one.examples) < MOST_EXAMPLES:
            one.examples.append(message.id)

    @property
    def stayed(self) -> int:
        """The number of selected messages that are not replayed."""
        return sum(one.count for reasons in self.stays.values() for one in reasons.values())


class Pace:
    """A limit of ``rate`` evenly spaced messages per second, or no limit if ``rate`` is None."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._distance = 0.0 if rate is None else 1 / rate
        self._due = 0.0

    def within(self, seconds: float) -> int:
        """Return the number of messages that may be sent within ``seconds``.

        The result is at least 1. If there is no rate, the result is UNLIMITED.
        """
        return UNLIMITED if self._rate is None else max(1, int(min(UNLIMITED, self._rate * seconds)))

    def wait(self, now: float) -> float:
        """Return the number of seconds from ``now`` until the next message may be sent."""
        return max(0.0, self._due - now)

    def sent(self, now: float) -> None:
        """Record that a message is sent at ``now``."""
        # The pace catches up after a delay of up to 0.1 s, but not after a longer delay, so that no burst follows a
        # pause.
        self._due = (max(self._due, now - 0.1) if self._due else now) + self._distance
