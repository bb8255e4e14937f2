"""Orders that a person posts in the page. They reach the order API over HTTP, as from any other client."""

from __future__ import annotations

import http.client
import json
import re
import shlex
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from runner.config.error_detail import shown
from runner.dashboard.page_action import InvalidField
from runner.dashboard.page_job import PageJob
from runner.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK

#: The path of the order API for new orders.
PATH = "/orders"
#: The maximum number of orders a second, and the maximum number of seconds.
MAX_RATE, MAX_SECONDS = 50, 300
#: The number of orders that may wait for an answer at the same time, and the seconds that each may wait.
PARALLEL, TIMEOUT = 8, 10.0
#: The maximum size of an answer in bytes.
MAX_ANSWER = 64 * 1024
#: A number as JSON has it, so that no digit of the amount is lost.
_AMOUNT = re.compile(r"(0|[1-9][0-9]{0,15})(\.[0-9]{1,16})?")
_EMAIL = re.compile(r"[^\s\x00-\x1f]{1,254}")
_CURRENCY = re.compile(r"[A-Za-z]{3}")


@dataclass(frozen=True)
class OrderPost:
    """Equal orders to post: one order, or ``rate`` orders a second for some seconds."""

    url: str
    body: str
    rate: int = 0
    seconds: int = 0

    @property
    def count(self) -> int:
        """The number of orders."""
        return self.rate * self.seconds or 1

    @property
    def command(self) -> str:
        """A command line that posts the same orders at the same times."""
        header = shlex.quote("Content-Type: application/json")
        one = f"curl -sS -X POST {shlex.quote(self.url + PATH)} -H {header} -d {shlex.quote(self.body)}"
        if not self.rate:
            return one
        # The loop does not wait for an answer before it posts the next order. The subshell prints no job numbers.
        return f"(for i in $(seq {self.count}); do {one} & sleep {1 / self.rate:.4g}; done; wait)"


def post_of(fields: Mapping[str, str], url: str, *, is_repeated: bool) -> OrderPost:
    """Return the orders that a form describes. Raises InvalidField."""
    email = _field(fields, "email", _EMAIL, "an e-mail address")
    amount = _field(fields, "amount", _AMOUNT, "an amount, such as 149.99")
    currency = _field(fields, "currency", _CURRENCY, "a currency code, such as USD").upper()
    address = json.dumps(email, ensure_ascii=False)
    body = f'{{"customer_email": {address}, "amount": {amount}, "currency": "{currency}"}}'
    if not is_repeated:
        return OrderPost(url, body)
    return OrderPost(url, body, _number(fields, "rate", MAX_RATE), _number(fields, "seconds", MAX_SECONDS))


def _field(fields: Mapping[str, str], name: str, pattern: re.Pattern[str], allowed: str) -> str:
    value = fields.get(name, "").strip()
    if not pattern.fullmatch(value):
        raise InvalidField(f"{name}: not valid, {shown(value)}; allowed: {allowed}")
    return value


def _number(fields: Mapping[str, str], name: str, most: int) -> int:
    value = fields.get(name, "").strip()
    if not (value.isascii() and value.isdecimal() and len(value) <= 4 and 1 <= int(value) <= most):
        raise InvalidField(f"{name}: not valid, {shown(value)}; allowed: 1 to {most}")
    return int(value)


class PostJob(PageJob):
    """Orders on their way to the order API."""

    def __init__(self, id: str, post: OrderPost, send: Callable[[OrderPost], tuple[int, str]] | None = None) -> None:
        """``send`` posts one order, and returns the status and the text of the answer. The status is 0 for no answer.

        The default is ``send_order``.
        """
        super().__init__(id, ("curl",), post.command)
        self._post, self._send = post, send or send_order
        self._outcomes: Counter[str] = Counter()
        self._sent = self._accepted = 0
        self._order_id = ""
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name=f"job-{id}", daemon=True).start()

    @property
    def exit_code(self) -> int | None:
        """0 if the API has accepted all orders, and 130 after an interruption, as in shells."""
        if self._accepted == self._post.count:
            return EXIT_OK
        return EXIT_INTERRUPTED if self._stopped.is_set() else EXIT_FAILURE

    def interrupt(self) -> None:
        """Post no further order."""
        self._stopped.set()

    def kill(self) -> None:
        """Post no further order. An order that was already sent cannot be withdrawn."""
        self._stopped.set()

    def as_json(self) -> dict[str, Any]:
        """Return the state of the job, with a line about its progress."""
        with self._lock:
            answers = [f"{count} x {text}" if count > 1 else text for text, count in self._outcomes.items()]
            accepted, sent = self._accepted, self._sent
        found = super().as_json()
        if self._post.count > 1:
            progress = f"{accepted} of {self._post.count} orders accepted, {sent - accepted} not accepted"
            found["lines"] = [progress, *answers]
        else:
            found["lines"] = answers
        if self._order_id:
            href = f"/orders/{quote(self._order_id, safe='')}"
            found["link"] = {"text": f"Order {self._order_id[:8]} accepted", "href": href}
        return found

    def _run(self) -> None:
        try:
            self._post_all()
        finally:
            self._finished.set()

    def _post_all(self) -> None:
        began, count = time.monotonic(), self._post.count
        with ThreadPoolExecutor(min(PARALLEL, count), f"orders-{self.id}") as pool:
            for number in range(count):
                due = began + (number / self._post.rate if self._post.rate else 0.0)
                if self._stopped.wait(max(0.0, due - time.monotonic())):
                    break
                pool.submit(self._post_one)

    def _post_one(self) -> None:
        if self._stopped.is_set():
            return
        status, text = self._send(self._post)
        with self._lock:
            self._sent += 1
            is_accepted = 200 <= status < 300
            self._accepted += is_accepted
            # The answer to each of many accepted orders is not interesting, and a set of answers must not grow.
            if self._post.count == 1 or (not is_accepted and (text in self._outcomes or len(self._outcomes) < 10)):
                self._outcomes[text] += 1
            if self._post.count == 1 and is_accepted:
                self._order_id = _order_id(text)


def _order_id(answer: str) -> str:
    """Return the id of the order in the text of an answer, or an empty string if the API names none."""
    try:
        found = json.loads(answer.partition(": ")[2])
    except ValueError:
        return ""
    id = found.get("order_id") if isinstance(found, dict) else None
    return id if isinstance(id, str) else ""


def send_order(post: OrderPost) -> tuple[int, str]:
    """Post one order. Return the status and the text of the answer, or 0 and the reason if there is no answer."""
    target = urlsplit(post.url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=TIMEOUT)
    try:
        with closing(connection):
            connection.request("POST", PATH, post.body.encode(), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read(MAX_ANSWER).decode("utf-8", "backslashreplace").strip()
            return answer.status, f"{answer.status} {answer.reason}: {text}"
    except (OSError, http.client.HTTPException) as error:
        return 0, f"{post.url}: no answer, {getattr(error, 'strerror', None) or error or type(error).__name__}"
