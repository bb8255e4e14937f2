"""RabbitMQ in a Docker or Podman container, run in the foreground by ``python -m runner.broker.container``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import queue
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass

from runner.address import PASSWORD_VARIABLE, USER_VARIABLE, VHOST_VARIABLE, Address
from runner.broker.probe import Kind, probe
from runner.errors import EXIT_FAILURE, EXIT_OK
from runner.ipc.lifeline import Lifeline

log = logging.getLogger("broker")

IMAGE = "rabbitmq:4.3-management"
# The time limit in seconds for an answer from the container engine.
_ANSWER_SECONDS = 5.0
# The interval in seconds between probes. A container takes tens of seconds to start, so more frequent probes would
# waste CPU time.
_PROBE_SECONDS = 0.25
_GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Box:
    """A RabbitMQ container, with its name, its loopback address and its published ports."""

    name: str
    host: str
    port: int
    management_port: int
    image: str = IMAGE

    def run_command(self, engine: str) -> list[str]:
        """Return the command that runs the container in the foreground. The login is read from the environment."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        # If the option contains no value, the engine reads the variable from its environment. A value on the command
        # line would be visible to all users of the machine.
        login = [word for name in (USER_VARIABLE, PASSWORD_VARIABLE, VHOST_VARIABLE) for word in ("-e", name)]
        return [
            *(engine, "run", "--rm", "--name", self.name),
            # RabbitMQ names its data directory after the host. If the host name changed with each run, the data would
            # be lost.
            *("--hostname", "fastcommerce"),
            *("-v", f"{self.name}:/var/lib/rabbitmq"),
            *("-p", f"{host}:{self.port}:5672"),
            *("-p", f"{host}:{self.management_port}:15672"),
            *login,
            self.image,
        ]


def find_engine(path: str | None = None) -> str | None:
    """Return the path of the Docker or Podman client whose engine answers, or None if neither engine answers.

    Docker is tried first. ``path`` replaces the PATH of the environment.
    """
    for name in ("docker", "podman"):
        program = shutil.which(name, path=path)
        if program is not None and _answers(program):
            return program
    return None


def _answers(program: str) -> bool:
    try:
        done = subprocess.run(
            [program, "info"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def run(engine: str, box: Box, lifeline: Lifeline, events: queue.SimpleQueue[str], stop_seconds: float) -> int:
    """Run the container until it exits or "stop" arrives in ``events``, and return the exit code."""
    address = Address(box.host, box.port)
    words = f"starting {box.image} as container {box.name} on {address}"
    log.info("%s", words)
    lifeline.send(f"STATUS={words}")
    # A container from a killed run may still have this name. The container's data is in the volume, which is kept.
    _quietly([engine, "rm", "-f", box.name], stop_seconds)
    process = subprocess.Popen(box.run_command(engine), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def wait() -> None:
        process.wait()
        events.put("ended")

    threading.Thread(target=wait, name="container", daemon=True).start()
    is_ready = False
    while True:
        try:
            word = events.get(timeout=None if is_ready else _PROBE_SECONDS)
            break
        except queue.Empty:
            if probe(address).kind is Kind.BROKER:
                is_ready = True
                words = f"container {box.name} is ready on {address}"
                log.info("%s", words)
                lifeline.send("READY=1", f"STATUS={words}")
    if word == "ended":
        words = f"container {box.name} exited unexpectedly with code {process.returncode}"
        log.error("%s", words)
        lifeline.send(f"STATUS={words}")
        return EXIT_FAILURE
    lifeline.send("STOPPING=1", "STATUS=stopping the container")
    _quietly([engine, "stop", "--time", str(round(stop_seconds)), box.name], stop_seconds + 2)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(2)
    if process.poll() is None:
        process.kill()
        process.wait()
        _quietly([engine, "rm", "-f", box.name], stop_seconds)
    log.info("container %s has stopped", box.name)
    return EXIT_OK


def _quietly(command: list[str], seconds: float) -> None:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run the container."""
    parser = argparse.ArgumentParser(prog="python -m runner.broker.container", description=__doc__)
    parser.add_argument("--engine", default="docker", help="container engine: docker or podman")
    parser.add_argument("--name", required=True, help="name of the container and its volume")
    parser.add_argument("--host", default="127.0.0.1", help="loopback address on which the ports are published")
    parser.add_argument("--port", type=int, default=5672, help="AMQP port")
    parser.add_argument("--management-port", type=int, default=15672, help="management port")
    parser.add_argument("--image", default=IMAGE, help="container image")
    parser.add_argument(
        "--stop-seconds", type=float, default=8.0, help="seconds after which a container that does not stop is killed"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    lifeline = Lifeline.inherited()
    events: queue.SimpleQueue[str] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: events.put("stop"))
    lifeline.watch(grace=_GRACE_SECONDS)
    box = Box(options.name, options.host, options.port, options.management_port, options.image)
    return run(options.engine, box, lifeline, events, options.stop_seconds)


if __name__ == "__main__":
    sys.exit(main())
