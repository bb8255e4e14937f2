"""The exchange and the routing key of a service's events, from ``publishes`` in config.yaml."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from runner.config.error_detail import one_of
from runner.config.value import MAX_NAME_BYTES
from runner.errors import PluginError
from runner.messages import Event

log = logging.getLogger("runner.routing")
#: The missing fields that were already reported, so that each warning is logged only once.
_warned: set[str] = set()
_FIELD = re.compile(r"\{([^{}]*)\}")
_NOT_IN_WORD = re.compile(r"[^a-z0-9_-]+")
#: The word that replaces a missing field, so that all routing keys have the same number of words.
MISSING_WORD = "none"
#: The maximum number of characters that a field adds to a routing key. The limit is lower if the routing key would be
#: too long for AMQP.
LONGEST_WORD = 60


class EventRouter:
    """A router that adds the exchange and routing key to a service's events."""

    def __init__(self, service: str, publishes: Mapping[str, tuple[str, str]]) -> None:
        self._service = service
        self._publishes = publishes

    def routed(self, event: Event, id: str | None = None) -> Event:
        """Return the event with its exchange and routing key. An event without an id gets ``id``.

        Raises PluginError if ``publishes`` does not contain the event's exchange or type.
        """
        if event.exchange and event.exchange not in {exchange for exchange, _ in self._publishes.values()}:
            # If the exchange did not exist, the broker would close the channel.
            raise PluginError(f"services.{self._service}.publishes: exchange {event.exchange!r} is missing; add it")
        if event.exchange is not None and event.routing_key is not None:
            return event if id is None else event.filled(id=id, app_id=self._service)
        if event.type not in self._publishes:
            raise PluginError(
                f"services.{self._service}.publishes: event {event.type!r} is missing;"
                f" {one_of(event.type, self._publishes)}"
            )
        exchange, template = self._publishes[event.type]
        key = event.routing_key
        if key is None:
            key = routing_key(template, event.body) if "{" in template else template
        return event.filled(exchange=exchange, routing_key=key, id=id, app_id=self._service)


def routing_key(template: str, body: object) -> str:
    """Fill in a template such as ``order.created.{currency}.{region}`` with the fields of an event's body.

    Each field becomes one lowercase word of a topic routing key. Characters other than letters, digits, ``_`` and ``-``
    are replaced with ``-``.
    """
    fields = body if isinstance(body, dict) else {}
    count = len(_FIELD.findall(template)) or 1
    longest = min(LONGEST_WORD, (MAX_NAME_BYTES - len(_FIELD.sub("", template).encode())) // count)

    def word(match: re.Match[str]) -> str:
        if match[1] not in fields and match[1] not in _warned:
            _warned.add(match[1])
            log.warning(
                "publishes: an event has no field %r for the routing key %r; using the word %r",
                match[1],
                template,
                MISSING_WORD,
            )
        value = fields.get(match[1])
        if value is None or isinstance(value, dict | list):
            return MISSING_WORD
        return _NOT_IN_WORD.sub("-", str(value).lower())[:longest] or MISSING_WORD

    return _FIELD.sub(word, template)
