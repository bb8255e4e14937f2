"""``run --watch``: saved changes take effect, and unchanged services keep running."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pytest

from tests.rabbit import Rabbit, Vhost, wait_until
from tests.running import PRINTED, Project, Runner

pytestmark = pytest.mark.xdist_group("watched runner")  # all tests of this module share a runner


class Watched:
    """A runner that watches its files. Each test sees only the output since its own start."""

    def __init__(self, project: Project, vhost: Vhost) -> None:
        self.project, self.vhost, self._begin = project, vhost, 0
        folder = project.folder
        self._files = {path: path.read_bytes() for path in [*folder.glob("*.yaml"), *folder.glob("plugins/*.py")]}
        self.runner: Runner = project.run("run", "--watch", url=vhost.url, env={"FASTCOMMERCE_SETTLE": "0"})
        self.runner.wait_for("everything is RUNNING")
        self._slots = set(project.slots())
        self._children = len(self.children())

    def begin(self) -> None:
        """Ignore the output so far."""
        self._begin = len(self.runner.lines)

    def restore(self) -> None:
        """Restore the files, and wait until all processes run as before."""
        self.begin()
        edited = [path for path, content in self._files.items() if not path.exists() or path.read_bytes() != content]
        for path in edited:
            path.write_bytes(self._files[path])
        if edited:
            self.wait_for("files reloaded$")
        wait_until(self._is_as_before, 30, "all is as before")

    def _is_as_before(self) -> bool:
        states = {name: slot["state"] for name, slot in self.project.slots().items()}
        return states == dict.fromkeys(self._slots, "RUNNING") and len(self.children()) == self._children

    @property
    def output(self) -> str:
        """The output since the test began."""
        return "\n".join(self.runner.lines[self._begin :])

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the pattern is printed after the test began."""
        before = "\n".join(self.runner.lines[: self._begin])
        return self.runner.wait_for(pattern, count=len(re.findall(pattern, before, re.MULTILINE)) + 1)

    def next_pid_of(self, slot: str) -> int:
        """Return the pid of the first instance of a slot that becomes ready after the test began."""
        return int(self.wait_for(rf"{re.escape(slot)} RUNNING, pid (\d+)")[1])

    def pids(self) -> dict[str, int]:
        """Return the current pid of each slot."""
        return {name: slot["pid"] for name, slot in self.project.slots().items()}

    def children(self) -> dict[int, str]:
        """Return the live children of the runner."""
        return self.runner.children()


