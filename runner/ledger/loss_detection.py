"""Detection of lost messages in a database and on a broker while services are running.

A message in transit is never reported as lost. Each search has three steps:

1. Read the published messages, in the first search only.
2. Count the messages in each queue in this order: the message's queue, the retry queues, the dead-letter queue, the
   queue for attempt reports.
3. Read the handled messages again.

A moving message is therefore found at least once, in a count or as a handled message.

A message may be missing for a moment if it moved back between two counts, for example after a delay or a replay. An
unacked message may be missing for a few seconds, until the statistics include the message. Therefore, the search is
repeated. A message counts as lost if it remains missing and no count changes for more than two statistics intervals.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from runner.admin.statistics import MessageCounts, message_counts
from runner.deadletters.browser import Browser
from runner.deadletters.dead_letter import DeadLetter
from runner.headers import PUBLISHED_AT, milliseconds_of, seconds_of
from runner.history.records import Read
from runner.ledger.account import Account
from runner.ledger.account_building import Known, KnownDeadLetter, refresh
from runner.ledger.live_topology import MessagePlaces
from runner.ledger.recorded_fates import events_among, fates, inboxes
from runner.messages import ATTEMPT_TYPE
from runner.topology.plan import counted

#: Seconds without a change after which a missing message is lost. A queue reports its statistics every 5 s, and the
#: HTTP API collects them every 5 s (RabbitMQ: "Management Plugin", statistics interval).
STILL_TIME = 11.0
#: Seconds after ``STILL_TIME`` until the detection stops without a result, and seconds between two searches.
EXTRA_TIME, SEARCH_INTERVAL = 5.0, 0.5
#: Seconds to wait for records that are not stored yet while messages are moving.
RECORDING_TIME = 2.0
#: Seconds after which a dead-letter queue is read again even if its number of messages is unchanged.
MAX_AGE = 3.0


@dataclass
class _Stillness:
    """The latest state of an account, and the time of its last change."""

    seen: object = None
    since: float = 0.0

    def lasts(self, seen: object, now: float) -> float:
        """Return the number of seconds since the state last changed."""
        if seen != self.seen:
            self.seen, self.since = seen, now
        return now - self.since


@dataclass(frozen=True)
class _DeadLetterQueue:
    """The content of a dead-letter queue."""

    #: The number of messages that the broker reported, and the monotonic time at which the queue was read.
    count: int
    at: float
    dead_letters: dict[str, dict[str, KnownDeadLetter]]
    #: The number of dead-lettered attempt reports.
    reports: int


@dataclass
class LossDetection:
    """A repeated search for lost messages, which stops when every account is certain."""

    places: MessagePlaces
    read: Read
    known: Known
    accounts: Sequence[Account]
    #: Seconds without a change after which a missing message is lost. Tests with faster statistics reduce this time.
    still: ClassVar[float] = STILL_TIME
    counts: dict[str, MessageCounts] = field(default_factory=dict)
    #: The number of attempt reports in dead-letter queues.
    dead_lettered_reports: int = 0
    _still: dict[str, _Stillness] = field(default_factory=dict)
    _dead_letter_queues: dict[str, _DeadLetterQueue] = field(default_factory=dict)

    def settle(self, on_search: Callable[[int], None]) -> list[Account]:
        """Search until all losses are certain or time runs out. Return the uncertain accounts.

        ``on_search`` is called with the number of missing messages before each further search.
        """
        begun, open_accounts = time.monotonic(), [*self.accounts]
        ready: list[int] = []
        while True:
            self._search(open_accounts)
            now = time.monotonic()
            # A settled account keeps its figures while the search continues for other accounts.
            unsettled = [one for one in open_accounts if not self._is_settled(one, now)]
            unsure = [one for one in open_accounts if one not in unsettled and self.doubts(one)]
            before, ready = ready, [one.ready for one in self.counts.values()]
            # A longer wait helps only if the statistics about audit's unacked messages are late and no messages are
            # moving.
            is_late = all(one.place.is_audit and not one.ready for one in unsure) and before in ([], ready)
            is_over = now - begun > (self.still if is_late else RECORDING_TIME)
            if now - begun > self.still + EXTRA_TIME or (not unsettled and (not unsure or is_over)):
                return unsettled
            open_accounts = unsettled + unsure
            on_search(sum(len(one.missing) for one in open_accounts))
            time.sleep(SEARCH_INTERVAL)

    def doubts(self, account: Account) -> list[str]:
        """Return the reasons why incomplete records may hide a loss in a settled account."""
        if not account.is_known:
            return []
        found, missing = [], len(account.missing)
        waiting, rest = account.ready + account.unacked, missing - len(account.lost)
        if account.pending:
            why = "possibly unpublished, because the message that caused the event is not acknowledged yet"
            found.append(f"{counted(len(account.pending), 'event')} not counted: {why}")
        if waiting < rest and self._reports:
            count = counted(min(rest - waiting, self._reports), "waiting message")
            found.append(f"{count} possibly handled, because attempt reports are waiting in {self.places.reports}")
        elif account.ready > missing:
            count = counted(account.ready - missing, "additional message")
            found.append(f"{count} waiting in the queue, which may be copies or not recorded yet")
        elif account.place.is_audit and account.unacked:
            found.append(f"{counted(account.unacked, 'unacked message')} of the audit service may not be recorded yet")
        return found

    def is_blind(self, account: Account) -> bool:
        """Return True if, for any of the account's queues, the broker does not report the unacked messages."""
        return any(one.unacked is None for one in self._of(self._all(account)))

    @property
    def _reports(self) -> int:
        """The maximum number of attempt reports that are not recorded yet."""
        waiting = self._of(self.places.own[self.places.reports]) if self.places.reports is not None else []
        return self.dead_lettered_reports + sum(one.ready + (one.unacked or 0) for one in waiting)

    def _search(self, open_accounts: Sequence[Account]) -> None:
        places = self.places
        queues = [name for one in self.accounts for name in places.own[one.queue] if one.queue != places.reports]
        dead = list(places.origins.origins)
        self.counts = message_counts(places.url, places.management, [*dict.fromkeys([*queues, *dead])])
        dead_letters = self._dead_letters(dead)
        if places.reports is not None:
            self.counts |= message_counts(places.url, places.management, places.own[places.reports])
        self.known = replace(self.known, dead_letters=dead_letters)
        for one in open_accounts:
            refresh(one, self.known)
        self._read_again(open_accounts)
        for one in open_accounts:
            own = self._of(places.own[one.queue])
            one.ready = sum(counts.ready for counts in own)
            one.unacked = sum(counts.unacked or 0 for counts in own)
            one.pending = {
                id
                for id in one.pending | {*one.missing}
                if id not in self.known.audited and id not in one.found and self._is_pending(one, id)
            }

    def _read_again(self, open_accounts: Sequence[Account]) -> None:
        """Read the outcomes of missing messages again."""
        ids = {id for one in open_accounts for id in one.missing}
        if not ids:
            return
        later = replace(
            self.known,
            fates=fates(self.read, self.known.renamed, ids),
            inboxes=inboxes(self.read, self.known.renamed, ids),
            audited=frozenset(events_among(self.read, ids)),
        )
        for one in open_accounts:
            refresh(one, later)

    def _is_pending(self, account: Account, id: str) -> bool:
        maker = account.entries[id].maker
        if maker is None:
            return False
        queue, message = maker
        if message in self.known.dead_letters.get(queue, {}):
            return True
        # A queue that no service consumes is not counted.
        names = self.places.own.get(queue)
        return names is None or any(one.ready or one.unacked != 0 for one in self._of(names))

    def _is_settled(self, account: Account, now: float) -> bool:
        missing = account.missing
        places = self._of(self._all(account))
        exact = sum(one.ready for one in places) + self.dead_lettered_reports
        account.lost, account.candidates = [], []
        if len(missing) <= exact:
            return True
        still = self._still.setdefault(account.queue, _Stillness())
        if still.lasts((missing, places), now) < self.still or self.is_blind(account):
            return False
        waiting = exact + sum(one.unacked or 0 for one in places)
        if len(missing) > waiting:
            # The queue may have rejected an event that audit's queue accepted. The service then publishes the event
            # again.
            unconfirmed = [id for id in missing if self._is_pending(account, id)]
            account.pending |= {*unconfirmed[waiting - len(missing) :]}
        account.lose(waiting)
        return True

    def _all(self, account: Account) -> list[str]:
        """Return all queues that may contain an account's messages or their attempt reports."""
        origins_of = self.places.origins.origins
        # A dead-letter queue whose origin was removed by an edit may contain messages from any queue.
        dead = [name for name, origins in origins_of.items() if not origins or account.queue in origins]
        reports = self.places.own[self.places.reports] if self.places.reports is not None else ()
        return [*dict.fromkeys([*self.places.own[account.queue], *dead, *reports])]

    def _of(self, names: Sequence[str]) -> list[MessageCounts]:
        found = []
        for name in names:
            one = self.counts.get(name, MessageCounts())
            # The ids of dead letters are known, unless a service consumes the dead-letter queue.
            is_browsed = name in self.places.origins.origins and name not in self.places.consumed
            found.append(replace(one, ready=0) if is_browsed else one)
        return found

    def _dead_letters(self, queues: Sequence[str]) -> dict[str, dict[str, KnownDeadLetter]]:
        """Return the dead letters in these queues by queue of origin, and leave the messages in the queues."""
        found: dict[str, dict[str, KnownDeadLetter]] = {}
        self.dead_lettered_reports = 0
        for name in queues:
            count = self.counts[name].ready
            queue = self._dead_letter_queues.get(name)
            if queue is None or queue.count != count or time.monotonic() - queue.at > MAX_AGE:
                queue = self._dead_letter_queues[name] = self._browsed(name, count)
            for origin, dead_letters in queue.dead_letters.items():
                found.setdefault(origin, {}).update(dead_letters)
            self.dead_lettered_reports += queue.reports
        return found

    def _browsed(self, name: str, count: int) -> _DeadLetterQueue:
        found: dict[str, dict[str, KnownDeadLetter]] = {}
        reports = 0

        def each(one: DeadLetter) -> None:
            nonlocal reports
            if one.type == ATTEMPT_TYPE:
                reports += 1
                return
            origin = self.places.origins.origin_of(one)
            if origin is not None:
                seconds = seconds_of(one.properties.get("timestamp"))
                at = milliseconds_of(one.headers.get(PUBLISHED_AT)) or int((seconds or 0) * 1000) or None
                found.setdefault(origin, {})[one.id] = KnownDeadLetter(one.type, one.correlation_id or None, at)

        if count:
            Browser(self.places.url, name, each).run()
        return _DeadLetterQueue(count, time.monotonic(), found, reports)
