"""The ``emails`` table, which contains a row for each event whose e-mail was sent."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING

from runner import Message, MessageStore, storable

from .mail import Email

if TYPE_CHECKING:
    from sqlalchemy import Table

    from runner import Prepared


def was_sent(message: Message, store: MessageStore) -> bool:
    """Return True if the e-mail for this event is in the table."""
    return bool(store.read(_sent_at(), {"event_id": storable(message.id)}))


@cache
def emails() -> Table:
    """Return the ``emails`` table."""
    # Imported here because only a service with an inbox needs SQLAlchemy.
    from sqlalchemy import BigInteger, Column, MetaData, Table, Text

    return Table(
        "emails",
        MetaData(),
        Column("event_id", Text, primary_key=True),
        Column("order_id", Text, index=True),
        Column("type", Text, nullable=False),
        Column("recipient", Text, nullable=False),
        Column("subject", Text, nullable=False),
        #: Milliseconds since the epoch.
        Column("sent_at", BigInteger, nullable=False),
    )


@cache
def _sent_at() -> Prepared:
    from sqlalchemy import bindparam, select

    from runner import prepared

    return prepared(select(emails().c.sent_at).where(emails().c.event_id == bindparam("event_id")))


def keep(mail: Email, message: Message, order_id: str, store: MessageStore) -> None:
    """Add the e-mail to the table within the message's transaction."""
    from runner import insert_new

    row = {
        "event_id": storable(message.id),
        "order_id": order_id,
        "type": storable(message.type),
        "recipient": storable(mail.recipient),
        "subject": storable(mail.subject),
        "sent_at": int(time.time() * 1000),
    }
    store.transact(lambda connection: insert_new(connection, emails(), row))
