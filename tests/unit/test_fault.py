"""Fault injection: the files of active faults, the description of each, and the places where they are refused."""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from runner.cli.main import main
from runner.config.project import load_project
from runner.errors import ConfigError, RunnerError
from runner.faults import scenario
from runner.faults.active import ActiveFault, FaultFolder
from runner.faults.middleware import InjectedFaults
from runner.messages import Message
from runner.proc import Identity
from tests.running import PRINTED

COMMANDS = (
    ["kill", "payment"], ["pause", "payment"], ["slow", "payment", "1s"], ["duplicate", "payment.order.created"],
    ["poison", "payment.order.created"], ["disconnect"], ["broker-restart"], ["list"], ["clear"],
)  # fmt: skip
SERVICES = "services: {payment: {consumes: [payment.order.created]}, api: {plugin: order_api}}\n"
SCENARIOS = [one for one in vars(scenario).values() if isinstance(one, scenario.Scenario)]
FACTS = (
    "slot", "pid", "seconds", "service", "watchdog", "handler_timeout", "delay", "until", "count", "queue",
    "dead_letter", "first", "max_crashes", "whom",
)  # fmt: skip


def make(folder: Path, config: str) -> Path:
    (folder / "topology.yaml").write_text("queues: {payment.order.created: {}, loose: {}}\n")
    (folder / "config.yaml").write_text(config + SERVICES)
    return folder


def call(folder: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["--project", str(folder), *arguments])
    return done.exit_code, done.output


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_nothing_is_injected_unless_config_yaml_allows_it(command: list[str], tmp_path: Path) -> None:
    code, output = call(make(tmp_path, ""), "fault", *command)
    assert code == 78
    assert output.startswith("config.yaml: fault_injection: not true")
    assert "add the line 'fault_injection: true', and restart the supervisor" in output
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize(
    "command", [["fault", *one] for one in COMMANDS] + [["check"]], ids=lambda command: command[-1]
)
def test_nothing_is_injected_on_another_machine(command: list[str], tmp_path: Path) -> None:
    code, output = call(make(tmp_path, "fault_injection: true\nbroker: {url: amqp://shop.example}\n"), *command)
    assert code == 78
    assert "config.yaml:1: fault_injection: not with a broker on another machine, shop.example:5672" in output
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize(
    "command", [one for one in COMMANDS if one[0] not in ("list", "clear")], ids=lambda one: one[0]
)
def test_nothing_is_injected_without_a_runner(command: list[str], tmp_path: Path) -> None:
    code, output = call(make(tmp_path, "fault_injection: true\n"), "fault", *command)
    assert code == 1
    assert output.startswith(f"no supervisor is running in {tmp_path}")
    assert FaultFolder(tmp_path / "var").active() == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["kill", "paymnt"], "unknown service 'paymnt'; did you mean 'payment'?"),
        (["disconnect", "1s", "paymnt"], "unknown service 'paymnt'; did you mean 'payment'?"),
        (["disconnect", "paymnt"], "unknown service 'paymnt'; did you mean 'payment'?"),
        (["slow", "api", "1s"], "'api' consumes no queue and handles no messages; allowed: payment"),
        (["slow", "payment", "1"], "not a duration, '1'; allowed: a number with a unit, such as 500ms"),
        (["slow", "payment", "0s"], "out of range, '0s'; allowed: more than 0s, up to 1h"),
        (["pause", "payment", "2h"], "out of range, '2h'; allowed: more than 0s, up to 1h"),
        (["poison", "payment.order.creatd"], "unknown queue 'payment.order.creatd'; did you mean"),
        (
            ["poison", "loose"],
            "no service consumes 'loose'; allowed: payment.order.created",
        ),
        (["duplicate", "payment.order.created", "--count", "0"], "0 is not in the range 1<=x<=1000"),
    ],
)
def test_an_unknown_target_is_a_usage_error_with_the_known_ones(command: list[str], words: str, tmp_path: Path) -> None:
    code, output = call(make(tmp_path, "fault_injection: true\n"), "fault", *command)
    assert code == 2
    assert words in " ".join(output.split())


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("sqlite:///var/shop.db", True),
        ("postgresql://user@localhost/shop", True),
        ("postgresql://user@[::1]:5433/shop", True),
        ("postgresql:///shop", True),
        ("postgresql:///shop?host=/run/postgresql", True),
        ("postgresql://user@10.0.0.1/shop", False),
        ("postgresql:///shop?host=db.example", False),
        ("postgresql://localhost/shop?host=db.example", False),
    ],
)
def test_a_database_counts_as_remote_by_its_host(url: str, is_here: bool, tmp_path: Path) -> None:
    make(tmp_path, f"fault_injection: true\nstore: {{url: '{url}'}}\n")
    if is_here:
        assert load_project(tmp_path, {}).config.fault_injection
    else:
        with pytest.raises(ConfigError, match=r"config\.yaml:1: fault_injection: not with a database"):
            load_project(tmp_path, {})


