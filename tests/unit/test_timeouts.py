"""Times that must fit each other."""

from __future__ import annotations

from typing import Any

import pytest

from runner.config.config_file import ServiceSettings
from runner.config.topology_file import Topology
from runner.topology.compile import compile_topology, dead_letter_settings
from runner.topology.lint_rules import lint
from runner.topology.live import Live
from runner.topology.model import Policy
from runner.topology.planner import make_plan
from runner.topology.timeouts import (
    acknowledgement_time,
    acknowledgement_times,
    short_consumer_timeout,
    shortest_timeouts,
    with_longer_timeouts,
)

HOUR = 3600.0
FOREVER = {"handler_timeout": "0s"}
CODES = {
    "consumer-timeout",
    "outlived-by-restart",
    "stop-timeout",
    "inbox-forgets",
    "expiring-retry-queue",
    "expiring-dead-letters",
}


def service(**settings: Any) -> ServiceSettings:
    return ServiceSettings.model_validate({"consumes": ["work"], **settings})


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({"handler_timeout": "2h", "prefetch": 1}, 2 * HOUR + 600),
        # A prefetched message waits for its turn, and RabbitMQ counts from its delivery.
        ({"handler_timeout": "1m", "prefetch": 100}, 100 * 60 + 600),
        ({"handler_timeout": "1m", "prefetch": 100, "concurrency": 8}, 13 * 60 + 600),
        ({"handler_timeout": "1m", "prefetch": 100, "consumes": ["work", "other"]}, 200 * 60 + 600),
        ({"handler_timeout": "1s", "prefetch": 10}, 610),
        ({"handler_timeout": "0s"}, 4_294_967.295),
        ({"handler_timeout": "30d", "prefetch": 65535}, 4_294_967.295),
    ],
)
def test_the_time_until_an_acknowledgement_includes_the_messages_before_it(
    settings: dict[str, Any], seconds: float
) -> None:
    assert acknowledgement_time(service(**settings)) == pytest.approx(seconds)


def test_only_queues_whose_services_need_more_than_the_default_are_named() -> None:
    services = {
        "quick": service(handler_timeout="10s", prefetch=10),
        "slow": service(consumes=["big", "work"], handler_timeout="2h", prefetch=1),
    }
    assert acknowledgement_times(services) == {"big": 4 * HOUR + 600, "work": 4 * HOUR + 600}
    assert acknowledgement_times({"quick": services["quick"]}) == {}


@pytest.mark.parametrize(
    ("version", "kind", "expected"),
    [
        ((3, 10, 8), "quorum", None),
        ((3, 11, 28), "classic", None),
        ((3, 12, 0), "quorum", 7_800_000),
        ((4, 0, 5), "classic", 7_800_000),
        ((4, 3, 6), "quorum", 7_800_000),
        ((4, 3, 6), "classic", 7_800_000),
        (None, "quorum", None),
    ],
)
def test_the_generated_policy_gives_consumers_the_time_that_they_need(
    version: tuple[int, ...] | None, kind: str, expected: int | None
) -> None:
    topology = Topology.model_validate({"queues": {"work": {"type": kind}}})
    objects = compile_topology(topology, {"work"}, version=version, timeouts={"work": 7800.0})
    (policy,) = objects.policies
    assert policy.definition.get("consumer-timeout") == expected


def test_a_time_that_topology_yaml_sets_is_kept() -> None:
    for topology in (
        {"queues": {"work": {"policy": {"consumer-timeout": 5}}}},
        {"queues": {"work": {}}, "policies": {"p": {"pattern": "", "definition": {"consumer-timeout": 5}}}},
    ):
        objects = compile_topology(
            Topology.model_validate(topology), {"work"}, version=(4, 0, 5), timeouts={"work": 7800.0}
        )
        found = {one.name: one.definition.get("consumer-timeout") for one in objects.policies}
        assert found["fastcommerce.queue.work"] == 5


@pytest.mark.parametrize(("there", "expected"), [(9_000_000, 9_000_000), (5_000_000, 7_800_000), (None, 7_800_000)])
def test_a_longer_time_that_another_config_yaml_needs_is_kept(there: int | None, expected: int) -> None:
    topology = Topology.model_validate({"queues": {"work": {}}})
    objects = compile_topology(topology, {"work"}, version=(4, 0, 5), timeouts={"work": 7800.0})
    definition = {"consumer-timeout": there} if there is not None else {}
    live = Live(policies={"fastcommerce.queue.work": Policy("fastcommerce.queue.work", "", "queues", definition, 1)})
    (policy,) = with_longer_timeouts(objects, live, topology).policies
    assert policy.definition["consumer-timeout"] == expected


