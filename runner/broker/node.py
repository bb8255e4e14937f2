"""A private RabbitMQ node, run in the foreground by ``python -m runner.broker.node --folder var/broker``."""

from __future__ import annotations

import argparse
import base64
import fcntl
import http.client
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from runner.address import Address, Login, authority
from runner.broker.folder import Folder
from runner.broker.installation import Installation, installed_server, link_needed
from runner.broker.node_process import end_leftover, start_epmd, start_node, stop_epmd, stop_node
from runner.broker.port import Ports, available, free_port, is_free
from runner.broker.probe import Kind, probe
from runner.broker.reason import explain, is_configuration_error, last_line, node_log_size
from runner.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_OK, AlreadyRunning, ConfigError, RunnerError
from runner.ipc.lifeline import Lifeline

log = logging.getLogger("broker")

_PROBE_SECONDS = 0.05
#: The time limit in seconds for the HTTP API to answer after AMQP answers. While RabbitMQ boots, the API answers with
#: status 500. Since RabbitMQ 4.3, the API becomes ready shortly after AMQP. The API is a plugin, so a broker without
#: the API is used after this time.
_API_SECONDS = 10.0
#: The interval in seconds between log lines about a slow start. A start is slow if RabbitMQ must recover a lot of data.
_PROGRESS_SECONDS = 15.0
#: The time limit in seconds for a clean stop after the supervisor has exited.
_GRACE_SECONDS = 10.0


