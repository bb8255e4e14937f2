"""Replays with an edited body: the new body is readable, and the old body is always kept in a file."""

from __future__ import annotations

import json
from pathlib import Path

import pika
import pytest

from tests.dead_lettered import TOPOLOGY, failed, held, publish, take
from tests.rabbit import Vhost
from tests.topologies import Shop


@pytest.fixture
def shop(tmp_path: Path, vhost: Vhost) -> Shop:
    one = Shop(tmp_path / "shop", vhost)
    one.write(TOPOLOGY)
    assert one.run("apply")[0] == 0
    return one


def kept(shop: Shop) -> list[Path]:
    return list((shop.folder / "var").glob("replaced-*.jsonl"))


def test_a_replay_sends_the_edited_body_and_keeps_the_old_body_in_a_file(shop: Shop, tmp_path: Path) -> None:
    old, _ = failed("a1")
    publish(shop.vhost.url, "pay.dlq", [failed("a1"), failed("a2")])
    publish(shop.vhost.url, "lost", [failed("a2", queue="mail")])
    edited = tmp_path / "body"
    edited.write_bytes(b'{"mended": true}')
    for count, arguments in ((0, ("--all",)), (2, ("--id", "a1", "--id", "a2"))):
        code, output = shop.run("dlq", "replay", *arguments, "--body", str(edited))
        assert code == 2
        assert f"--body: {count} --id options were given; allowed: exactly one --id" in output
    code, output = shop.run("dlq", "replay", "--id", "a2", "--body", str(edited))
    assert code == 1
    assert "is ambiguous, because 2 dead letters match; use --queue" in output
    code, output = shop.run("dlq", "replay", "--id", "a1", "--body", str(edited), "--dry-run")
    assert code == 0
    assert f"would replace the body ({len(old)} bytes) with {edited} (16 bytes)\n" in output
    assert kept(shop) == []
    record = json.loads(shop.run("dlq", "show", "a1", "--json")[1])
    code, output = shop.run("dlq", "replay", "--id", "a1", "--body", str(edited))
    (file,) = kept(shop)
    assert (code, output) == (0, f"original message written to {file}\n1 message replayed\n")
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text()) == record
    ((_, properties, body),) = take(shop.vhost.url, "pay", 1)
    assert (properties.message_id, body) == ("a1", b'{"mended": true}')


def test_an_edited_body_that_is_not_json_is_refused_for_a_json_message(shop: Shop, tmp_path: Path) -> None:
    publish(shop.vhost.url, "pay.dlq", [failed("a1"), (b"[1]", pika.BasicProperties(message_id="bare"))])
    edited = tmp_path / "body"
    for number, (body, why) in enumerate([(b'{"a": 1', "not JSON, "), (b'{"a": 1}\xff', "'utf-8' codec")]):
        edited.write_bytes(body)
        for identity, reason in (("a1", "content type is application/json"), ("bare", "body is JSON now")):
            more = ("--dry-run",) if number else ()
            code, output = shop.run("dlq", "replay", "--id", identity, "--body", str(edited), *more)
            assert code == 2
            assert why in output
            assert f"allowed: JSON, because the message's {reason}" in output
    assert kept(shop) == []
    assert held(shop.vhost.url, "pay.dlq", "pay") == [2, 0]


def test_any_edited_body_is_accepted_for_a_message_that_is_not_json(shop: Shop, tmp_path: Path) -> None:
    publish(shop.vhost.url, "pay.dlq", [(b"\xff\x00", pika.BasicProperties(message_id="raw"))])
    edited = tmp_path / "body"
    edited.write_bytes(b"\xfe")
    assert shop.run("dlq", "replay", "--id", "raw", "--body", str(edited))[0] == 0
    ((_, _, body),) = take(shop.vhost.url, "pay", 1)
    assert body == b"\xfe"
    (file,) = kept(shop)
    assert json.loads(file.read_text())["body"] == "/wA="