@pytest.mark.parametrize("there", [0, 1, 60_000, 600_000, 1_799_999, 1_800_000])
@pytest.mark.parametrize("needed", [None, 7800.0])
def test_a_time_up_to_the_broker_s_default_is_replaced(there: int, needed: float | None) -> None:
    topology = Topology.model_validate({"queues": {"work": {}}})
    timeouts = {"work": needed} if needed else {}
    objects = compile_topology(topology, {"work"}, version=(4, 0, 5), timeouts=timeouts)
    name = "fastcommerce.queue.work"
    live = Live(version=(4, 0, 5), policies={name: Policy(name, "", "queues", {"consumer-timeout": there}, 1)})
    assert with_longer_timeouts(objects, live, topology) == objects
    (change,) = [one for one in make_plan(objects, live, topology.retire).changes if one.kind == "policy"]
    wanted = "7800000" if needed else "not set"
    assert f"consumer-timeout {there} becomes {wanted}" in change.why


@pytest.mark.parametrize(("there", "is_removed"), [(1000, True), (1_800_000, True), (1_800_001, False), (None, False)])
def test_a_policy_that_only_dead_letters_is_kept_unless_its_time_is_too_short(
    there: int | None, is_removed: bool
) -> None:
    topology = Topology.model_validate({"queues": {"work": {"type": "classic"}}})
    objects = compile_topology(topology)
    name = "fastcommerce.queue.work"
    definition = dead_letter_settings("classic", "work.dlq") | (
        {"consumer-timeout": there} if there is not None else {}
    )
    live = Live(version=(4, 0, 5), policies={name: Policy(name, "", "queues", definition, 1)})
    changes = [one for one in make_plan(objects, live, topology.retire).changes if one.kind == "policy"]
    assert [one.is_removal for one in changes] == ([True] if is_removed else [])


@pytest.mark.parametrize(
    ("settings", "is_warned"),
    [
        ({"handler_timeout": "2h"}, True),
        ({"handler_timeout": "30m"}, True),
        ({"handler_timeout": "0s"}, True),
        # Messages before it count.
        ({"handler_timeout": "5m"}, True),
        ({"handler_timeout": "1m", "prefetch": 21}, True),
        ({"handler_timeout": "1m", "prefetch": 11, "consumes": ["work", "other"]}, True),
        ({"handler_timeout": "1m", "prefetch": 20}, False),
        ({"handler_timeout": "1m", "prefetch": 100, "concurrency": 8}, False),
        ({"handler_timeout": "5m", "prefetch": 1}, False),
        # No time was set.
        ({}, False),
        ({"prefetch": 1000}, False),
        ({"handler_timeout": "2h", "consumes": []}, False),
    ],
)
def test_a_broker_without_that_policy_key_gets_a_warning_that_names_both(
    settings: dict[str, Any], is_warned: bool
) -> None:
    text = short_consumer_timeout("pay", service(**settings))
    assert (text is not None) == is_warned
    if text is not None:
        assert "exceeds 30m" in text


def found(topology: dict[str, Any], **settings: Any) -> list[tuple[str, str, str]]:
    queues = {"work": {"bind": {"e": ["a"]}, **topology.pop("work", {})}, **topology.pop("queues", {})}
    parsed = Topology.model_validate({"exchanges": {"e": {}}, "queues": queues, **topology})
    services = {"shop": ServiceSettings.model_validate({"publishes": {"e": ["a"]}}), "pay": service(**settings)}
    return [(one.code, one.name, one.reason) for one in lint(parsed, services) if one.code in CODES]


