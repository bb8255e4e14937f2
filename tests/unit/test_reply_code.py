"""Closes are classified by reply code, and by RabbitMQ's text if one code has several causes."""

from __future__ import annotations

import ssl

import pytest
from pika import exceptions, spec

from runner.amqp.reply_code import REPLY_CODES, Close, CloseKind, close_of, coded, readable, reason_at
from runner.errors import EXIT_BROKER, EXIT_CONFIG, EXIT_FAILURE, BrokerRefused, BrokerUnreachable

PASSES, MISSING, PERMANENT = CloseKind.PASSES, CloseKind.MISSING, CloseKind.PERMANENT


def test_every_reply_code_of_amqp_is_in_the_table_under_its_name() -> None:
    names = {
        spec.REPLY_SUCCESS: "reply-success", spec.CONTENT_TOO_LARGE: "content-too-large", spec.NO_ROUTE: "no-route",
        spec.NO_CONSUMERS: "no-consumers", spec.CONNECTION_FORCED: "connection-forced",
        spec.INVALID_PATH: "invalid-path", spec.ACCESS_REFUSED: "access-refused", spec.NOT_FOUND: "not-found",
        spec.PRECONDITION_FAILED: "precondition-failed", spec.FRAME_ERROR: "frame-error",
        spec.SYNTAX_ERROR: "syntax-error", spec.COMMAND_INVALID: "command-invalid",
        spec.CHANNEL_ERROR: "channel-error", spec.UNEXPECTED_FRAME: "unexpected-frame",
        spec.RESOURCE_ERROR: "resource-error", spec.NOT_ALLOWED: "not-allowed",
        spec.NOT_IMPLEMENTED: "not-implemented", spec.INTERNAL_ERROR: "internal-error",
        405: "resource-locked",
    }  # fmt: skip
    assert {code: one.name for code, one in REPLY_CODES.items()} == names


#: Reply code, True if it closes the connection, and the usual verdict.
BY_CODE = [
    (200, True, PASSES), (311, False, PERMANENT), (312, False, MISSING), (313, False, PASSES), (320, True, PASSES),
    (402, True, PERMANENT), (403, False, PERMANENT), (404, False, MISSING), (405, False, PASSES),
    (406, False, PERMANENT), (501, True, PERMANENT), (502, True, PERMANENT), (503, True, PERMANENT),
    (504, True, PERMANENT), (505, True, PERMANENT), (506, True, PASSES), (530, True, PERMANENT),
    (540, True, PERMANENT), (541, True, PASSES),
]  # fmt: skip


@pytest.mark.parametrize(("code", "closes_connection", "verdict"), BY_CODE)
def test_each_reply_code_has_a_verdict_as_a_close_of_a_connection_or_a_channel(
    code: int, closes_connection: bool, verdict: CloseKind
) -> None:
    assert REPLY_CODES[code].verdict is verdict
    assert coded(code, "some words").verdict is verdict
    kind = exceptions.ConnectionClosedByBroker if closes_connection else exceptions.ChannelClosedByBroker
    assert close_of(kind(code, "some words")) == coded(code, "some words")


def test_every_reply_code_is_tested() -> None:
    assert [code for code, _, _ in BY_CODE] == sorted(REPLY_CODES)