@pytest.fixture(scope="module")
def lasting(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    vhost = rabbit.make_vhost(f"test-{uuid.uuid4().hex[:8]}")
    project = Project(tmp_path_factory.mktemp("watched") / "project")
    project.options("payment", failure_rate=0.0)
    config = project.config()
    config["broker"]["management"] = rabbit.management
    project.set_config(config)
    one = Watched(project, vhost)
    yield one
    code = one.runner.process.poll() or one.runner.stop()
    project.close()
    vhost.delete()
    assert code == 0


@pytest.fixture
def watched(lasting: Watched) -> Iterator[Watched]:
    """Yield the shared runner with its shipped files, and restore them afterwards."""
    lasting.begin()
    yield lasting
    lasting.restore()


@pytest.fixture
def project(watched: Watched) -> Project:
    """Return the project that is watched."""
    return watched.project


@pytest.fixture
def vhost(watched: Watched) -> Vhost:
    """Return the vhost of the project that is watched."""
    return watched.vhost


def test_a_new_queue_is_declared_at_once_and_no_service_is_restarted(
    watched: Watched, project: Project, vhost: Vhost
) -> None:
    before = watched.children()
    topology = project.topology()
    topology["queues"]["eu.orders"] = {"bind": {"orders.topic": ["order.created.#"]}}
    project.set_topology(topology)
    watched.wait_for(r"topology: \+ queue    eu.orders")
    watched.wait_for(r"topology: \+ binding  orders.topic -\(order.created.#\)-> eu.orders")
    watched.wait_for("files reloaded$")
    project.first_order()
    assert vhost.ready("eu.orders") == 1
    assert watched.children() == before


def test_only_the_changed_service_is_restarted_and_instances_are_added_and_removed(
    watched: Watched, project: Project
) -> None:
    pids = watched.pids()
    project.options("payment", latency="1ms")
    watched.wait_for("payment.1: starting a new process before stopping the old process")
    second = watched.next_pid_of("payment.1")
    watched.wait_for("payment.1: the old process stopped")
    assert set(watched.children()) & set(pids.values()) == {pids["order_api.1"], pids["notification.1"]}
    config = project.config()
    config["services"]["payment"]["instances"] = 3
    project.set_config(config)
    third = {second, watched.next_pid_of("payment.2"), watched.next_pid_of("payment.3")}
    assert third <= set(watched.children())
    config["services"]["payment"]["instances"] = 1
    del config["services"]["notification"]
    project.set_config(config)
    watched.wait_for("payment.3 stopped")
    watched.wait_for("notification.1 stopped")
    wait_until(lambda: set(watched.children()) & third == {second}, 5)
    assert pids["order_api.1"] in watched.children()
    assert watched.output.count("payment.1: starting a new process") == 1
    config["services"]["audit"] = {"consumes": ["notification.order.events"]}
    project.set_config(config)
    watched.next_pid_of("audit.1")


def test_a_configuration_error_changes_nothing_and_is_reported(
    watched: Watched, project: Project, vhost: Vhost
) -> None:
    before, text = watched.children(), (project.folder / "topology.yaml").read_text()
    (project.folder / "topology.yaml").write_text(text.replace("orders.topic:", "orders.topik:"))
    watched.wait_for(r"config.yaml:\d+: .*unknown exchange 'orders.topic'; did you mean 'orders.topik'\?")
    watched.wait_for("not reloaded; all services keep running unchanged")
    (project.folder / "topology.yaml").unlink()
    watched.wait_for("topology.yaml:1: no such file")
    (project.folder / "topology.yaml").write_text(text)
    watched.wait_for("files reloaded$")
    project.first_order()
    assert watched.children() == before
    assert "orders.topik" not in vhost.exchanges()


def test_an_object_that_would_have_to_be_replaced_is_reported_and_left_and_other_changes_are_applied(
    watched: Watched, project: Project, vhost: Vhost
) -> None:
    topology = project.topology()
    topology["queues"]["unrouted.all"]["type"] = "classic"
    topology["queues"]["new"] = {}
    project.set_topology(topology)
    watched.wait_for(
        r"ERROR: topology.yaml:\d+: queue 'unrouted.all': type is 'classic' here, but 'quorum' on the broker;"
        f" change it back, or: {PRINTED} apply --replace unrouted.all --drain"
    )
    watched.wait_for("files reloaded, except for the changes above")
    assert vhost.queues()["unrouted.all"]["type"] == "quorum"
    assert "new" in vhost.queues()


def test_an_edit_of_a_plugin_restarts_the_services_that_use_it(watched: Watched, project: Project) -> None:
    pids = watched.pids()
    path = project.folder / "plugins" / "payment.py"
    path.write_text(path.read_text() + "\n# another line\n")
    watched.next_pid_of("payment.1")
    assert {pids["order_api.1"], pids["notification.1"]} <= set(watched.children())
    path.write_text("def broken(:\n")
    watched.wait_for("not reloaded; all services keep running")


def test_a_change_of_the_broker_is_not_applied(watched: Watched, project: Project) -> None:
    config = project.config()
    config["broker"]["autostart"] = False
    project.set_config(config)
    watched.wait_for("config.yaml:1: broker: changed, but a reload cannot apply this change; restart the supervisor")
    watched.wait_for("not reloaded; all services keep running unchanged")
