"""From an event to an e-mail on its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner import MOST_INDEXED, Message, MessageStore, Reject, storable

from .mail import compose
from .sent_emails import keep, was_sent
from .template import Template, TemplateFault
from .transport import Transport


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
