"""The comparison of exchanges and queues in topology.yaml with those on a broker."""

from __future__ import annotations

from collections.abc import Iterator

from runner.config.argument import QUEUE_ARGUMENTS, QUEUE_TYPE
from runner.config.exchange_type import arguments_of
from runner.config.setting import Setting
from runner.config.version import NEWEST, Version
from runner.topology.effective_settings import Policies
from runner.topology.live import Live
from runner.topology.model import Exchange, Objects, Queue


def exchange_differences(
    ours: Exchange, theirs: Exchange, policies: Policies, live_policies: Policies, version: Version
) -> list[str]:
    """Return the differences that make RabbitMQ refuse to redeclare an exchange."""
    differences = list(_fixed(ours, theirs, ("type", "durable", "auto_delete", "internal")))
    return differences + [
        text for key, text in _arguments(ours, theirs, policies, live_policies) if _is_compared(ours, key, version)
    ]


def queue_differences(
    ours: Queue, theirs: Queue, policies: Policies, live_policies: Policies, version: Version
) -> list[str]:
    """Return the differences that make RabbitMQ refuse to redeclare a queue."""
    differences = list(_fixed(ours, theirs, ("type",)))
    if differences:
        return differences  # the arguments of different queue types are not comparable
    differences = list(_fixed(ours, theirs, ("durable", "auto_delete")))
    return differences + [
        text for key, text in _arguments(ours, theirs, policies, live_policies) if _is_compared(ours, key, version)
    ]


def uncompared_arguments(objects: Objects, live: Live, policies: Policies) -> Iterator[str]:
    """Yield a warning for each argument that differs, but that RabbitMQ does not compare."""
    theirs = Policies(live.policies.values(), live.version or None)
    things: tuple[Exchange | Queue, ...] = (*objects.exchanges, *objects.queues)
    for ours in things:
        if isinstance(ours, Queue):
            queue = live.queues.get(ours.name)
            there: Exchange | Queue | None = queue.queue if queue is not None else None
        else:
            there = live.exchanges.get(ours.name)
        if there is None or there.type != ours.type:
            continue
        kind = type(ours).__name__.lower()
        for key, text in _arguments(ours, there, policies, theirs):
            if not _is_compared(ours, key, live.version):
                yield f"{kind} {ours.name!r}: {text}; RabbitMQ does not compare it, and the {kind} keeps its value"


def _is_compared(thing: Exchange | Queue, key: str, version: Version) -> bool:
    setting = _known(thing).get(key)
    return setting is not None and setting.is_compared(version or NEWEST)


def _known(thing: Exchange | Queue) -> dict[str, Setting]:
    return dict(arguments_of(thing.type)) if isinstance(thing, Exchange) else QUEUE_ARGUMENTS


def _fixed(ours: Exchange | Queue, theirs: Exchange | Queue, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        old, new = getattr(theirs, name), getattr(ours, name)
        if old != new:
            yield f"{name} is {shown(new)} here, but {shown(old)} on the broker"


def _arguments(
    ours: Exchange | Queue, theirs: Exchange | Queue, policies: Policies, live_policies: Policies
) -> Iterator[tuple[str, str]]:
    """Yield each argument that differs. An argument equals a policy key with the same meaning and value."""
    wanted, there = policies.settings_of(ours), live_policies.settings_of(theirs)
    known = _known(ours)
    for key in sorted({*ours.arguments, *theirs.arguments} - {QUEUE_TYPE}):
        setting = known[key].key if key in known and known[key].is_policy else None
        mine = wanted.get(setting) if setting is not None else ours.arguments.get(key)
        other = there.get(setting) if setting is not None else theirs.arguments.get(key)
        if type(mine) is not type(other) or mine != other:
            yield key, f"{key} is {shown(mine)} here, but {shown(other)} on the broker"


def shown(value: object) -> str:
    """Return the text that represents a setting's value in a plan. None stands for a missing value."""
    if value is None:
        return "not set"
    return str(value).lower() if isinstance(value, bool) else repr(value)
