"""Write every event into a database table, each once, however often it is delivered."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from runner import Context, Message, PluginError, Retry, hookimpl

if TYPE_CHECKING:
    from sqlalchemy import Engine, Table


def check_url(url: str) -> str:
    """Refuse what is no SQLite file."""
    if not url.startswith("sqlite:///") or url == "sqlite:///":
        raise ValueError("not a database this plugin knows; allowed: sqlite:/// and a file's path")
    return url


class Options(BaseModel):
    """What config.yaml may say about this service."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, AfterValidator(check_url)] = Field(
        "sqlite:///var/audit.db", description="the database, as SQLAlchemy writes it; sqlite:/// and a file's path"
    )


class Journal:
    """The table ``events``."""

    def __init__(self, url: str) -> None:
        # Imported here because the options are also checked by programs that never open a database.
        from sqlalchemy import JSON, Column, DateTime, MetaData, Table, Text, create_engine

        self.engine: Engine = create_engine(url)
        Path(str(self.engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
        self.events: Table = Table(
            "events",
            MetaData(),
            # The primary key is what makes a second delivery of the same event harmless.
            Column("id", Text, primary_key=True),
            Column("type", Text, nullable=False, index=True),
            Column("order_id", Text, index=True),
            Column("published_at", DateTime(timezone=True)),
            Column("routing_key", Text, nullable=False),
            Column("app_id", Text),
            Column("causation_id", Text),
            Column("headers", JSON, nullable=False),
            Column("body", Text, nullable=False),
        )
        self.events.metadata.create_all(self.engine)

    def write(self, message: Message) -> bool:
        """Write one event in a transaction of its own; False where it was there already."""
        from sqlalchemy.dialects.sqlite import insert

        published_at = None if message.timestamp is None else datetime.fromtimestamp(message.timestamp, UTC)
        row = {
            "id": message.id,
            "type": message.type,
            "order_id": message.correlation_id or None,
            "published_at": published_at,
            "routing_key": message.routing_key,
            "app_id": message.app_id or None,
            "causation_id": message.causation_id or None,
            "headers": {name: str(value) for name, value in message.headers.items()},
            "body": message.body.decode("utf-8", "backslashreplace"),
        }
        with self.engine.begin() as connection:
            done = connection.execute(insert(self.events).values(row).on_conflict_do_nothing(index_elements=["id"]))
        return done.rowcount == 1


@hookimpl
def start(options: Options, context: Context) -> Journal:
    """Open the database and make the table where it is not there yet."""
    from sqlalchemy.exc import OperationalError

    try:
        return Journal(options.url)
    except (OperationalError, OSError) as error:
        reason = getattr(error, "orig", None) or error
        raise PluginError(f"services.{context.service}.options.url: cannot be opened, {reason}") from None


@hookimpl
def handle(message: Message, resources: Journal) -> None:
    """Write one event; a database that is away or locked is tried again."""
    from sqlalchemy.exc import OperationalError

    try:
        resources.write(message)
    except OperationalError as error:
        raise Retry(f"the database did not take event {message.id}: {error.orig}") from None


@hookimpl
def stop(resources: Journal) -> None:
    """Close the database."""
    resources.engine.dispose()
