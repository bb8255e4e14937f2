"""All closes that a test can cause on a real broker: reply code, verdict, exit code and text."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pika import exceptions

from runner.admin.declaration import declare
from runner.admin.queue_counts import counts_of, look
from runner.amqp.reply_code import Close, CloseKind, close_of
from runner.errors import EXIT_BROKER, EXIT_CONFIG, BrokerRefused, BrokerUnreachable, RunnerError
from runner.topology.model import Exchange, Objects, Queue
from tests.amqp import channel_to
from tests.rabbit import Rabbit, Vhost, wait_until

PASSES, MISSING, PERMANENT = CloseKind.PASSES, CloseKind.MISSING, CloseKind.PERMANENT


@pytest.fixture
def user(vhost: Vhost) -> Iterator[str]:
    """Create a user without permissions, and yield the URL of the vhost for that user."""
    api = vhost.rabbit.api
    api("PUT", f"/users/{vhost.name}", {"password": "pw", "tags": ""})
    yield vhost.url.replace("guest:guest", f"{vhost.name}:pw")
    api("DELETE", f"/users/{vhost.name}")


def closed(url: str, act: Callable[[Any], object]) -> Close:
    """Open a channel, and use it until the broker closes the channel or the connection."""
    try:
        with channel_to(url) as channel:
            act(channel)
            # If a method without a reply causes a close, pika raises it only at the next call.
            channel.connection.channel().queue_declare("", exclusive=True)
            for _ in range(100):
                channel.connection.process_data_events(0.1)
    except exceptions.AMQPError as error:
        return close_of(error)
    raise AssertionError("the broker closes nothing")


def _nack_twice(channel: Any) -> None:
    channel.basic_ack(99)
    channel.queue_declare("", exclusive=True)


def _locked(channel: Any) -> None:
    channel.queue_declare("mine", exclusive=True)
    url = channel.test_url
    with channel_to(url) as other:
        other.queue_declare("mine", passive=True)


def _raw(channel: Any, payload: bytes) -> None:
    channel.connection._impl._adapter_emit_data(payload)


def _method(channel: int, class_id: int, method_id: int, arguments: bytes = b"") -> bytes:
    payload = struct.pack(">HH", class_id, method_id) + arguments
    return struct.pack(">BHI", 1, channel, len(payload)) + payload + b"\xce"


#: Each operation on a channel, with the reply codes of RabbitMQ's versions, the verdict, and a part of the text.
ON_A_CHANNEL: list[tuple[str, Callable[[Any], object], set[int], CloseKind, str]] = [
    ("missing queue", lambda one: one.queue_declare("none", passive=True), {404}, MISSING, "no queue 'none'"),
    ("missing exchange", lambda one: one.exchange_declare("none", passive=True), {404}, MISSING, "no exchange 'none'"),
    ("consume a missing queue", lambda one: one.basic_consume("none", print), {404}, MISSING, "no queue 'none'"),
    ("reserved name", lambda one: one.queue_declare("amq.mine"), {403}, PERMANENT, "reserved prefix"),
    ("default exchange", lambda one: one.exchange_delete(""), {403}, PERMANENT, "default exchange"),
    ("argument", lambda one: one.queue_declare("q", arguments={"x-expires": -1}), {406}, PERMANENT, "x-expires"),
    ("delivery tag", _nack_twice, {406}, PERMANENT, "unknown delivery tag"),
    ("locked queue", _locked, {405}, PASSES, "cannot obtain exclusive access to locked queue"),
    ("exchange type", lambda one: one.exchange_declare("h", "x-delayed-message"), {503, 406}, PERMANENT,
     "unknown exchange type 'x-delayed-message'"),
    ("invalid type", lambda one: one.exchange_declare("h", "no type"), {503, 406}, PERMANENT, "exchange type"),
    ("method of a channel that is not open", lambda one: _raw(one, _method(77, 50, 10, b"\0\0\1q\0\0\0\0\0")), {504},
     PERMANENT, "channel.open"),
    ("frame without its end", lambda one: _raw(one, struct.pack(">BHI", 1, 1, 4) + b"\0\x0a\0\x0b!"), {501},
     PERMANENT, ""),
    ("frame too large", lambda one: _raw(one, struct.pack(">BHI", 3, 1, 1 << 30) + b"x" * 100), {501}, PERMANENT, ""),
    ("prefetch in bytes", lambda one: one.basic_qos(prefetch_size=5), {540}, PERMANENT, "prefetch_size"),
    ("consumer tag twice", lambda one: [one.queue_declare("t", exclusive=True)]
     + [one._impl._send_method(pika.spec.Basic.Consume(queue="t", consumer_tag="tag")) for _ in range(2)], {530},
     PERMANENT, "attempt to reuse consumer tag"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("act", "codes", "verdict", "words"), [one[1:] for one in ON_A_CHANNEL], ids=[one[0] for one in ON_A_CHANNEL]
)
def test_a_close_of_an_open_channel_or_its_connection_is_classified(
    vhost: Vhost, act: Callable[[Any], object], codes: set[int], verdict: CloseKind, words: str
) -> None:
    def on(channel: Any) -> None:
        channel.test_url = vhost.url
        act(channel)

    close = closed(vhost.url, on)
    assert close.code in codes, close
    assert close.verdict is verdict
    assert words in close.text
    assert re.match(r"[A-Z]+_[A-Z_]+ ?-? ?", close.text), "RabbitMQ's own words"


def test_a_loss_without_a_reply_code_is_waited_for(vhost: Vhost) -> None:
    # RabbitMQ's reader crashes if it gets a method that does not exist.
    close = closed(vhost.url, lambda one: _raw(one, _method(one.channel_number, 60, 999)))
    assert (close.code, close.verdict) == (0, PASSES)
    assert "Stream connection lost" in close.text


def refused(url: str, kind: type[RunnerError], exit_code: int, *words: str) -> None:
    """Assert that each connection to the broker raises the same error, without the password."""
    ways: list[Callable[[], object]] = [
        lambda: declare([url], Objects((), (), ())), lambda: look([url], ["q"]), lambda: counts_of(url, "q"),
    ]  # fmt: skip
    for way in ways:
        with pytest.raises(kind) as caught:
            way()
        assert type(caught.value) is kind
        assert caught.value.exit_code == exit_code
        assert ":pw" not in str(caught.value)
        for one in words:
            assert one in str(caught.value)


@pytest.mark.usefixtures("each_connection")
def test_a_wrong_password_names_the_login(vhost: Vhost) -> None:
    url = vhost.url.replace("guest:guest", "guest:pw")
    refused(url, BrokerRefused, EXIT_CONFIG, "Login was refused", "(403); check the user and password in broker.url")


def test_an_unknown_user_names_the_login(vhost: Vhost) -> None:
    url = vhost.url.replace("guest:guest", "nobody:pw")
    refused(url, BrokerRefused, EXIT_CONFIG, "Login was refused", "check the user and password in broker.url")


@pytest.mark.usefixtures("each_connection")
def test_a_missing_vhost_names_the_last_part_of_the_url(rabbit: Rabbit) -> None:
    url = f"{rabbit.url}no-such-vhost"
    refused(url, BrokerRefused, EXIT_CONFIG, "vhost no-such-vhost not found", "check the vhost in broker.url")


def test_a_vhost_without_permissions_names_the_permissions(vhost: Vhost, user: str) -> None:
    refused(user, BrokerRefused, EXIT_CONFIG, "refused for user", "grant the user permissions on the vhost")


@pytest.mark.usefixtures("each_connection")
def test_a_vhost_at_its_connection_limit_is_waited_for_with_the_brokers_reason(vhost: Vhost) -> None:
    vhost.rabbit.api("PUT", f"/vhost-limits/{vhost.name}/max-connections", {"value": 0})
    refused(vhost.url, BrokerUnreachable, EXIT_BROKER, "connection limit (0) is reached (530); close other connections")
    vhost.rabbit.api("DELETE", f"/vhost-limits/{vhost.name}/max-connections")
    assert declare([vhost.url], Objects((), (), ())) == []


@pytest.mark.parametrize(("limit", "words"), [("max-connections", "user connection limit (0) is reached"),
                                              ("max-channels", "number of channels opened for user")])  # fmt: skip
def test_a_user_at_its_limit_is_waited_for_with_the_brokers_reason(
    vhost: Vhost, user: str, limit: str, words: str
) -> None:
    api = vhost.rabbit.api
    api("PUT", f"/permissions/{vhost.name}/{vhost.name}", {"configure": ".*", "write": ".*", "read": ".*"})
    api("PUT", f"/user-limits/{vhost.name}/{limit}", {"value": 0})
    refused(user, BrokerUnreachable, EXIT_BROKER, words, "raise the limit")


@pytest.mark.usefixtures("each_connection")
def test_a_queue_without_permission_is_refused_for_each_operation(vhost: Vhost, user: str) -> None:
    vhost.rabbit.api("PUT", f"/permissions/{vhost.name}/{vhost.name}", {"configure": "", "write": "", "read": ""})
    (refusal,) = declare([user], Objects((), (Queue("q"),), ()))
    assert refusal.is_denied
    assert "refused for user" in refusal.text
    assert declare([vhost.url], Objects((), (Queue("q"),), ())) == []
    with channel_to(user) as channel, pytest.raises(exceptions.ChannelClosedByBroker) as caught:
        channel.basic_consume("q", print)
    close = close_of(caught.value)
    assert (close.code, close.verdict, close.remedy) == (403, PERMANENT, "grant the user this permission")


def test_an_exclusive_queue_of_another_connection_is_waited_for(vhost: Vhost) -> None:
    with channel_to(vhost.url) as other:
        other.queue_declare("mine", exclusive=True)
        objects = Objects((Exchange("e", "topic"),), (Queue("mine"), Queue("other")), ())
        with pytest.raises(BrokerUnreachable, match=r"queue 'mine': the broker refuses it: RESOURCE_LOCKED") as caught:
            declare([vhost.url], objects)
        assert caught.value.exit_code == EXIT_BROKER
        assert {"e"} <= vhost.exchanges().keys()
        assert "other" in vhost.queues(), "the rest is declared"
        with pytest.raises(BrokerUnreachable, match="close the other connection"):
            look([vhost.url], ["other", "mine"])
    assert declare([vhost.url], objects) == []


@pytest.mark.parametrize("kind", ["x-delayed-message", "x-no-such-type", "sharding?", "random", "Topic", "top ic"])
def test_an_unknown_exchange_type_is_refused_and_the_rest_is_declared(vhost: Vhost, kind: str) -> None:
    objects = Objects((Exchange("a", "topic"), Exchange("h", kind), Exchange("z", "fanout")), (Queue("q"),), ())
    (refusal,) = declare([vhost.url], objects)
    assert refusal.thing == Exchange("h", kind)
    assert f"exchange type '{kind}'" in refusal.line
    assert refusal.line.startswith("exchange 'h': the broker refuses it: ")
    assert refusal.line.endswith("enable the plugin that provides this exchange type, or remove the exchange")
    assert {"a", "z"} <= vhost.exchanges().keys()
    assert "q" in vhost.queues()


def test_an_administrators_close_is_waited_for(vhost: Vhost) -> None:
    close = closed(vhost.url, lambda _: wait_until(vhost.close_connections, 20, "the statistics know the connection"))
    assert (close.code, close.verdict) == (320, PASSES)
    assert "CONNECTION_FORCED" in close.text


def test_a_stopping_node_is_waited_for(mortal: Vhost) -> None:
    close = closed(mortal.url, lambda _: mortal.rabbit.stop())
    assert (close.code, close.verdict) in ((320, PASSES), (0, PASSES))
    refused(mortal.url, BrokerUnreachable, EXIT_BROKER, "connection refused")


@pytest.mark.usefixtures("each_connection")
def test_a_port_without_a_broker_is_waited_for() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    refused(
        f"amqp://guest:pw@127.0.0.1:{port}/", BrokerUnreachable, EXIT_BROKER, f"127.0.0.1:{port}: connection refused"
    )


@pytest.mark.usefixtures("each_connection")
def test_tls_to_a_port_without_it_is_not_waited_for(vhost: Vhost) -> None:
    url = vhost.url.replace("amqp:", "amqps:")
    with pytest.raises(RunnerError) as caught:
        declare([url], Objects((), (), ()))
    assert "TLS" in str(caught.value)
