"""From an event to an e-mail on its way."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from runner import Message, MessageStore, Reject
from runner.store.text import MOST_INDEXED, storable

from .mail import Email, compose
from .template import Template, TemplateFault
from .transport import Transport

if TYPE_CHECKING:
    from runner.store.prepared import Prepared


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
def _sent_at() -> Prepared:
    # Imported here because only a service with an inbox needs them.
    from sqlalchemy import bindparam, select

    from runner.store.prepared import prepared
    from runner.store.schema import emails

    return prepared(select(emails.c.sent_at).where(emails.c.event_id == bindparam("event_id")))


def keep(mail: Email, message: Message, order_id: str, store: MessageStore) -> None:
    """Write the e-mail's row, in the transaction of the message."""
    from runner.store.insert import insert_new
    from runner.store.schema import emails

    row = {
        "event_id": storable(message.id),
        "order_id": order_id,
        "type": storable(message.type),
        "recipient": storable(mail.recipient),
        "subject": storable(mail.subject),
        "sent_at": int(time.time() * 1000),
    }
    store.transact(lambda connection: insert_new(connection, emails, row))
