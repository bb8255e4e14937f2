"""Finds the messages that are lost, in a database and on a broker at work: ``ledger``.

Why a message that is on its way is never called lost. What was published is read first, and stays as it was read; then
the queues are counted in the order in which a message goes through them (its queue, the wait queues, the dead-letter
queue, the queue of notes), and then it is read again what was handled. So a message that moves on is met at least once:
in a count, or as handled. It may be met nowhere only where it moved back between two counts (its delay was over, or
somebody replayed it), or where it is in somebody's hands and the statistics, which are some seconds old, do not tell.
Both pass: so what is missing is looked for again, and lost is only what stays missing while no count moves for longer
than two intervals of the statistics.
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

#: Seconds for which nothing may move before what is missing is lost. A queue tells its statistics every 5 s, and the
#: HTTP API collects them every 5 s (RabbitMQ: "Management Plugin", statistics interval).
STILL = 11.0
#: Seconds beyond that after which it ends without being sure, and between two looks.
BEYOND, PAUSE = 5.0, 0.5
#: Seconds for which it waits, where things move, for what is not written down yet.
HASTE = 2.0
#: Seconds after which a dead-letter queue is read again, though it holds as many messages as before.
FRESH = 3.0


@dataclass
class _Stillness:
    """What one account looked like, and since when it has."""

    seen: object = None
    since: float = 0.0

    def lasts(self, seen: object, now: float) -> float:
        """For how many seconds it has looked so."""
        if seen != self.seen:
            self.seen, self.since = seen, now
        return now - self.since


@dataclass(frozen=True)
class _Letters:
    """What was read of a dead-letter queue."""

    #: How many messages it called its own, and when it was read.
    count: int
    at: float
    parked: dict[str, dict[str, KnownDeadLetter]]
    notes: int


@dataclass
class LossDetection:
    """Looks until each account is settled."""

    site: MessagePlaces
    read: Read
    known: Known
    accounts: Sequence[Account]
    #: For how many seconds nothing may move, which a broker that tells its statistics more often needs fewer of.
    still: ClassVar[float] = STILL
    counts: dict[str, MessageCounts] = field(default_factory=dict)
    #: Notes that could not be written down.
    parked_notes: int = 0
    _still: dict[str, _Stillness] = field(default_factory=dict)
    _letters: dict[str, _Letters] = field(default_factory=dict)

    def settle(self, on_look: Callable[[int], None]) -> list[Account]:
        """Look until it is sure what is lost, or time is over; returns the accounts of which it is not.

        ``on_look`` is told before each further look how many messages are missing.
        """
        begun, open_accounts = time.monotonic(), [*self.accounts]
        ready: list[int] = []
        while True:
            self._look(open_accounts)
            now = time.monotonic()
            # What is sure of one account stays as it was then, while others are looked at again.
            unsettled = [one for one in open_accounts if not self._is_settled(one, now)]
            unsure = [one for one in open_accounts if one not in unsettled and self.doubts(one)]
            before, ready = ready, [one.ready for one in self.counts.values()]
            # The statistics may be late that say what is in audit's hands; what moves goes on moving.
            is_late = all(one.place.is_audit and not one.ready for one in unsure) and before in ([], ready)
            is_vain = now - begun > (self.still if is_late else HASTE)
            if now - begun > self.still + BEYOND or (not unsettled and (not unsure or is_vain)):
                return unsettled
            open_accounts = unsettled + unsure
            on_look(sum(len(one.missing) for one in open_accounts))
            time.sleep(PAUSE)

    def doubts(self, account: Account) -> list[str]:
        """Why something may be lost of a settled account that nobody would see: what is written down is not all."""
        if not account.is_known:
            return []
        found, missing = [], len(account.missing)
        waiting, rest = account.ready + account.unacked, missing - len(account.lost)
        if account.pending:
            found.append(
                f"{len(account.pending)} more are not counted: the messages that they are made of are not done yet, so"
                " that they may not be sent"
            )
        if waiting < rest and self._notes:
            where = f"notes wait in {self.site.trace} to be written down"
            found.append(f"{min(rest - waiting, self._notes)} of those that wait may be handled: {where}")
        elif account.ready > missing:
            more = account.ready - missing
            found.append(f"{more} more wait here, of which nothing is written down yet, or which are copies")
        elif account.place.is_audit and account.unacked:
            found.append(f"{account.unacked} in the hands of audit may not be written down yet")
        return found

    def is_blind(self, account: Account) -> bool:
        """Whether nobody tells what is in somebody's hands, of the queues where its messages may be."""
        return any(one.unacked is None for one in self._of(self._all(account)))

    @property
    def _notes(self) -> int:
        """How many notes there may be that are not written down."""
        there = self._of(self.site.own[self.site.trace]) if self.site.trace is not None else []
        return self.parked_notes + sum(one.ready + (one.unacked or 0) for one in there)

    def _look(self, open_accounts: Sequence[Account]) -> None:
        site = self.site
        queues = [name for one in self.accounts for name in site.own[one.queue] if one.queue != site.trace]
        dead = list(site.places.origins)
        self.counts = message_counts(site.url, site.management, [*dict.fromkeys([*queues, *dead])])
        parked = self._parked(dead)
        if site.trace is not None:
            self.counts |= message_counts(site.url, site.management, site.own[site.trace])
        self.known = replace(self.known, parked=parked)
        for one in open_accounts:
            refresh(one, self.known)
        self._read_again(open_accounts)
        for one in open_accounts:
            own = self._of(site.own[one.queue])
            one.ready = sum(counts.ready for counts in own)
            one.unacked = sum(counts.unacked or 0 for counts in own)
            one.pending = {
                id
                for id in one.pending | {*one.missing}
                if id not in self.known.audited and id not in one.found and self._is_pending(one, id)
            }

    def _read_again(self, open_accounts: Sequence[Account]) -> None:
        """What became meanwhile of the messages that are missing."""
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
        if message in self.known.parked.get(queue, {}):
            return True
        # Of a queue that no service reads any more nobody knows.
        names = self.site.own.get(queue)
        return names is None or any(one.ready or one.unacked != 0 for one in self._of(names))

    def _is_settled(self, account: Account, now: float) -> bool:
        missing = account.missing
        places = self._of(self._all(account))
        exact = sum(one.ready for one in places) + self.parked_notes
        account.lost, account.candidates = [], []
        if len(missing) <= exact:
            return True
        still = self._still.setdefault(account.queue, _Stillness())
        if still.lasts((missing, places), now) < self.still or self.is_blind(account):
            return False
        waiting = exact + sum(one.unacked or 0 for one in places)
        if len(missing) > waiting:
            # One queue may have refused what audit's queue took: it is sent again as long as nobody has confirmed it.
            unconfirmed = [id for id in missing if self._is_pending(account, id)]
            account.pending |= {*unconfirmed[waiting - len(missing) :]}
        account.lose(waiting)
        return True

    def _all(self, account: Account) -> list[str]:
        """All queues in which a message of an account may be, or the note that it was handled."""
        # A message is in a dead-letter queue of another one only where an edit has left it.
        left = [name for name, origins in self.site.places.origins.items() if not origins or account.queue in origins]
        notes = self.site.own[self.site.trace] if self.site.trace is not None else ()
        return [*dict.fromkeys([*self.site.own[account.queue], *left, *notes])]

    def _of(self, names: Sequence[str]) -> list[MessageCounts]:
        found = []
        for name in names:
            one = self.counts.get(name, MessageCounts())
            # What lies in a dead-letter queue is known by its id, unless a service reads it.
            is_read = name in self.site.places.origins and name not in self.site.consumed
            found.append(replace(one, ready=0) if is_read else one)
        return found

    def _parked(self, dead: Sequence[str]) -> dict[str, dict[str, KnownDeadLetter]]:
        """What lies in the dead-letter queues, by the queue in which it failed; nothing is consumed."""
        found: dict[str, dict[str, KnownDeadLetter]] = {}
        self.parked_notes = 0
        for name in dead:
            count = self.counts[name].ready
            letters = self._letters.get(name)
            if letters is None or letters.count != count or time.monotonic() - letters.at > FRESH:
                letters = self._letters[name] = self._browsed(name, count)
            for origin, parked in letters.parked.items():
                found.setdefault(origin, {}).update(parked)
            self.parked_notes += letters.notes
        return found

    def _browsed(self, name: str, count: int) -> _Letters:
        found: dict[str, dict[str, KnownDeadLetter]] = {}
        notes = 0

        def each(letter: DeadLetter) -> None:
            nonlocal notes
            if letter.type == ATTEMPT_TYPE:
                notes += 1
                return
            origin = self.site.places.origin_of(letter)
            if origin is not None:
                seconds = seconds_of(letter.properties.get("timestamp"))
                at = milliseconds_of(letter.headers.get(PUBLISHED_AT)) or int((seconds or 0) * 1000) or None
                found.setdefault(origin, {})[letter.id] = KnownDeadLetter(
                    letter.type, letter.correlation_id or None, at
                )

        if count:
            Browser(self.site.url, name, each).run()
        return _Letters(count, time.monotonic(), found, notes)
