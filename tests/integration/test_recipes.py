"""docs/recipes.md: each recipe is applied as printed, and RabbitMQ then behaves as the page states."""

from __future__ import annotations

import re
import shlex
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from runner.address import Address
from tests.amqp import channel_to, publish
from tests.rabbit import Vhost, wait_until
from tests.running import ROOT, Project

PAGE = (ROOT / "docs" / "recipes.md").read_text("utf-8")
CHAPTERS = {title: text for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)}
#: Times of the page that are too long for a test: 10 minutes and an hour.
TTL, SHORT_TTL = re.compile(r"(?<=message-ttl: )(600000|3600000)"), 300

Recipe = Callable[[str], Project]


@pytest.fixture
def recipe(project: Project, vhost: Vhost) -> Recipe:
    """Write a recipe into a project, check it and apply it. All commands must report no problem."""
    (printer,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    project.plugin("printer", printer)

    def applied(title: str) -> Project:
        for name, text in re.findall(r"```yaml\n# (\w+\.yaml)\n(.*?)```", CHAPTERS[title], re.DOTALL):
            (project.folder / name).write_text(text)
        assert project.call("lint", url=vhost.url) == (0, "no findings\n")
        path = project.folder / "topology.yaml"
        path.write_text(TTL.sub(str(SHORT_TTL), path.read_text()))
        config = project.config()
        config["broker"] = {"url": "${RABBITMQ_URL}", **config.get("broker", {})}
        config["broker"]["management"] = vhost.rabbit.management
        project.set_config(config)
        code, output = project.call("apply", url=vhost.url)
        assert code == 0, output
        return project

    return applied


def send(vhost: Vhost, exchange: str, key: str, body: str, **properties: Any) -> None:
    with channel_to(vhost.url) as channel:
        publish(
            channel, exchange, key, body.encode(), pika.BasicProperties(delivery_mode=2, **properties), mandatory=True
        )


def bodies(vhost: Vhost, queue: str, count: int) -> list[str]:
    """Wait until a queue has ``count`` messages, and return their bodies in order."""
    wait_until(lambda: vhost.ready(queue) >= count, 15, f"{count} messages in {queue}")
    return [message["payload"] for message in vhost.messages(queue)]


def test_every_recipe_has_a_test() -> None:
    source = Path(__file__).read_text("utf-8")
    assert set(re.findall(r'recipe\("(.*?)"\)', source)) == set(CHAPTERS)
    assert len(CHAPTERS) == 8


def test_a_delayed_message_arrives_after_the_delay(recipe: Recipe, vhost: Vhost) -> None:
    recipe("Delayed messages")
    began = time.monotonic()
    send(vhost, "orders.topic", "order.created", "one")
    assert bodies(vhost, "reminder.orders", 1) == ["one"]
    assert time.monotonic() - began >= SHORT_TTL / 1000
    assert vhost.ready("reminder.delay") == 0


def test_a_higher_priority_is_delivered_first(recipe: Recipe, vhost: Vhost) -> None:
    recipe("Priority queue")
    for body, priority in (("none", None), ("low", 1), ("high", 5), ("middle", 3)):
        send(vhost, "jobs", "render", body, priority=priority)
    assert bodies(vhost, "jobs.render", 4) == ["high", "middle", "low", "none"]


def test_headers_decide_which_queue_gets_a_message(recipe: Recipe, vhost: Vhost) -> None:
    recipe("Headers exchange")
    send(vhost, "orders.headers", "", "both", headers={"region": "eu", "paid": True, "customer": "vip"})
    send(vhost, "orders.headers", "", "europe", headers={"region": "eu", "paid": True})
    send(vhost, "orders.headers", "", "urgent", headers={"urgent": True, "region": "eu"})
    assert bodies(vhost, "eu.paid.orders", 2) == ["both", "europe"]
    assert bodies(vhost, "urgent.orders", 2) == ["both", "urgent"]


def test_each_queue_of_a_fanout_gets_a_copy(recipe: Recipe, vhost: Vhost) -> None:
    recipe("Fanout")
    send(vhost, "orders.fanout", "any.key", "one")
    assert bodies(vhost, "stock.orders", 1) == bodies(vhost, "statistics.orders", 1) == ["one"]


def test_matching_messages_reach_the_bound_exchange(recipe: Recipe, vhost: Vhost) -> None:
    project = recipe("Exchange-to-exchange binding")
    code, output = project.call("check", url=vhost.url)
    assert code == 0, output
    assert "1 x printer; consumes archive.events" in output
    send(vhost, "orders.topic", "order.created", "order")
    send(vhost, "payments.topic", "payment.failed", "payment")
    assert sorted(bodies(vhost, "archive.events", 2)) == ["order", "payment"]
    assert bodies(vhost, "payment.order.created", 1) == ["order"]


def test_an_expired_message_becomes_a_dead_letter_that_dlq_lists(recipe: Recipe, vhost: Vhost) -> None:
    project = recipe("TTL")
    send(vhost, "orders.topic", "order.created", "late", message_id="m1")
    wait_until(lambda: vhost.ready("offer.orders.dlq") == 1, 15, "the dead letter")
    assert vhost.ready("offer.orders") == 0
    code, output = project.call("dlq", "list", url=vhost.url)
    assert code == 0
    assert re.search(r"offer\.orders +1 .* m1 .*exceeded its time to live$", output, re.MULTILINE), output


def test_a_project_in_a_vhost_changes_no_other_vhost(recipe: Recipe, vhost: Vhost) -> None:
    address = re.search(r"RABBITMQ_URL:-(.*?)\}", CHAPTERS["Another vhost"])
    assert address is not None
    assert Address.of(address[1]).login.vhost == "shop"
    recipe("Another vhost")
    assert set(vhost.queues()) == {"stock.orders", "stock.orders.dlq"}
    elsewhere = {queue["name"] for queue in vhost.rabbit.api("GET", "/queues/%2F")}
    assert not elsewhere & set(vhost.queues())


@pytest.fixture
def users(vhost: Vhost) -> Iterator[Callable[[str], str]]:
    """Return a function that creates a user without rights, and returns the URL of the vhost for that user."""
    made = []

    def make(name: str) -> str:
        made.append(name)
        vhost.rabbit.api("PUT", f"/users/{name}", {"password": "secret", "tags": ""})
        return vhost.url.replace("guest:guest", f"{name}:secret")

    yield make
    for name in made:
        vhost.rabbit.api("DELETE", f"/users/{name}")


def test_the_printed_permissions_allow_a_user_its_work_and_nothing_else(
    recipe: Recipe, vhost: Vhost, users: Callable[[str], str]
) -> None:
    project = recipe("A user with few permissions")
    code, output = project.call("render", "--permissions", url=vhost.url)
    assert code == 0
    lines = [shlex.split(line) for line in output.splitlines()]
    (words,) = [line for line in lines if line[4] == "payment"]
    assert words[:4] == ["rabbitmqctl", "set_permissions", "-p", vhost.name]
    user = f"payment-{uuid.uuid4().hex[:8]}"
    url = users(user)
    rights = dict(zip(("configure", "write", "read"), words[5:], strict=True))
    vhost.rabbit.api("PUT", f"/permissions/{quote(vhost.name)}/{user}", rights)
    send(vhost, "orders.topic", "order.created", "order")
    with channel_to(url) as channel:
        method, _, body = next(channel.consume("payment.order.created", inactivity_timeout=10))
        assert body == b"order"
        publish(channel, "payments.topic", "payment.success", b"paid", mandatory=True)
        publish(channel, "", "payment.order.created.dlq", b"dead letter", mandatory=True)
        channel.basic_ack(method.delivery_tag)
    forbidden: list[Callable[[Any], object]] = [
        lambda channel: publish(channel, "orders.topic", "order.created", b"forged"),
        lambda channel: channel.basic_get("mail.payments"),
        lambda channel: channel.queue_declare("mine", durable=True),
        lambda channel: channel.queue_delete("payment.order.created"),
    ]
    for act in forbidden:
        with channel_to(url) as channel, pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
            act(channel)
