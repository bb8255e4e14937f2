"""Where a service's event goes: its exchange and routing key, from ``publishes`` in config.yaml."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from runner.config.error_detail import one_of
from runner.config.value import MAX_NAME_BYTES
from runner.errors import PluginError
from runner.messages import Event

log = logging.getLogger("runner.routing")
#: Fields that were told of once; an event without them is no reason to repeat it.
_warned: set[str] = set()
_FIELD = re.compile(r"\{([^{}]*)\}")
_NOT_IN_WORD = re.compile(r"[^a-z0-9_-]+")
#: Stands for a field that an event does not have, so that the number of words stays the same.
MISSING_WORD = "none"
#: A field's word is cut to this many characters, or to fewer where a routing key would be too long for AMQP.
LONGEST_WORD = 60


class EventRouter:
    """Fills in the exchange and the routing key of a service's events."""

    def __init__(self, service: str, publishes: Mapping[str, tuple[str, str]]) -> None:
        self._service = service
        self._publishes = publishes

    def routed(self, event: Event, id: str | None = None) -> Event:
        """``event`` with exchange and routing key, and ``id`` where it has none.

        Raises PluginError for a type that is not in ``publishes``.
        """
        if event.exchange and event.exchange not in {exchange for exchange, _ in self._publishes.values()}:
            # The broker would close the channel on an exchange that it does not have.
            raise PluginError(f"services.{self._service}.publishes: exchange {event.exchange!r} is not there; add it")
        if event.exchange is not None and event.routing_key is not None:
            return event if id is None else event.filled(id=id, app_id=self._service)
        if event.type not in self._publishes:
            raise PluginError(
                f"services.{self._service}.publishes: event {event.type!r} is not there;"
                f" {one_of(event.type, self._publishes)}"
            )
        exchange, template = self._publishes[event.type]
        key = event.routing_key
        if key is None:
            key = routing_key(template, event.body) if "{" in template else template
        return event.filled(exchange=exchange, routing_key=key, id=id, app_id=self._service)


def routing_key(template: str, body: object) -> str:
    """Fill a template such as ``order.created.{currency}.{region}`` from the fields of an event's body.

    Each field becomes one word of a topic's routing key: in lower case, with ``-`` for what a word cannot hold.
    """
    fields = body if isinstance(body, dict) else {}
    count = len(_FIELD.findall(template)) or 1
    longest = min(LONGEST_WORD, (MAX_NAME_BYTES - len(_FIELD.sub("", template).encode())) // count)

    def word(match: re.Match[str]) -> str:
        if match[1] not in fields and match[1] not in _warned:
            _warned.add(match[1])
            log.warning(
                "publishes: %r has the field %r, but events do not; the word is %r", template, match[1], MISSING_WORD
            )
        value = fields.get(match[1])
        if value is None or isinstance(value, dict | list):
            return MISSING_WORD
        return _NOT_IN_WORD.sub("-", str(value).lower())[:longest] or MISSING_WORD

    return _FIELD.sub(word, template)
