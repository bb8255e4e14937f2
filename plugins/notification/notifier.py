"""From an event to an e-mail on its way, into the log or to a mail server."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Protocol

from runner import MOST_INDEXED, Message, MessageStore, Reject, one_line, storable

from .mail import Email, compose
from .sent_emails import keep, was_sent
from .template import Template, TemplateFault


class Transport(Protocol):
    """What sends an e-mail."""

    def send(self, mail: Email, order: str) -> None:
        """Send it; ``order`` is the id for the log. Raises Retry or Reject."""


class LogTransport:
    """Writes each e-mail to the log, for a look at it without a mail server: its text at debug level only."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def send(self, mail: Email, order: str) -> None:
        """Write it line by line, since a log is read line by line."""
        extra: dict[str, object] = {"order": one_line(order)}
        if self._log.isEnabledFor(logging.DEBUG):
            extra["lines"] = ["  | " + one_line(line) for line in mail.text.splitlines() if line.strip()]
        self._log.info("e-mail to %s: %s", one_line(mail.recipient), one_line(mail.subject), extra=extra)


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