def test_a_database_that_only_a_variable_of_libpq_names_counts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "fault_injection: true\nstore: {url: 'postgresql:///shop'}\n")
    monkeypatch.setenv("PGHOST", "db.example")
    with pytest.raises(ConfigError, match=r"another machine, 'db\.example'"):
        load_project(tmp_path, {})


@pytest.mark.parametrize("one", SCENARIOS, ids=lambda one: one.did[:20])
def test_every_description_of_a_fault_can_be_filled_in(one: scenario.Scenario) -> None:
    flags = sorted({name.lstrip("!") for line in (*one.expect, *one.look) for name in line.when})
    for values in itertools.product((False, True), repeat=len(flags)):
        facts = {**{name: name.upper() for name in FACTS}, **dict(zip(flags, values, strict=True))}
        did, expect, look = one.texts(facts)
        assert did
        assert expect
        assert look
        assert all(re.match(f"{PRINTED} ", line) for line in look)
        assert not any(set("{}") & set(line) for line in (did, *expect, *look))


def test_a_fault_ends_at_its_time_and_unusable_files_are_ignored(tmp_path: Path) -> None:
    folder, faults = FaultFolder(tmp_path), InjectedFaults(tmp_path, "payment")
    assert folder.active() == []
    assert faults.disconnect_reason() is None
    now = time.time()
    folder.write("disconnect", ActiveFault("disconnect", "", now, 60))
    folder.write("disconnect.other", ActiveFault("disconnect", "other", now, 90))
    folder.write("slow.payment", ActiveFault("slow", "payment", now - 2, 1.999, 5.0))
    folder.file("slow.other").write_text('{"fault": 1}')
    folder.file("pause.x.1").write_bytes(b"\xff")
    assert [one.target for one in folder.active()] == ["", "other"]
    assert str(faults.disconnect_reason()).startswith("disconnected on purpose until ")
    assert [one.fault for one in folder.clear()] == ["disconnect", "disconnect"]
    assert faults.disconnect_reason() is None
    assert list(folder.path.glob("*")) == []


def test_a_slow_handler_waits_no_longer_than_the_fault_lasts(tmp_path: Path) -> None:
    folder, faults = FaultFolder(tmp_path), InjectedFaults(tmp_path, "payment")
    message = Message(b"{}", "payment.order.created")
    for delay, lasts, least, most in ((0.3, 60.0, 0.3, 5.0), (60.0, 0.3, 0.2, 5.0)):
        folder.write("slow.payment", ActiveFault("slow", "payment", time.time(), lasts, delay))
        began = time.monotonic()
        faults.before(message)
        assert least <= time.monotonic() - began < most


def test_a_clock_that_is_set_back_prolongs_no_fault(tmp_path: Path) -> None:
    folder, faults = FaultFolder(tmp_path), InjectedFaults(tmp_path, "payment")
    folder.write("disconnect", ActiveFault("disconnect", "", time.time() + 3600, 5.0))
    folder.write("slow.payment", ActiveFault("slow", "payment", time.time() + 3600, 5.0, 60.0))
    assert faults.disconnect_reason() is None
    assert folder.active() == []
    began = time.monotonic()
    faults.before(Message(b"{}", "payment.order.created"))
    assert time.monotonic() - began < 5


