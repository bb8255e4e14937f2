"""Run RabbitMQ in a container, in the foreground: ``python -m runner.broker.container``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import queue
import signal
import subprocess
import sys
import threading

from runner.address import Address
from runner.broker.engine import IMAGE, Box
from runner.broker.probe import Kind, probe
from runner.errors import EXIT_FAILURE, EXIT_OK
from runner.ipc.lifeline import Lifeline

log = logging.getLogger("broker")

# A container's start takes tens of seconds; more looks would only cost.
_PROBE_SECONDS = 0.25
_GRACE_SECONDS = 10.0


def run(engine: str, box: Box, lifeline: Lifeline, events: queue.SimpleQueue[str], stop_seconds: float) -> int:
    """Run the container until it ends or ``events`` says "stop", and return the exit code."""
    address = Address(box.host, box.port)
    words = f"starting {box.image} as container {box.name} on {address}"
    log.info("%s", words)
    lifeline.send(f"STATUS={words}")
    # One of an earlier, killed run keeps the name; the data are in the volume, which stays.
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
                words = f"container {box.name} answers on {address}"
                log.info("%s", words)
                lifeline.send("READY=1", f"STATUS={words}")
    if word == "ended":
        words = f"container {box.name} ended by itself with exit code {process.returncode}"
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
    parser.add_argument("--engine", default="docker", help="docker or podman")
    parser.add_argument("--name", required=True, help="of the container and of its volume")
    parser.add_argument("--host", default="127.0.0.1", help="the loopback address to publish on")
    parser.add_argument("--port", type=int, default=5672, help="for AMQP")
    parser.add_argument("--management-port", type=int, default=15672, help="for HTTP")
    parser.add_argument("--image", default=IMAGE)
    parser.add_argument("--stop-seconds", type=float, default=8.0, help="kill the container after this time")
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
