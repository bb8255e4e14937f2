"""Commands and a start that the broker refuses: they exit with 78 at once or wait, and print the broker's reason."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rabbit import Vhost, wait_until
from tests.running import Project
from tests.topologies import Shop

DELAYED = {"type": "x-delayed-message", "arguments": {"x-delayed-type": "topic"}}
BASE: dict[str, Any] = {
    "exchanges": {"a": {"type": "topic"}, "h": DELAYED, "z": {"type": "fanout"}},
    "queues": {"q": {"bind": {"a": ["#"]}}},
}
#: An address without a server.
NOWHERE = "http://127.0.0.1:1"
REMEDY = "remove the exchange"


@pytest.fixture
def shop(tmp_path: Path, vhost: Vhost) -> Shop:
    one = Shop(tmp_path / "shop", vhost)
    one.write(BASE)
    return one


def own_exchanges(vhost: Vhost) -> set[str]:
    return {name for name in vhost.exchanges() if name and not name.startswith("amq.")}


@pytest.mark.parametrize(
    "kind", ["x-delayed-message", "x-modulus-hash", "x-random", "x-consistent-hash", "x-recent-history", "x-rtopic"]
)
def test_an_unknown_exchange_type_is_a_problem_before_any_change(shop: Shop, kind: str) -> None:
    if kind in {one["name"] for one in shop.vhost.rabbit.api("GET", "/overview")["exchange_types"]}:
        pytest.skip("this broker has the type without a plugin")
    topology = copy.deepcopy(BASE)
    topology["exchanges"]["h"]["type"] = kind
    shop.write(topology)
    for command in ("plan", "apply"):
        code, output = shop.run(command)
        assert code == 78
        assert f"topology.yaml:5: exchange 'h': the broker has no exchange type '{kind}'" in output
        assert REMEDY in output
    assert own_exchanges(shop.vhost) == set()
    assert shop.vhost.queues() == {}


def test_without_the_http_api_the_refused_type_is_reported_with_its_line_and_the_brokers_reason(shop: Shop) -> None:
    shop.config["broker"]["management"] = NOWHERE
    shop.write(BASE)
    code, output = shop.run("apply")
    assert code == 78
    assert "topology.yaml:4: exchange 'h': the broker refuses it: " in output
    assert "unknown exchange type 'x-delayed-message'" in output
    assert REMEDY in output
    assert own_exchanges(shop.vhost) == {"a", "z"}, "the refused exchange is reported, and the others are declared"


@pytest.mark.parametrize("management", [None, NOWHERE])
def test_a_start_exits_with_the_reason_and_does_not_wait(
    project: Project, vhost: Vhost, management: str | None
) -> None:
    config, topology = project.config(), project.topology()
    config["broker"]["management"] = management or vhost.rabbit.management
    topology["exchanges"]["h"] = DELAYED
    project.set_config(config)
    project.set_topology(topology)
    runner = project.run(url=vhost.url)
    runner.wait_for(r"topology\.yaml:\d+: exchange 'h': .*exchange type 'x-delayed-message'.*" + REMEDY)
    assert runner.process.wait(30) == 78
    assert "WAITING" not in runner.output


@pytest.fixture
def user(vhost: Vhost) -> Iterator[str]:
    """Create a user without permissions, and yield the URL of the vhost for that user."""
    api = vhost.rabbit.api
    api("PUT", f"/users/{vhost.name}", {"password": "pw", "tags": "administrator"})
    yield vhost.url.replace("guest:guest", f"{vhost.name}:pw")
    api("DELETE", f"/users/{vhost.name}")


def test_a_start_without_permission_for_the_vhost_exits_with_the_brokers_reason(
    project: Project, vhost: Vhost, user: str
) -> None:
    config = project.config()
    config["broker"]["management"] = vhost.rabbit.management
    project.set_config(config)
    runner = project.run(url=user)
    runner.wait_for("refused for user .*; grant the user permissions on the vhost")
    assert runner.process.wait(30) == 78


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("guest:guest", "guest:wrong"), "Login was refused"),
        (("test-", "no-"), "not found"),
    ],
)
@pytest.mark.parametrize("command", [("plan",), ("apply",), ("dlq", "list")])
def test_a_command_that_the_broker_refuses_exits_with_78(
    shop: Shop, change: tuple[str, str], words: str, command: tuple[str, ...]
) -> None:
    shop.config["broker"]["url"] = shop.vhost.url.replace(*change)
    topology = {"queues": {"q": {"retry": ["1s"]}}}
    shop.write(topology, {"s": {"plugin": "payment", "consumes": ["q"]}})
    code, output = shop.run(*command)
    assert words in output
    assert code == 78


def test_a_start_waits_while_the_vhost_is_at_its_connection_limit_and_then_continues(
    project: Project, vhost: Vhost
) -> None:
    limit = f"/vhost-limits/{vhost.name}/max-connections"
    config = project.config()
    config["broker"]["management"] = vhost.rabbit.management
    project.set_config(config)
    project.options("payment", failure_rate=0.0)
    vhost.rabbit.api("PUT", limit, {"value": 0})
    runner = project.run(url=vhost.url)
    runner.wait_for(r"WAITING for the broker: .*connection limit \(0\) is reached .*raise the limit")
    assert "check the vhost in broker.url" not in runner.output
    vhost.rabbit.api("DELETE", limit)
    project.first_order()
    assert runner.stop() == 0


def test_a_consumer_without_the_right_to_read_is_fatal_with_the_brokers_reason(
    project: Project, vhost: Vhost, user: str
) -> None:
    config = project.config()
    config["broker"]["management"] = vhost.rabbit.management
    project.set_config(config)
    runner = project.run("apply", url=vhost.url)
    assert runner.process.wait(30) == 0
    vhost.rabbit.api(
        "PUT", f"/permissions/{vhost.name}/{vhost.name}",
        {"configure": ".*", "write": ".*", "read": "^(orders|payments|unrouted|audit|amq).*"},
    )  # fmt: skip
    runner = project.run("run", "payment", url=user)
    runner.wait_for("payment.1 .*ACCESS_REFUSED - .*'payment.order.created'.* refused for user")
    runner.wait_for("payment.1 .*FATAL")
    wait_until(lambda: "exited with status 78" in runner.output, 10, "the exit code says so")
    runner.stop()
