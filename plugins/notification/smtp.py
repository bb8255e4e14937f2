"""The transport to a mail server (RFC 5321), and the format of e-mails (RFC 5322).

This module is imported only when needed, because importing Python's header classes is slow.
"""

from __future__ import annotations

import contextlib
import logging
import smtplib
import ssl
from email.headerregistry import Address, BaseHeader, HeaderRegistry
from email.message import EmailMessage
from email.policy import EmailPolicy
from functools import lru_cache
from typing import TYPE_CHECKING

from runner import Reject, Retry, one_line

from .mail import Email, parse_address

if TYPE_CHECKING:
    from . import Smtp

#: The lowest SMTP code of a permanent error. Lower error codes mean temporary errors (RFC 5321, section 4.2.1).
PERMANENT = 500


class _Registry(HeaderRegistry):
    """A cache of header classes. Python's own registry creates a new class for each header."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[str, type[BaseHeader]] = {}

    def __getitem__(self, name: str) -> type[BaseHeader]:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = super().__getitem__(name)
        return made


_POLICY = EmailPolicy(header_factory=_Registry())


def as_message(mail: Email) -> EmailMessage:
    """Return the e-mail with all headers. The same e-mail always results in the same message.

    Raises Reject if a header would differ from the contents of the e-mail.
    """
    origin, domain = _origin(mail.sender)
    local_part, _, recipient_domain = mail.recipient.rpartition("@")
    message = EmailMessage(_POLICY)
    message["From"] = origin
    message["To"] = Address("", local_part, recipient_domain)
    message["Subject"] = mail.subject
    message["Date"] = mail.date
    message["Message-ID"] = f"<{mail.token}@{domain}>"
    # The header Auto-Submitted prevents automatic replies (RFC 3834).
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    _check_headers(message, mail)
    return message


def _check_headers(message: EmailMessage, mail: Email) -> None:
    """Raise Reject if Python has changed a header, or if a header contains a line break.

    Python decodes header text that looks like an encoded word. The decoded text depends on the Python version.
    """
    if (str(message["To"]), str(message["Subject"])) != (mail.recipient, mail.subject):
        raise Reject(
            f"e-mail to {mail.recipient!r}: the headers would be decoded to different text; allowed: plain text"
        )
    for name, value in message.items():
        if "\n" in value or "\r" in value:
            raise Reject(f"e-mail to {mail.recipient!r}: header {name!r} would contain a line break")


@lru_cache(maxsize=8)
def _origin(sender: str) -> tuple[BaseHeader, str]:
    """Return the "From" header for a sender, and the sender's domain.

    The result is cached, because all e-mails of a service have the same sender.
    """
    address = parse_address(sender, may_have_name=True)
    return _POLICY.header_factory("From", address), address.domain


class SmtpTransport:
    """A transport that opens a connection to a mail server for each e-mail."""

    def __init__(self, options: Smtp, log: logging.Logger) -> None:
        self._options = options
        self._log = log
        self._server = f"{options.host}:{options.port}"

    def send(self, mail: Email, order: str) -> None:
        """Send an e-mail. Raises Reject if the server refuses the e-mail permanently, and Retry after other errors."""
        message = as_message(mail)
        try:
            self._deliver(message)
        except smtplib.SMTPRecipientsRefused as error:
            raise self._refusal(*next(iter(error.recipients.values()))) from None
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            raise self._refusal(error.smtp_code, error.smtp_error) from None
        except smtplib.SMTPResponseException as error:
            # The server has refused the login or the greeting, not the e-mail. So the e-mail can be sent once the
            # configuration is corrected.
            raise Retry(f"{self._server}: {error.smtp_code} {_decode(error.smtp_error)}") from None
        except (smtplib.SMTPException, OSError) as error:
            raise Retry(f"{self._server}: cannot send the e-mail: {error}") from None
        extra = {"order": one_line(order), "event": mail.event}
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
                raise Reject(f"{self._server}: cannot send to the address {mail['To']!r}: {error}") from None
            # The server has accepted the e-mail. An error in QUIT must not cause a retry, which would send the e-mail
            # again.
            with contextlib.suppress(smtplib.SMTPException, OSError):
                session.quit()
        finally:
            session.close()

    def _refusal(self, code: int, words: bytes | str) -> Reject | Retry:
        kind = Reject if code >= PERMANENT else Retry
        return kind(f"{self._server}: refuses the e-mail, {code} {_decode(words)}")


def _decode(words: bytes | str) -> str:
    return one_line(words.decode(errors="replace") if isinstance(words, bytes) else words)
