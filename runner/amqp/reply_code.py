"""Closes of connections and channels, classified by reply code and text as temporary or permanent."""

from __future__ import annotations

import ast
import enum
import html
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pika import exceptions

from runner.address import Address
from runner.errors import BrokerRefused, BrokerUnreachable, RunnerError


class CloseKind(enum.Enum):
    """The kinds of closes, which determine the client's reaction."""

    #: The cause may disappear by itself, so the client waits and tries again.
    PASSES = "passes"
    #: A queue or exchange does not exist, so it must be declared.
    MISSING = "missing"
    #: A user must fix the cause before another attempt can succeed.
    PERMANENT = "permanent"


class ReplyCode(NamedTuple):
    """A reply code of AMQP 0-9-1, as used by RabbitMQ (AMQP 0-9-1, "Reference: Constants")."""

    name: str
    #: The usual kind of close for this code. ``_RULES`` contains the exceptions.
    verdict: CloseKind


REPLY_CODES = {
    200: ReplyCode("reply-success", CloseKind.PASSES),
    311: ReplyCode("content-too-large", CloseKind.PERMANENT),
    312: ReplyCode("no-route", CloseKind.MISSING),
    313: ReplyCode("no-consumers", CloseKind.PASSES),
    320: ReplyCode("connection-forced", CloseKind.PASSES),
    402: ReplyCode("invalid-path", CloseKind.PERMANENT),
    403: ReplyCode("access-refused", CloseKind.PERMANENT),
    404: ReplyCode("not-found", CloseKind.MISSING),
    405: ReplyCode("resource-locked", CloseKind.PASSES),
    406: ReplyCode("precondition-failed", CloseKind.PERMANENT),
    501: ReplyCode("frame-error", CloseKind.PERMANENT),
    502: ReplyCode("syntax-error", CloseKind.PERMANENT),
    503: ReplyCode("command-invalid", CloseKind.PERMANENT),
    504: ReplyCode("channel-error", CloseKind.PERMANENT),
    505: ReplyCode("unexpected-frame", CloseKind.PERMANENT),
    506: ReplyCode("resource-error", CloseKind.PASSES),
    530: ReplyCode("not-allowed", CloseKind.PERMANENT),
    540: ReplyCode("not-implemented", CloseKind.PERMANENT),
    541: ReplyCode("internal-error", CloseKind.PASSES),
}
REPLY_SUCCESS, ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED = 200, 403, 404, 406
#: Reply codes for operations that the user is not permitted to perform on the vhost.
_DENIALS = (402, 403, 530)


class _Rule(NamedTuple):
    """A rule that assigns a kind of close and a remedy to certain texts of a reply code."""

    codes: tuple[int, ...]
    text: str
    verdict: CloseKind | None = None
    remedy: str = ""


#: The first matching rule applies. The patterns match the reply texts of RabbitMQ 3.10 to 4.3 (rabbit_reader,
#: rabbit_channel, rabbit_amqqueue, rabbit_exchange, rabbit_access_control).
_RULES = (
    # Only the broker's log distinguishes an unknown user from a wrong password.
    _Rule((403,), r"[Ll]ogin was refused", None, "check the user and password in broker.url"),
    _Rule((403,), r"in exclusive use", CloseKind.PASSES, "stop the other consumer"),
    _Rule((403,), r"access to .* refused for user", None, "grant the user this permission"),
    _Rule((404,), r"is down|is stopped|has crashed|due to timeout|stopping or being demoted", CloseKind.PASSES),
    _Rule((405,), r"", None, "close the other connection, which has exclusive access to the queue"),
    _Rule((406,), r"delivery acknowledgement .* timed out", CloseKind.PASSES),
    _Rule(
        (406, 503),
        r"(unknown|invalid) exchange type",
        None,
        "enable the plugin that provides this exchange type, or remove the exchange",
    ),
    _Rule((530,), r"vhost .* not found", None, "check the vhost in broker.url, or create the vhost"),
    _Rule((530,), r"connection limit", CloseKind.PASSES, "close other connections, or raise the limit"),
    _Rule((530,), r"number of channels opened", CloseKind.PASSES, "close other channels, or raise the limit"),
    _Rule((530,), r"access to vhost .* refused", None, "grant the user permissions on the vhost"),
)


_QUOTED = re.compile(r"'[^']*'")
_TIMEOUT = re.compile(r"Timeout value used: (\d+) ms")
_TOO_LARGE = re.compile(r"message size \d+ is larger than (?:configured )?max size (\d+)")


