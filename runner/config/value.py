"""Value types that YAML lacks, such as names, durations, sizes and broker addresses."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

from runner.address import Address

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_HELP = "allowed: a number with a unit, such as 500ms, 5s, 2m, 1h or 7d"


def parse_duration(value: object) -> float:
    """Convert a duration such as ``500ms``, ``5s``, ``2m``, ``1h`` or ``1d`` to seconds. Raises ValueError."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"not a duration; {_DURATION_HELP}")
    return float(match[1]) * _SECONDS[match[2]]


def format_duration(seconds: float) -> str:
    """Format a duration in the largest unit that gives a whole number, such as ``90s`` for 90 and ``2m`` for 120."""
    milliseconds = round(seconds * 1000)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def retry_queue_name(origin: str, delay: float) -> str:
    """Return the name of the retry queue in which failed messages from ``origin`` wait for ``delay`` seconds."""
    return f"{origin}.retry.{format_duration(delay)}"


#: A duration in seconds, written with a unit, such as ``500ms``, ``5s`` or ``2m``.
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$", "examples": ["500ms", "5s", "2m"]}),
]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)(B|kB|KB|MB|GB|KiB|MiB|GiB)", re.ASCII)
_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_size(value: object) -> int:
    """Convert a size such as ``64KiB`` or ``10MB`` to bytes. Raises ValueError."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a size; allowed: a number with a unit, such as 64KiB, 10MB or 1.5GiB")
    return int(float(match[1]) * _BYTES[match[2]])


#: A size in bytes, written with a unit, such as ``64KiB`` or ``10MB``.
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {"type": "string", "pattern": r"^\d+(\.\d+)?(B|[kK]B|[MG]B|[KMG]iB)$", "examples": ["64KiB", "10MB", "1.5GiB"]}
    ),
]

#: The largest integer in AMQP 0-9-1.
LONGEST_INTEGER = 2**63 - 1
#: The maximum length in bytes of exchange names, queue names and routing keys (AMQP 0-9-1, short strings).
MAX_NAME_BYTES = 255
#: The maximum length in bytes of a text argument. A declaration must fit into one frame of 128 KiB (RabbitMQ:
#: frame_max).
MAX_TEXT_BYTES = 64 * 1024


class Unshown(ValueError):
    """An error about a value that must not be shown, because the value may contain a password."""


def check_name(text: str) -> str:
    """Return the text if it is a valid queue name. Raises ValueError otherwise."""
    if not text:
        raise Unshown("the name is empty; allowed: text")
    return check_short(text)


def check_short(text: str) -> str:
    """Return the text if it fits into an AMQP short string. Raises ValueError otherwise."""
    # A character has at most four bytes, so a short text need not be encoded to check its length.
    if len(text) > MAX_NAME_BYTES // 4 and len(text.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"has {len(text.encode())} bytes; allowed: up to {MAX_NAME_BYTES} bytes (AMQP 0-9-1)")
    return text


def _check_url(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not text; allowed: amqp://user:password@host:port/vhost")
    try:
        Address.of(value)
    except ValueError as error:
        raise Unshown(str(error)) from None
    return value


BrokerUrl = Annotated[str, BeforeValidator(_check_url), WithJsonSchema({"type": "string"})]


def _check_urls(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


#: One broker address, or a list of broker addresses.
BrokerUrls = Annotated[
    tuple[BrokerUrl, ...],
    BeforeValidator(_check_urls),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


def _check_argument(value: object) -> object:
    if isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            _check_argument(item)
        if isinstance(value, dict):
            for key in value:
                check_short(key)
    elif not isinstance(value, str | bool | int | float):
        raise ValueError("not an argument value; allowed: text, a number, true, false, or a list or mapping of these")
    elif isinstance(value, str) and len(value) > MAX_TEXT_BYTES // 4 and len(value.encode()) > MAX_TEXT_BYTES:
        raise ValueError(f"has {len(value.encode())} bytes; allowed: up to {MAX_TEXT_BYTES} bytes")
    elif isinstance(value, int) and not -LONGEST_INTEGER - 1 <= value <= LONGEST_INTEGER:
        raise ValueError("too large for AMQP; allowed: 64-bit whole numbers")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("too large for AMQP; allowed: 64-bit numbers")
    return value


#: A value that RabbitMQ accepts for an argument.
Argument = Annotated[
    Any,
    BeforeValidator(_check_argument),
    WithJsonSchema({"type": ["string", "number", "boolean", "array", "object"]}),
]


def _check_binding_argument(value: object) -> object:
    # In a headers binding, null matches a header with any value (RabbitMQ: "AMQP 0-9-1 Errata").
    return None if value is None else _check_argument(value)


#: The value of a binding's argument, which may be null.
BindingArgument = Annotated[
    Any,
    BeforeValidator(_check_binding_argument),
    WithJsonSchema({"type": ["string", "number", "boolean", "array", "object", "null"]}),
]

QueueType = Literal["classic", "quorum", "stream"]
#: The kinds of objects to which a policy can apply (RabbitMQ: "Policies"). RabbitMQ 3.12 added kinds by queue type.
AppliesTo = Literal["all", "exchanges", "queues", "classic_queues", "quorum_queues", "streams"]
