"""The state of the page Dead letters in its URL: the filter, the opened group, the message and the options."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlencode

from flask import request

from runner.dashboard.dead_letter_actions import is_rate
from runner.deadletters.grouping import DeadLetterGroup
from runner.deadletters.selection import Selection

#: The number of messages of an opened group that the page shows at first, and with each click on "Show more".
STEP = 12
#: Characters that a filter must not contain, and its maximum length.
_CONTROL, MAX_TEXT = re.compile(r"[\x00-\x1f\x7f]"), 200


@dataclass(frozen=True)
class DeadLetterQuery:
    """The state of the page in its URL."""

    queue: str
    text: str
    group: str
    message: str
    view: str
    shown: int
    rate: str
    include_replayed: bool

    @classmethod
    def of_request(cls) -> DeadLetterQuery:
        """Return the state in the URL of the current request. Invalid values are ignored."""
        given = request.args
        shown = given.get("shown", "")
        return cls(
            _clean(given.get("queue", "")), _clean(given.get("text", "")), given.get("group", ""),
            given.get("message", ""), given.get("view", ""),
            int(shown) if shown.isascii() and shown.isdigit() and len(shown) < 5 else STEP,
            given.get("rate", ""), given.get("again") == "1",
        )  # fmt: skip

    @property
    def selection(self) -> Selection:
        """The conditions of the filter."""
        return Selection(match=self.text or None)

    @property
    def is_filtered(self) -> bool:
        """True if the page shows only some of the dead letters."""
        return bool(self.queue or self.text)

    def with_options(self, fields: dict[str, str]) -> dict[str, str]:
        """Return the fields of a replay with the chosen rate, if the rate is valid, and the other chosen options."""
        found = dict(fields)
        if is_rate(self.rate):
            found["rate"] = self.rate
        if self.include_replayed:
            found["include_replayed"] = "1"
        return found

    def url(self, **changes: object) -> str:
        """Return the URL of the page with changed values. An empty value is left out."""
        kept = {name: value for name, value in request.args.items() if name != "job"}
        values = {name: value for name, value in {**kept, **changes}.items() if value not in ("", None)}
        return f"{request.path}?{urlencode(values)}" if values else request.path


def _clean(text: str) -> str:
    return _CONTROL.sub(" ", text).strip()[:MAX_TEXT]


def scope_of(query: DeadLetterQuery, group: DeadLetterGroup | None = None) -> dict[str, str]:
    """Return the fields that select the messages of a group, or all messages that the filter shows."""
    if group is not None:
        fields = {"fingerprint": group.cause.fingerprint, "queue": query.queue, "match": query.text}
    else:
        fields = {"queue": query.queue, "match": query.text}
    fields = {name: value for name, value in fields.items() if value}
    return fields or {"all": "1"}
