"""The findings of lint, topologies without findings, and ignored findings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.config.config_file import Config
from runner.config.topology_file import Topology
from runner.topology.finding import RULES, Finding
from runner.topology.lint_rules import lint

ROOT = Path(__file__).parent.parent.parent
SERVICES: dict[str, Any] = {
    "shop": {"publishes": {"orders": ["order.created"]}},
    "worker": {"consumes": ["work"]},
}


def found(topology: dict[str, Any], services: dict[str, Any] | None = None, trace: str | None = None) -> list[Finding]:
    config = Config.model_validate({"services": SERVICES if services is None else services})
    return lint(Topology.model_validate(topology), config.services, trace=trace)


def codes(
    topology: dict[str, Any], services: dict[str, Any] | None = None, trace: str | None = None
) -> list[tuple[str, str]]:
    return [(one.code, one.name) for one in found(topology, services, trace)]


def shop(**more: Any) -> dict[str, Any]:
    topology: dict[str, Any] = {
        "exchanges": {"orders": {"type": "topic"}},
        "queues": {"work": {"bind": {"orders": ["order.#"]}}},
    }
    for section, content in more.items():
        topology.setdefault(section, {}).update(content)
    return topology


def test_a_correct_topology_has_no_findings() -> None:
    assert codes(shop()) == []


def test_a_key_that_no_queue_gets_is_found_at_its_publisher() -> None:
    (one,) = found(shop(queues={"work": {"bind": {"orders": ["invoice.#"]}}}))[:1]
    assert (one.code, one.name, one.file) == ("unroutable-key", "order.created", "config.yaml")
    assert one.path == ("services", "shop", "publishes", "orders", 0)
    assert one.reason == (
        "shop publishes 'order.created' to 'orders', but no queue gets these events, so RabbitMQ returns them as"
        " unroutable"
    )


@pytest.mark.parametrize(
    ("template", "binding", "is_found"),
    [
        ("order.created.{currency}", "order.created.*", False),
        ("order.created.{currency}", "order.created.usd", False),
        ("order.created.{currency}", "order.created", True),
        ("order.created.{currency}.{region}", "#.eu", False),
        ("order.created.{currency}", "order.*.*.#", False),
        ("order.created.{currency}", "invoice.#", True),
    ],
)
def test_a_field_of_a_routing_key_may_be_any_one_word(template: str, binding: str, is_found: bool) -> None:
    services = SERVICES | {"shop": {"publishes": {"orders": [template]}}}
    result = codes(shop(queues={"work": {"bind": {"orders": [binding]}}}), services)
    assert (("unroutable-key", template) in result) is is_found


def test_a_key_that_only_the_alternate_exchange_gets_is_reported_as_such() -> None:
    topology = shop(
        exchanges={"orders": {"type": "topic", "alternate_exchange": "lost"}, "lost": {"type": "fanout"}},
        queues={"work": {"bind": {"orders": ["invoice"]}}, "lost.all": {"bind": {"lost": [""]}}},
    )
    result = found(topology)
    assert [(one.code, one.name) for one in result] == [
        ("only-alternate", "order.created"),
        ("unmatched-binding", "orders invoice"),
    ]
    assert "these events reach lost.all only through the alternate exchange" in result[0].reason


def test_a_binding_that_no_published_event_matches_is_found_at_its_line() -> None:
    (one,) = found(shop(queues={"work": {"bind": {"orders": ["order.#", "ordr.#"]}}}))
    assert (one.code, one.path) == ("unmatched-binding", ("queues", "work", "bind", "orders", 1))


def test_bindings_between_exchanges_are_followed() -> None:
    topology = shop(
        exchanges={"audit": {"type": "fanout"}, "by.region": {"type": "direct"}},
        queues={"all": {"bind": {"audit": [""]}}, "eu": {"bind": {"by.region": ["order.created"]}}},
        bindings={},
    )
    topology["bindings"] = [
        {"source": "orders", "destination": "audit", "destination_type": "exchange", "routing_key": "#"},
        {"source": "audit", "destination": "by.region", "destination_type": "exchange"},
        {
            "source": "by.region",
            "destination": "orders",
            "destination_type": "exchange",
            "routing_key": "order.created",
        },
    ]
    assert codes(topology) == [("unread-queue", "all"), ("unread-queue", "eu")]


def test_a_queue_without_a_consumer_is_found_unless_it_is_for_dead_letters() -> None:
    topology = shop(
        exchanges={"orders": {"type": "topic", "alternate_exchange": "lost"}, "lost": {"type": "fanout"}},
        queues={
            "forgotten": {"bind": {"orders": ["order.#"]}},
            "lost.all": {"bind": {"lost": [""]}},
            "log": {"type": "stream", "bind": {"orders": ["order.#"]}},
            "work": {"bind": {"orders": ["order.#"]}, "dead_letter": "parked"},
            "parked": {},
        },
    )
    assert codes(topology) == [("unread-queue", "forgotten")]


def test_dead_letters_that_no_queue_gets_are_found() -> None:
    topology = shop(
        exchanges={"dead": {"type": "direct"}},
        queues={
            "work": {"bind": {"orders": ["order.#"]}},
            "a": {"arguments": {"x-dead-letter-exchange": "dead", "x-dead-letter-routing-key": "a"}},
            "b": {"arguments": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "missing"}},
            "c": {"arguments": {"x-dead-letter-exchange": ""}},
            "d": {"policy": {"dead-letter-exchange": "nowhere"}},
        },
    )
    services = SERVICES | {"worker": {"consumes": ["work"]}}
    assert [one for one in codes(topology, services) if one[0] == "dead-letter-nowhere"] == [
        ("dead-letter-nowhere", name) for name in "abcd"
    ]


def test_an_expiring_message_without_a_target_is_found() -> None:
    wait = {"x-message-ttl": 1000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "wrok"}
    assert codes(shop(queues={"wait": {"arguments": wait}})) == [("retry-nowhere", "wait")]
    wait["x-dead-letter-routing-key"] = "work"
    assert codes(shop(queues={"wait": {"arguments": wait}})) == []


def test_a_cycle_of_dead_letters_is_found_once() -> None:
    topology = shop(
        queues={
            "work": {"bind": {"orders": ["order.#"]}, "dead_letter": "b"},
            "b": {"arguments": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "c"}},
            "c": {"arguments": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work"}},
        }
    )
    (one,) = [one for one in found(topology) if one.code == "dead-letter-cycle"]
    assert "dead letters move in a cycle, work -> b -> c -> work" in one.reason


def test_a_hidden_policy_is_found() -> None:
    policies = {
        "cap": {"pattern": "^work$", "definition": {"max-length": 5}, "priority": 1},
        "all": {"pattern": "", "definition": {"expires": 5000}, "priority": 2},
        "exchanges": {"pattern": "", "apply_to": "exchanges", "definition": {"alternate-exchange": "orders"}},
    }
    (one,) = [one for one in found(shop(policies=policies)) if one.code == "hidden-policy"]
    assert (one.name, one.path) == ("cap", ("policies", "cap"))
    assert one.reason == "'all' hides 'cap' for 'work', because only one policy applies"


def test_an_unused_exchange_is_found() -> None:
    assert codes(shop(exchanges={"old": {}})) == [("unused-exchange", "old")]


def test_a_finding_is_ignored_by_its_code_and_name_and_an_unused_entry_is_a_finding() -> None:
    topology = shop(exchanges={"old": {}, "older": {}})
    topology["lint"] = {"ignore": {"unused-exchange": ["old"]}}
    assert codes(topology) == [("unused-exchange", "older")]
    topology["lint"] = {"ignore": {"unused-exchange": ["*"]}}
    assert codes(topology) == []
    topology["lint"] = {"ignore": {"unused-exchange": ["*", "orders"], "no-such-code": ["x"]}}
    result = found(topology)
    assert [(one.code, one.name) for one in result] == [("unused-ignore", "x"), ("unused-ignore", "orders")]
    assert result[0].reason.startswith("there is no code 'no-such-code': allowed: ")
    assert result[1].path == ("lint", "ignore", "unused-exchange", 1)


def test_every_rule_has_a_remedy_and_is_explained() -> None:
    explained = (ROOT / "docs" / "topology.md").read_text()
    for code, rule in RULES.items():
        assert rule.remedy
        assert f"| `{code}` |" in explained
        assert rule.link == "" or rule.link.startswith("https://www.rabbitmq.com/docs/")


def bound(*keys: str) -> dict[str, Any]:
    return shop(queues={"work": {"bind": {"orders": list(keys)}}})


@pytest.mark.parametrize(
    ("published", "binding", "advice"),
    [
        ("order.created", "order.create.#", "did you mean 'order.created.#'?"),
        ("order.created", "ORDER.CREATED", "did you mean 'order.created'?"),
        ("order.created", "created.order", "did you mean 'order.created'?"),
        ("order.created.{currency}", "order.created.EUR", "did you mean 'order.created.eur'?"),
        ("order.created.{currency}", "eur.created.order", "did you mean 'order.created.eur'?"),
        ("order.created.{currency}.{region}", "oder.creatd.*.eu", "did you mean 'order.created.*.eu'?"),
        ("order.created", "order.created.now", "did you mean 'order.created'?"),
        ("order.created", "invoice.paid", ""),
    ],
)
def test_a_binding_that_almost_matches_gets_a_suggestion(published: str, binding: str, advice: str) -> None:
    services = SERVICES | {"shop": {"publishes": {"orders": [published]}}}
    (one,) = [one for one in found(bound(binding, "order.#"), services) if one.code == "unmatched-binding"]
    assert one.advice == advice


@pytest.mark.parametrize(
    ("queue", "service", "expected"),
    [
        ({"arguments": {"x-max-length": 5}, "type": "classic"}, {}, "drops-oldest"),
        ({"policy": {"max-length-bytes": 5000, "overflow": "drop-head"}}, {}, "drops-oldest"),
        ({"policy": {"max-length": 5, "overflow": "reject-publish"}}, {}, None),
        ({"policy": {"overflow": "drop-head"}}, {}, None),
        ({"arguments": {"x-single-active-consumer": True}}, {"concurrency": 2}, "order-not-kept"),
        ({"arguments": {"x-single-active-consumer": True}, "retry": ["1s"]}, {}, "order-not-kept"),
        ({"arguments": {"x-single-active-consumer": True}}, {}, None),
        ({"arguments": {"x-single-active-consumer": False}}, {"concurrency": 2}, None),
    ],
)
def test_settings_that_break_the_guarantees_of_a_consumed_queue_are_found(
    queue: dict[str, Any], service: dict[str, Any], expected: str | None
) -> None:
    services = SERVICES | {"worker": {"consumes": ["work"], **service}}
    result = [code for code, _ in codes(shop(queues={"work": {"bind": {"orders": ["order.#"]}, **queue}}), services)]
    assert [code for code in result if code in ("drops-oldest", "order-not-kept")] == ([expected] if expected else [])


@pytest.mark.parametrize("kind", ["fanout", "headers"])
def test_a_key_on_an_exchange_that_ignores_keys_is_found(kind: str) -> None:
    topology = shop(exchanges={"all": {"type": kind}}, queues={"copy": {"bind": {"all": ["order.#"]}}})
    assert ("ignored-key", "all order.#") in codes(topology)
    topology["queues"]["copy"]["bind"]["all"] = [""]
    assert ("ignored-key", "all order.#") not in codes(topology)


def test_a_consumed_queue_that_gets_only_its_own_retries_is_found() -> None:
    topology = shop(queues={"work": {"bind": {"orders": ["order.#"]}}, "lonely": {"retry": ["1s"]}})
    services = SERVICES | {"reader": {"consumes": ["lonely"]}}
    assert codes(topology, services) == [("unfed-queue", "lonely")]
    # The queue of the workers' attempts gets them without a binding.
    assert codes(topology, services, trace="lonely") == []


def test_an_alternate_exchange_that_drops_messages_is_found_through_other_exchanges_too() -> None:
    lost = {"orders": {"type": "topic", "alternate_exchange": "lost"}, "lost": {"type": "fanout"}, "deep": {}}
    topology = shop(exchanges=lost)
    topology["bindings"] = [{"source": "lost", "destination": "deep", "destination_type": "exchange"}]
    assert ("alternate-nowhere", "orders") in codes(topology)
    topology["queues"]["kept"] = {"bind": {"deep": ["#"]}}
    assert ("alternate-nowhere", "orders") not in codes(topology)
