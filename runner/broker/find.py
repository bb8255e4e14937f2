"""The choice of a project's broker, which prefers a running broker, then a private node, then a container."""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.address import Address, authority
from runner.broker.container import IMAGE, Box, find_engine
from runner.broker.folder import Folder
from runner.broker.installation import installed_server
from runner.broker.node_process import find_leftover, node_pid
from runner.broker.port import Ports, ports_of
from runner.broker.probe import Kind, ProbeResult, probe
from runner.errors import BrokerError, BrokerMissing, BrokerUnreachable

log = logging.getLogger(__name__)

#: The time in seconds for a listener that is not a broker to exit or to start speaking AMQP.
DOUBT_SECONDS = 2.0
#: The time in seconds after which a private broker that does not stop is killed.
STOP_SECONDS = 3.0
#: Probe results that can come from a broker that is not ready yet, or from another program.
_UNDECIDED = (Kind.CLOSED, Kind.SILENT)


@dataclass(frozen=True)
class Answering:
    """A running broker."""

    #: The URL, which must not be shown because it contains the password.
    url: str = field(repr=False)


@dataclass(frozen=True)
class Startable:
    """A broker that can be started in the foreground as a supervised child process."""

    command: list[str]
    #: The URL of the started broker, which must not be shown because it contains the password.
    url: str = field(repr=False)
    #: The URL of RabbitMQ's management UI and HTTP API, without user and password.
    management_url: str
    #: The environment variables for the child process, including the login, which must not be on a command line.
    environment: dict[str, str] = field(repr=False)


class PrivateNode(Startable):
    """The installed RabbitMQ server, with its data in the project's folder."""


class Container(Startable):
    """RabbitMQ in a Docker or Podman container, with its data in a named volume."""


def find_broker(urls: Sequence[str], autostart: bool, folder: Path) -> Answering | PrivateNode | Container:
    """Find a running broker, or choose a broker to start.

    ``urls`` are probed in random order. If ``autostart`` is false, no broker is started. ``folder`` is the private
    node's folder. The search takes a few seconds if a host does not respond. Raises BrokerUnreachable if a broker may
    answer later. Raises BrokerMissing if the user must install or start a broker. Raises BrokerError if another program
    uses a broker's port.
    """
    findings: dict[Address, ProbeResult] = {}
    for url in random.sample(urls, len(urls)):
        address = Address.of(url)
        finding = _probe_patiently(address)
        may_stop = finding.kind in (Kind.BROKER, *_UNDECIDED)
        if may_stop and autostart and address.loopback and find_leftover(Folder(folder)) is not None:
            # The node is about to stop, because its parent process has exited. The new run waits until the node has
            # exited.
            finding = ProbeResult(Kind.NOTHING, "a node that an earlier run started is still stopping")
        if finding.kind is Kind.BROKER:
            return Answering(url)
        findings[address] = finding
    if autostart:
        for url in urls:
            address = Address.of(url)
            if address.loopback and not address.is_tls and findings[address].kind is Kind.NOTHING:
                return _startable(url, address, findings[address], folder)
    raise _nothing_answers(findings, autostart=autostart)


def known_management(urls: Sequence[str], folder: Path) -> str | None:
    """Return the HTTP API's URL if the private node in ``folder`` is the running broker, otherwise None.

    The URL contains a different port if the usual management port was in use when the node started.
    """
    node = Folder(folder)
    if node_pid(node) is None:
        return None  # the stored configuration belongs to an earlier node
    for address in map(Address.of, urls):
        if address.loopback is not None and (found := node.management_url(address.port)) is not None:
            return found
    return None


def _probe_patiently(address: Address) -> ProbeResult:
    """Probe an address. If the answer is not from a broker, repeat the probe for ``DOUBT_SECONDS``.

    For example, a stopping broker may close the connection.
    """
    finding = probe(address)
    deadline = time.monotonic() + DOUBT_SECONDS
    while finding.kind in (Kind.OTHER, Kind.CLOSED) and time.monotonic() < deadline:
        time.sleep(0.1)
        finding = probe(address)
    return finding


def _startable(url: str, address: Address, finding: ProbeResult, folder: Path) -> PrivateNode | Container:
    server = installed_server()
    engine = find_engine() if server is None else None
    if server is None and engine is None:
        raise _missing(address, finding)
    host = address.loopback or "127.0.0.1"
    ports = ports_of(address.port, host)
    management_url = f"http://{authority(host, ports.management)}"
    environment = address.login.environment()
    if engine is None and server is not None:
        log.info("no broker at %s (%s); starting RabbitMQ %s", address, finding.fact, server.version)
        command = _node_command(folder, host, ports)
        return PrivateNode(command, url, management_url, environment)
    log.info("no broker at %s (%s); starting a container", address, finding.fact)
    box = Box(Folder(folder).node_name.partition("@")[0], host, ports.amqp, ports.management)
    return Container(_container_command(str(engine), box), url, management_url, environment)


def _node_command(folder: Path, host: str, ports: Ports) -> list[str]:
    return [
        *(sys.executable, "-m", "runner.broker.node"),
        *("--folder", str(folder.resolve())),
        *("--host", host),
        *("--port", str(ports.amqp)),
        *("--management-port", str(ports.management)),
        *("--distribution-port", str(ports.distribution)),
        *("--stop-seconds", str(STOP_SECONDS)),
    ]


def _container_command(engine: str, box: Box) -> list[str]:
    return [
        *(sys.executable, "-m", "runner.broker.container"),
        *("--engine", engine),
        *("--name", box.name),
        *("--host", box.host),
        *("--port", str(box.port)),
        *("--management-port", str(box.management_port)),
        *("--image", box.image),
        *("--stop-seconds", str(STOP_SECONDS)),
    ]


def _nothing_answers(findings: dict[Address, ProbeResult], *, autostart: bool) -> BrokerError:
    for address, finding in findings.items():
        if finding.kind is Kind.OTHER:
            return BrokerError(
                f"broker.url: no AMQP broker at {address}, {finding.fact}; "
                "stop the program that listens on this port, or use another port"
            )
    facts = ", ".join(f"{address} ({finding.fact})" for address, finding in findings.items())
    kinds = {finding.kind for finding in findings.values()}
    allowed = "start a broker" if autostart else "start a broker, or set broker.autostart to true"
    if kinds.intersection(_UNDECIDED):
        allowed = "start the broker behind this port, or stop the program that listens on this port"
    if Kind.SILENT in kinds:
        allowed += "; if the program is RabbitMQ, make its host name resolvable, for example in /etc/hosts"
    return BrokerUnreachable(f"broker.url: no broker answers at {facts}; {allowed}")


def _missing(address: Address, finding: ProbeResult) -> BrokerMissing:
    published = f"-p 127.0.0.1:{address.port}:5672 -p 127.0.0.1:15672:15672"
    return BrokerMissing(
        f"broker.url: no broker answers at {address} ({finding.fact}), and none can be started here; do one of these:\n"
        "  install RabbitMQ:    sudo apt-get install rabbitmq-server\n"
        f"  start a container:   docker run -d --name rabbitmq {published} {IMAGE}\n"
        "  use another broker:  export RABBITMQ_URL=amqp://user:password@host:5672/"
    )
