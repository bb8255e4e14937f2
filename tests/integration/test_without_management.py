"""Without RabbitMQ's HTTP API the topology is still declared, and ``apply`` reports what it cannot compare."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.admin.management import Management
from runner.admin.reconciliation import compare, reconcile
from runner.config.project import load_project
from runner.config.version import HAS_DELIVERY_LIMIT
from runner.topology.consent import Consent
from tests.rabbit import Vhost
from tests.running import Project
from tests.topologies import Shop

TOPOLOGY: dict[str, Any] = {
    "exchanges": {"orders": {"type": "topic", "alternate_exchange": "lost"}, "lost": {"type": "fanout"}},
    "queues": {"work": {"bind": {"orders": ["a"]}, "retry": ["1s"], "policy": {"max-length": 9}}},
    "policies": {"cap": {"pattern": "^lost", "definition": {"max-length": 9}}},
}
#: An address without a server.
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def shop(tmp_path: Path, vhost: Vhost) -> Shop:
    one = Shop(tmp_path / "shop", vhost)
    one.write(TOPOLOGY)
    return one


@pytest.fixture
def user(vhost: Vhost) -> Iterator[str]:
    """Create a user with all rights on this vhost and no tag, and yield the URL of the vhost for that user."""
    api = vhost.rabbit.api
    api("PUT", f"/users/{vhost.name}", {"password": "pw", "tags": ""})
    api("PUT", f"/permissions/{vhost.name}/{vhost.name}", {"configure": ".*", "write": ".*", "read": ".*"})
    yield vhost.url.replace("guest:guest", f"{vhost.name}:pw")
    api("DELETE", f"/users/{vhost.name}")


def declared(shop: Shop) -> list[str]:
    """Apply the topology, and return the lines that were printed."""
    said: list[str] = []
    examination = compare(load_project(shop.folder))
    said += examination.plan.uncompared
    assert reconcile(examination, examination.decision(Consent()), said.append) == []
    return said


def test_without_the_http_api_everything_is_declared_with_arguments_instead_of_policies(shop: Shop) -> None:
    shop.config["broker"]["management"] = NOWHERE
    shop.write(TOPOLOGY)
    said = declared(shop)
    assert said[0].startswith(
        "arguments, bindings and policies of 2 exchanges and 3 queues: RabbitMQ's HTTP API at http://127.0.0.1:1: no"
        " connection"
    )
    assert said[1].startswith("topology.yaml:17: policy 'cap': not set; a policy needs RabbitMQ's HTTP API")
    arguments = shop.vhost.queues()["work"]["arguments"]
    assert arguments["x-dead-letter-routing-key"] == "work.dlq"
    assert (arguments["x-delivery-limit"], arguments["x-max-length"]) == (100, 9)
    assert shop.vhost.exchanges()["orders"]["arguments"] == {"alternate-exchange": "lost"}
    code, output = shop.run("plan")
    assert (code, output.splitlines()[-1]) == (4, "no changes found, but some settings could not be compared")
    # When the API is back, settings that the arguments already contain are no difference.
    shop.config["broker"]["management"] = shop.vhost.rabbit.management
    shop.write(TOPOLOGY)
    assert {one["kind"] for one in shop.plan()["changes"]} == {"policy"}
    assert shop.run("apply")[0] == 0
    assert shop.plan()["changes"] == []


def test_a_queue_whose_policy_is_unknown_is_reported_and_left_unchanged(shop: Shop) -> None:
    assert shop.run("apply")[0] == 0
    shop.config["broker"]["management"] = NOWHERE
    shop.write(TOPOLOGY)
    said = declared(shop)
    (line,) = [one for one in said if "queue 'work'" in one]
    assert line.startswith(
        "not compared: topology.yaml:8: queue 'work': x-dead-letter-exchange is '' here, but not set"
    )


def test_a_real_difference_is_still_refused_over_amqp_alone(shop: Shop) -> None:
    assert shop.run("apply")[0] == 0
    shop.config["broker"]["management"] = NOWHERE
    topology = TOPOLOGY | {"queues": {"work": {"type": "classic"}}}
    shop.write(topology)
    code, output = shop.run("apply")
    assert code == 78
    assert "queue 'work': x-queue-type is 'classic' here, but 'quorum' on the broker" in output


def test_the_error_for_a_user_without_a_tag_names_the_required_tag(shop: Shop, user: str) -> None:
    shop.config["broker"]["url"] = user
    shop.write(TOPOLOGY)
    said = declared(shop)
    assert f"user {shop.vhost.name!r} lacks the permission to GET" in said[0]
    assert "give the user the" in said[0]
    assert "work.dlq" in shop.vhost.queues()


def test_a_user_that_may_only_read_policies_gets_arguments_and_a_comparison(shop: Shop, user: str) -> None:
    shop.vhost.rabbit.api("PUT", f"/users/{shop.vhost.name}", {"password": "pw", "tags": "management"})
    shop.config["broker"]["url"] = user
    shop.write(TOPOLOGY)
    code, output = shop.run("apply")
    assert code == 0
    assert "the managed objects are not recorded on the broker" in output
    assert shop.vhost.queues()["work"]["arguments"]["x-dead-letter-routing-key"] == "work.dlq"
    plan = shop.plan()
    assert (plan["changes"], plan["exit_code"]) == ([], 4)
    assert "policy 'cap': not set" in plan["uncompared"][0]


def test_the_whole_system_runs_on_a_broker_without_the_http_api(project: Project, vhost: Vhost) -> None:
    config = project.config()
    config["broker"]["management"] = NOWHERE
    project.set_config(config)
    project.options("payment", failure_rate=0.0)
    runner = project.run(url=vhost.url)
    runner.wait_for("WARNING: arguments, bindings and policies of 3 exchanges and 16 queues: RabbitMQ's HTTP API")
    order = project.first_order()
    runner.wait_for(f"Your order {order} is paid")
    assert runner.stop() == 0


def test_a_service_works_with_no_more_than_its_rendered_permissions(project: Project, vhost: Vhost, user: str) -> None:
    config = project.config()
    config["broker"]["management"] = vhost.rabbit.management
    project.set_config(config)
    project.options("payment", failure_rate=0.0)
    runner = project.run(url=vhost.url)
    project.first_order()
    runner.wait_for("Your order .* is paid")
    assert runner.stop() == 0
    done = subprocess.run(
        [sys.executable, "-m", "runner", "render", "--permissions", "--json"],
        cwd=project.folder, env={**os.environ, "RABBITMQ_URL": vhost.url}, capture_output=True, check=True,
    )  # fmt: skip
    (rights,) = [one for one in json.loads(done.stdout) if one["user"] == "payment"]
    body = {key: rights[key] for key in ("configure", "write", "read")}
    vhost.rabbit.api("PUT", f"/permissions/{vhost.name}/{vhost.name}", body)
    runner = project.run("run", "payment", url=user)
    runner.wait_for("not declared: .* this user lacks the permission; these objects must already exist")
    runner.wait_for("topology: not compared, because this user has only the permissions that services need")
    runner.pid_of("payment.1")
    assert "WARNING" not in runner.output
    assert "tag" not in runner.output
    order = {"order_id": "5", "amount": "1.00", "currency": "EUR", "customer_email": "a@example.com"}
    message = {"routing_key": "order.created", "payload": json.dumps(order), "payload_encoding": "string"}
    properties = {"properties": {"message_id": "m", "correlation_id": "5", "type": "order.created"}}
    vhost.rabbit.api("POST", f"/exchanges/{vhost.name}/orders.topic/publish", message | properties)
    runner.wait_for("order 5: approved")
    assert runner.stop() == 0


@pytest.fixture
def watcher(vhost: Vhost) -> Iterator[str]:
    """Create a user that may read everything and set no policies, and yield the URL of the vhost for that user."""
    api = vhost.rabbit.api
    api("PUT", f"/users/{vhost.name}", {"password": "pw", "tags": "monitoring"})
    api("PUT", f"/permissions/{vhost.name}/{vhost.name}", {"configure": ".*", "write": ".*", "read": ".*"})
    yield vhost.url.replace("guest:guest", f"{vhost.name}:pw")
    api("DELETE", f"/users/{vhost.name}")


@pytest.mark.parametrize("has_api", [True, False])
def test_settings_that_need_policies_are_reported_if_policies_cannot_be_set(
    shop: Shop, watcher: str, has_api: bool
) -> None:
    shop.config["broker"]["url"] = watcher
    if not has_api:
        shop.config["broker"]["management"] = NOWHERE
    topology = {"exchanges": TOPOLOGY["exchanges"], "queues": {"work": {}, "unread": {}, "plain": {"type": "classic"}}}
    services = {
        "slow": {"plugin": "payment", "consumes": ["work"], "handler_timeout": "1h"},
        "usual": {"plugin": "audit", "consumes": ["plain"]},
    }
    shop.write(topology, services)
    assert shop.run("apply")[0] == 0
    plan = compare(load_project(shop.folder)).plan
    version = Management(shop.vhost.url, shop.vhost.rabbit.management).live().version
    unlimited = [line for line in plan.uncompared if "drops a message at its 21st delivery" in line]
    assert ["queue 'unread'" in line for line in unlimited] == ([True] if HAS_DELIVERY_LIMIT.holds(version) else [])
    assert ["service 'slow'" in line for line in plan.warnings] == [True]
    # An ``apply`` by this user cannot create them.
    _, output = shop.run("dlq", "list")
    assert "not on the broker yet" not in output
    shop.vhost.delete_queue("work.dlq")
    _, output = shop.run("dlq", "list")
    assert output.count("not on the broker yet") == output.count("queue work.dlq: not on the broker yet") == 1