@dataclass(frozen=True)
class Close:
    """A close of a connection or channel, or a failed attempt to open a connection."""

    #: The AMQP reply code, or 0 if the connection was lost without a close.
    code: int
    #: The reason in the words of the broker or the operating system.
    text: str
    verdict: CloseKind
    remedy: str = ""

    @property
    def reason(self) -> str:
        """A readable message with the text, reply code and remedy."""
        code = f" ({self.code})" if self.code else ""
        return f"{self.text}{code}" + (f"; {self.remedy}" if self.remedy else "")

    @property
    def is_denial(self) -> bool:
        """True if the user lacks a permission."""
        return self.verdict is CloseKind.PERMANENT and self.code in _DENIALS

    @property
    def is_consumer_timeout(self) -> bool:
        """True if an ack exceeded the broker's ``consumer_timeout`` (RabbitMQ: "Consumers")."""
        return self.code == PRECONDITION_FAILED and "delivery acknowledgement" in self.text

    @property
    def consumer_timeout(self) -> float | None:
        """The broker's ``consumer_timeout`` in seconds if an ack exceeded the timeout, otherwise None.

        The result is also None if the text does not contain the timeout.
        """
        found = _TIMEOUT.search(self.text) if self.is_consumer_timeout else None
        return None if found is None else int(found[1]) / 1000

    @property
    def largest_message(self) -> int | None:
        """The broker's ``max_message_size`` in bytes if a published message was larger, otherwise None."""
        found = _TOO_LARGE.search(self.text) if self.code == PRECONDITION_FAILED else None
        return None if found is None else int(found[1])

    def error(self, where: str) -> RunnerError:
        """Return the error to raise for a caller that is waiting.

        The error is BrokerUnreachable only if the cause may disappear by itself.
        """
        kind = {CloseKind.PASSES: BrokerUnreachable, CloseKind.PERMANENT: BrokerRefused}.get(self.verdict, RunnerError)
        return kind(f"{where}: {self.reason}")


def close_of(error: BaseException) -> Close:
    """Classify a pika error that reports a close or a failed connection attempt."""
    chain = list(_causes(error))
    for one in chain:
        if isinstance(one, exceptions.ConnectionClosed | exceptions.ChannelClosed):
            return coded(one.reply_code, one.reply_text)
        if isinstance(one, exceptions.ProbableAuthenticationError | exceptions.ProbableAccessDeniedError):
            return _while_opening(one)
        if isinstance(one, ssl.SSLError):
            return _of_tls(one)
        if isinstance(one, OSError) and one.strerror:
            return Close(0, one.strerror.lower(), CloseKind.PASSES)
    for one in reversed(chain):
        if isinstance(one, OSError | exceptions.AMQPError) and str(one):
            is_late = "Timeout while setting up AMQP" in str(one)
            late = "the broker accepted the connection but did not answer in time"
            return Close(0, late if is_late else readable(str(one)), CloseKind.PASSES)
    return Close(0, type(error).__name__, CloseKind.PASSES)


def coded(code: int, text: str) -> Close:
    """Classify a close by its reply code, and also by its text if the code has several causes."""
    known = REPLY_CODES.get(code)
    # An unknown code is treated as temporary, because waiting is safe.
    verdict = known.verdict if known is not None else CloseKind.PASSES
    words = readable(text) or (known.name if known is not None else "closed without a reason")
    unnamed = _QUOTED.sub("''", words)  # a queue may be called "timeout"
    for rule in _RULES:
        if code in rule.codes and re.search(rule.text, unnamed):
            return Close(code, words, rule.verdict or verdict, rule.remedy)
    return Close(code, words, verdict)


def _while_opening(error: BaseException) -> Close:
    """Return the close that a pika error quotes as a repr, because the error's own text only guesses the cause."""
    text = str(error.args[0]) if error.args else ""
    match = re.search(r"\((?P<code>\d+)\) (?P<text>(['\"]).*\3)$", text, re.DOTALL)
    if match is None:
        # If the error quotes no close, the broker has not refused the connection, but may have crashed.
        return Close(0, "the connection was lost during the AMQP handshake", CloseKind.PASSES)
    return coded(int(match["code"]), str(ast.literal_eval(match["text"])))


def _of_tls(error: ssl.SSLError) -> Close:
    reason = (getattr(error, "reason", None) or str(error)).replace("_", " ").lower()
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"TLS: the broker's certificate is not trusted: {error.verify_message}"
        remedy = "use a certificate that is valid for this host name and that this machine trusts"
        return Close(0, text, CloseKind.PERMANENT, remedy)
    if "wrong version number" in reason or "record layer failure" in reason:
        remedy = "use amqp:// for this port, or use the broker's TLS port"
        return Close(0, f"TLS: this port does not use TLS ({reason})", CloseKind.PERMANENT, remedy)
    return Close(0, f"TLS: {reason}", CloseKind.PERMANENT if "alert" in reason else CloseKind.PASSES)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all errors that it contains.

    pika wraps errors in arguments, attributes and lists.
    """
    yield error
    for inner in (*getattr(error, "exceptions", ()), getattr(error, "exception", None), *error.args):
        if isinstance(inner, BaseException):
            yield from _causes(inner)


def reason_at(close: Close, url: str) -> str:
    """Return the broker's address without the password, followed by the reason for a close."""
    return f"{Address.of(url)}: {close.reason}"


_BINARY = re.compile(r"<<\"((?:[^\"\\]|\\.)*)\"(?:/utf8)?>>")
_NUMBERS = re.compile(r"<<((?:\d{1,3},)*\d{1,3})>>")


def readable(text: str) -> str:
    """Return a text from the broker on one line, without HTML escapes or Erlang's binary notation."""
    # The HTTP API escapes HTML characters in its JSON, sometimes twice.
    plain = html.unescape(html.unescape(text))
    plain = _BINARY.sub(lambda match: f"'{match[1]}'", plain)
    plain = _NUMBERS.sub(_decoded, plain)
    return " ".join("".join(one if one.isprintable() else " " for one in plain).split())


def _decoded(match: re.Match[str]) -> str:
    try:
        return f"'{bytes(int(one) for one in match[1].split(',')).decode()}'"
    except ValueError:
        return match[0]
