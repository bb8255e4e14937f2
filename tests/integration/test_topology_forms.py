"""Other forms of a topology on a real broker: definitions, permissions, an import, and the known arguments."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from pika.exceptions import ChannelClosedByBroker

from runner.cli.main import main
from runner.topology.definitions import from_definitions
from tests.amqp import channel_to, publish
from tests.rabbit import Vhost
from tests.running import ROOT
from tests.topologies import Shop

TOPOLOGY: dict[str, Any] = {
    "exchanges": {
        "orders": {"type": "topic", "alternate_exchange": "lost"},
        "lost": {"type": "fanout"},
        "by.header": {"type": "headers"},
    },
    "queues": {
        "work": {"bind": {"orders": ["a.#"]}, "retry": ["1s", "5s"]},
        "lost.all": {"bind": {"lost": [""]}, "type": "classic", "arguments": {"x-max-priority": 5}},
        "eu": {"policy": {"max-length": 100}},
    },
    "bindings": [
        {"source": "orders", "destination": "by.header", "destination_type": "exchange", "routing_key": "#"},
        {"source": "by.header", "destination": "eu", "arguments": {"x-match": "any", "region": "eu", "seen": None}},
    ],
    "policies": {"cap": {"pattern": "^lost", "definition": {"expires": 1_000_000}, "priority": 3}},
}
SERVICES: dict[str, Any] = {
    "payment": {"consumes": ["work"], "publishes": {"orders": ["a.done"]}},
    "shop": {"publishes": {"orders": ["a.new"]}},
}


@pytest.fixture
def shop(tmp_path: Path, vhost: Vhost) -> Shop:
    one = Shop(tmp_path / "shop", vhost)
    one.write(TOPOLOGY, SERVICES)
    return one


def test_rabbitmq_s_import_accepts_the_definitions_and_leaves_no_changes_to_apply(shop: Shop) -> None:
    # RabbitMQ's own import ignores a header with the value null.
    bindings = [TOPOLOGY["bindings"][0], TOPOLOGY["bindings"][1] | {"arguments": {"x-match": "any", "region": "eu"}}]
    shop.write(TOPOLOGY | {"bindings": bindings}, SERVICES)
    code, output = shop.run("render", "--definitions")
    assert code == 0
    definitions = json.loads(output)
    assert definitions["vhosts"] == [{"name": shop.vhost.name}]
    shop.vhost.rabbit.api("POST", "/definitions", definitions)
    # A file for all versions has no key that only later versions accept.
    later = [one["why"] for one in shop.plan()["changes"]]
    assert all(why.startswith("consumer-timeout not set becomes ") for why in later), later
    assert bool(later) == (shop.vhost.rabbit.version >= (3, 12))


def test_the_topology_imported_from_a_broker_leaves_no_changes_to_apply(shop: Shop) -> None:
    assert shop.run("apply")[0] == 0
    code, text = shop.run("import", "live")
    assert code == 0
    assert "retry: [1s, 5s]" in text
    assert "seen: null" in text
    (shop.folder / "topology.yaml").write_text(text)
    assert shop.plan()["changes"] == []


PLUGINS_ARGUMENTS: dict[str, dict[str, Any]] = {
    "mirrored": {"x-ha-policy": "all"},
    "once": {"x-message-deduplication": True, "x-cache-size": 1000},
    "misspelt": {"x-max-lenght": 5},
    "noted": {"note": {"by": ["me", {"at": 1.5}]}, "x-x": -(2**63)},
    "a" * 95: {"x-ttl": 5},
    "\x01" * 240: {},
}


def test_arguments_of_rabbitmq_plugins_are_imported_and_need_no_replacement(shop: Shop) -> None:
    shop.write({})
    api, vhost = shop.vhost.rabbit.api, shop.vhost.name
    for name, arguments in PLUGINS_ARGUMENTS.items():
        api("PUT", f"/queues/{vhost}/{quote(name)}", {"durable": True, "arguments": arguments})
    api("PUT", f"/exchanges/{vhost}/x", {"type": "topic", "durable": True, "arguments": {"alternate-exhange": "y"}})
    imported = CliRunner().invoke(main, ["--project", str(shop.folder), "import", "live"], catch_exceptions=False)
    assert imported.exit_code == 0
    notes = imported.stderr.splitlines()
    unknown = {key for arguments in PLUGINS_ARGUMENTS.values() for key in arguments} | {"alternate-exhange"}
    assert {line.split("'")[1] for line in notes} == unknown
    assert all(line.startswith("unknown-argument: ") for line in notes)
    (shop.folder / "topology.yaml").write_text(imported.stdout)
    assert shop.plan() == {
        "changes": [], "uncompared": [], "warnings": [], "problems": [], "exit_code": 0,
    }  # fmt: skip
    # A user can remove them, because RabbitMQ does not compare them.
    without = re.sub(r"(x-ha-policy|x-cache-size|x-message-deduplication|x-max-lenght): \w+,? ?", "", imported.stdout)
    (shop.folder / "topology.yaml").write_text(without)
    plan = shop.plan()
    assert plan["changes"] == []
    assert len(plan["warnings"]) == 4
    assert shop.run("apply")[0] == 0


TYPED: list[dict[str, Any]] = [
    {"name": "plain"},
    {"name": "by.argument", "arguments": {"x-queue-type": "classic"}},
    {"name": "by.field", "type": "classic"},
    {"name": "both", "type": "quorum", "arguments": {"x-queue-type": "stream"}},
    {"name": "transient", "durable": False},
    {"name": "deleted", "auto_delete": True},
]


@pytest.mark.parametrize("default", ["quorum", "classic", None])
def test_queues_of_an_export_get_the_type_that_rabbitmq_s_import_gives_them(vhost: Vhost, default: str | None) -> None:
    if default == "quorum" and vhost.rabbit.version < (4,):
        pytest.skip("the import of older brokers knows no default type")
    name = f"{vhost.name}.{default}"
    metadata = {} if default is None else {"metadata": {"default_queue_type": default}}
    flags = {"vhost": name, "durable": True, "auto_delete": False, "arguments": {}}
    export = {"vhosts": [{"name": name, **metadata}], "queues": [{**flags, **one} for one in TYPED]}
    rights = {"user": "guest", "vhost": name, "configure": ".*", "write": ".*", "read": ".*"}
    vhost.rabbit.api("POST", "/definitions", {**export, "permissions": [rights]})
    try:
        theirs = {one["name"]: one["type"] for one in vhost.rabbit.api("GET", f"/queues/{name}")}
    finally:
        vhost.rabbit.api("DELETE", f"/vhosts/{name}")
    objects, _ = from_definitions(export)
    assert {one.name: one.type for one in objects.queues} == theirs


def test_the_rendered_permissions_allow_a_service_its_work_and_nothing_else(shop: Shop) -> None:
    assert shop.run("apply")[0] == 0
    code, output = shop.run("render", "--permissions", "--json")
    assert code == 0
    rights = {one["user"]: one for one in json.loads(output)}
    assert set(rights) == {"payment", "shop"}
    api, vhost = shop.vhost.rabbit.api, shop.vhost.name
    for name, one in rights.items():
        api("PUT", f"/users/{vhost}.{name}", {"password": "pw", "tags": ""})
        body = {key: one[key] for key in ("configure", "write", "read")}
        api("PUT", f"/permissions/{vhost}/{vhost}.{name}", body)

    def attempt(name: str, what: Any) -> int:
        url = shop.vhost.url.replace("guest:guest", f"{vhost}.{name}:pw")
        try:
            with channel_to(url) as channel:
                what(channel)
        except ChannelClosedByBroker as error:
            return int(error.reply_code)
        return 0

    assert attempt("shop", lambda channel: publish(channel, "orders", "a.new", b"")) == 0
    assert attempt("shop", lambda channel: publish(channel, "lost", "", b"")) == 403
    assert attempt("shop", lambda channel: channel.basic_get("work")) == 403
    assert attempt("payment", lambda channel: channel.basic_get("work")) == 0
    assert attempt("payment", lambda channel: publish(channel, "", "work.retry.1s", b"")) == 0
    assert attempt("payment", lambda channel: channel.queue_delete("work")) == 403
    for name in rights:
        api("DELETE", f"/users/{vhost}.{name}")
    code, output = shop.run("render", "--permissions")
    assert f"rabbitmqctl set_permissions -p {vhost} shop '^$' '^(orders)$' '^$'" in output


def test_the_diagrams_contain_every_service_exchange_and_queue(shop: Shop) -> None:
    for form in ("mermaid", "dot", "svg"):
        code, output = shop.run("graph", "--format", form)
        assert code == 0
        for name in ("payment", "shop", "orders", "lost", "by.header", "work", "work.dlq", "lost.all", "eu"):
            assert name in output, (form, name)
        assert "retry 1s 5s" in output


def test_the_diagram_in_the_documentation_shows_the_shipped_topology(tmp_path: Path, vhost: Vhost) -> None:
    shop = Shop(ROOT, vhost)
    code, output = shop.run("graph", "--format", "svg")
    assert code == 0
    assert (ROOT / "docs" / "topology.svg").read_text() == output, "make schema writes it again"


def test_route_follows_a_message_to_its_queues_services_and_dead_letters(shop: Shop) -> None:
    code, output = shop.run("route", "orders", "a.new", "--header", "region=eu")
    assert code == 0
    assert output.splitlines() == [
        "published to orders with key 'a.new'",
        "  orders (topic)",
        "    'a.#' -> queue work",
        "    '#' -> exchange by.header",
        "  by.header (headers)",
        '    headers {"x-match": "any", "region": "eu", "seen": null} -> queue eu',
        "queue work: consumed by payment; failed: retried after 1s, 5s; after the last attempt, or if rejected:"
        " dead-lettered to work.dlq",
        "queue eu: no service consumes it",
    ]
    code, output = shop.run("route", "by.header", "x")
    assert code == 1
    assert "no queue gets the message, so RabbitMQ returns it to the publisher as unroutable" in output
    code, output = shop.run("route", "--json", "", "work")
    assert code == 0
    assert json.loads(output)["queues"] == [
        {"name": "work", "services": ["payment"], "retries": [1.0, 5.0], "dead_letter": "work.dlq"}
    ]
    assert shop.run("route", "order", "x")[0] == 2
    assert shop.run("route", "orders", "x", "--header", "region")[0] == 2


def test_lint_names_the_line_the_remedy_and_the_page(shop: Shop) -> None:
    (shop.folder / "plugins").mkdir()
    hook = "@hookimpl\ndef {}():\n    pass\n"
    source = f"from runner import hookimpl\n\n{hook.format('handle')}\n{hook.format('run')}"
    for name in SERVICES:
        (shop.folder / "plugins" / f"{name}.py").write_text(source)
    code, output = shop.run("lint")
    assert code == 1
    assert output.splitlines() == [
        "config.yaml:11: own-events: payment publishes 'a.done' and gets its own messages back through 'work'; bind"
        " the queue to other keys",
        "    https://www.rabbitmq.com/docs/exchanges",
        "topology.yaml:24: unread-queue: no service consumes 'eu', so the queue only grows; let a service consume"
        " the queue, or remove the queue",
        "    https://www.rabbitmq.com/docs/queues",
        "2 findings",
    ]
    own, unread = json.loads(shop.run("lint", "--json")[1])
    assert (unread["code"], unread["where"]) == ("unread-queue", "topology.yaml:24")
    assert (own["code"], own["remedy"]) == ("own-events", "bind the queue to other keys")
    ignore = {"unread-queue": ["eu"], "own-events": ["*"]}
    shop.write(TOPOLOGY | {"lint": {"ignore": ignore}}, SERVICES)
    assert shop.run("lint") == (0, "no findings\n")


def test_lint_needs_no_services(shop: Shop) -> None:
    shop.write({"exchanges": {"old": {}}})
    code, output = shop.run("lint")
    assert (code, output.splitlines()[-1]) == (1, "1 finding")


def test_the_shipped_project_has_no_findings(vhost: Vhost) -> None:
    assert Shop(ROOT, vhost).run("lint") == (0, "no findings\n")