@pytest.mark.parametrize(
    ("code", "topology", "settings", "first", "second"),
    [
        ("consumer-timeout", {"work": {"policy": {"consumer-timeout": 60000}}}, {"prefetch": 1}, "5m", "is 1m"),
        ("consumer-timeout", {"work": {"arguments": {"x-consumer-timeout": 1000}}}, {"prefetch": 1}, "5m", "is 1s"),
        (
            "consumer-timeout",
            {"policies": {"p": {"pattern": "^work$", "definition": {"consumer-timeout": 1_800_000}}}},
            {"handler_timeout": "1m"},
            "prefetch 100",
            "is 30m",
        ),
        ("outlived-by-restart", {"work": {"policy": {"expires": 10000}}}, {}, "10s (expires)", "1m"),
        ("outlived-by-restart", {"work": {"arguments": {"x-message-ttl": 5000}}}, {}, "5s (message-ttl)", "1m"),
        (
            "outlived-by-restart",
            {"work": {"policy": {"message-ttl": 90000}}},
            {"start_timeout": "2m"},
            "90s (message-ttl)",
            "150s",
        ),
        ("stop-timeout", {}, {"stop_timeout": "10s", "handler_timeout": "2m"}, "10s", "2m"),
        (
            "inbox-forgets",
            {"work": {"retry": ["1d", "7d"]}},
            {"inbox": {"retention": "7d"}, "handler_timeout": "1m"},
            "7d (inbox.retention)",
            "retry",
        ),
        (
            "expiring-retry-queue",
            {
                "work": {"retry": ["30s"]},
                "policies": {"p": {"pattern": "retry", "definition": {"expires": 60000}}},
            },
            {},
            "1m (expires",
            "30s",
        ),
        (
            "expiring-dead-letters",
            {"policies": {"p": {"pattern": "dlq$", "definition": {"message-ttl": 60000}}}},
            {},
            "work.dlq",
            "1m (message-ttl)",
        ),
    ],
)
def test_contradictory_times_are_a_finding_with_both_times(
    code: str, topology: dict[str, Any], settings: dict[str, Any], first: str, second: str
) -> None:
    ((found_code, _, reason),) = found(topology, **settings)
    assert found_code == code
    assert first in reason
    assert second in reason


@pytest.mark.parametrize(
    ("topology", "settings"),
    [
        ({}, {}),
        ({}, {"handler_timeout": "2h"}),
        ({"work": {"policy": {"consumer-timeout": 36_000_000}}}, {"handler_timeout": "1m"}),
        ({"work": {"policy": {"expires": 86_400_000, "message-ttl": 3_600_000}}}, {}),
        ({}, {"stop_timeout": "3m", "handler_timeout": "2m"}),
        ({"work": {"retry": ["1s", "1h"]}}, {"inbox": {"retention": "7d"}}),
        ({"policies": {"p": {"pattern": "^work$", "definition": {"message-ttl": 3_600_000}}}}, {}),
    ],
)
def test_matching_times_are_no_finding(topology: dict[str, Any], settings: dict[str, Any]) -> None:
    assert found(topology, **settings) == []


@pytest.mark.parametrize(
    ("topology", "settings", "known"),
    [
        ({"queues": {"work": {}}}, {"handler_timeout": "1m", "prefetch": 1}, {}),
        ({"queues": {"work": {}}}, {"handler_timeout": "5m", "prefetch": 20}, {"work": 1800.0}),
        ({"queues": {"work": {}}}, FOREVER, {"work": 1800.0}),
        ({"queues": {"work": {"policy": {"consumer-timeout": 2000}}}}, {}, {"work": 2.0}),
        ({"queues": {"work": {"policy": {"consumer-timeout": 7_200_000}}}}, FOREVER, {"work": 7200.0}),
        ({"queues": {"work": {"arguments": {"x-consumer-timeout": 60_000}}}}, FOREVER, {"work": 60.0}),
        (
            {
                "queues": {"work": {}},
                "policies": {
                    "p": {"pattern": "^work$", "apply_to": "queues", "definition": {"consumer-timeout": 5000}}
                },
            },
            {"handler_timeout": "0s"},
            {"work": 5.0},
        ),
        # A queue of another project.
        ({"queues": {"other": {}}}, {"handler_timeout": "0s"}, {"work": 1800.0}),
        ({"queues": {"other": {}}}, {"handler_timeout": "1m", "prefetch": 1}, {}),
    ],
)  # fmt: skip
def test_a_worker_knows_the_shortest_possible_consumer_timeout_of_its_queue(
    topology: dict[str, Any], settings: dict[str, Any], known: dict[str, float]
) -> None:
    services = {"a": service(**settings)}
    objects = compile_topology(Topology.model_validate(topology), {"work"})
    assert shortest_timeouts(["work"], objects, services) == known
