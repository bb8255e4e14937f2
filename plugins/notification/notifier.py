"""From an event to an e-mail on its way."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from runner import MOST_INDEXED, Message, MessageStore, Reject, storable

from .mail import Email, compose
from .template import Template, TemplateFault
from .transport import Transport

if TYPE_CHECKING:
    from sqlalchemy import Table

    from runner import Prepared


@dataclass(frozen=True)
class Notifier:
    """The templates by event type, and where e-mails go."""

    templates: dict[str, Template]
    sender: str
    transport: Transport

    def notify(self, message: Message, store: MessageStore) -> None:
        """Send the e-mail for one event. Raises Reject where no try can help, Retry where a later may."""
        template = self.templates.get(message.type)
        if template is None:
            known = ", ".join(sorted(self.templates))
            raise Reject(f"no template for {message.type!r}; there are: {known}")
        body: Any = message.json()
        if not isinstance(body, dict):
            raise Reject(f"message {message.id or 'without id'}: the body is not a JSON object")
        recipient = body.get("customer_email")
        if not isinstance(recipient, str):
            raise Reject(f"message {message.id or 'without id'}: customer_email: is missing")
        try:
            subject, text = template.render(body)
        except TemplateFault as error:
            raise Reject(f"message {message.id or 'without id'}: {error}") from None
        mail = compose(message, self.sender, recipient, subject, text)
        # Made fit for the table before the e-mail goes: what it refused afterwards would send it again and again.
        order_id = storable(str(body.get("order_id", message.correlation_id)), MOST_INDEXED)
        if store.inbox and was_sent(message, store):
            return  # by a delivery that the inbox has forgotten since
        self.transport.send(mail, order=order_id)
        if store.inbox:
            keep(mail, message, order_id, store)


def was_sent(message: Message, store: MessageStore) -> bool:
    """Whether the e-mail of this event is in the table."""
    return bool(store.read(_sent_at(), {"event_id": storable(message.id)}))


@cache
def emails() -> Table:
    """Return the table ``emails``: one row for each event whose e-mail was sent."""
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
    """Write the e-mail's row, in the transaction of the message."""
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
