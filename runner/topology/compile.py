"""The compilation of topology.yaml, which turns ``bind``, ``retry``, ``dead_letter`` and ``policy`` into objects.

Settings that can change on an existing queue become one generated policy, because RabbitMQ applies only one policy to a
queue. The settings of a retry queue become arguments. These arguments never change, because a queue with another delay
has another name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from runner.config.argument import LONGEST_TIMER, QUEUE_POLICY_KEYS, QUEUE_TYPE, as_arguments
from runner.config.cross_checks import GENERATED
from runner.config.error_detail import Path
from runner.config.policy_pattern import only
from runner.config.queue_policy import DELIVERY_LIMIT, limits_of_unread
from runner.config.topology_file import BindingSettings, Topology
from runner.config.value import retry_queue_name
from runner.config.version import CLASSIC, QUORUM, Version
from runner.topology.effective_settings import Policies
from runner.topology.model import Binding, Exchange, Objects, Policy, Queue, RetryDelays

T = TypeVar("T", Exchange, Queue)

CONSUMER_TIMEOUT_KEY = "consumer-timeout"
#: The priority of generated policies, which is higher than any priority in topology.yaml. A generated policy includes
#: the settings of the policy that it hides.
PRIORITY = 1001


def compile_topology(
    topology: Topology,
    consumed: Collection[str] = (),
    *,
    with_policies: bool = True,
    version: Version | None = None,
    timeouts: Mapping[str, float] | None = None,
) -> Objects:
    """Return the broker objects that ``topology`` describes.

    These queues get a dead-letter queue:

    - queues in ``consumed`` (the queues that services consume), for messages that cannot be handled
    - queues with ``dead_letter`` or ``retry``
    - quorum queues, because otherwise the broker drops messages that exceed the delivery limit

    If ``with_policies`` is False, for a broker on which policies cannot be set, policy settings become arguments.
    ``version`` is the broker's version, or None for the newest version. ``timeouts`` contains the seconds that the
    consumers of a queue may need to acknowledge a message, if this time exceeds RabbitMQ's default.
    """
    own = [_policy(name, topology) for name in topology.policies] if with_policies else []
    policies = Policies(own, version)
    generated: list[Policy] = []
    exchanges = []
    for exchange, settings in _exchanges(topology):
        policy = _generated("exchange", exchange, settings, policies)
        exchanges.append(exchange if with_policies else _fixed(exchange, settings))
        generated += [policy] if policy is not None else []
    queues: dict[str, Queue] = {}
    extra: dict[str, Queue] = {}
    retry_delays: dict[str, RetryDelays] = {}
    for name, settings_in_file in topology.queues.items():
        arguments = {QUEUE_TYPE: topology.type_of(name), **settings_in_file.arguments}
        queue = Queue(name, topology.is_durable(name), arguments, settings_in_file.auto_delete)
        settings = dict(settings_in_file.policy)
        has_dead_letters = bool(name in consumed or settings_in_file.retry or settings_in_file.dead_letter)
        limits: dict[str, Any] = {}
        if not has_dead_letters and queue.type == QUORUM and with_policies:
            # A delivery limit is set only by policy, because a new argument would differ from an existing queue.
            has_dead_letters, limits = limits_of_unread(policies.settings_of(queue) | settings)
        if has_dead_letters:
            retry = _retry_delays_of(name, topology)
            retry_delays[name] = retry
            limits = dead_letter_settings(queue.type, retry.dead_letter) | limits
            # The dead-letter queue is classic, because a quorum queue with a delivery limit would drop dead letters
            # after a few reads.
            extra.setdefault(retry.dead_letter, dead_letter_queue(retry.dead_letter))
            for delay, waiting in retry.steps:
                extra[waiting] = retry_queue(queue, delay)
        settings = limits | settings
        if with_policies and name in (timeouts or {}) and CONSUMER_TIMEOUT_KEY not in policies.settings_of(queue):
            settings = consumer_timeout((timeouts or {})[name], version) | settings
        policy = _generated("queue", queue, settings, policies)
        queues[name] = queue if with_policies else _fixed(queue, settings)
        generated += [policy] if policy is not None else []
    for name in sorted(set(consumed) - queues.keys()):
        # A service that handles dead letters of other services needs a dead-letter queue for its own failures.
        retry_delays[name] = RetryDelays((), f"{name}.dlq")
        extra[f"{name}.dlq"] = dead_letter_queue(f"{name}.dlq")
    return Objects(
        exchanges=tuple(exchanges),
        queues=(*queues.values(), *(queue for name, queue in extra.items() if name not in queues)),
        bindings=tuple(_bindings(topology)),
        policies=(*own, *generated) if with_policies else (),
        retry_delays=retry_delays,
        generated=frozenset(extra.keys() - queues.keys()),
        formerly={name: old for old, name in topology.renamed.items()},
    )


def consumer_timeout(seconds: float, version: Version | None) -> dict[str, int]:
    """Return the policy setting for a consumer timeout, or an empty dict if the version is too old or unknown."""
    known = QUEUE_POLICY_KEYS[CONSUMER_TIMEOUT_KEY]
    if version is None or known.version_problem(0, version, is_policy=True) is not None:
        return {}
    return {CONSUMER_TIMEOUT_KEY: min(round(seconds * 1000), LONGEST_TIMER)}


def policy_name(kind: str, name: str) -> str:
    """Return the name of the generated policy of an exchange or a queue."""
    return f"{GENERATED}{kind}.{name}"


def owner_of_policy(name: str) -> tuple[str, str] | None:
    """Return the kind and name of the object for which a policy was generated, or None for any other policy."""
    if not name.startswith(GENERATED):
        return None
    kind, _, rest = name.removeprefix(GENERATED).partition(".")
    return kind, rest


def _policy(name: str, topology: Topology) -> Policy:
    one = topology.policies[name]
    return Policy(name, one.pattern, one.apply_to, one.definition, one.priority)


def _generated(kind: str, thing: Exchange | Queue, settings: Mapping[str, Any], policies: Policies) -> Policy | None:
    """Return the policy to generate, or None if no policy is needed.

    A generated policy includes the settings of the policy that it hides.
    """
    # Settings that the object already has as arguments are omitted.
    settings = {key: value for key, value in settings.items() if _argument(key) not in thing.arguments}
    if not settings:
        return None
    own = policies.applying(thing)
    definition = {**(own.definition if own is not None else {}), **settings}
    name = policy_name(kind, thing.name)
    return Policy(name, only(thing.name), f"{kind}s", definition, PRIORITY)


def _argument(key: str) -> str:
    return QUEUE_POLICY_KEYS[key].argument_key if key in QUEUE_POLICY_KEYS else key


def _fixed(thing: T, settings: Mapping[str, Any]) -> T:
    return replace(thing, arguments={**thing.arguments, **as_arguments(settings), **thing.arguments})


def _exchanges(topology: Topology) -> Iterable[tuple[Exchange, dict[str, Any]]]:
    for name, one in topology.exchanges.items():
        durable = topology.defaults.durable if one.durable is None else one.durable
        exchange = Exchange(name, one.type, durable, one.internal, dict(one.arguments), one.auto_delete)
        settings = {} if one.alternate_exchange is None else {"alternate-exchange": one.alternate_exchange}
        yield exchange, settings


def _bindings(topology: Topology) -> list[Binding]:
    shorthand = [
        Binding(source, name, "queue", key)
        for name, settings in topology.queues.items()
        for source, keys in settings.bind.items()
        for key in keys
    ]
    # The broker treats identical bindings as one binding.
    return list({one.key: one for one in (*shorthand, *map(_explicit, topology.bindings))}.values())


def _explicit(one: BindingSettings) -> Binding:
    return Binding(one.source, one.destination, one.destination_type, one.routing_key, one.arguments)


def _retry_delays_of(name: str, topology: Topology) -> RetryDelays:
    steps = tuple((delay, retry_queue_name(name, delay)) for delay in topology.queues[name].retry)
    return RetryDelays(steps, topology.dead_letter_of(name))


def dead_letter_queue(name: str) -> Queue:
    """Return the dead-letter queue to generate under a name."""
    return Queue(name, True, {QUEUE_TYPE: "classic"})


def dead_letter_settings(kind: str, dead_letter: str) -> dict[str, Any]:
    """Return the policy settings that make the broker dead-letter messages directly to the dead-letter queue.

    The target is never a retry queue, because dead letters would then move in a cycle. RabbitMQ may drop the messages
    in a cycle, or keep them there.
    """
    settings: dict[str, Any] = {"dead-letter-exchange": "", "dead-letter-routing-key": dead_letter}
    if kind == QUORUM:
        # The at-least-once strategy requires reject-publish (RabbitMQ: "Quorum Queues", dead letter strategy).
        settings |= {
            "delivery-limit": DELIVERY_LIMIT,
            "dead-letter-strategy": "at-least-once",
            "overflow": "reject-publish",
        }
    return settings


def retry_queue(origin: Queue, delay: float) -> Queue:
    """Return the retry queue in which messages wait for ``delay`` seconds before they return to ``origin``.

    Each delay has a separate queue, because a message expires only at the head of its queue.
    """
    # If the origin refuses an expired message, a classic queue drops the message, but a quorum queue retries. A classic
    # retry queue is therefore used only for messages that would not survive a broker restart.
    kind = QUORUM if origin.durable else CLASSIC
    arguments: dict[str, Any] = {
        QUEUE_TYPE: kind,
        "x-message-ttl": round(delay * 1000),
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": origin.name,
    }
    if kind == QUORUM:
        arguments |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    return Queue(retry_queue_name(origin.name, delay), origin.durable, arguments)


def path_of(thing: Exchange | Queue | Binding | Policy, topology: Topology) -> Path:
    """Return an object's path in topology.yaml. For a generated object, return the path of its queue or exchange."""
    if isinstance(thing, Binding):
        return _path_of_binding(thing, topology)
    if isinstance(thing, Exchange):
        return ("exchanges", thing.name)
    if isinstance(thing, Queue):
        return _path_of_queue(thing.name, topology)
    kind, name = owner_of_policy(thing.name) or ("", "")
    return (("exchanges" if kind == "exchange" else "queues"), name) if kind else ("policies", thing.name)


def _path_of_queue(name: str, topology: Topology) -> Path:
    if name in topology.queues:
        return ("queues", name)
    if name in topology.renamed:
        return ("queues", topology.renamed[name], "formerly")
    for origin, settings in topology.queues.items():
        if name.startswith(f"{origin}.retry."):
            return ("queues", origin, "retry")
        if name == topology.dead_letter_of(origin):
            return ("queues", origin, "dead_letter") if settings.dead_letter else ("queues", origin)
    return ("queues",)


def _path_of_binding(binding: Binding, topology: Topology) -> Path:
    if binding.destination in topology.renamed and binding.destination_type == "queue":
        # Until the queue is renamed, the old queue has the bindings of the new queue.
        binding = replace(binding, destination=topology.renamed[binding.destination])
    queue = topology.queues.get(binding.destination) if binding.destination_type == "queue" else None
    keys = queue.bind.get(binding.source, []) if queue is not None else []
    if binding.routing_key in keys and not binding.arguments:
        return ("queues", binding.destination, "bind", binding.source, keys.index(binding.routing_key))
    for index, one in enumerate(topology.bindings):
        if _explicit(one) == binding:
            return ("bindings", index)
    return ("bindings",)