class NodeProcess:
    """One run of the node, from the start of RabbitMQ and epmd to a stop or an exit.

    The run leaves no processes behind.
    """

    def __init__(self, folder: Folder, host: str, ports: Ports, login: Login, lifeline: Lifeline) -> None:
        self._folder = folder
        self._address = Address(host, ports.amqp, login=login)
        self._ports = ports
        self._lifeline = lifeline
        self._epmd_port = free_port()
        #: The events "stop", "node ended" and "epmd ended", from the signal handler and the waiting threads.
        self._events: queue.SimpleQueue[str] = queue.SimpleQueue()

    def stop(self) -> None:
        """Ask the run to stop. A signal handler may call this method."""
        self._events.put("stop")

    def run(self, server: Installation, stop_seconds: float) -> int:
        """Run the node until it exits or ``stop`` is called, and return the exit code."""
        self._say(f"starting RabbitMQ {server.version} on {self._address}")
        lock = self._prepare()
        offset = node_log_size(self._folder)
        self._start_epmd()
        try:
            slim = link_needed(server, self._folder.server_home, self._folder.plugins())
            node = start_node(slim, self._folder, self._ports, self._epmd_port)
            self._watch(node, "node ended")
            self._folder.write_env(server, self._epmd_port)
            try:
                if self._serve(server) == "node ended":
                    return self._report(node, offset)
                self._lifeline.send("STOPPING=1", "STATUS=stopping RabbitMQ")
                log.info("stopping RabbitMQ on %s", self._address)
            finally:
                if not stop_node(node, stop_seconds):
                    log.warning("RabbitMQ did not stop within %g s and was killed", stop_seconds)
                self._folder.pid_file.unlink(missing_ok=True)
        finally:
            stop_epmd(self._epmd)
            lock.close()
        log.info("RabbitMQ on %s has stopped", self._address)
        return EXIT_OK

    def _serve(self, server: Installation) -> str:
        """Report the node's progress and restart epmd until the run ends.

        Return the event that ended the run, either "stop" or "node ended".
        """
        is_ready, api_due = False, 0.0
        progress_due = time.monotonic() + _PROGRESS_SECONDS
        while True:
            try:
                word = self._events.get(timeout=None if is_ready else _PROBE_SECONDS)
            except queue.Empty:
                if probe(self._address).kind is Kind.BROKER:
                    api_due = api_due or time.monotonic() + _API_SECONDS
                    if self._answers_http() or time.monotonic() >= api_due:
                        is_ready = True
                        self._show_ready(server)
                elif time.monotonic() >= progress_due:
                    progress_due += _PROGRESS_SECONDS
                    self._say(f"RabbitMQ is still starting; its last log line: {last_line(self._folder)}")
                continue
            if word != "epmd ended":
                return word
            # Only rabbitmqctl needs epmd. Without epmd, however, RabbitMQ would start another epmd that no process
            # would stop.
            log.warning("epmd exited; restarting epmd")
            self._start_epmd()

    def _answers_http(self) -> bool:
        """Return True if the HTTP API answers a request, even if it refuses the login."""
        login = self._address.login
        token = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
        connection = http.client.HTTPConnection(self._address.host, self._ports.management, timeout=1.0)
        try:
            connection.request("GET", "/api/overview", headers={"Authorization": f"Basic {token}"})
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _start_epmd(self) -> None:
        self._epmd = start_epmd(self._folder, self._epmd_port)
        self._watch(self._epmd, "epmd ended")

    def _prepare(self) -> IO[bytes]:
        try:
            self._folder.make()
            lock = self._folder.lock_file.open("wb")
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
            raise ConfigError(
                [f"private broker: cannot use the folder, {reason}; allowed: a writable folder"]
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise AlreadyRunning(
                f"private broker: another process runs the node in {self._folder.path}; allowed: one node per folder"
            ) from None
        end_leftover(self._folder)
        for purpose, port in (("AMQP", self._ports.amqp), ("management", self._ports.management)):
            if not is_free(port, self._address.host):
                where = authority(self._address.host, port)
                lock.close()
                raise RunnerError(
                    f"private broker: the {purpose} port {where} is in use; "
                    "stop the program that uses this port, or choose another port"
                )
        if (change := self._folder.login_change(self._address.login)) is not None:
            log.warning("%s", change)
        self._folder.configure(self._ports, self._address.host, self._address.login)
        return lock

    def _watch(self, process: subprocess.Popen[bytes], word: str) -> None:
        def wait() -> None:
            process.wait()
            self._events.put(word)

        threading.Thread(target=wait, name=word, daemon=True).start()

    def _show_ready(self, server: Installation) -> None:
        management = f"http://{authority(self._address.host, self._ports.management)}"
        words = (
            f"RabbitMQ {server.version} is ready on {self._address}, "
            f"management {management}, user {self._address.login.user!r}"
        )
        self._lifeline.send("READY=1", f"STATUS={words}")
        log.info("to run rabbitmqctl: ( . %s; rabbitmqctl status )", self._folder.env_file)

    def _report(self, node: subprocess.Popen[bytes], offset: int) -> int:
        """Log the reason for the node's exit, and return the matching exit code."""
        lines = explain(self._folder, offset)
        for line in lines:
            log.error("%s", line)
        how = f"signal {-node.returncode}" if node.returncode < 0 else f"exit code {node.returncode}"
        words = f"RabbitMQ on {self._address} exited unexpectedly with {how}; its log is {self._folder.node_log}"
        log.error("%s", words)
        self._lifeline.send(f"STATUS={words}")
        return EXIT_CONFIG if is_configuration_error(lines) else EXIT_FAILURE

    def _say(self, words: str) -> None:
        log.info("%s", words)
        self._lifeline.send(f"STATUS={words}")


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run the node. Expected errors are logged as one line and returned as an exit code."""
    parser = argparse.ArgumentParser(prog="python -m runner.broker.node", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="folder for data, logs and configuration")
    parser.add_argument("--host", default="127.0.0.1", help="loopback address on which the node listens")
    parser.add_argument("--port", type=int, default=5672, help="AMQP port")
    parser.add_argument("--management-port", type=int, help="management port (default: --port plus 10000)")
    parser.add_argument("--distribution-port", type=int, help="Erlang distribution port (default: --port plus 20000)")
    parser.add_argument(
        "--stop-seconds", type=float, default=8.0, help="seconds after which a node that does not stop is killed"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    lifeline = Lifeline.inherited()
    try:
        if Address(options.host, options.port).loopback is None:
            raise ConfigError([f"--host: {options.host!r} is not a loopback address; allowed: 127.0.0.1, ::1"])
        server = installed_server()
        if server is None:
            raise ConfigError(
                ["private broker: rabbitmq-server is not installed; run: apt-get install rabbitmq-server"]
            )
        host = options.host
        ports = Ports(
            options.port,
            options.management_port or available("management", options.port + 10000, host),
            available("distribution", options.distribution_port or options.port + 20000),
        )
        login = Login.from_environment(os.environ)
        node = NodeProcess(Folder(options.folder), host, ports, login, lifeline)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: node.stop())
        lifeline.watch(grace=_GRACE_SECONDS)
        return node.run(server, options.stop_seconds)
    except RunnerError as error:
        log.error("%s", error)
        lifeline.send(f"STATUS={error}")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
