"""The commands of ``dlq`` on a real broker, as a user runs them."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pika
import pytest

from runner.config.queue_policy import DELIVERY_LIMIT
from runner.deadletters import replay as replay_module
from runner.deadletters.browser import Browser
from runner.deadletters.dead_letter import DeadLetter
from tests.amqp import channel_to
from tests.amqp import publish as amqp_publish
from tests.dead_lettered import TOPOLOGY, failed, held, many, publish, take, take_all
from tests.machine import in_time
from tests.rabbit import Vhost, wait_until
from tests.topologies import Shop


@pytest.fixture
def shop(tmp_path: Path, vhost: Vhost) -> Shop:
    one = Shop(tmp_path / "shop", vhost)
    one.write(TOPOLOGY)
    assert one.run("apply")[0] == 0
    return one


def groups(shop: Shop, *arguments: str) -> dict[tuple[str, str], Any]:
    code, output = shop.run("dlq", "list", "--json", *arguments)
    assert code == 0
    return {(one["origin"], one["error"]): one for one in json.loads(output)["groups"]}


def ids_in_order(url: str, queue: str) -> list[str]:
    found: list[str] = []
    Browser(url, queue, lambda dead_letter: found.append(dead_letter.id)).run()
    return found


def test_empty_dead_letter_queues_are_reported_as_empty(shop: Shop) -> None:
    assert shop.run("dlq", "list") == (0, "no dead letters\n")
    assert json.loads(shop.run("dlq", "list", "--json")[1]) == {"messages": 0, "groups": []}
    assert shop.run("dlq", "replay", "--all") == (0, "nothing replayed: no dead letters\n")
    assert shop.run("dlq", "discard", "--all", "--yes") == (0, "nothing discarded: no dead letters\n")
    assert shop.run("dlq", "export") == (0, "")


def test_a_dead_letter_queue_that_is_not_declared_yet_is_reported(tmp_path: Path, vhost: Vhost) -> None:
    shop = Shop(tmp_path / "shop", vhost)
    shop.write(TOPOLOGY)
    code, output = shop.run("dlq", "list")
    assert code == 0
    assert "queue pay.dlq: not on the broker yet; to create the queue, run apply or start the system" in output
    assert "no dead letters" in output


def test_messages_are_listed_by_the_queue_they_failed_in_and_their_error(shop: Shop) -> None:
    publish(shop.vhost.url, "pay.dlq", [failed("a1"), failed("a2"), failed("b1", error="ValueError: no currency")])
    publish(shop.vhost.url, "lost", [failed("c1", queue="mail", error="no server"), failed("d1", queue="stock")])
    found = groups(shop)
    assert {key: one["count"] for key, one in found.items()} == {
        ("pay", "gateway timed out"): 2,
        ("pay", "ValueError: no currency"): 1,
        ("mail", "no server"): 1,
        ("stock", "gateway timed out"): 1,
    }
    one = found["pay", "gateway timed out"]
    assert (one["first"], one["last"], one["latest_id"]) == ("2023-11-14T22:13:20Z", "2023-11-14T22:13:20Z", "a2")
    code, output = shop.run("dlq", "list")
    assert code == 0
    lines = output.splitlines()
    head = ["QUEUE", "COUNT", "ATTEMPTS", "REPLAYS", "FIRST", "LAST", "LATEST ID", "FINGERPRINT", "RAISED AT", "ERROR"]
    assert re.split(" {2,}", lines[0]) == head
    assert lines[-1] == "5 dead letters; use dlq show ID for details"
    # Both names select the same messages, and only those of the shared dead-letter queue that failed in ``pay``.
    assert set(groups(shop, "--queue", "pay.dlq")) == set(groups(shop, "--queue", "pay"))
    assert set(groups(shop, "--queue", "mail")) == {("mail", "no server")}
    assert len(groups(shop, "--queue", "lost")) == 2
    code, output = shop.run("dlq", "list", "--queue", "stok")
    assert code == 2
    assert "'stok'; did you mean 'stock'?" in output


def test_a_group_is_selected_by_its_fingerprint_and_the_progress_is_printed_on_request(shop: Shop) -> None:
    raised = {"x-traceback": '  File "/srv/plugins/payment.py", line 64, in charge\n    raise Retry()'}
    publish(
        shop.vhost.url, "pay.dlq", [failed("a1", **raised), failed("a2", error="no answer", **raised), failed("b1")]
    )
    found = groups(shop)
    one, other = found["pay", "no answer"], found["pay", "gateway timed out"]
    assert (one["frame"], one["kinds"], one["attempts"], one["replays"]) == (
        {"file": "plugins/payment.py", "line": 64, "function": "charge"}, 2, [2, 2], [0, 0],
    )  # fmt: skip
    assert "  plugins/payment.py:64 in charge  no answer" in shop.run("dlq", "list")[1]
    assert f"fingerprint     {one['fingerprint']}" in shop.run("dlq", "show", "a1")[1]
    mark = ("--fingerprint", one["fingerprint"])
    assert list(groups(shop, *mark)) == [("pay", "no answer")]
    assert [json.loads(line)["id"] for line in shop.run("dlq", "export", *mark)[1].splitlines()] == ["a1", "a2"]
    assert shop.run("dlq", "replay", *mark, "--progress") == (
        0,
        "replaying: 0 of 2\nreplaying: 2 of 2\n2 messages replayed\n",
    )
    assert shop.run("dlq", "list", *mark) == (0, f"no dead letters with the fingerprint {one['fingerprint']}\n")
    assert shop.run("dlq", "replay", *mark) == (0, "nothing replayed: no dead letter matches the selection\n")
    for arguments in (("replay", "--fingerprint", "a1"), ("replay", "--all", *mark), ("list", "--fingerprint", "")):
        assert shop.run("dlq", *arguments)[0] == 2
    code, output = shop.run("dlq", "discard", "--fingerprint", other["fingerprint"], "--yes", "--progress")
    assert (code, output.splitlines()[:-1]) == (0, ["discarding: 0 of 1", "discarding: 1 of 1"])
    assert take_all(shop.vhost.url, "pay") == ["a1", "a2"]
    assert held(shop.vhost.url, "pay.dlq") == [0]


def test_a_continued_replay_skips_the_messages_that_have_failed_again(shop: Shop) -> None:
    began = 1_790_000_000_500
    again, before = ({"x-replays": 1, "x-replayed-at": began + more} for more in (0, -1))
    publish(shop.vhost.url, "pay.dlq", [failed("a1", **again), failed("a2", **before), failed("a3")])
    when = datetime.fromtimestamp(began / 1000, UTC).isoformat()
    code, output = shop.run("dlq", "replay", "--all", "--skip-replayed-since", when)
    assert (code, output) == (0, "2 messages replayed\n")
    assert take_all(shop.vhost.url, "pay.dlq") == ["a1"]
    code, output = shop.run("dlq", "replay", "--all", "--skip-replayed-since", "noon")
    assert code == 2
    assert "not a time, 'noon'; allowed: a time in ISO 8601, such as 2026-11-25T18:23:12Z" in output


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_list_consumes_nothing_and_keeps_the_order(tmp_path: Path, vhost: Vhost, kind: str) -> None:
    shop = Shop(tmp_path / "shop", vhost)
    topology = {"queues": {**TOPOLOGY["queues"], "pay.dlq": {"type": kind}}, "exchanges": TOPOLOGY["exchanges"]}
    shop.write(topology)
    assert shop.run("apply")[0] == 0
    publish(vhost.url, "pay.dlq", many(300))
    for arguments in (
        ("list",), ("list", "--json"), ("show", "m000007"), ("export",), ("export", "--match", "m00001"),
        ("replay", "--all", "--dry-run"),
    ):  # fmt: skip
        assert shop.run("dlq", *arguments)[0] == 0
        wait_until(lambda: held(vhost.url, "pay.dlq", "pay") == [300, 0], 10, "all messages are requeued")
    assert take_all(vhost.url, "pay.dlq") == [f"m{number:06}" for number in range(300)]


def test_show_prints_a_whole_message_by_a_prefix_of_its_id(shop: Shop) -> None:
    body, properties = failed("4240e46b-aaaa", error="broke \x1b[31mhere", **{"x-crashes": 3, "x-signal": "SIGSEGV"})
    publish(shop.vhost.url, "pay.dlq", [(body, properties), failed("4240ffff"), failed("9")])
    code, output = shop.run("dlq", "show", "4240e")
    assert code == 0
    for line in (
        "id              4240e46b-aaaa", "type            order.created", "queue           pay.dlq",
        "failed in       pay", "published to    orders with key 'order.created.usd'", "attempts        2",
        "error           broke \\x1b[31mhere", "first error     first", "exception       Retry",
        "service         payment on box with pid 7", "crashes         3", "signal          SIGSEGV", "  tenant: a",
        "    raise Retry", "body (application/json, 42 bytes)", '    "amount": "149.99"',
    ):  # fmt: skip
        assert line in output.splitlines(), line
    assert "\x1b" not in output
    record = json.loads(shop.run("dlq", "show", "4240e46b-aaaa", "--json")[1])
    assert (record["id"], record["queue"], record["origin"]) == ("4240e46b-aaaa", "pay.dlq", "pay")
    assert record["properties"]["priority"] == 3
    code, output = shop.run("dlq", "show", "4240")
    assert code == 1
    assert "is ambiguous; 2 dead letters match: '4240e46b-aaaa', '4240ffff'" in output
    code, output = shop.run("dlq", "show", "nothing")
    assert code == 1
    assert "message id 'nothing': no dead letter has this message id" in output


def test_a_message_that_failed_in_two_queues_is_shown_for_each(shop: Shop) -> None:
    publish(shop.vhost.url, "pay.dlq", [failed("same")])
    publish(shop.vhost.url, "lost", [failed("same", queue="mail")])
    assert shop.run("dlq", "show", "same")[1].count("failed in") == 2
    assert shop.run("dlq", "show", "same", "--queue", "mail")[1].count("failed in") == 1


def test_a_replayed_message_starts_with_fresh_attempts_and_counts_its_replays(shop: Shop) -> None:
    body, properties = failed("a1", **{"x-replays": 1, "x-crashes": 2, "x-signal": "SIGKILL"})
    publish(shop.vhost.url, "pay.dlq", [(body, properties)])
    before = int(time.time() * 1000)
    assert shop.run("dlq", "replay", "--all") == (0, "1 message replayed\n")
    assert held(shop.vhost.url, "pay.dlq") == [0]
    ((method, found, content),) = take(shop.vhost.url, "pay", 1)
    assert (method.exchange, method.routing_key, content) == ("", "pay", body)
    for name in ("message_id", "correlation_id", "type", "timestamp", "app_id", "content_type", "priority"):
        assert getattr(found, name) == getattr(properties, name)
    assert found.delivery_mode == 2
    assert before <= found.headers["x-replayed-at"] <= int(time.time() * 1000)
    assert found.headers.pop("x-sent-at") == found.headers.pop("x-replayed-at")
    found.headers.pop("x-delivery-count", None)
    assert found.headers == {
        "x-first-error": "first", "x-origin-queue": "pay", "x-origin-exchange": "orders", "x-replays": 2,
        "x-origin-routing-key": "order.created.usd", "x-causation-id": "c1", "tenant": "a",
    }  # fmt: skip


def test_only_selected_messages_are_replayed_each_to_the_queue_in_which_it_failed(shop: Shop) -> None:
    publish(shop.vhost.url, "pay.dlq", [failed("a1"), failed("a2", error="ValueError: no currency"), failed("a3")])
    publish(shop.vhost.url, "lost", [failed("c1", queue="mail"), failed("d1", queue="stock")])
    code, output = shop.run("dlq", "replay")
    assert code == 2
    assert "no messages selected; use --queue, --match, --fingerprint, --id or --all" in output
    assert shop.run("dlq", "replay", "--all", "--match", "x")[0] == 2
    assert shop.run("dlq", "replay", "--match", "valueerror: NO currency") == (0, "1 message replayed\n")
    assert shop.run("dlq", "replay", "--queue", "stock") == (0, "1 message replayed\n")
    assert shop.run("dlq", "replay", "--id", "a3", "--id", "c") == (0, "2 messages replayed\n")
    assert shop.run("dlq", "replay", "--match", "order-zz") == (
        0,
        "nothing replayed: no dead letter matches the selection\n",
    )
    assert held(shop.vhost.url, "pay.dlq", "lost") == [1, 0]
    assert [take_all(shop.vhost.url, name) for name in ("pay", "mail", "stock")] == [["a2", "a3"], ["c1"], ["d1"]]


def test_a_dry_run_prints_the_planned_replays_and_changes_nothing(shop: Shop) -> None:
    publish(shop.vhost.url, "pay.dlq", [failed("a1"), failed("a2", **{"x-replays": 3}), failed("a3", queue="old")])
    code, output = shop.run("dlq", "replay", "--all", "--dry-run")
    assert code == 0
    assert "would replay 1 message to pay\n  a1  order.created  gateway timed out\n" in output
    assert "would replay 1 message to old, but this queue no longer exists, so no replay is possible" in output
    assert "1 message would remain in pay.dlq: already replayed 3 times" in output
    assert "nothing was changed" in output
    assert held(shop.vhost.url, "pay.dlq", "pay") == [3, 0]


def test_a_message_that_was_replayed_three_times_is_replayed_only_by_id(shop: Shop) -> None:
    publish(shop.vhost.url, "pay.dlq", [failed("a1", **{"x-replays": 3}), failed("a2", **{"x-replays": 2})])
    code, output = shop.run("dlq", "replay", "--all")
    assert code == 1
    assert "1 message left in pay.dlq: already replayed 3 times and dead-lettered again; use --id or" in output
    assert "1 message replayed" in output
    assert held(shop.vhost.url, "pay.dlq", "pay") == [1, 1]
    code, output = shop.run("dlq", "replay", "--all")
    assert code == 1
    assert output.endswith("nothing replayed: the selected message remains dead-lettered\n")
    assert shop.run("dlq", "replay", "--id", "a1") == (0, "1 message replayed\n")
    assert [one[1].headers["x-replays"] for one in take(shop.vhost.url, "pay", 2)] == [3, 4]


def test_messages_that_were_replayed_three_times_are_replayed_with_again(shop: Shop) -> None:
    publish(shop.vhost.url, "pay.dlq", [failed(name, **{"x-replays": 3}) for name in ("a1", "a2")])
    code, output = shop.run("dlq", "replay", "--all", "--dry-run")
    assert (code, output.splitlines()[-1]) == (
        0,
        "nothing would be replayed: all 2 selected messages remain dead-lettered",
    )
    assert shop.run("dlq", "replay", "--all", "--include-replayed") == (0, "2 messages replayed\n")
    assert take_all(shop.vhost.url, "pay") == ["a1", "a2"]


def test_dead_letters_whose_queue_is_deleted_are_left_and_counted(shop: Shop) -> None:
    publish(
        shop.vhost.url, "lost", [failed("a1", queue="gone"), failed("a2", queue="mail"), failed("a3", queue="gone")]
    )
    code, output = shop.run("dlq", "replay", "--all")
    assert code == 1
    assert "2 messages left in lost: queue 'gone' no longer exists (a1, a3)" in output
    assert "1 message replayed" in output
    assert take_all(shop.vhost.url, "lost") == ["a1", "a3"]
    assert take_all(shop.vhost.url, "mail") == ["a2"]


def test_a_message_without_an_origin_is_replayed_to_the_only_queue_with_that_dead_letter_queue(shop: Shop) -> None:
    bare = pika.BasicProperties(message_id="bare")
    publish(shop.vhost.url, "pay.dlq", [(b"\xff\x00", bare)])
    publish(shop.vhost.url, "lost", [(b"{}", bare)])
    code, output = shop.run("dlq", "replay", "--all")
    assert code == 1
    assert "1 message left in lost: the original queue is unknown (bare)" in output
    ((_, _, body),) = take(shop.vhost.url, "pay", 1)
    assert body == b"\xff\x00"
    assert held(shop.vhost.url, "lost") == [1]


def test_a_message_for_a_full_queue_remains_a_dead_letter(shop: Shop) -> None:
    topology = json.loads(json.dumps(TOPOLOGY))
    topology["queues"]["mail"]["policy"] = {"max-length": 1, "overflow": "reject-publish"}
    shop.write(topology)
    assert shop.run("apply")[0] == 0
    publish(shop.vhost.url, "lost", many(3, queue="mail"))
    code, output = shop.run("dlq", "replay", "--all")
    assert code == 1
    assert "queue 'mail' rejected the message and may be full" in output
    counts = held(shop.vhost.url, "lost", "mail")
    assert sum(counts) == 3
    assert counts[0] >= 1


def test_a_replay_keeps_the_given_rate(shop: Shop) -> None:
    publish(shop.vhost.url, "pay.dlq", many(11))
    began = time.monotonic()
    assert shop.run("dlq", "replay", "--all", "--rate", "10") == (0, "11 messages replayed\n")
    assert time.monotonic() - began >= 0.9
    stamps = sorted(one[1].headers["x-replayed-at"] for one in take(shop.vhost.url, "pay", 11))
    assert stamps[-1] - stamps[0] >= 850
    for rate in ("0", "-1", "nan", "inf"):
        code, output = shop.run("dlq", "replay", "--all", "--rate", rate)
        assert code == 2
        assert "allowed: a finite number above 0" in output


def test_in_a_long_replay_waiting_messages_are_requeued_and_read_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The broker would close a channel that keeps a message unacked for half an hour.
    monkeypatch.setattr(replay_module, "MAX_HOLD", 0.5)
    contents = [failed("x", queue="gone"), *many(20), failed("y", **{"x-replays": 3})]
    publish(shop.vhost.url, "pay.dlq", contents)
    code, output = shop.run("dlq", "replay", "--all", "--rate", "12")
    assert code == 1
    assert "20 messages replayed" in output
    assert "1 message left in pay.dlq: queue 'gone' no longer exists (x)" in output
    assert "1 message left in pay.dlq: already replayed 3 times" in output
    assert take_all(shop.vhost.url, "pay") == [f"m{number:06}" for number in range(20)]
    assert take_all(shop.vhost.url, "pay.dlq") == ["x", "y"]


def test_a_message_that_fails_again_at_once_is_not_replayed_again_in_the_same_run(shop: Shop) -> None:
    # Each message to this queue is dead-lettered at once, as by a service that rejects it.
    topology = json.loads(json.dumps(TOPOLOGY))
    topology["queues"]["stock"] = {"type": "classic", "dead_letter": "lost", "policy": {"message-ttl": 0}}
    shop.write(topology)
    assert shop.run("apply")[0] == 0
    publish(shop.vhost.url, "lost", many(1200, queue="stock"))
    assert shop.run("dlq", "replay", "--all") == (0, "1200 messages replayed\n")
    wait_until(lambda: held(shop.vhost.url, "lost") == [1200], 10, "all are dead-lettered again")
    found: list[DeadLetter] = []
    Browser(shop.vhost.url, "lost", found.append).run()
    assert {dead_letter.replays for dead_letter in found} == {1}
    assert {dead_letter.error for dead_letter in found} == {"dead-lettered by the broker: exceeded its time to live"}


def test_messages_that_the_broker_dead_lettered_are_listed_with_the_reason_and_replayed_to_their_queue(
    shop: Shop,
) -> None:
    with channel_to(shop.vhost.url) as channel:
        properties = pika.BasicProperties(message_id="deadly")
        amqp_publish(channel, "orders", "order.created.usd", b"{}", properties)
        wait_until(lambda: held(shop.vhost.url, "pay", "mail") == [1, 1], 10)
        for _ in range(DELIVERY_LIMIT + 1):
            method = wait_until(lambda: channel.basic_get("pay")[0], 10)
            channel.basic_reject(method.delivery_tag, requeue=True)
        (mail, *_) = channel.basic_get("mail")
        channel.basic_reject(mail.delivery_tag, requeue=False)
        wait_until(lambda: held(shop.vhost.url, "pay.dlq", "lost") == [1, 1], 10, "both are dead-lettered")
    found = groups(shop)
    assert set(found) == {
        ("pay", "dead-lettered by the broker: delivered too often without an acknowledgement"),
        ("mail", "dead-lettered by the broker: rejected by its consumer"),
    }
    for one in found.values():
        assert abs(time.time() - datetime.fromisoformat(one["last"]).timestamp()) < 60
    assert shop.run("dlq", "replay", "--all") == (0, "2 messages replayed\n")
    ((_, properties, _),) = take(shop.vhost.url, "pay", 1)
    assert properties.headers.pop("x-sent-at") == properties.headers.pop("x-replayed-at")
    properties.headers.pop("x-delivery-count", None)
    # A handler sees the exchange and routing key of the first publish.
    assert properties.headers == {
        "x-replays": 1, "x-origin-exchange": "orders", "x-origin-routing-key": "order.created.usd",
    }  # fmt: skip


def test_discarded_messages_are_written_to_a_file_first(shop: Shop, tmp_path: Path) -> None:
    publish(shop.vhost.url, "pay.dlq", [failed("a1"), failed("a2", error="ValueError: no currency"), failed("a1")])
    code, output = shop.run("dlq", "discard", "--match", "gateway")
    assert code == 2
    assert "standard input is not a terminal, so the command cannot ask for confirmation; use --yes" in output
    assert held(shop.vhost.url, "pay.dlq") == [3]
    code, output = shop.run("dlq", "discard", "--match", "gateway", "--yes")
    assert code == 0
    (file,) = (shop.folder / "var").glob("discarded-*.jsonl")
    assert output == f"2 messages discarded, and written to {file}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()] == ["a1", "a1"]
    assert (
        shop.run("dlq", "discard", "--id", "a", "--yes", "--file", str(file))[1]
        .strip()
        .endswith("already exists; allowed: a new file")
    )
    assert held(shop.vhost.url, "pay.dlq") == [1]
    target = tmp_path / "new" / "file"
    for command in (("discard", "--all", "--yes"), ("export",)):
        code, output = shop.run("dlq", *command, "--file", str(target))
        assert code == 2
        assert f"no folder '{target.parent}'; allowed: a new file in an existing folder" in output
    assert not target.parent.exists()
    target.parent.mkdir()
    assert shop.run("dlq", "discard", "--all", "--yes", "--file", str(target))[0] == 0
    assert json.loads(target.read_text())["headers"]["x-last-error"] == "ValueError: no currency"
    assert held(shop.vhost.url, "pay.dlq", "pay") == [0, 0]


def test_an_export_contains_every_message_and_consumes_none(shop: Shop, tmp_path: Path) -> None:
    body, properties = failed("a1", price=1.5, big=2**40, flag=True, raw=b"\xff", nested={"list": [1, None]})
    publish(shop.vhost.url, "pay.dlq", [(body, properties), (b"\xff\x00", pika.BasicProperties(message_id="raw"))])
    code, output = shop.run("dlq", "export")
    assert code == 0
    first, second = (json.loads(line) for line in output.splitlines())
    assert {name: first["headers"][name] for name in ("price", "big", "flag", "raw", "nested")} == {
        "price": 1.5, "big": 2**40, "flag": True, "raw": {"$bytes": "/w=="}, "nested": {"list": [1, None]},
    }  # fmt: skip
    assert (first["body_encoding"], first["body"]) == ("utf-8", body.decode())
    assert (second["body_encoding"], second["body"], second["id"]) == ("base64", "/wA=", "raw")
    target = tmp_path / "out.jsonl"
    assert shop.run("dlq", "export", "--id", "raw", "--file", str(target)) == (0, f"1 message exported to {target}\n")
    assert json.loads(target.read_text()) == second
    assert shop.run("dlq", "export", "--file", str(target))[0] == 1
    assert held(shop.vhost.url, "pay.dlq") == [2]


def test_a_warning_precedes_the_reading_of_a_quorum_queue_with_a_delivery_limit(tmp_path: Path, vhost: Vhost) -> None:
    shop = Shop(tmp_path / "shop", vhost)
    limited = {"type": "quorum", "arguments": {"x-delivery-limit": 20}}
    topology = {"queues": {**TOPOLOGY["queues"], "pay.dlq": limited}, "exchanges": TOPOLOGY["exchanges"]}
    shop.write(topology)
    assert shop.run("apply")[0] == 0
    assert "limit" not in shop.run("dlq", "list")[1]
    publish(vhost.url, "pay.dlq", [failed("a1")])
    words = "queue pay.dlq: a quorum queue with a delivery limit of 20; each read counts as a failed delivery"
    assert words in shop.run("dlq", "list")[1]
    shop.config["broker"]["management"] = "http://127.0.0.1:1"
    shop.write(topology)
    assert words in shop.run("dlq", "list")[1]


def test_unacked_messages_of_another_consumer_are_not_counted(shop: Shop) -> None:
    publish(shop.vhost.url, "pay.dlq", many(5))
    with channel_to(shop.vhost.url) as channel:
        channel.basic_qos(prefetch_count=2)
        channel.basic_consume("pay.dlq", lambda *_: None)
        wait_until(lambda: held(shop.vhost.url, "pay.dlq") == [3], 10)
        code, output = shop.run("dlq", "list")
        assert code == 0
        assert "queue pay.dlq: 1 other consumer; unacked messages cannot be read" in output
        assert "3 dead letters" in output
    wait_until(lambda: held(shop.vhost.url, "pay.dlq") == [5], 10)
    assert ids_in_order(shop.vhost.url, "pay.dlq") == [f"m{number:06}" for number in range(5)]


def test_8_000_dead_letters_are_listed_in_seconds(shop: Shop) -> None:
    publish(shop.vhost.url, "pay.dlq", many(8_000))
    began = time.monotonic()
    assert groups(shop)["pay", "gateway timed out"]["count"] == 8_000
    assert time.monotonic() - began < in_time(4)
    wait_until(lambda: held(shop.vhost.url, "pay.dlq") == [8_000], 10)


def test_an_unreachable_broker_exits_with_75(shop: Shop) -> None:
    shop.config["broker"] |= {"url": "amqp://127.0.0.1:1/", "management": "http://127.0.0.1:1"}
    shop.write(TOPOLOGY)
    assert shop.run("dlq", "list")[0] == 75
