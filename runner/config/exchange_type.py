"""The exchange types, with the arguments of each type and the rules for its bindings.

Sources: RabbitMQ's guides "Exchanges" and "Local Random Exchange", the READMEs of its plugins, and the functions
``validate`` and ``validate_binding`` of each type's module. An integration test compares the types that need no plugin
with the behaviour of a real broker.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runner.config.argument import EXCHANGE_ARGUMENTS
from runner.config.error_detail import misspelt, one_of
from runner.config.setting import Setting
from runner.config.value import check_short
from runner.config.version import CLASSIC

HASH, HISTORY, LOCAL, DELAYED = "x-consistent-hash", "x-recent-history", "x-local-random", "x-delayed-message"
#: The exchange types of AMQP.
BUILT_IN = ("direct", "fanout", "headers", "topic")
#: The exchange types of AMQP, RabbitMQ and its plugins.
EXCHANGE_TYPES = (*BUILT_IN, HASH, DELAYED, LOCAL, "x-modulus-hash", "x-random", HISTORY)
#: The name prefix of exchange types from plugins.
PLUGIN_PREFIX = "x-"

#: The argument that sets the routing type of a delayed message exchange.
DELAYED_TYPE = "x-delayed-type"
_HASHED = ("correlation_id", "message_id", "timestamp")
#: Attributes of all settings below. Policies cannot contain these settings. When an exchange is redeclared, RabbitMQ
#: compares only the alternate exchange.
_OWN: dict[str, Any] = {"is_policy": False, "compared": None}
_OWN_ARGUMENTS = {
    HASH: (
        Setting("hash-header", "text", argument="hash-header", **_OWN),
        Setting("hash-property", "text", words=_HASHED, argument="hash-property", **_OWN),
    ),
    HISTORY: (Setting("recent-history-length", "integer", minimum=1, **_OWN),),
    DELAYED: (Setting("delayed-type", "text", **_OWN),),
}

MATCH = "x-match"
MATCHES = ("all", "any", "all-with-x", "any-with-x")
#: The maximum weight of a binding, which is the queue's number of partitions on the hash ring. RabbitMQ 4.3 refuses
#: larger weights. Older versions run out of memory, because each partition is a table entry.
MOST_WEIGHT = 10_000
_WEIGHT = re.compile(r"[+-]?[0-9]+")


def check_type(value: object) -> object:
    """Return a known exchange type, or a type that a plugin may add. Raises ValueError for any other type."""
    allowed = f"allowed: {', '.join(BUILT_IN)}, or the x-… type of a plugin"
    if not isinstance(value, str):
        raise ValueError(f"not text; {allowed}")
    if value in EXCHANGE_TYPES:
        return value
    near = misspelt(value, EXCHANGE_TYPES)
    if near is None and value.startswith(PLUGIN_PREFIX):
        return check_short(value)
    remedy = one_of(value, EXCHANGE_TYPES)
    raise ValueError(f"unknown value; {remedy if remedy.startswith('did') else allowed}")


def arguments_of(kind: str) -> Mapping[str, Setting]:
    """Return the arguments of exchanges of this type."""
    return {**EXCHANGE_ARGUMENTS, **{one.argument_key: one for one in _OWN_ARGUMENTS.get(kind, ())}}


def routing_type(kind: str, arguments: Mapping[str, Any]) -> str:
    """Return the routing type of an exchange, which is ``x-delayed-type`` for a delayed message exchange."""
    behind = arguments.get(DELAYED_TYPE)
    return behind if kind == DELAYED and isinstance(behind, str) else kind


def problem_together(kind: str, arguments: Mapping[str, Any]) -> tuple[str | None, str] | None:
    """Return the key of a conflicting argument and the reason for the conflict, or None if there is no conflict.

    The key is None if the conflict is a missing argument.
    """
    if kind == HASH and {"hash-header", "hash-property"} <= arguments.keys():
        return "hash-property", "conflicts with 'hash-header'; keep only one of the two"
    if kind == DELAYED and DELAYED_TYPE not in arguments:
        return None, f"requires the argument {DELAYED_TYPE!r}; add this argument, such as {DELAYED_TYPE}: topic"
    if kind == DELAYED and arguments[DELAYED_TYPE] == DELAYED:
        return DELAYED_TYPE, f"the type of the exchange itself, {DELAYED!r}; allowed: another exchange type"
    return None


def key_problem(kind: str, key: str) -> str | None:
    """Return why an exchange of this type refuses a binding's routing key, or None if the key is valid."""
    if kind == HASH and not _WEIGHT.fullmatch(key):
        return f"not a weight, {key!r}; allowed for {HASH}: a whole number, 1 to {MOST_WEIGHT}"
    # Check the length first, because Python refuses to convert very long numbers.
    if kind == HASH and (len(key.lstrip("+-0")) > 6 or not 1 <= int(key) <= MOST_WEIGHT):
        return f"out of range, {key[:40]!r}; allowed for {HASH}: 1 to {MOST_WEIGHT}, the weight of the binding"
    if kind == LOCAL and key:
        return f"not empty, {key!r}; allowed for {LOCAL}: ''"
    return None


def match_problem(kind: str, arguments: Mapping[str, Any], shown_value: str) -> str | None:
    """Return why a headers exchange refuses a binding's ``x-match`` value, or None if the value is valid."""
    value = arguments.get(MATCH, MATCHES[0])
    if kind != "headers" or value in MATCHES:
        return None
    if not isinstance(value, str):
        return f"not text, {shown_value}; allowed: {', '.join(MATCHES)}"
    return f"unknown value {shown_value}; {one_of(value, MATCHES)}"


def destination_problem(kind: str, name: str, queue_type: str | None) -> str | None:
    """Return why an exchange refuses a binding to a queue or an exchange, or None if the binding is valid.

    ``queue_type`` is None if the destination is an exchange.
    """
    if kind != LOCAL or queue_type == CLASSIC:
        return None
    there = "an exchange" if queue_type is None else f"a {queue_type} queue"
    return f"{there}, {name!r}; allowed for {LOCAL}: classic queues"
