"""Probes for an AMQP broker on a port. A TCP connection alone does not prove that a broker is listening."""

from __future__ import annotations

import contextlib
import enum
import queue
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.address import Address

#: The first bytes that an AMQP 0-9-1 client sends.
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
#: The length in bytes of the start of the broker's answer, up to and including the method. The answer is a method frame
#: with ``connection.start``.
_ANSWER_BYTES = 11
_FRAME_METHOD = b"\x01\x00\x00"
_CONNECTION_START = b"\x00\x0a\x00\x0a"
#: The time limit in seconds for resolving the host name. The resolver makes two attempts of 5 s each (resolv.conf(5)).
RESOLVE_TIMEOUT = 11.0
#: The time limit in seconds for a TCP connection to one address of the host.
CONNECT_TIMEOUT = 1.0
#: The time limit in seconds for the first answer. A broker first resolves host names, and a failed attempt takes 5 s.
ANSWER_TIMEOUT = 7.0
#: The first bytes of a TLS alert, which are the record type and the version (RFC 8446, record layer).
_TLS_ALERT = b"\x15\x03"

_Target = tuple[socket.AddressFamily, Any]


class Kind(enum.Enum):
    """The kinds of listeners on a port."""

    #: An AMQP broker.
    BROKER = "broker"
    #: No program is listening on the port.
    NOTHING = "nothing"
    #: The host cannot be resolved or cannot be reached.
    UNREACHABLE = "unreachable"
    #: A program on the port answers, but the answer is not from an AMQP broker.
    OTHER = "other"
    #: The port accepts and closes the connection without an answer. The listener may be another program, or a proxy
    #: whose broker is down.
    CLOSED = "closed"
    #: The port accepts the connection but sends no answer. The listener may be another program, or a broker that is
    #: still waiting.
    SILENT = "silent"


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe, which is the kind of listener with a description."""

    kind: Kind
    fact: str


#: The kinds in order of preference, for the choice among the results for several addresses.
_ORDER = (Kind.BROKER, Kind.OTHER, Kind.CLOSED, Kind.SILENT, Kind.NOTHING, Kind.UNREACHABLE)


def probe(address: Address, timeout: float | None = None) -> ProbeResult:
    """Probe each of the host's addresses until a broker answers.

    The probe sends AMQP's protocol header, or starts a TLS handshake for an ``amqps`` address. ``timeout`` is the time
    limit for each step in seconds. By default, each step has its own limit.
    """
    targets = _resolve(address, timeout or RESOLVE_TIMEOUT)
    if isinstance(targets, ProbeResult):
        return targets
    findings: list[ProbeResult] = []
    for family, target in targets:
        findings.append(_try(address, family, target, timeout))
        if findings[-1].kind is Kind.BROKER:
            break
    return min(findings, key=lambda one: _ORDER.index(one.kind))


def _resolve(address: Address, timeout: float) -> Sequence[_Target] | ProbeResult:
    """Return the host's addresses.

    The host name is resolved on another thread, because the resolver has no time limit.
    """
    answers: queue.SimpleQueue[Sequence[_Target] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            answers.put([(family, target) for family, _, _, _, target in found])
        except OSError as error:
            answers.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        return ProbeResult(Kind.UNREACHABLE, f"the host name did not resolve within {timeout:g} s")
    if isinstance(answer, OSError):
        return ProbeResult(Kind.UNREACHABLE, (answer.strerror or str(answer)).lower())
    return answer


def _try(address: Address, family: socket.AddressFamily, target: Any, timeout: float | None) -> ProbeResult:
    limit = timeout or CONNECT_TIMEOUT
    try:
        connection = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:  # for example, IPv6 on a machine without IPv6
        return ProbeResult(Kind.UNREACHABLE, (error.strerror or str(error)).lower())
    with connection:
        try:
            connection.settimeout(limit)
            connection.connect(target)
        except ConnectionRefusedError:
            return ProbeResult(Kind.NOTHING, "connection refused")
        except TimeoutError:
            return ProbeResult(Kind.UNREACHABLE, f"no connection within {limit:g} s")
        except (ConnectionResetError, ConnectionAbortedError):
            # The listener is closing, which Linux reports as a reset in connect(2).
            return _judge(b"")
        except OSError as error:
            return ProbeResult(Kind.UNREACHABLE, (error.strerror or str(error)).lower())
        limit = timeout or ANSWER_TIMEOUT
        return _greet_tls(connection, limit) if address.is_tls else _greet(connection, limit)


def _greet(connection: socket.socket, timeout: float) -> ProbeResult:
    answer = b""
    deadline = time.monotonic() + timeout
    try:
        connection.sendall(PROTOCOL_HEADER)
        while len(answer) < _ANSWER_BYTES:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            received = connection.recv(_ANSWER_BYTES - len(answer))
            if not received:
                break
            answer += received
    except TimeoutError:
        return ProbeResult(Kind.SILENT, f"no answer within {timeout:g} s")
    except OSError:
        # A reset is handled like the end of the data. Only the bytes that arrived before the reset matter.
        pass
    return _judge(answer)


def _judge(answer: bytes) -> ProbeResult:
    if answer.startswith(_FRAME_METHOD) and answer[7:] == _CONNECTION_START:
        return ProbeResult(Kind.BROKER, "an AMQP broker")
    if not answer:
        return ProbeResult(Kind.CLOSED, "the connection was closed without an answer")
    if answer.startswith(b"AMQP"):
        return ProbeResult(Kind.OTHER, "the port speaks another version of AMQP")
    if answer.startswith(_TLS_ALERT):
        return ProbeResult(Kind.OTHER, "the port speaks TLS (URLs for TLS begin with amqps://)")
    if answer.startswith(b"HTTP/"):
        return ProbeResult(Kind.OTHER, "the port speaks HTTP (RabbitMQ uses different ports for HTTP and AMQP)")
    return ProbeResult(Kind.OTHER, f"the port answers {answer!r}")


def _greet_tls(connection: socket.socket, timeout: float) -> ProbeResult:
    # The certificate is not checked here, because the later connection checks the certificate.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection.settimeout(timeout)
    try:
        with context.wrap_socket(connection):
            return ProbeResult(Kind.BROKER, "a TLS server")
    except TimeoutError:
        return ProbeResult(Kind.SILENT, f"no TLS handshake within {timeout:g} s")
    except ssl.SSLError as error:
        # Only a TLS server sends an alert, for example because it requires a client certificate.
        if "ALERT" in (error.reason or ""):
            return ProbeResult(Kind.BROKER, "a TLS server")
        return ProbeResult(Kind.OTHER, "the port does not speak TLS (URLs without TLS begin with amqp://)")
    except OSError:
        with contextlib.suppress(OSError):
            connection.close()
        return ProbeResult(Kind.CLOSED, "the connection was closed during the TLS handshake")