def test_an_ended_fault_is_removed_when_another_fault_starts(tmp_path: Path) -> None:
    folder = FaultFolder(tmp_path)
    folder.write("slow.payment", ActiveFault("slow", "payment", time.time() - 10, 9.0, 1.0))
    folder.write("disconnect", ActiveFault("disconnect", "", time.time(), 60))
    assert [file.name for file in folder.path.iterdir()] == ["disconnect.json"]


def test_a_fault_ends_with_its_process_and_does_not_apply_to_another_with_its_pid(tmp_path: Path) -> None:
    folder, here = FaultFolder(tmp_path), Identity.of(os.getpid())
    assert here is not None
    for process, lasts in ((here, 1), (Identity(here.pid, here.start - 1), 0), (Identity(2**22 + 1, here.start), 0)):
        folder.write("duplicate.1", active := ActiveFault("duplicate", "queue", time.time(), 60, process=process))
        assert folder.active() == [active] * lasts


def test_an_active_fault_is_not_replaced_by_one_with_its_name(tmp_path: Path) -> None:
    folder, now = FaultFolder(tmp_path), time.time()
    folder.claim("pause.payment.1", ActiveFault("pause", "payment.1", now - 10, 9.0))
    folder.claim("pause.payment.1", second := ActiveFault("pause", "payment.1", now, 60.0))
    with pytest.raises(
        RunnerError, match=r"^payment\.1: pause lasts until \d\d:\d\d:\d\d; wait, or end the fault: " + PRINTED
    ):
        folder.claim("pause.payment.1", ActiveFault("pause", "payment.1", now, 70.0))
    assert folder.active() == [second]
    folder.end("pause.payment.1", ActiveFault("pause", "payment.1", now - 10, 9.0))
    assert folder.active() == [second], "an earlier fault does not end it"
    folder.end("pause.payment.1", second)
    assert list(folder.path.iterdir()) == []


def test_only_the_runner_that_was_started_with_fault_injection_counts(tmp_path: Path) -> None:
    folder, runner, other = FaultFolder(tmp_path), os.getpid(), os.getppid()
    assert not folder.is_on(runner)
    folder.begin(runner)
    assert folder.is_on(runner)
    assert not folder.is_on(other)
    assert folder.active() == []
    (folder.path / "runner").write_text(f"{runner} 1")
    assert not folder.is_on(runner), "an earlier runner with the same pid"
    folder.begin(None)
    assert not (folder.path / "runner").exists()
    folder.begin(None)


def test_an_unwritable_folder_is_reported_only_when_something_must_be_written(tmp_path: Path) -> None:
    folder, active = FaultFolder(tmp_path), ActiveFault("disconnect", "", time.time(), 60)
    (folder.path / "runner").mkdir(parents=True)  # like a folder of another user, also for root
    folder.begin(None)
    with pytest.raises(RunnerError, match=r"faults: cannot be written, .*; run the command as the supervisor's user"):
        folder.begin(os.getpid())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "faults").write_text("")
    folder = FaultFolder(tmp_path / "other")
    folder.begin(None)
    for action in (folder.clear, lambda: folder.write("disconnect", active), lambda: folder.end("disconnect", active)):
        with pytest.raises(
            RunnerError, match=r"faults: cannot be written, .*; run the command as the supervisor's user"
        ):
            action()


def test_active_faults_are_listed_and_cleared_as_json_without_a_runner(tmp_path: Path) -> None:
    make(tmp_path, "fault_injection: true\n")
    FaultFolder(tmp_path / "var").write("slow.payment", ActiveFault("slow", "payment", time.time(), 60, 2.0))
    code, output = call(tmp_path, "fault", "list", "--json")
    (one,) = json.loads(output)["active"]
    assert (code, one["fault"], one["target"], one["delay"]) == (0, "slow", "payment", 2.0)
    assert 50 < one["left"] <= 60
    code, output = call(tmp_path, "fault", "clear", "--json")
    assert [one["fault"] for one in json.loads(output)["ended"]] == ["slow"]
    assert json.loads(call(tmp_path, "fault", "list", "--json")[1])["active"] == []
