"""The contract and the tables that a plugin declares.

A contract lists the events that a plugin handles and publishes, and the addresses on which the plugin listens. This
module does not import SQLAlchemy, because most services have no tables.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic import AliasChoices, AliasPath, BaseModel, RootModel
from pydantic.fields import FieldInfo

from runner.errors import PluginError
from runner.messages import ATTEMPTS, EVENTS, FAILED

if TYPE_CHECKING:
    from alembic.operations import Operations
    from sqlalchemy import MetaData


#: A mapping from event types to the models of event bodies. The model is None if the plugin does not declare a body.
Bodies = Mapping[str, type[BaseModel] | None]


@dataclass(frozen=True)
class Contract:
    """The result of the ``contract`` hook.

    ``check`` and ``lint`` compare each contract with config.yaml and with the other contracts. Each model declares the
    fields of an event body. The model of a handled event may omit fields that the handler does not read.
    """

    #: The events that ``handle`` accepts, or None for all events, as in a service that only records events.
    handles: Bodies | None = None
    #: The events that the service publishes. Each event needs an entry under ``publishes`` in config.yaml.
    publishes: Bodies = field(default_factory=dict)
    #: The addresses on which the service listens, as (host, port) pairs.
    listens: Sequence[tuple[str, int]] = ()
    #: The records that ``handle`` adds to the event history: ``events``, ``attempts``, or both. If ``attempts`` is
    #: included, workers report each attempt to the first queue that the service consumes.
    records: Collection[str] = ()
    #: The order status that results from each published event. ``accepted`` marks the event that creates the order.
    #: Any other word is a decision about the order, and the latest decision determines the status.
    statuses: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fields:
    """The fields of an event's body."""

    names: frozenset[str]
    #: The fields that a handler requires.
    required: frozenset[str]
    #: True if the body may contain additional fields.
    is_open: bool

    @classmethod
    def of(cls, model: type[BaseModel]) -> Self:
        """Return the fields of a model under their JSON names.

        A field with several names is not listed as required, because the body may contain any of these names. A
        RootModel declares no fields, so its body may contain any fields.
        """
        if issubclass(model, RootModel):
            return cls(frozenset(), frozenset(), True)
        config = model.model_config
        is_by_name = bool(config.get("populate_by_name") or config.get("validate_by_name"))
        names, required = set[str](), set[str]()
        for name, one in model.model_fields.items():
            read = _read_names(one) or {name}
            read |= {name} if is_by_name else set()
            names |= read | {one.serialization_alias or name}
            required |= read if one.is_required() and len(read) == 1 else set()
        return cls(frozenset(names), frozenset(required), config.get("extra") == "allow")


def _read_names(field: FieldInfo) -> set[str]:
    """Return the aliases of a field, or an empty set if the field has no alias."""
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    firsts = (one.path[0] if isinstance(one, AliasPath) else one for one in choices)
    return {one for one in firsts if isinstance(one, str)}


