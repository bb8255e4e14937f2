"""Requests to RabbitMQ's HTTP API, which have limits and readable errors, and are repeated while the API starts."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import quote, unquote

import urllib3

from runner.address import Address, authority
from runner.amqp.reply_code import readable
from runner.errors import RunnerError

#: The difference between RabbitMQ's default ports for the HTTP API and for AMQP, 15672 and 5672.
PORT_DISTANCE = 10_000
#: Seconds to wait for an answer. An answer about thousands of queues takes several seconds.
TIMEOUT = 30.0
#: Seconds during which requests to a failing HTTP API are repeated. RabbitMQ 4.3 answers 500 until shortly after its
#: AMQP port opens. A proxy answers 502 to 504 until RabbitMQ has started.
PATIENCE = 5.0
#: Seconds between two repeated requests to a failing HTTP API.
PAUSE = 0.1
#: The maximum length of an answer in bytes. An answer about 100,000 queues has half this length.
MAX_ANSWER = 128 * 1024 * 1024

_DENIED = (401, 403)


class ManagementError(RunnerError):
    """A failed request to the HTTP API. ``status`` is the HTTP status, or 0 if there was no answer."""

    def __init__(self, text: str, status: int = 0, *, is_broken: bool = False) -> None:
        """``is_broken`` is True for an answer that was cut short or is not JSON."""
        super().__init__(text)
        self.status = status
        #: True if the same request may succeed later, because the server failed without refusing the request.
        self.is_failure = is_broken or status >= 500

    @property
    def is_denied(self) -> bool:
        """True if the user lacks the permission for the request."""
        return self.status in _DENIED


def management_url(broker_url: str) -> str:
    """Return the conventional URL of a broker's HTTP API, whose port is ``PORT_DISTANCE`` above the AMQP port."""
    address = Address.of(broker_url)
    return f"{'https' if address.is_tls else 'http'}://{authority(address.host, address.port + PORT_DISTANCE)}"


class ManagementApi:
    """The HTTP API for the user and the vhost of one broker URL."""

    def __init__(self, broker_url: str, url: str | None = None) -> None:
        login = Address.of(broker_url).login
        self.vhost = login.vhost
        self.url = (url or management_url(broker_url)).rstrip("/")
        token = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
        self._user = login.user
        self._pool = urllib3.PoolManager(
            headers={"Authorization": f"Basic {token}", "Content-Type": "application/json"},
            timeout=TIMEOUT,
            # A retry is needed if the broker has closed a kept-alive connection, for example after it refused a
            # request. All requests of this class may be repeated.
            retries=urllib3.Retry(total=2, connect=0, read=2, redirect=0, status=0, other=0, backoff_factor=0),
            maxsize=4,
        )
        #: The time until which a failing server counts as starting. The first failure sets this time.
        self._deadline: float | None = None

    def request(self, method: str, *parts: str, body: Any = None, query: str = "") -> Any:
        """Send a request to ``/api/PART/PART...``. Return the decoded answer, or None for an empty answer.

        If the server fails, the request is repeated for up to PATIENCE seconds. All requests together get only this
        time until the server answers. Raises ManagementError.
        """
        while True:
            try:
                answer = self._request(method, *parts, body=body, query=query)
            except ManagementError as error:
                if not error.is_failure:
                    if error.status:
                        self._deadline = None  # the server answers
                    raise
                now = time.monotonic()
                self._deadline = self._deadline or now + PATIENCE
                if now >= self._deadline:
                    raise
                time.sleep(PAUSE)
            else:
                self._deadline = None
                return answer

    def _request(self, method: str, *parts: str, body: Any, query: str) -> Any:
        path = "/".join(quote(part, safe="") for part in parts)
        try:
            raw = None if body is None else json.dumps(body).encode()
            answer = self._pool.request(method, f"{self.url}/api/{path}{query}", body=raw, preload_content=False)
            data = answer.read(MAX_ANSWER + 1)
            if len(data) > MAX_ANSWER:
                answer.close()  # the unread data makes the connection unusable
            else:
                data += answer.read()  # raises an error if the answer was cut short
                answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            cause = getattr(error, "reason", None) or error
            if isinstance(cause, urllib3.exceptions.NewConnectionError):
                text = "no connection; enable rabbitmq_management"
                raise ManagementError(f"RabbitMQ's HTTP API at {self.url}: {text}") from None
            is_broken = isinstance(cause, urllib3.exceptions.ProtocolError)  # reset, or cut short
            text = f"RabbitMQ's HTTP API at {self.url}: {readable(str(cause))}; enable rabbitmq_management"
            raise ManagementError(text, is_broken=is_broken) from None
        if len(data) > MAX_ANSWER:
            text = f"an answer of more than {MAX_ANSWER} bytes to {unquote(path)}; another program uses this address"
            raise ManagementError(f"RabbitMQ's HTTP API at {self.url}: {text}", is_broken=True)
        if answer.status in _DENIED:
            # RabbitMQ: "Management Plugin", Permissions.
            tag = "administrator" if parts[0] == "global-parameters" else "policymaker"
            text = f"user {self._user!r} lacks the permission to {method} {unquote(path)}; give the user the {tag} tag"
            raise ManagementError(f"RabbitMQ's HTTP API at {self.url}: {text}", answer.status)
        if answer.status >= 500:
            text = f"the request failed with HTTP status {answer.status}: {_reason(data)}"
            raise ManagementError(f"RabbitMQ's HTTP API at {self.url}: {text}", answer.status)
        if answer.status >= 400:
            raise ManagementError(f"{unquote(path)}: the broker refuses it, {_reason(data)}", answer.status)
        try:
            return json.loads(data) if data else None
        except (ValueError, RecursionError):
            text = f"RabbitMQ's HTTP API at {self.url}: the answer is not JSON; another program uses this address"
            raise ManagementError(text, is_broken=True) from None


def _reason(data: bytes) -> str:
    try:
        answer = json.loads(data)
        return readable(str(answer.get("reason") or answer.get("error") or answer))
    except (ValueError, RecursionError, AttributeError):
        return readable(data[:200].decode("utf-8", "replace")) or "an empty answer"
