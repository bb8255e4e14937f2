"""Where e-mails go: into the log, or to a mail server."""

from __future__ import annotations

import logging
from typing import Protocol

from runner import one_line

from .mail import Email


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
