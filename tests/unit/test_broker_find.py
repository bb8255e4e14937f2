"""The choice between a reachable broker, a private node, a container, and an error."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from runner.address import Address
from runner.broker import find, port
from runner.broker.container import IMAGE, Box
from runner.broker.find import Answering, Container, PrivateNode, find_broker
from runner.broker.installation import Installation
from runner.broker.port import Ports, available, ports_of
from runner.broker.probe import Kind, ProbeResult
from runner.errors import EXIT_BROKER, EXIT_CONFIG, BrokerError, BrokerMissing, BrokerUnreachable

LOCAL = "amqp://anna:topsecret@127.0.0.1:7000/shop"
REMOTE = "amqp://anna:topsecret@broker.example:7000/"


class Machine:
    """The machine as find_broker sees it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kinds: dict[str, Kind] = {}
        self.server: Installation | None = Installation(Path("/opt/rabbitmq"), "3.10.8")
        self.engine: str | None = None
        self.leftover: int | None = None
        self.taken: set[int] = set()
        monkeypatch.setattr(find, "probe", self._probe)
        monkeypatch.setattr(find, "DOUBT_SECONDS", 0.0)
        monkeypatch.setattr(find, "installed_server", lambda: self.server)
        monkeypatch.setattr(find, "find_engine", lambda: self.engine)
        monkeypatch.setattr(find, "find_leftover", lambda folder: self.leftover)
        monkeypatch.setattr(port, "is_free", lambda number, host: number not in self.taken)
        monkeypatch.setattr(port, "free_port", lambda host: 40000)

    def _probe(self, address: Address) -> ProbeResult:
        kind = self.kinds.get(str(address), Kind.NOTHING if address.loopback else Kind.UNREACHABLE)
        return ProbeResult(kind, f"fact: {kind.value}")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.mark.parametrize("autostart", [True, False])
def test_a_reachable_broker_is_used(machine: Machine, tmp_path: Path, autostart: bool):
    machine.kinds["127.0.0.1:7000"] = Kind.BROKER

    assert find_broker([REMOTE, LOCAL], autostart, tmp_path) == Answering(LOCAL)


def test_a_private_node_is_started_if_nothing_listens_on_loopback(machine: Machine, tmp_path: Path):
    found = find_broker([REMOTE, LOCAL], True, tmp_path)

    assert isinstance(found, PrivateNode)
    assert found.url == LOCAL
    assert found.management_url == "http://127.0.0.1:17000"
    assert found.command[1:] == [
        *("-m", "runner.broker.node"),
        *("--folder", str(tmp_path)),
        *("--host", "127.0.0.1"),
        *("--port", "7000"),
        *("--management-port", "17000"),
        *("--distribution-port", "27000"),
        *("--stop-seconds", "3.0"),
    ]


def test_the_login_passes_through_the_environment_and_is_never_shown(machine: Machine, tmp_path: Path):
    found = find_broker([LOCAL], True, tmp_path)

    assert isinstance(found, PrivateNode)
    assert found.environment == {
        "RABBITMQ_DEFAULT_USER": "anna",
        "RABBITMQ_DEFAULT_PASS": "topsecret",
        "RABBITMQ_DEFAULT_VHOST": "shop",
    }
    assert "topsecret" not in f"{found.command} {found!r} {Answering(LOCAL)!r}"


def test_a_private_node_listens_at_the_address_of_an_ipv6_url(machine: Machine, tmp_path: Path):
    found = find_broker(["amqp://[::1]:7000/"], True, tmp_path)

    assert isinstance(found, PrivateNode)
    assert found.management_url == "http://[::1]:17000"
    assert found.command[found.command.index("--host") + 1] == "::1"


def test_a_container_is_started_if_rabbitmq_is_not_installed(machine: Machine, tmp_path: Path):
    machine.server, machine.engine = None, "/usr/bin/podman"

    found = find_broker([LOCAL], True, tmp_path)

    assert isinstance(found, Container)
    assert found.command[1:5] == ["-m", "runner.broker.container", "--engine", "/usr/bin/podman"]
    assert "topsecret" not in " ".join(found.command)


