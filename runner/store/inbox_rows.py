"""Inbox rows, which record handled messages and their events, so that a second delivery has no effect."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, LargeBinary, bindparam, delete, select, tuple_, update

from runner.messages import Event, Message
from runner.store.event_bytes import from_bytes, to_bytes
from runner.store.prepared import insertion, prepared
from runner.store.process_store import Store
from runner.store.schema import inbox

#: The maximum number of old rows to delete in one transaction, so that other transactions do not wait long.
PRUNED = 1000

_KEY = ("service", "queue", "message_id")
#: The insertion of a message's row, which has no effect if the row already exists.
INSERT = insertion(inbox, (*_KEY, "events", "done_at"))
_SAME = [inbox.c[name] == bindparam(name) for name in _KEY]
_SET_EVENTS = prepared(update(inbox).where(*_SAME).values(events=bindparam("made", type_=LargeBinary)))
_EVENTS = prepared(select(inbox.c.events).where(*_SAME))


def outcome(store: Store, service: str, message: Message, formerly: str | None = None) -> list[Event] | None:
    """Return the events of a message that was already handled, or None for a new message. Raises StoreUnreachable.

    ``formerly`` is the previous name of the message's queue.
    """
    found = store.read(_EVENTS, _key(service, message))
    if not found and formerly is not None:
        found = store.read(_EVENTS, _key(service, message) | {"queue": formerly})
    return from_bytes(found[0][0]) if found else None


def row(service: str, message: Message, events: Sequence[Event]) -> dict[str, Any]:
    """Return the row for a handled message. Raises TypeError for a header that cannot be stored."""
    return {**_key(service, message), "events": to_bytes(events), "done_at": int(time.time() * 1000)}


def set_events(connection: Connection, service: str, message: Message, events: Sequence[Event]) -> None:
    """Store a message's events in its row after the transaction has determined these events."""
    _SET_EVENTS.execute(connection, {**_key(service, message), "made": to_bytes(events)})


def earlier(connection: Connection, service: str, message: Message) -> list[Event]:
    """Return the stored events of a message that was already handled."""
    return from_bytes(_EVENTS.read(connection, _key(service, message))[0][0])


def prune(connection: Connection, service: str, keep: float) -> int:
    """Delete up to 1,000 rows that are older than ``keep`` seconds. Return the number of deleted rows."""
    limit = int((time.time() - keep) * 1000)
    key = tuple(inbox.c[name] for name in _KEY)
    old = select(*key).where(inbox.c.service == service, inbox.c.done_at < limit).limit(PRUNED)
    return connection.execute(delete(inbox).where(tuple_(*key).in_(old))).rowcount


def _key(service: str, message: Message) -> dict[str, Any]:
    return {"service": service, "queue": message.queue, "message_id": message.id}
