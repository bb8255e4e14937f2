"""What is sent back of a parked message, which ones are not, and how fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.json_record import fingerprint
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

#: How often one message is replayed before it must be asked for by its id, or once more with all the others.
MOST_REPLAYS = 3
#: How many ids are kept of those that stay for one reason.
MOST_EXAMPLES = 3
MANY = 1_000_000
#: Milliseconds that a replay may take; a later time was written by a sender.
LONGEST_RUN = 7 * 86_400_000
#: What tells of this parking, and would tell of it wrongly at the next one.
_OF_THE_PARKING = frozenset(
    {
        ATTEMPT, LAST_ERROR, EXCEPTION, TRACEBACK, SERVICE, HOST, PID, FAILED_AT,
        CRASHES, SIGNAL,
    }
)  # fmt: skip


def replayed_headers(letter: DeadLetter, now: int) -> dict[str, Any]:
    """The headers of the copy that is sent back at ``now``, milliseconds since the epoch.

    The sender's own stay, and so do the first error and where it was first published.
    """
    copied = copy_headers(letter.trusted_headers)
    headers = {name: value for name, value in copied.items() if name not in _OF_THE_PARKING}
    exchange, key = letter.published
    if exchange and key is not None:
        # A copy comes through the default exchange; a handler sees where the message was first published.
        headers |= {ORIGIN_EXCHANGE: exchange, ORIGIN_KEY: key}
    if (sent_at := milliseconds_of(headers.get(SENT_AT))) is not None:
        # The copy is sent at another time, while the event stays as old as it is.
        headers.setdefault(PUBLISHED_AT, sent_at)
    return headers | {SENT_AT: now, REPLAYS: min(letter.replays + 1, MAX_COUNT), REPLAYED_AT: now}


@dataclass(frozen=True)
class ReplayRules:
    """Says of each message what a replay that began at ``started`` does with it."""

    places: Origins
    selection: Selection
    #: Milliseconds since the epoch.
    started: int
    #: Whether what was replayed often is meant too.
    again: bool = False
    #: The fingerprint of the only message that is meant; None for any.
    only: bytes | None = None

    def judge(self, letter: DeadLetter) -> tuple[str | None, str | None]:
        """The queue to send it to, or why it stays; neither for a message that is not meant."""
        origin = self.places.origin_of(letter)
        if not self.selection.takes(letter, origin):
            return None, None
        if self.started <= letter.replayed_at < self.started + LONGEST_RUN:
            return None, None  # it failed anew since, and was not on the desk when this began
        if self.only is not None and fingerprint(letter) != self.only:
            return None, None
        if self.selection.ids is None and not self.again and letter.replays >= MOST_REPLAYS:
            return (
                None,
                f"replayed {MOST_REPLAYS} times already and parked again; --id or --again replays it all the same",
            )
        if origin is None:
            return None, "nothing tells in which queue it failed"
        return origin, None


@dataclass
class Stay:
    """Messages that stay for one reason."""

    count: int = 0
    #: The ids of the first ones.
    examples: list[str] = field(default_factory=list)


@dataclass
class Tally:
    """What a replay has done so far, also where it was interrupted."""

    replayed: int = 0
    #: Those that were meant and stay, by the reason, for each dead-letter queue.
    stays: dict[str, dict[str, Stay]] = field(default_factory=dict)

    def stay(self, letter: DeadLetter, why: str) -> None:
        """A message stays where it is."""
        one = self.stays.setdefault(letter.queue, {}).setdefault(why, Stay())
        one.count += 1
        if len(one.examples) < MOST_EXAMPLES:
            one.examples.append(letter.id)

    @property
    def stayed(self) -> int:
        """How many stay that were meant."""
        return sum(one.count for reasons in self.stays.values() for one in reasons.values())


class Pace:
    """At most ``rate`` messages a second, evenly; as fast as it goes where that is None."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._distance = 0.0 if rate is None else 1 / rate
        self._due = 0.0

    def within(self, seconds: float) -> int:
        """How many go within some seconds: 1 at least, and a great many without a rate."""
        return MANY if self._rate is None else max(1, int(min(MANY, self._rate * seconds)))

    def wait(self, now: float) -> float:
        """Seconds from ``now`` until the next one may go."""
        return max(0.0, self._due - now)

    def went(self, now: float) -> None:
        """One goes now."""
        # What was late is made up for within a tenth of a second, and no more: never a burst after a pause.
        self._due = (max(self._due, now - 0.1) if self._due else now) + self._distance
