"""Differences between versions of RabbitMQ: settings, the policies that they exclude, and denied features."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from runner.config.argument import QUEUE_POLICY_KEYS, QUEUE_SETTINGS, version_problems
from runner.config.cross_checks import check_references
from runner.config.document import Document
from runner.config.topology_file import Topology
from runner.config.validation import validate_document
from runner.config.version import EXCLUDING, HAS_DELIVERY_LIMIT, NEWEST, excludes
from runner.topology.compatibility import conflicts
from runner.topology.compile import compile_topology
from runner.topology.live import Live, LiveQueue
from runner.topology.planner import make_plan


def merged(version: tuple[int, ...], kind: str, definition: dict[str, Any]) -> bool:
    """Return True if the generated policy of a queue contains a written one."""
    topology = Topology.model_validate(
        {
            "queues": {"work": {"type": kind, "retry": ["1s"]}},
            "policies": {"cap": {"pattern": ".*", "definition": {"max-length": 100, **definition}}},
        }
    )
    policies = {one.name: one for one in compile_topology(topology, version=version).policies}
    return "max-length" in policies["fastcommerce.queue.work"].definition


@pytest.mark.parametrize(
    ("kind", "key", "value", "old", "new"),
    [
        ("quorum", "queue-version", 2, True, True),
        ("quorum", "queue-mode", "lazy", False, False),
        ("quorum", "ha-mode", "all", False, False),
        ("quorum", "ha-sync-batch-size", 5, True, True),
        ("quorum", "max-age", "1D", False, False),
        ("quorum", "single-active-consumer", True, False, True),
        ("quorum", "stream-filter-size-bytes", 16, True, True),
        ("quorum", "queue-leader-locator", "balanced", True, True),
        ("classic", "queue-leader-locator", "balanced", False, True),
        ("classic", "max-in-memory-length", 5, True, False),
        ("classic", "target-group-size", 3, True, False),
        ("classic", "delivery-limit", 5, False, False),
        ("classic", "delayed-retry-type", "all", True, True),
        ("classic", "consumer-timeout", 1000, True, True),
    ],
)
def test_a_policy_is_merged_if_this_version_applies_it(kind: str, key: str, value: Any, old: bool, new: bool) -> None:
    assert (merged((3, 10, 8), kind, {key: value}), merged(NEWEST, kind, {key: value})) == (old, new)


def test_without_a_version_the_newest_is_assumed() -> None:
    assert excludes("queue-leader-locator", "classic", (3, 13, 7))
    assert not excludes("queue-leader-locator", "classic")


def test_each_excluding_key_has_versions_that_follow_each_other() -> None:
    for keys in EXCLUDING.values():
        for span in keys.values():
            assert span.until is None or span.since < span.until
    for one in QUEUE_SETTINGS:
        assert one.until is None or one.since < one.until, one


@pytest.mark.parametrize(
    ("settings", "options", "old", "new"),
    [
        (
            {"x-queue-version": 1},
            {"queue_type": "classic"},
            "",
            "1 is refused by RabbitMQ 4.3 and later (this broker runs 4.3.6)",
        ),
        ({"x-queue-version": 2}, {"queue_type": "classic"}, "", ""),
        ({"queue-version": 1}, {"is_policy": True}, "", ""),
        ({"x-queue-master-locator": "random"}, {"queue_type": "classic"}, "", "is refused by RabbitMQ 4.3 and later"),
        ({"queue-master-locator": "random"}, {"is_policy": True}, "", "is refused by RabbitMQ 4.3 and later"),
        (
            {"x-consumer-timeout": 1},
            {"queue_type": "classic"},
            "needs RabbitMQ 3.12",
            "is refused by RabbitMQ 4.3.2 and later",
        ),
        ({"x-consumer-timeout": 1}, {"queue_type": "quorum"}, "needs RabbitMQ 3.12", ""),
        ({"consumer-timeout": 1}, {"is_policy": True}, "needs RabbitMQ 3.12 or later (this broker runs 3.10.8)", ""),
        ({"delivery-limit": -1}, {"is_policy": True}, "-1 needs RabbitMQ 4.0", ""),
        ({"x-delivery-limit": -1}, {"queue_type": "quorum"}, "", ""),
        ({"ha-mode": "all"}, {"is_policy": True}, "", "is refused by RabbitMQ 4.0 and later"),
        ({"x-queue-leader-locator": "balanced"}, {"queue_type": "classic"}, "needs RabbitMQ 4.0", ""),
        ({"delayed-retry-type": "all"}, {"is_policy": True}, "needs RabbitMQ 4.3", ""),
        ({"target-group-size": 3}, {"is_policy": True}, "needs RabbitMQ 3.13", ""),
    ],
)
def test_a_setting_is_refused_with_the_version(
    settings: dict[str, Any], options: dict[str, Any], old: str, new: str
) -> None:
    for version, expected in (((3, 10, 8), old), (NEWEST, new)):
        (problem,) = version_problems(settings, version, **options).values() or [""]
        assert problem.startswith(expected), (version, problem)
        assert bool(problem) == bool(expected)


HELD = {
    "queues": {
        "q": {"type": "classic", "arguments": {"x-queue-version": 1}},
        "t": {"type": "classic", "durable": False},
    },
    "exchanges": {"x": {"type": "x-consistent-hash"}},
    "policies": {"p": {"pattern": "^none", "definition": {"ha-mode": "all"}}},
}


def held(**without: str) -> Live:
    objects = compile_topology(Topology.model_validate(HELD), version=(3, 13, 7))
    return Live(
        version=(4, 3, 6),
        exchange_types=frozenset({"topic"}),
        exchanges={one.name: one for one in objects.exchanges if one.name != without.get("exchange")},
        queues={one.name: LiveQueue(one) for one in objects.queues if one.name != without.get("queue")},
        policies={one.name: one for one in objects.policies if one.name != without.get("policy")},
    )


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ({}, set()),
        ({"queue": "q"}, {("queue", "q")}),
        ({"queue": "t"}, {("queue", "t")}),
        ({"exchange": "x"}, {("exchange", "x")}),
        ({"policy": "p"}, {("policy", "p")}),
        ({"queue": "q", "policy": "p", "exchange": "x"}, {("queue", "q"), ("policy", "p"), ("exchange", "x")}),
    ],
)
def test_a_broker_keeps_its_existing_settings(without: dict[str, str], expected: set[tuple[str, str]]) -> None:
    topology = Topology.model_validate(HELD)
    live = held(**without)
    objects = compile_topology(topology, version=live.version)
    changes = make_plan(objects, live, topology.retire).changes
    every = list(conflicts(objects, live, topology))
    assert {one for conflict in every for one in conflict.things} == {
        ("queue", "q"),
        ("queue", "t"),
        ("exchange", "x"),
        ("policy", "p"),
    }
    assert {one for conflict in every if conflict.is_of(changes) for one in conflict.things} == expected


def found(topology: dict[str, Any], live: Live) -> list[str]:
    parsed = Topology.model_validate(topology)
    objects = compile_topology(parsed, version=live.version)
    return [f"{'.'.join(map(str, one.path))}: {one.text}" for one in conflicts(objects, live, parsed)]


@pytest.mark.parametrize(
    ("topology", "live", "expected"),
    [
        (
            {"queues": {"q": {"type": "classic", "durable": False}}},
            Live(version=(4, 3, 5)),
            "queues.q.durable: queue 'q': durable: false is refused by RabbitMQ 4.3 and later (this broker runs 4.3.5)",
        ),
        (
            {"queues": {"q": {"type": "classic", "durable": False}}},
            Live(version=(4, 0, 5), denied=frozenset({"transient_nonexcl_queues"})),
            "queues.q.durable: queue 'q': durable: false is refused by this broker (RabbitMQ 4.0.5), which denies",
        ),
        (
            {"policies": {"p": {"pattern": "^x", "apply_to": "quorum_queues", "definition": {"max-length": 1}}}},
            Live(version=(3, 10, 8)),
            "policies.p.apply_to: policy 'p': apply_to: quorum_queues needs RabbitMQ 3.12 or later"
            " (this broker runs 3.10.8)",
        ),
        (
            {"policies": {"p": {"pattern": "^x", "definition": {"ha-mode": "all"}}}},
            Live(version=(4, 0, 5)),
            "policies.p.definition.ha-mode: policy 'p': ha-mode is refused by RabbitMQ 4.0 and later"
            " (this broker runs 4.0.5)",
        ),
        (
            {"queues": {"q": {"policy": {"delayed-retry-min": 5}}}},
            Live(version=(4, 0, 5)),
            "queues.q.policy.delayed-retry-min: queue 'q': delayed-retry-min needs RabbitMQ 4.3 or later"
            " (this broker runs 4.0.5)",
        ),
        (
            {"queues": {"q": {"type": "classic", "policy": {"queue-leader-locator": "balanced"}}}},
            Live(version=(3, 13, 7)),
            "queues.q.policy.queue-leader-locator: queue 'q': queue-leader-locator makes RabbitMQ 3.13.7 ignore"
            " the whole policy for a classic queue",
        ),
        (
            {"defaults": {"durable": False, "queue_type": "classic"}, "queues": {"q": {}}},
            Live(version=(4, 3, 5)),
            "defaults.durable: queue 'q': durable: false is refused by RabbitMQ 4.3 and later (this broker runs 4.3.5)",
        ),
        (
            {
                "defaults": {"durable": False, "queue_type": "classic"},
                "queues": {"a": {}, "b": {}, "c": {"durable": True}, "d": {"retry": ["1s"]}},
            },
            Live(version=(4, 3, 5)),
            "defaults.durable: queues 'a', 'b', 'd' and 1 more: durable: false is refused by RabbitMQ 4.3 and later",
        ),
        (
            {"defaults": {"durable": False, "queue_type": "classic"}, "queues": {"a": {"durable": False}}},
            Live(version=(4, 3, 5)),
            "queues.a.durable: queue 'a': durable: false is refused by RabbitMQ 4.3 and later (this broker runs 4.3.5)",
        ),
        (
            {
                "defaults": {"durable": True, "queue_type": "classic"},
                "queues": {"a": {"durable": False, "retry": ["1s", "2s"]}},
            },
            Live(version=(4, 0, 5), denied=frozenset({"transient_nonexcl_queues"})),
            "queues.a.durable: queues 'a', 'a.retry.1s', 'a.retry.2s': durable: false is refused by this broker",
        ),
        (
            {"exchanges": {"e": {"type": "x-local-random"}}},
            Live(version=(3, 13, 7)),
            "exchanges.e.type: exchange 'e': x-local-random needs RabbitMQ 4.0 or later (this broker runs 3.13.7)",
        ),
    ],
)
def test_a_refused_setting_is_reported_with_its_line(topology: dict[str, Any], live: Live, expected: str) -> None:
    (line,) = found(topology, live)
    assert line.startswith(expected)
    assert line.endswith("; remove it, or use another broker")


@pytest.mark.parametrize(
    ("kind", "key", "version", "count"),
    [
        ("topic", "#.a.#.#", (4, 3, 6), 3), ("topic", "#.#.#.#", (4, 3, 0), 4), ("topic", "#.a.#", (4, 3, 6), 0),
        ("delayed", "#.#.#", (4, 3, 6), 3), ("delayed", "#.#.#", (4, 2, 9), 0),
        ("topic", "#a.#b.#c", (4, 3, 6), 0), ("topic", "#.#.#", (4, 2, 9), 0), ("topic", "#.#.#", (3, 10, 8), 0),
        ("fanout", "#.#.#", (4, 3, 6), 0), ("direct", "#.#.#", (4, 3, 6), 0), ("topic", "*.*.*.#", (4, 3, 6), 0),
    ],
)  # fmt: skip
def test_a_binding_key_has_at_most_two_wildcards_for_any_words(
    kind: str, key: str, version: tuple[int, ...], count: int
) -> None:
    exchange: dict[str, Any] = {"type": kind}
    if kind == "delayed":
        exchange = {"type": "x-delayed-message", "arguments": {"x-delayed-type": "topic"}}
    topology = {"exchanges": {"e": exchange}, "queues": {"q": {"bind": {"e": ["a", key]}}}}
    lines = found(topology, Live(version=version))
    dotted = ".".join(map(str, version))
    expected = (
        f"queues.q.bind.e.1: binding 'e -({key})-> q': its key contains {count} '#' words, but RabbitMQ 4.3"
        f" and later allow 2 (this version: {dotted}); remove it, or use another broker"
    )
    assert lines == ([expected] if count else [])


@pytest.mark.parametrize(
    ("exchange", "missing"),
    [
        ({"type": "x-rtopic"}, "type: exchange 'e': the broker has no exchange type 'x-rtopic'"),
        ({"type": "x-random"}, "type: exchange 'e': the broker has no exchange type 'x-random'"),
        (
            {"type": "x-delayed-message", "arguments": {"x-delayed-type": "x-rtopic"}},
            "arguments.x-delayed-type: exchange 'e': the broker has no exchange type 'x-rtopic'",
        ),
        ({"type": "x-delayed-message", "arguments": {"x-delayed-type": "topic"}}, None),
        ({"type": "topic", "arguments": {"x-delayed-type": "x-rtopic"}}, None),
    ],
)
def test_a_type_that_the_broker_lacks_is_a_conflict(exchange: dict[str, Any], missing: str | None) -> None:
    live = Live(version=(4, 0, 5), exchange_types=frozenset({"topic", "x-delayed-message"}))
    remedy = "; enable the plugin that provides it, or remove the exchange"
    expected = [] if missing is None else [f"exchanges.e.{missing}{remedy}"]
    assert found({"exchanges": {"e": exchange}}, live) == expected


def test_a_broker_may_permit_a_deprecated_feature() -> None:
    topology = {"queues": {"q": {"type": "classic", "durable": False}}}
    assert found(topology, Live(version=(4, 3, 6), denied=frozenset({"global_qos"}))) == []


def test_a_complete_topology_of_ours_conflicts_with_no_supported_version() -> None:
    topology = {
        "exchanges": {"e": {"alternate_exchange": "u"}, "u": {"type": "fanout"}},
        "queues": {"a": {"retry": ["1s"]}, "b": {}, "c": {"type": "classic", "retry": ["5s"]}, "d": {"type": "stream"}},
    }
    for version in ((3, 10), (3, 11, 28), (3, 12, 0), (3, 13, 7), (4, 0, 5), (4, 1, 8), (4, 2, 9), (4, 3, 0), NEWEST):
        parsed = Topology.model_validate(topology)
        objects = compile_topology(parsed, version=version, timeouts={"a": 7200.0, "c": 7200.0})
        assert list(conflicts(objects, Live(version=version), parsed)) == []
        is_said = [one for one in objects.policies if "consumer-timeout" in one.definition]
        assert len(is_said) == (2 if version >= (3, 12) else 0)


def test_only_brokers_of_version_4_drop_messages_at_their_own_limit() -> None:
    assert not HAS_DELIVERY_LIMIT.holds((3, 13, 7))
    assert HAS_DELIVERY_LIMIT.holds((4, 0, 0))


def test_every_policy_key_of_the_table_is_a_setting() -> None:
    # The others belong to plugins, or are not settings of our queues.
    others = {"selector-fields", "selector-field-max-bytes", "max-priority", "single-active-consumer"}
    assert {key for keys in EXCLUDING.values() for key in keys} - others <= QUEUE_POLICY_KEYS.keys()


@pytest.mark.parametrize(
    ("queue", "fault"),
    [
        (
            {"policy": {"delayed-retry-type": "all"}},
            "q.policy.delayed-retry-type: requires 'delayed-retry-min'; add this key",
        ),
        (
            {"arguments": {"x-delayed-retry-type": "failed"}},
            "q.arguments.x-delayed-retry-type: requires 'x-delayed-retry-min'; add this key",
        ),
        (
            {"policy": {"delayed-retry-type": "all", "delayed-retry-min": 5, "delayed-retry-max": 4}},
            "q.policy.delayed-retry-max: less than 'delayed-retry-min', 4; allowed: 5 or more",
        ),
        (
            {"arguments": {"x-dead-letter-routing-key": "k"}},
            "q.arguments.x-dead-letter-routing-key: requires 'x-dead-letter-exchange'; add this key",
        ),
        ({"arguments": {"x-expires": 9_999_999_999_999}}, "q.arguments.x-expires: out of range, 9999999999999"),
        ({"policy": {"delayed-retry-type": "disabled"}}, ""),
        ({"policy": {"dead-letter-routing-key": "k"}}, ""),
    ],
)
def test_keys_that_rabbitmq_accepts_only_together_are_checked(queue: dict[str, Any], fault: str) -> None:
    document = Document("topology.yaml", yaml.safe_dump({"queues": {"q": queue}}), {})
    check_references(validate_document(Topology, document), document)
    assert [fault in str(one) for one in document.faults] == ([True] if fault else [])
