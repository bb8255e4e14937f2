"""The notifier, which sends an e-mail for each event to a mail server or to the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Protocol

from runner import MOST_INDEXED, Message, MessageStore, Reject, one_line, storable

from .mail import Email, compose
from .sent_emails import keep, was_sent
from .template import Template, TemplateFault


class Transport(Protocol):
    """A way to send e-mails."""

    def send(self, mail: Email, order: str) -> None:
        """Send an e-mail. ``order`` is the id of the order, for the log. Raises Retry or Reject."""


class LogTransport:
    """A transport that writes e-mails to the log. The text of an e-mail is logged only at debug level."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def send(self, mail: Email, order: str) -> None:
        """Write the e-mail to the log."""
        extra: dict[str, object] = {"order": one_line(order), "event": mail.event}
        if self._log.isEnabledFor(logging.DEBUG):
            extra["lines"] = ["  | " + one_line(line) for line in mail.text.splitlines() if line.strip()]
        self._log.info("e-mail to %s: %s", one_line(mail.recipient), one_line(mail.subject), extra=extra)


@dataclass(frozen=True)
class Notifier:
    """An e-mail service: the template for each event type, the sender, and the transport."""

    templates: dict[str, Template]
    sender: str
    transport: Transport

    def notify(self, message: Message, store: MessageStore) -> None:
        """Send the e-mail for one event. Raises Retry if a later attempt may succeed, and Reject for other errors."""
        template = self.templates.get(message.type)
        if template is None:
            known = ", ".join(sorted(self.templates))
            raise Reject(f"no template for {message.type!r}; known: {known}")
        body: Any = message.json()
        if not isinstance(body, dict):
            raise Reject(f"message {message.id or 'without id'}: the body is not a JSON object")
        recipient = body.get("customer_email")
        if not isinstance(recipient, str):
            raise Reject(f"message {message.id or 'without id'}: customer_email is missing or not a string")
        try:
            subject, text = template.render(body)
        except TemplateFault as error:
            raise Reject(f"message {message.id or 'without id'}: {error}") from None
        mail = compose(message, self.sender, recipient, subject, text)
        # Make the id storable before sending the e-mail. If the table refused the id afterwards, each attempt would
        # send the e-mail again.
        order_id = storable(str(body.get("order_id", message.correlation_id)), MOST_INDEXED)
        if store.inbox and was_sent(message, store):
            return  # an earlier delivery, whose inbox row no longer exists, sent the e-mail
        self.transport.send(mail, order=order_id)
        if store.inbox:
            keep(mail, message, order_id, store)