@dataclass(frozen=True)
class Terms:
    """A contract without the plugin's classes, for processes that have not imported the plugin."""

    handles: Mapping[str, Fields | None] | None
    publishes: Mapping[str, Fields | None]
    listens: tuple[tuple[str, int], ...]
    records: frozenset[str] = frozenset()
    statuses: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, contract: object, plugin: str) -> Self:
        """Return the terms of a contract. Raises PluginError if the value is not a Contract."""
        if not isinstance(contract, Contract):
            raise PluginError(f"plugin {plugin!r}: contract: returned {contract!r}; allowed: a Contract")
        handles = None if contract.handles is None else _fields(contract.handles, "handles", plugin)
        try:
            listens = tuple((str(host), int(port)) for host, port in contract.listens)
        except (TypeError, ValueError):
            text = f"listens is not a list of addresses, {contract.listens!r}; allowed: [(host, port)]"
            raise PluginError(f"plugin {plugin!r}: contract: {text}") from None
        publishes = _fields(contract.publishes, "publishes", plugin)
        records = _records(contract.records, plugin)
        return cls(handles, publishes, listens, records, _statuses(contract.statuses, publishes, plugin))

    def as_json(self) -> dict[str, Any]:
        """Return the contract as JSON values."""
        return {
            "handles": None if self.handles is None else _as_json(self.handles),
            "publishes": _as_json(self.publishes),
            "listens": list(self.listens),
            "records": sorted(self.records),
            "statuses": dict(self.statuses),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Recreate the contract from the JSON values that ``as_json`` returned."""
        handles = data["handles"]
        return cls(
            None if handles is None else _from_json(handles),
            _from_json(data["publishes"]),
            tuple((host, port) for host, port in data["listens"]),
            frozenset(data["records"]),
            data["statuses"],
        )


def _fields(bodies: Any, key: str, plugin: str) -> dict[str, Fields | None]:
    allowed = "allowed: {event type: pydantic model or None}"
    if not isinstance(bodies, Mapping):
        raise PluginError(f"plugin {plugin!r}: contract: {key} is not a mapping, {bodies!r}; {allowed}")
    found: dict[str, Fields | None] = {}
    for event, model in bodies.items():
        is_model = isinstance(model, type) and issubclass(model, BaseModel)
        if not isinstance(event, str) or not (model is None or is_model):
            raise PluginError(f"plugin {plugin!r}: contract: {key} has {event!r}: {model!r}; {allowed}")
        found[event] = None if model is None else Fields.of(model)
    return found


def _records(records: Any, plugin: str) -> frozenset[str]:
    is_known = isinstance(records, Collection) and not isinstance(records, str)
    if not is_known or any(one not in (EVENTS, ATTEMPTS) for one in records):
        text = f"records is {records!r}; allowed: some of [{EVENTS!r}, {ATTEMPTS!r}]"
        raise PluginError(f"plugin {plugin!r}: contract: {text}")
    return frozenset(records)


def _statuses(statuses: Any, publishes: Mapping[str, Fields | None], plugin: str) -> dict[str, str]:
    allowed = f"allowed: {{published event type: a status other than {FAILED!r}}}"
    if not isinstance(statuses, Mapping):
        raise PluginError(f"plugin {plugin!r}: contract: statuses is not a mapping, {statuses!r}; {allowed}")
    for event, status in statuses.items():
        if event not in publishes or not isinstance(status, str) or status in ("", FAILED):
            raise PluginError(f"plugin {plugin!r}: contract: statuses has {event!r}: {status!r}; {allowed}")
    return dict(statuses)


def _as_json(bodies: Mapping[str, Fields | None]) -> dict[str, Any]:
    return {
        event: None if one is None else [sorted(one.names), sorted(one.required), one.is_open]
        for event, one in bodies.items()
    }


def _from_json(data: Mapping[str, Any]) -> dict[str, Fields | None]:
    return {
        event: None if one is None else Fields(frozenset(one[0]), frozenset(one[1]), one[2])
        for event, one in data.items()
    }


@dataclass(frozen=True)
class Tables:
    """The result of the ``tables`` hook, with the current tables and all migration steps since their first version.

    In a new database, the worker creates the declared tables. In a database from an earlier version of the plugin, the
    worker runs each pending step once and then creates missing tables. Add new steps at the end of ``steps``.
    """

    #: SQLAlchemy metadata, which must contain only the tables of this plugin.
    metadata: MetaData
    #: Functions that change the tables with Alembic's operations (Alembic: "Operation Reference"). Each function must
    #: work on SQLite and PostgreSQL.
    steps: Sequence[Callable[[Operations], object]] = ()

    @property
    def columns(self) -> dict[str, list[str]]:
        """The sorted column names of each table."""
        tables = sorted(self.metadata.tables.items())
        # The column key in Python can differ from ``column.name``, which is the name in the database.
        return {name: sorted(column.name for column in table.columns) for name, table in tables}


class OwnedTables(NamedTuple):
    """The name of a plugin, and the plugin's tables."""

    plugin: str
    tables: Tables
