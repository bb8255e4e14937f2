"""The order API and its peers, each as a server that runs for a while."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from bench.ground import Ground
from bench.progress import cpu_seconds
from bench.shipped import shipped
from tests.ports import free_port
from tests.rabbit import Vhost, wait_until
from tests.running import ROOT


@dataclass(frozen=True)
class Server:
    """The port of a server and its processes."""

    port: int
    pids: tuple[int, ...]

    def cpu(self) -> float:
        """Return the seconds of CPU that the processes have used."""
        return cpu_seconds(self.pids)


@contextlib.contextmanager
def order_api(ground: Ground, vhost: Vhost, instances: int) -> Iterator[Server]:
    """Run the shipped order API in ``instances`` processes."""
    port = free_port()
    folder = shipped(ground, vhost, port, ["order_api"], {"order_api": {"instances": instances}})
    with ground.product(vhost, folder) as product:
        yield Server(port, tuple(product.pid(f"order_api.{number + 1}") for number in range(instances)))


@contextlib.contextmanager
def peer(ground: Ground, vhost: Vhost, *module: str) -> Iterator[Server]:
    """Run the module of a peer as a server."""
    port = free_port()
    said = ground.folder / f"{'-'.join(module)}.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *module, vhost.url, str(port)], cwd=ROOT, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: process.poll() is not None or has_listener(port), 30, f"{module} listens")
        if process.poll() is not None:
            raise RuntimeError(f"{module} exited with {process.returncode}:\n{said.read_text()[-2000:]}")
        yield Server(port, (process.pid,))
    finally:
        process.kill()
        process.wait(10)


def has_listener(port: int) -> bool:
    """Return True if a server listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
