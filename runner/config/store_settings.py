"""What config.yaml says of the database: where it is, and for how long messages are remembered."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StrictStr, WithJsonSchema

from runner.config.database_address import DEFAULT_URL
from runner.config.supervision import AtLeastASecond
from runner.config.topology_file import Part
from runner.config.value import Unshown

ALLOWED = "allowed: sqlite:/// and a file's path, or postgresql://user:password@host:port/database, an @ in them as %40"


#: What a server's address may have as a query: nothing of it is a secret.
_SHOWN = frozenset({"application_name", "connect_timeout", "host", "sslcert", "sslkey", "sslmode", "sslrootcert"})


def _check_url(url: str) -> str:
    # Never shown, because it may hold a password.
    if re.fullmatch(r"sqlite:///[^?#]+", url) and not url.endswith(":memory:"):
        return url
    try:
        parts = urlsplit(url)
        is_server = parts.scheme in ("postgresql", "postgres") and bool(parts.path.strip("/")) and parts.port != 0
    except ValueError:
        is_server = False
    # What stands elsewhere than before the one @ would be shown where the rest of the address is.
    is_server = is_server and url.count("@") <= 1 and not re.search(r"[#,\s]", url)
    is_server = is_server and all(name in _SHOWN for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    if not is_server:
        raise Unshown(f"not a database's address; {ALLOWED}")
    return url.replace("postgres://", "postgresql://", 1)


class StoreSettings(Part):
    """The database of services that store data; its file is created when it is first used."""

    url: Annotated[StrictStr, AfterValidator(_check_url)] = Field(
        DEFAULT_URL,
        description="sqlite:///PATH, or postgresql://user:password@host:port/database.",
        examples=["sqlite:///var/shop.db"],
    )


def _check_mapping(value: Any) -> Any:
    if not isinstance(value, dict | StoreSettings):
        # Most likely the address itself, with its password.
        raise Unshown("not a mapping; allowed: {url: ...}")
    return value


StoreMapping = Annotated[StoreSettings, BeforeValidator(_check_mapping)]


class InboxSettings(Part):
    """Deduplication: the ids of handled messages are stored, so that a second delivery changes nothing."""

    keep: AtLeastASecond = Field(
        "7d",
        validate_default=True,
        description="How long the id of a handled message is stored; 1s or more.",
        examples=["30d"],
    )


def _switch(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    if not isinstance(value, dict | InboxSettings):
        raise ValueError("not true or false; allowed: true, false, or {keep: 7d}")
    return value


#: ``true``, ``false``, or its settings.
InboxSwitch = Annotated[
    InboxSettings | None,
    BeforeValidator(_switch),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "boolean"},
                {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"keep": {"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$"}},
                },
            ]
        }
    ),
]