def test_three_remedies_are_named_if_nothing_can_be_started(machine: Machine, tmp_path: Path):
    machine.server = None

    with pytest.raises(BrokerMissing) as caught:
        find_broker([LOCAL], True, tmp_path)

    lines = str(caught.value).splitlines()
    assert "127.0.0.1:7000 (fact: nothing)" in lines[0]
    assert len(lines) == 4
    assert "apt-get install rabbitmq-server" in lines[1]
    assert "docker run" in lines[2]
    assert "-p 127.0.0.1:7000:5672" in lines[2]
    assert "RABBITMQ_URL=" in lines[3]
    assert "topsecret" not in str(caught.value)
    assert caught.value.exit_code == EXIT_CONFIG


def test_a_remote_broker_that_is_unreachable_is_waited_for(machine: Machine, tmp_path: Path):
    with pytest.raises(BrokerUnreachable, match=r"broker\.example:7000 \(fact: unreachable\)") as caught:
        find_broker([REMOTE], True, tmp_path)

    assert caught.value.exit_code == EXIT_BROKER


def test_nothing_is_started_if_start_is_never(machine: Machine, tmp_path: Path):
    with pytest.raises(BrokerUnreachable, match=r"set broker\.autostart to true") as caught:
        find_broker([LOCAL], False, tmp_path)

    assert "topsecret" not in str(caught.value)


def test_no_private_node_replaces_a_broker_with_tls(machine: Machine, tmp_path: Path):
    with pytest.raises(BrokerUnreachable):
        find_broker(["amqps://127.0.0.1:7000/"], True, tmp_path)


@pytest.mark.parametrize("autostart", [True, False])
def test_another_server_at_the_port_is_reported(machine: Machine, tmp_path: Path, autostart: bool):
    machine.kinds["127.0.0.1:7000"] = Kind.OTHER

    with pytest.raises(BrokerError, match=r"no AMQP broker at 127\.0\.0\.1:7000, fact: other"):
        find_broker([LOCAL], autostart, tmp_path)


@pytest.mark.parametrize("kind", [Kind.CLOSED, Kind.SILENT])
@pytest.mark.parametrize("autostart", [True, False])
def test_a_port_that_may_belong_to_a_broker_is_waited_for(
    machine: Machine, tmp_path: Path, kind: Kind, autostart: bool
):
    machine.kinds["127.0.0.1:7000"] = kind

    with pytest.raises(BrokerUnreachable, match=rf"127\.0\.0\.1:7000 \(fact: {kind.value}\); start the broker behind"):
        find_broker([LOCAL], autostart, tmp_path)


def test_silence_may_be_a_broker_whose_host_does_not_resolve_its_own_name(machine: Machine, tmp_path: Path):
    machine.kinds["127.0.0.1:7000"] = Kind.SILENT

    with pytest.raises(BrokerUnreachable, match=r"listens on this port; .* make its host name resolvable"):
        find_broker([LOCAL], True, tmp_path)


@pytest.mark.parametrize("kind", [Kind.BROKER, Kind.CLOSED, Kind.SILENT])
def test_the_node_of_a_killed_run_is_not_reused(machine: Machine, tmp_path: Path, kind: Kind):
    machine.kinds["127.0.0.1:7000"] = kind
    machine.leftover = 4711

    assert isinstance(find_broker([LOCAL], True, tmp_path), PrivateNode)


def test_further_ports_follow_the_convention_of_rabbitmq(machine: Machine):
    assert ports_of(5672) == Ports(5672, 15672, 25672)


def test_a_port_in_use_is_replaced_and_the_log_says_so(machine: Machine, caplog: pytest.LogCaptureFixture):
    machine.taken = {15672}

    with caplog.at_level(logging.WARNING):
        assert ports_of(5672) == Ports(5672, 40000, 25672)
    assert caplog.messages == ["management port 15672 is in use; using port 40000 instead"]


def test_an_invalid_port_number_is_replaced(machine: Machine):
    assert available("distribution", 70000) == 40000


def test_a_container_listens_on_loopback_only_and_its_login_is_in_no_argv():
    command = Box("shop", "127.0.0.1", 7000, 17000).run_command("docker")

    assert command[:5] == ["docker", "run", "--rm", "--name", "shop"]
    published = [command[index + 1] for index, word in enumerate(command) if word == "-p"]
    assert published == ["127.0.0.1:7000:5672", "127.0.0.1:17000:15672"]
    variables = [command[index + 1] for index, word in enumerate(command) if word == "-e"]
    assert variables == ["RABBITMQ_DEFAULT_USER", "RABBITMQ_DEFAULT_PASS", "RABBITMQ_DEFAULT_VHOST"]
    assert command[-1] == IMAGE
