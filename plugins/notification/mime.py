"""An e-mail as a mail server takes it (RFC 5322).

Apart from what it says, since the reading of its headers takes ten times as long as all else, and the log needs none.
"""

from __future__ import annotations

from email.headerregistry import Address, BaseHeader, HeaderRegistry
from email.message import EmailMessage
from email.policy import EmailPolicy
from functools import lru_cache

from runner import Reject

from .mail import Email, parse_address


class _Registry(HeaderRegistry):
    """Keeps the classes of headers, which the standard one makes anew for each header."""

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
    """Return the e-mail with all its headers, the same each time.

    Raises Reject if a header would say anything else than the e-mail does.
    """
    origin, domain = _origin(mail.sender)
    local_part, _, recipient_domain = mail.recipient.rpartition("@")
    message = EmailMessage(_POLICY)
    message["From"] = origin
    message["To"] = Address("", local_part, recipient_domain)
    message["Subject"] = mail.subject
    message["Date"] = mail.date
    message["Message-ID"] = f"<{mail.token}@{domain}>"
    # RFC 3834: keeps holiday notices from being answered to this.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    _check_headers(message, mail)
    return message


def _check_headers(message: EmailMessage, mail: Email) -> None:
    """Refuse headers that were decoded or broken on the way. Raises Reject.

    Python decodes what looks like an encoded word in a header, and does so differently from version to version.
    """
    if (str(message["To"]), str(message["Subject"])) != (mail.recipient, mail.subject):
        raise Reject(f"e-mail to {mail.recipient!r}: its headers would be decoded to other text; allowed: plain text")
    for name, value in message.items():
        if "\n" in value or "\r" in value:
            raise Reject(f"e-mail to {mail.recipient!r}: header {name!r} would hold a line break")


@lru_cache(maxsize=8)
def _origin(sender: str) -> tuple[BaseHeader, str]:
    """The header "From" and the domain of a sender, who is the same for all e-mails of a service."""
    address = parse_address(sender, may_have_name=True)
    return _POLICY.header_factory("From", address), address.domain
