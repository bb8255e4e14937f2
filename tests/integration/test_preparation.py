"""The process that reads the files and declares the topology for the supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import BrokerError, ConfigError
from runner.preparation.preparation_client import Preparation, PreparationRequest
from tests.machine import in_time
from tests.rabbit import Vhost, wait_until
from tests.running import Project, plain
from tests.supervised import descendants, is_gone


@pytest.fixture
def preparation(project: Project, vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Preparation]:
    """Yield a preparation whose process has not started yet."""
    monkeypatch.setenv("RABBITMQ_URL", vhost.url)
    one = Preparation(PreparationRequest(str(project.folder), (), "text", "info"))
    yield one
    one.close()


@pytest.fixture
def prepared(preparation: Preparation) -> Preparation:
    """Return a preparation that has found the broker."""
    preparation.begin()
    preparation.find()
    return preparation


def pid_of(preparation: Preparation) -> int:
    assert preparation._process is not None
    return preparation._process.pid


def test_the_process_exits_after_its_work_and_the_next_process_has_its_knowledge(
    prepared: Preparation, project: Project, vhost: Vhost
) -> None:
    said: list[tuple[str, str]] = []
    prepared.say = lambda text, level: said.append((text, level))
    first = pid_of(prepared)
    prepared.prepare()
    assert not Path(f"/proc/{first}").exists()
    assert "payment.order.created" in vhost.queues()
    # A file that is saved now is declared only when it is applied.
    topology = project.topology()
    topology["queues"]["new"] = {}
    project.set_topology(topology)
    vhost.delete_queue("unrouted.all")
    prepared.prepare()
    assert "unrouted.all" in vhost.queues()
    assert "new" not in vhost.queues()
    taken = prepared.reload()
    assert taken.left == []
    assert "new" in vhost.queues()
    assert ("topology: + queue    new  quorum", "info") in said


def test_bindings_removed_from_the_files_are_unbound_by_finish_and_not_by_prepare(
    preparation: Preparation, project: Project, vhost: Vhost
) -> None:
    def keys() -> set[str]:
        bindings = [one for one in vhost.bindings() if one["destination"] == "payment.order.created"]
        return {one["routing_key"] for one in bindings if one["source"]}

    config, topology = project.config(), project.topology()
    config["broker"]["management"] = vhost.rabbit.management
    project.set_config(config)
    preparation.begin()
    preparation.find()
    preparation.prepare()
    topology["queues"]["payment.order.created"]["bind"] = {"orders.topic": ["order.created"]}
    project.set_topology(topology)
    assert preparation.reload().is_unfinished
    assert keys() == {"order.created.#", "order.created"}
    # Each call runs in a new process that knows what the last process recorded.
    assert preparation.prepare() is None
    assert preparation.reload().is_unfinished
    assert keys() == {"order.created.#", "order.created"}
    assert preparation.finish() is None
    assert keys() == {"order.created"}
    assert not preparation.reload().is_unfinished


def test_a_start_prints_up_to_ten_findings_and_a_reload_only_new_ones(
    preparation: Preparation, project: Project
) -> None:
    topology = project.topology()
    topology["queues"] |= {f"unread.{number:02}": {"bind": {"orders.topic": ["order.#"]}} for number in range(13)}
    project.set_topology(topology)
    said: list[tuple[str, str]] = []
    preparation.say = lambda text, level: said.append((text, level))
    preparation.begin()
    warnings = list(preparation.find().warnings)
    assert len(warnings) == 11
    assert (
        "unread-queue: no service consumes 'unread.00', so the queue only grows; let a service consume" in warnings[0]
    )
    assert warnings[10].startswith("and 3 more findings; ")
    preparation.prepare()
    del topology["queues"]["unread.00"]
    topology["queues"]["payment.order.created"]["bind"] = {"orders.topic": ["order.create.#"]}
    project.set_topology(topology)
    preparation.reload()
    findings = [text for text, level in said if level == "warning" and ".yaml:" in text]
    assert any("unmatched-binding" in line and "did you mean 'order.created.#'?" in line for line in findings)
    assert any("missed-event: payment handles 'order.created'" in line for line in findings)
    assert not any("unread-queue" in line for line in findings)


def test_objects_removed_from_the_files_are_reported_in_one_line_at_each_start(
    preparation: Preparation, project: Project, vhost: Vhost
) -> None:
    config, topology = project.config(), project.topology()
    config["broker"]["management"] = vhost.rabbit.management
    project.set_config(config)
    shipped = project.topology()
    topology["queues"]["eu.orders"] = {"bind": {"orders.topic": ["order.created.*.eu"]}}
    topology["queues"]["audit.copy"] = {"retry": ["1s"]}
    project.set_topology(topology)
    preparation.begin()
    preparation.find()
    preparation.prepare()
    project.set_topology(shipped)
    said: list[tuple[str, str]] = []
    preparation.say = lambda text, level: said.append((text, level))
    for _ in range(2):
        assert not preparation.reload().left
        preparation.finish()
    line = (
        "topology: 2 objects are no longer in topology.yaml and still on the broker: queue eu.orders (still gets"
        " messages from orders.topic), queue audit.copy; to unbind the queues and delete all empty objects:"
        " python -m runner apply --prune"
    )
    assert [(plain(text), level) for text, level in said if "no longer" in text] == [(line, "warning")], (
        "once, however often it is prepared"
    )


def test_errors_pass_unchanged_from_the_other_process(prepared: Preparation, project: Project) -> None:
    prepared.prepare()
    (project.folder / "config.yaml").write_text("colour: red\nsize: 1\n")
    with pytest.raises(ConfigError) as caught:
        prepared.reload()
    assert prepared._process is None, "nothing is left of it"
    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["config.yaml", "config.yaml"]
    assert caught.value.exit_code == 78


def test_an_idle_process_that_is_killed_is_replaced(prepared: Preparation, vhost: Vhost) -> None:
    os.kill(pid_of(prepared), signal.SIGKILL)
    process = prepared._process
    wait_until(lambda: process is not None and process.poll() is not None)
    prepared.prepare()
    assert "payment.order.created" in vhost.queues()


def test_a_kill_of_the_working_process_is_an_error_that_can_be_retried(prepared: Preparation) -> None:
    found: list[BaseException] = []

    def prepare() -> None:
        try:
            prepared.prepare()
        except BrokerError as error:
            found.append(error)

    for _ in range(10):
        os.kill(pid_of(prepared), signal.SIGSTOP)
        thread = threading.Thread(target=prepare)
        thread.start()
        wait_until(prepared._lock.locked)
        os.kill(pid_of(prepared), signal.SIGKILL)
        thread.join(10)
        if found:
            break
        # A process that was killed before its request is no error: a new process replaced it, and exited.
        prepared.find()
    assert "exited with -9" in str(found[0])
    prepared.prepare()


def test_the_process_stays_alive_while_autoscaling_needs_it(prepared: Preparation, project: Project) -> None:
    config = project.config()
    config["services"]["payment"]["autoscale"] = {"max": 3}
    project.set_config(config)
    prepared.reload()
    assert prepared.ready_messages("payment") == 0
    pid = pid_of(prepared)
    prepared.reload()
    assert prepared.ready_messages("payment") == 0
    assert pid_of(prepared) == pid
    del config["services"]["payment"]["autoscale"]
    project.set_config(config)
    prepared.reload()
    assert is_gone(pid)


def test_the_process_and_its_children_exit_with_their_supervisor(project: Project, vhost: Vhost) -> None:
    project.plugin("slow", "import time\ntime.sleep(600)\n")
    config = project.config()
    config["services"]["slow"] = {"consumes": ["unrouted.all"]}
    project.set_config(config)
    source = (
        "import sys; from runner.preparation.preparation_client import *; "
        "Preparation(PreparationRequest(sys.argv[1], (), 'text', 'info')).begin()"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", source, str(project.folder)])

    def below() -> list[int]:
        return list(descendants(supervisor.pid))

    # The first process prepares, the second checks the plugins.
    pids = wait_until(lambda: below() if len(below()) == 2 else None, 10)
    supervisor.kill()
    supervisor.wait()
    wait_until(lambda: all(is_gone(pid) for pid in pids), in_time(3))
