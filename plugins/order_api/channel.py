"""Connections and requests as waitress has them, told to be strict."""

from __future__ import annotations

import re
import time
from typing import Any

from waitress.adjustments import Adjustments
from waitress.buffers import OverflowableBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import FixedStreamReceiver
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import Error

from .api import MAX_BODY_BYTES, OUTCOME
from .problem import CONTENT_TYPE, Problem

MAX_HEADER_BYTES = 16 * 1024
#: A connection that has just been opened may take this long to send its first request although the service stops.
FIRST_REQUEST_SECONDS = 0.5
DETAILS = {
    413: f"the body is longer than {MAX_BODY_BYTES} bytes",
    431: f"the request's headers are longer than {MAX_HEADER_BYTES} bytes",
}


#: A request as most clients write it. Those are read in one go; of all others waitress takes its closer look.
PLAIN_HEAD = re.compile(
    rb"([A-Z]+) (/[A-Za-z0-9/._~-]*) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+:[ \t]*[!-~][ -~\t]*\r\n)*)\r\n", re.ASCII
)
FIELD = re.compile(r"([^:]+):[ \t]*([^\r]+)\r\n")
#: Headers that ask for more than that.
UNUSUAL = frozenset({"EXPECT", "TRANSFER_ENCODING"})
#: Digits of a plain Content-Length.
LENGTH_DIGITS = 8


class LengthRequired(Error):  # type: ignore[misc]
    """Refuses a body without a stated length; waitress knows no such error."""

    code = 411


class StrictParser(HTTPRequestParser):  # type: ignore[misc]
    """Refuses requests whose end is not stated in one way alone, as smuggled requests are."""

    def __init__(self, adj: Adjustments) -> None:
        super().__init__(adj)
        self.started = time.monotonic()
        #: The whole answer, where it is known already.
        self.answer: bytes | None = None
        #: Why its order could not be published, where that was tried already.
        self.outcome: BaseException | None = None

    def parse_header(self, header_plus: bytes) -> None:
        """Check the framing headers, then parse as waitress does."""
        if self._parse_plain(header_plus):
            return
        lines = header_plus.split(b"\r\n")[1:]
        if any(line.startswith((b" ", b"\t")) for line in lines):
            raise ParsingError("a header is folded over several lines")
        names = [line.partition(b":")[0].strip().lower() for line in lines]
        if names.count(b"content-length") > 1:
            raise ParsingError("more than one Content-Length")
        if b"transfer-encoding" in names:
            if b"content-length" in names or names.count(b"transfer-encoding") > 1:
                raise ParsingError("more than one statement of the body's length")
            self.error = LengthRequired("Transfer-Encoding is not supported; send a Content-Length")
            return
        super().parse_header(header_plus)

    def _parse_plain(self, head: bytes) -> bool:
        """Parse what is plain in every way, with the same result as waitress; False where it is not."""
        plain = PLAIN_HEAD.fullmatch(head)
        if plain is None:
            return False
        fields = FIELD.findall(plain[3].decode())
        headers = {name.upper().replace("-", "_"): value.rstrip(" \t") for name, value in fields}
        length = headers.get("CONTENT_LENGTH", "0")
        if len(headers) < len(fields) or not headers.keys().isdisjoint(UNUSUAL):
            return False
        if not length.isdigit() or len(length) > LENGTH_DIGITS:
            return False
        self.headers = headers
        self.command, self.version = plain[1].decode(), "1.1"
        self.path = self.request_uri = plain[2].decode()
        self.proxy_scheme = self.proxy_netloc = self.query = self.fragment = ""
        self.url_scheme = self.adj.url_scheme
        self.connection_close = headers.get("CONNECTION", "").lower() == "close"
        self.content_length = int(length)
        if self.content_length:
            self.body_rcv = FixedStreamReceiver(self.content_length, OverflowableBuffer(self.adj.inbuf_overflow))
        return True

    def received(self, data: bytes) -> int:
        """Take what has come in; a refused request is not asked to continue."""
        consumed: int = super().received(data)
        if self.error:
            self.expect_continue = False
        return consumed


class ProblemTask(ErrorTask):  # type: ignore[misc]
    """Answers what never reaches the application in the application's own form."""

    def execute(self) -> None:
        """Write the answer; the connection is closed after it."""
        error = self.request.error
        problem = Problem(error.code, DETAILS.get(error.code, str(error.body)))
        body = problem.body()
        self.status = f"{problem.status.value} {problem.status.phrase}"
        self.response_headers.append(("Content-Type", CONTENT_TYPE))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class StrictTask(WSGITask):  # type: ignore[misc]
    """Answers a request, by asking the application only where the answer is not known."""

    def service(self) -> None:
        """Write the answer."""
        if self.request.answer is None:
            super().service()
        else:
            self.close_on_finish = self.request.connection_close
            self.channel.write_soon(self.request.answer)

    def get_environment(self) -> dict[str, Any]:
        """What the application is told of the request."""
        environ: dict[str, Any] = super().get_environment()
        # waitress takes slashes away, so that "//orders" would be "/orders".
        environ["PATH_INFO"] = self.request.path
        if self.request.outcome is not None:
            environ[OUTCOME] = self.request.outcome
        return environ


class StrictChannel(HTTPChannel):  # type: ignore[misc]
    """One connection."""

    parser_class = StrictParser
    task_class = StrictTask
    error_task_class = ProblemTask

    has_asked = False

    def is_idle(self) -> bool:
        """No whole request of it is in hand, and no answer is on its way."""
        return not self.requests and not self.total_outbufs_len

    def is_stuck(self, since: float) -> bool:
        """Whether its client has read nothing of an answer since ``since``, a time of ``time.time()``."""
        return self.total_outbufs_len > 0 and self.last_activity < since

    def is_done(self, stopping_for: float) -> bool:
        """Whether it can be closed, as the service stops since so many seconds: a new one still gets its answer."""
        return self.is_idle() and (self.has_asked or stopping_for > FIRST_REQUEST_SECONDS)

    def add_channel(self, map: dict[int, Any] | None = None) -> None:
        """Begin to wait for it."""
        super().add_channel(map)
        self.server.loop.watch(self)

    def del_channel(self, map: dict[int, Any] | None = None) -> None:
        """Wait for it no more."""
        self.server.loop.forget(self._fileno)
        super().del_channel(map)

    def reply(self, answer: bytes) -> None:
        """Send the whole answer to the first request, and close behind it where the request says so.

        On the loop's thread.
        """
        (request,) = self.requests[:1]
        if self.connected and not (self.requests[1:] or self.request or self.total_outbufs_len):
            request.close()
            self.requests.clear()
            self.last_activity = time.time()
            self.close_when_flushed = request.connection_close
            self._send_at_once(answer)
            if self.close_when_flushed and not self.total_outbufs_len:
                self.handle_close()
        else:
            request.answer = answer
            self.service()
        if self.writable():
            self.server.loop.watch(self)

    def _send_at_once(self, answer: bytes) -> None:
        sent, has_failed = self._flush_exception(lambda do_close: self.send(answer, do_close))
        if not has_failed and sent < len(answer) and self.connected:
            self.write_soon(answer[sent:])

    def end(self) -> None:
        """Close it as soon as the loop comes round."""
        self.will_close = True
        self.server.loop.watch(self)