#: RabbitMQ's texts of 3.10 to 4.3, with the verdict and the beginning of the remedy.
BY_TEXT = [
    (403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the log.",
     PERMANENT, "check the user and password"),
    (403, "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'u'", PERMANENT, "grant the user"),
    (403, "ACCESS_REFUSED - write access to topic 'a' in exchange 'e' in vhost '/' refused for user 'u'", PERMANENT,
     "grant the user"),
    (403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use", PASSES, "stop the other"),
    (403, "ACCESS_REFUSED - operation not permitted on the default exchange", PERMANENT, ""),
    (404, "NOT_FOUND - no queue 'q' in vhost '/'", MISSING, ""),
    (404, "NOT_FOUND - no queue 'due to timeout' in vhost '/'", MISSING, ""),
    (404, "NOT_FOUND - no exchange 'is down' in vhost 'has crashed'", MISSING, ""),
    (404, "NOT_FOUND - home node 'rabbit@b' of durable queue 'q' in vhost '/' is down or inaccessible", PASSES, ""),
    (404, "NOT_FOUND - failed to perform operation on queue 'q' in vhost '/' due to timeout", PASSES, ""),
    (404, "NOT_FOUND - queue 'q' in vhost '/' process is stopped by supervisor", PASSES, ""),
    (404, "NOT_FOUND - queue 'q' in vhost '/' has crashed and failed to restart", PASSES, ""),
    (405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'.", PASSES, "close the"),
    (406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/'", PERMANENT, ""),
    (406, "PRECONDITION_FAILED - unknown exchange type 'x-delayed-message'", PERMANENT, "enable the plugin"),
    (406, "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1000 ms.",
     PASSES, ""),
    (406, "PRECONDITION_FAILED - message size 2049 is larger than configured max size 1024", PERMANENT, ""),
    (503, "COMMAND_INVALID - unknown exchange type 'x-delayed-message'", PERMANENT, "enable the plugin"),
    (503, "COMMAND_INVALID - invalid exchange type 'direct-reply'", PERMANENT, "enable the plugin"),
    (530, "NOT_ALLOWED - vhost limit not found", PERMANENT, "check the vhost in broker.url"),
    (530, "NOT_ALLOWED - access to vhost 'connection limit' refused for user 'u'", PERMANENT, "grant the user"),
    (530, "NOT_ALLOWED - access to vhost '/' refused for user 'u': connection limit (1) is reached", PASSES, "close"),
    (530, "NOT_ALLOWED - access to vhost '/' refused for user 'u': connection limit cannot be queried, timeout", PASSES,
     "close"),
    (530, "NOT_ALLOWED - connection refused for user 'u': user connection limit (0) is reached", PASSES, "close"),
    (530, "NOT_ALLOWED - connection refused: node connection limit (5) is reached", PASSES, "close"),
    (530, "NOT_ALLOWED - number of channels opened for user 'u' has reached the maximum allowed limit of (1)", PASSES,
     "close other channels"),
    (530, "NOT_ALLOWED - number of channels opened (3) has reached the negotiated channel_max (2)", PASSES,
     "close other channels"),
    (530, "NOT_ALLOWED - negotiated frame_max = 4096 is lower than the minimum allowed value (8192)", PERMANENT, ""),
    (530, "NOT_ALLOWED - attempt to reuse consumer tag 'a'", PERMANENT, ""),
    (541, "INTERNAL_ERROR - access to vhost '/' refused for user 'u': vhost '/' is down", PASSES, ""),
    (541, "INTERNAL_ERROR - Cannot declare a queue 'queue 'q' in vhost '/'' on node 'a': {error,timeout}", PASSES, ""),
    (320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'", PASSES, ""),
    (320, "CONNECTION_FORCED - Closed via management plugin", PASSES, ""),
]  # fmt: skip


@pytest.mark.parametrize(("code", "text", "verdict", "remedy"), BY_TEXT, ids=[one[1][:60] for one in BY_TEXT])
def test_the_text_distinguishes_several_causes_of_one_code_and_is_shown(
    code: int, text: str, verdict: CloseKind, remedy: str
) -> None:
    close = coded(code, text)
    assert (close.verdict, close.text) == (verdict, text)
    assert close.remedy.startswith(remedy)
    assert bool(close.remedy) == bool(remedy)
    assert close.reason.startswith(f"{text} ({code})")
    assert "broker.url" not in close.reason or "not found" in text or "Login" in text


@pytest.mark.parametrize(("code", "text"), [(403, "Login was refused"), (530, "connection limit (1) is reached")])
def test_a_close_that_pika_had_to_guess_keeps_its_code_and_text(code: int, text: str) -> None:
    guess = exceptions.ProbableAccessDeniedError if code == 530 else exceptions.ProbableAuthenticationError
    error = exceptions.AMQPConnectionError((guess(repr(exceptions.ConnectionClosedByBroker(code, text))),))
    assert close_of(error.args[0][0]) == coded(code, text)
    quoted = guess(repr(exceptions.ConnectionClosedByBroker(code, f'it\'s "{text}"')))
    assert close_of(quoted).text == f'it\'s "{text}"'


def test_a_broker_that_exits_during_the_login_has_refused_nothing() -> None:
    lost = exceptions.ProbableAuthenticationError(repr(exceptions.StreamLostError("reset")))
    assert close_of(lost) == Close(0, "the connection was lost during the AMQP handshake", PASSES)


CERTIFICATE = ssl.SSLCertVerificationError(1, "certificate verify failed")
CERTIFICATE.verify_message = "self-signed certificate"
PLAIN_PORT = ssl.SSLError(1, "wrong version number")
PLAIN_PORT.reason = "WRONG_VERSION_NUMBER"
ALERT = ssl.SSLError(1, "alert handshake failure")
ALERT.reason = "SSLV3_ALERT_HANDSHAKE_FAILURE"
WITHOUT_CODE = [
    (ConnectionRefusedError(111, "Connection refused"), PASSES, "connection refused"),
    (exceptions.AMQPHeartbeatTimeout("No activity"), PASSES, "No activity"),
    (exceptions.StreamLostError("Stream connection lost"), PASSES, "Stream connection lost"),
    (exceptions.AMQPConnectionError(ConnectionResetError(104, "Connection reset by peer")), PASSES, "connection reset"),
    (TimeoutError(), PASSES, "TimeoutError"),
    (CERTIFICATE, PERMANENT, "TLS: the broker's certificate is not trusted: self-signed certificate"),
    (PLAIN_PORT, PERMANENT, "TLS: this port does not use TLS (wrong version number)"),
    (ALERT, PERMANENT, "TLS: sslv3 alert handshake failure"),
    (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), PASSES, "TLS: eof"),
    (exceptions.ConnectionClosedByBroker(999, "NEW - words"), PASSES, "NEW - words"),
]


@pytest.mark.parametrize(("error", "verdict", "text"), WITHOUT_CODE, ids=[one[2] for one in WITHOUT_CODE])
def test_a_lost_connection_is_temporary_but_a_wrong_certificate_is_not(
    error: BaseException, verdict: CloseKind, text: str
) -> None:
    close = close_of(error)
    assert close.verdict is verdict
    assert close.text.startswith(text)


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"), [(320, BrokerUnreachable, EXIT_BROKER), (503, BrokerRefused, EXIT_CONFIG)]
)
def test_only_temporary_errors_are_waited_for(code: int, kind: type[Exception], exit_code: int) -> None:
    error = coded(code, "words").error("here")
    assert (type(error), str(error), error.exit_code) == (kind, f"here: words ({code})", exit_code)
    assert coded(404, "words").error("here").exit_code == EXIT_FAILURE


def test_only_codes_for_missing_permissions_are_denials() -> None:
    assert [code for code in REPLY_CODES if coded(code, "").is_denial] == [402, 403, 530]
    assert not coded(530, "connection limit (1) is reached").is_denial


def test_a_reason_shows_no_password() -> None:
    url = "amqp://user:secret@broker.example:5673/shop"
    assert reason_at(coded(541, "vhost 'shop' is down"), url) == "broker.example:5673: vhost 'shop' is down (541)"


UNREADABLE = [
    ('{<<"federation-upstream">>, not_found}', "{'federation-upstream', not_found}"),
    ('[{&lt;&lt;"max-length"&gt;&gt;,&lt;&lt;"must be an integer"&gt;&gt;}]', "[{'max-length','must be an integer'}]"),
    ("&amp;lt;&amp;lt;&quot;a&quot;&amp;gt;&amp;gt;", "'a'"),
    ("<<102,101,100>> is <<255,254>>", "'fed' is <<255,254>>"),
    ('<<"ü"/utf8>>\n   and\tmore', "'ü' and more"),
    ("red \x1b[31m \u202e", "red [31m"),
    ('<<"with \\"quotes\\"">>', "'with \\\"quotes\\\"'"),
]


@pytest.mark.parametrize(("text", "words"), UNREADABLE)
def test_a_reason_is_one_line_without_the_escapes_of_html_and_erlang(text: str, words: str) -> None:
    assert readable(text) == words


TIMED_OUT = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out"


@pytest.mark.parametrize(
    ("code", "text", "timeout"),
    [
        (406, f"{TIMED_OUT}. Timeout value used: 1800000 ms. This timeout value can be configured, see", 1800.0),
        (406, f"{TIMED_OUT} for consumer 'ctag1.a'. Timeout value used: 2000 ms.", 2.0),
        (406, f"{TIMED_OUT}. Timeout value used: 1500 ms", 1.5),
        (406, TIMED_OUT, None),
        (406, "PRECONDITION_FAILED - unknown delivery tag 1. Timeout value used: 2000 ms", None),
        (541, f"{TIMED_OUT}. Timeout value used: 2000 ms", None),
    ],
)
def test_a_consumer_timeout_shows_its_time(code: int, text: str, timeout: float | None) -> None:
    assert coded(code, text).consumer_timeout == timeout


@pytest.mark.parametrize(
    ("code", "text", "limit"),
    [
        (406, "PRECONDITION_FAILED - message size 2049 is larger than configured max size 1024", 1024),
        (406, "PRECONDITION_FAILED - message size 134217729 is larger than max size 134217728", 134217728),
        (406, "PRECONDITION_FAILED - invalid message size 2049", None),
        (406, "PRECONDITION_FAILED - unknown delivery tag 1024", None),
        (501, "FRAME_ERROR - message size 2049 is larger than configured max size 1024", None),
        (406, "", None),
    ],
)
def test_a_message_that_is_too_large_shows_the_limit(code: int, text: str, limit: int | None) -> None:
    assert coded(code, text).largest_message == limit


def test_a_broker_that_does_not_respond_in_time_is_waited_for_and_reported_without_the_words_of_pika() -> None:
    said = "Timeout while setting up AMQP to '127.0.0.1'/(<AddressFamily.AF_INET: 2>, 6, ''); ssl=False"
    close = close_of(exceptions.ConnectionOpenAborted(f"Connection.close() called before: (320): {said!r}"))
    assert close.verdict is CloseKind.PASSES
    assert close.reason == "the broker accepted the connection but did not answer in time"
