"""The right place of a key that is in a wrong place, for the error message."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Keys of older versions, and their replacements.
_RENAMED = {
    "silence": "it is now lint: {ignore: {CODE: [NAME]}}",
    "trace": "remove it: the reports of attempts now go to the service whose plugin records them, such as audit",
}


def belonging(key: str) -> str | None:
    """Return text that names the right place of ``key``, or None if no other place has this key."""
    if key in _RENAMED:
        return _RENAMED[key]
    places = _places().get(key, ())
    return f"it belongs {' or '.join(places)}" if places else None


@cache
def _places() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for key, place in _keys():
        if place not in found.setdefault(key, []):
            found[key].append(place)
    # If more places have the key, such as `url`, the right one cannot be guessed.
    return {key: tuple(places) for key, places in found.items() if len(places) <= 2}


def _keys() -> Iterator[tuple[str, str]]:
    # Imported here because only a file with an error needs them.
    from runner.config import config_file as settings
    from runner.config import supervision
    from runner.config import topology_file as topology
    from runner.config.argument import QUEUE_ARGUMENTS, QUEUE_POLICY_KEYS

    for model, place in (
        (topology.QueueSettings, "to a queue in topology.yaml"),
        (topology.ExchangeSettings, "to an exchange in topology.yaml"),
        (topology.BindingSettings, "to an entry of bindings in topology.yaml"),
        (topology.PolicySettings, "to a policy in topology.yaml"),
        (topology.Topology, "to the top level of topology.yaml"),
        (settings.Config, "to the top level of config.yaml"),
        (settings.BrokerSettings, "under broker in config.yaml"),
        (supervision.Runner, "under runner in config.yaml"),
        (settings.InboxSettings, "under inbox of a service in config.yaml"),
        (settings.ServiceSettings, "to a service in config.yaml"),
    ):
        yield from ((name, place) for name in model.model_fields)
    for key, setting in QUEUE_ARGUMENTS.items():
        argument = f"under arguments of a queue in topology.yaml, as {key}"
        place = argument if setting.key not in QUEUE_POLICY_KEYS else "under policy of a queue in topology.yaml"
        yield setting.key, place
        yield key, "under arguments of a queue in topology.yaml"
