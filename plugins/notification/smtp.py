"""E-mails to a mail server (RFC 5321)."""

from __future__ import annotations

import contextlib
import logging
import smtplib
import ssl
from email.message import EmailMessage
from typing import TYPE_CHECKING

from runner import Reject, Retry, one_line

from .mail import Email
from .mime import as_message

if TYPE_CHECKING:
    from . import Smtp

#: SMTP answers from here on are final (RFC 5321, section 4.2.1); those from 400 may pass.
PERMANENT = 500


class SmtpTransport:
    """Sends each e-mail to a mail server, over a connection of its own."""

    def __init__(self, options: Smtp, log: logging.Logger) -> None:
        self._options = options
        self._log = log
        self._server = f"{options.host}:{options.port}"

    def send(self, mail: Email, order: str) -> None:
        """Send it. What may pass raises Retry, what the server refuses for good Reject."""
        message = as_message(mail)
        try:
            self._deliver(message)
        except smtplib.SMTPRecipientsRefused as error:
            raise self._refusal(*next(iter(error.recipients.values()))) from None
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            raise self._refusal(error.smtp_code, error.smtp_error) from None
        except smtplib.SMTPResponseException as error:
            # A refused login or greeting is not the message's fault: it can be sent once that is put right.
            raise Retry(f"{self._server}: {error.smtp_code} {_decode(error.smtp_error)}") from None
        except (smtplib.SMTPException, OSError) as error:
            raise Retry(f"{self._server}: cannot send, {error}") from None
        extra = {"order": one_line(order)}
        self._log.info("e-mail to %s sent: %s", one_line(mail.recipient), one_line(mail.subject), extra=extra)

    def _deliver(self, mail: EmailMessage) -> None:
        options = self._options
        session = smtplib.SMTP(options.host, options.port, timeout=options.timeout)
        try:
            if options.starttls:
                session.starttls(context=ssl.create_default_context())
            if options.username and options.password:
                session.login(options.username, options.password.get_secret_value())
            try:
                session.send_message(mail)
            except smtplib.SMTPNotSupportedError as error:
                raise Reject(f"{self._server}: cannot take the address {mail['To']!r}, {error}") from None
            # The server has it now; if its goodbye is lost, a retry would send it twice.
            with contextlib.suppress(smtplib.SMTPException, OSError):
                session.quit()
        finally:
            session.close()

    def _refusal(self, code: int, words: bytes | str) -> Reject | Retry:
        kind = Reject if code >= PERMANENT else Retry
        return kind(f"{self._server}: refuses the e-mail, {code} {_decode(words)}")


def _decode(words: bytes | str) -> str:
    return one_line(words.decode(errors="replace") if isinstance(words, bytes) else words)
