"""From an event to an e-mail on its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner import Message, Reject

from .mail import compose
from .template import Template, TemplateFault
from .transport import Transport


@dataclass(frozen=True)
class Notifier:
    """The templates by event type, and where e-mails go."""

    templates: dict[str, Template]
    sender: str
    transport: Transport

    def notify(self, message: Message) -> None:
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
        self.transport.send(mail, order=str(body.get("order_id", message.correlation_id)))
