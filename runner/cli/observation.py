"""Looks at a database and a broker at work until it is sure what is lost: ``ledger``.

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runner.amqp.desk import Browser
from runner.amqp.holding import Holding, holdings
from runner.amqp.management import Management
from runner.desk.letter import Letter, number_of
from runner.desk.places import Places
from runner.messages import ATTEMPT_TYPE, PUBLISHED_AT
from runner.store.audited import Read
from runner.store.conservation import Account, Known, Parked, refresh
from runner.store.known import events_among, fates, inboxes
from runner.topology.model import Ladder

#: Seconds for which nothing may move before what is missing is lost. A queue tells its statistics every 5 s, and the
#: HTTP API collects them every 5 s (RabbitMQ: "Management Plugin", statistics interval).
STILL = 11.0
#: Seconds after which it ends without being sure, and between two looks.
LIMIT, PAUSE = 16.0, 0.5
#: Seconds after which a dead-letter queue is read again, though it holds as many messages as before.
FRESH = 3.0


@dataclass(frozen=True)
class Site:
    """Where to look: a broker, and which queues lead where on it."""

    url: str
    management: Management
    places: Places
    ladders: Mapping[str, Ladder]
    #: The queue of notes, where tries are traced.
    trace: str | None
    #: The queues that a service reads.
    consumed: frozenset[str]


@dataclass
class _Stillness:
    """What one account looked like, and since when it has."""

    seen: object = None
    since: float = 0.0

    def lasts(self, seen: object, now: float) -> bool:
        """Whether it has looked so for long enough."""
        if seen != self.seen:
            self.seen, self.since = seen, now
        return now - self.since >= STILL


@dataclass(frozen=True)
class _Letters:
    """What was read of a dead-letter queue."""

    #: How many messages it called its own, and when it was read.
    count: int
    at: float
    parked: dict[str, dict[str, Parked]]
    notes: int


@dataclass
class Observation:
    """Looks until each account is settled."""

    site: Site
    read: Read
    known: Known
    accounts: Sequence[Account]
    counts: dict[str, Holding] = field(default_factory=dict)
    #: Notes that could not be written down.
    parked_notes: int = 0
    _still: dict[str, _Stillness] = field(default_factory=dict)
    _letters: dict[str, _Letters] = field(default_factory=dict)

    def settle(self, on_look: Callable[[int], None]) -> list[Account]:
        """Look until it is sure what is lost, or time is over; returns the accounts of which it is not.

        ``on_look`` is told before each further look how many messages are missing.
        """
        begun, unsettled = time.monotonic(), [*self.accounts]
        while True:
            self._look(unsettled)
            now = time.monotonic()
            # What is sure of one account stays as it was then, while others are looked at again.
            unsettled = [one for one in unsettled if not self._is_settled(one, now)]
            if not unsettled or now - begun > LIMIT:
                return unsettled
            on_look(sum(len(one.missing) for one in unsettled))
            time.sleep(PAUSE)

    def is_blind(self, account: Account) -> bool:
        """Whether nobody tells what is in somebody's hands, of the queues where its messages may be."""
        return any(one.in_hand is None for one in self._of(self._all(account)))

    def _look(self, open_accounts: Sequence[Account]) -> None:
        site = self.site
        queues = [name for one in self.accounts for name in self._own(one.queue) if one.queue != site.trace]
        dead = list(site.places.origins)
        self.counts = holdings(site.url, site.management, [*dict.fromkeys([*queues, *dead])])
        parked = self._parked(dead)
        if site.trace is not None:
            self.counts |= holdings(site.url, site.management, [*self._own(site.trace)])
        self.known = replace(self.known, parked=parked)
        for one in open_accounts:
            refresh(one, self.known)
        self._read_again(open_accounts)
        for one in open_accounts:
            own = self._of(self._own(one.queue))
            one.ready = sum(holding.ready for holding in own)
            one.in_hand = sum(holding.in_hand or 0 for holding in own)
            one.pending = {id for id in one.pending | {*one.missing} if self._is_pending(one, id)}

    def _read_again(self, open_accounts: Sequence[Account]) -> None:
        """What became meanwhile of the messages that are missing."""
        ids = {id for one in open_accounts for id in one.missing}
        if not ids:
            return
        later = replace(
            self.known,
            fates=fates(self.read, ids),
            inboxes=inboxes(self.read, ids),
            audited=frozenset(events_among(self.read, ids)),
        )
        for one in open_accounts:
            refresh(one, later)

    def _is_pending(self, account: Account, id: str) -> bool:
        maker = account.entries[id].maker
        if maker is None or id in account.handled:
            return False
        queue, message = maker
        names = self._own(queue)
        is_parked = message in self.known.parked.get(queue, {})
        return (
            is_parked
            or not names.keys() <= self.counts.keys()
            or any(one.ready or one.in_hand != 0 for one in self._of(names))
        )

    def _is_settled(self, account: Account, now: float) -> bool:
        missing = account.missing
        places = self._of(self._all(account))
        exact = sum(one.ready for one in places) + self.parked_notes
        account.lost = []
        if len(missing) <= exact:
            return True
        still = self._still.setdefault(account.queue, _Stillness())
        if not still.lasts((missing, places), now) or self.is_blind(account):
            return False
        account.lose(exact + sum(one.in_hand or 0 for one in places))
        return True

    def _own(self, queue: str) -> dict[str, None]:
        """A queue and its wait queues, in the order in which a message goes through them."""
        ladder = self.site.ladders.get(queue)
        return dict.fromkeys([queue, *(name for _, name in ladder.steps)] if ladder is not None else [queue])

    def _all(self, account: Account) -> list[str]:
        """All queues in which a message of an account may be, or the note that it was handled."""
        names = [*self._own(account.queue)]
        if account.place.dead_letter is not None:
            names.append(account.place.dead_letter)
        if self.site.trace is not None:
            names += self._own(self.site.trace)
        return [*dict.fromkeys(names)]

    def _of(self, names: Sequence[str] | Mapping[str, None]) -> list[Holding]:
        found = []
        for name in names:
            one = self.counts.get(name, Holding())
            # What lies in a dead-letter queue is known by its id, unless a service reads it.
            is_read = name in self.site.places.origins and name not in self.site.consumed
            found.append(replace(one, ready=0) if is_read else one)
        return found

    def _parked(self, dead: Sequence[str]) -> dict[str, dict[str, Parked]]:
        """What lies in the dead-letter queues, by the queue in which it failed; nothing is consumed."""
        found: dict[str, dict[str, Parked]] = {}
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
        found: dict[str, dict[str, Parked]] = {}
        notes = 0

        def each(letter: Letter) -> None:
            nonlocal notes
            if letter.type == ATTEMPT_TYPE:
                notes += 1
                return
            origin = self.site.places.origin_of(letter)
            if origin is not None:
                seconds = letter.properties.get("timestamp")
                at = number_of(letter.headers.get(PUBLISHED_AT)) or number_of(seconds) * 1000 or None
                found.setdefault(origin, {})[letter.id] = Parked(letter.type, letter.correlation_id or None, at)

        if count:
            Browser(self.site.url, name, each).run()
        return _Letters(count, time.monotonic(), found, notes)
