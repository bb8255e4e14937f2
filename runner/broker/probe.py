"""Ask a port whether an AMQP broker answers there; a TCP connection alone says nothing."""

from __future__ import annotations

import contextlib
import enum
import socket
import ssl
import time
from dataclasses import dataclass

from runner.address import Address

#: What a client of AMQP 0-9-1 says first.
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
#: The bytes of the broker's answer, a method frame with Connection.Start, up to the method.
_ANSWER_BYTES = 11
_FRAME_METHOD = b"\x01\x00\x00"
_CONNECTION_START = b"\x00\x0a\x00\x0a"


class Kind(enum.Enum):
    """What is at a port."""

    #: An AMQP broker.
    BROKER = "broker"
    #: Nothing listens there.
    NOTHING = "nothing"
    #: The host or the way to it is not there.
    UNREACHABLE = "unreachable"
    #: Something listens, but no AMQP broker answered.
    OTHER = "other"


@dataclass(frozen=True)
class Finding:
    """What a probe found, and the fact in words."""

    kind: Kind
    fact: str


def probe(address: Address, timeout: float = 1.0) -> Finding:
    """Speak the first words of AMQP (of TLS for ``amqps``) and look at the answer.

    ``timeout`` is in seconds, once for the connection and once for the answer.
    """
    try:
        connection = socket.create_connection((address.host, address.port), timeout)
    except ConnectionRefusedError:
        return Finding(Kind.NOTHING, "connection refused")
    except TimeoutError:
        return Finding(Kind.UNREACHABLE, f"no connection within {timeout:g} s")
    except OSError as error:
        return Finding(Kind.UNREACHABLE, (error.strerror or str(error)).lower())
    with connection:
        return _greet_tls(connection, timeout) if address.is_tls else _greet(connection, timeout)


def _greet(connection: socket.socket, timeout: float) -> Finding:
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
        return Finding(Kind.OTHER, f"it says nothing within {timeout:g} s")
    except OSError:
        # A reset is the same as an end: judged below by what came before it.
        pass
    if answer.startswith(_FRAME_METHOD) and answer[7:] == _CONNECTION_START:
        return Finding(Kind.BROKER, "an AMQP broker")
    if not answer:
        return Finding(Kind.OTHER, "it closes the connection without an answer")
    if answer.startswith(b"AMQP"):
        return Finding(Kind.OTHER, "it speaks another version of AMQP")
    return Finding(Kind.OTHER, f"it answers {answer!r}")


def _greet_tls(connection: socket.socket, timeout: float) -> Finding:
    # Whether the certificate is trusted is for the connection that carries data to check.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection.settimeout(timeout)
    try:
        with context.wrap_socket(connection):
            return Finding(Kind.BROKER, "a TLS server")
    except TimeoutError:
        return Finding(Kind.OTHER, f"no TLS handshake within {timeout:g} s")
    except ssl.SSLError as error:
        # An alert is a TLS server's own word, for instance that it wants a client certificate.
        if "ALERT" in (error.reason or ""):
            return Finding(Kind.BROKER, "a TLS server")
        return Finding(Kind.OTHER, "it does not speak TLS")
    except OSError:
        with contextlib.suppress(OSError):
            connection.close()
        return Finding(Kind.OTHER, "it closes the connection during the TLS handshake")
