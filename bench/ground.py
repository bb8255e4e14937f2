"""The base of every measurement: one private broker, and the product as a user runs it."""

from __future__ import annotations

import compileall
import contextlib
import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.rabbit import Rabbit, Vhost
from tests.running import ROOT, Runner


def say(text: str) -> None:
    """Print progress to stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def is_installed(*modules: str) -> bool:
    """Return True if a peer's packages are installed, else print which are missing."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        say(f"    not measured: {', '.join(missing)} not installed")
    return not missing


class Product:
    """A running ``python -m runner`` with all its services."""

    def __init__(self, runner: Runner, folder: Path, vhost: Vhost) -> None:
        self.runner, self.folder, self.vhost = runner, folder, vhost

    def wait(self, config: Mapping[str, Any], timeout: float = 60.0) -> None:
        """Wait until every instance of every service in ``config`` is running."""
        for service, one in config["services"].items():
            for number in range(1, one.get("instances", 1) + 1):
                self.runner.wait_for(rf"{re.escape(service)}\.{number} RUNNING, pid \d+", timeout)

    def pid(self, slot: str) -> int:
        """Return the pid of a slot such as ``payment.1``."""
        return self.runner.pid_of(slot)

    def printed(self, pattern: str, timeout: float = 60.0) -> re.Match[str]:
        """Wait until a line that matches ``pattern`` was printed."""
        return self.runner.wait_for(pattern, timeout)

    def stop(self) -> None:
        """Stop the product. Raises RuntimeError if its exit code is not 0."""
        code = self.runner.stop(timeout=30)
        if code != 0:
            raise RuntimeError(f"python -m runner exited with {code}:\n{self.runner.output[-3000:]}")


class Ground:
    """A private broker, with an empty vhost and a new folder for each measurement."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Variables that this shell sets for Python or for the product are not set for a user.
        for name in [name for name in os.environ if name.startswith("PYTHON")]:
            del os.environ[name]
        for name in ("RABBITMQ_URL", "FASTCOMMERCE_SETTLE", "FORCE_COLOR", "MAKELEVEL"):
            os.environ.pop(name, None)
        for package in ("runner", "plugins", "bench"):
            compileall.compile_dir(ROOT / package, quiet=2)
        self.rabbit = Rabbit(folder / "broker")
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """Stop the broker."""
        self.rabbit.stop()

    def version(self) -> str:
        """Return the broker's version."""
        return str(self.rabbit.api("GET", "/overview")["rabbitmq_version"])

    @contextlib.contextmanager
    def vhost(self) -> Iterator[Vhost]:
        """Yield an empty vhost, and delete it with all its queues afterwards."""
        vhost = self.rabbit.make_vhost(f"bench-{next(self._numbers)}")
        try:
            yield vhost
        finally:
            # To delete a million messages takes longer than the default of 10 s.
            self.rabbit.api("DELETE", f"/vhosts/{vhost.name}", timeout=120)
            # The broker removes the messages a little later, which would slow down the next measurement.
            time.sleep(0.3)

    def project(
        self, vhost: Vhost, config: Mapping[str, Any], topology: Mapping[str, Any], plugins: Mapping[str, str | Path]
    ) -> Path:
        """Write a project that uses ``vhost``. A plugin is its source, or the file or folder to copy."""
        folder = Path(tempfile.mkdtemp(dir=self.folder, prefix="project-"))
        (folder / "plugins").mkdir()
        broker = {"url": vhost.url, "autostart": False, "management": vhost.rabbit.management}
        whole = {"broker": broker, **config}
        (folder / "config.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
        (folder / "topology.yaml").write_text(yaml.safe_dump(dict(topology), sort_keys=False))
        for name, plugin in plugins.items():
            if isinstance(plugin, str):
                (folder / "plugins" / f"{name}.py").write_text(plugin)
            elif plugin.is_dir():
                shutil.copytree(plugin, folder / "plugins" / name)
            else:
                shutil.copy2(plugin, folder / "plugins" / f"{name}.py")
        return folder

    def command(self, folder: Path, *arguments: str) -> str:
        """Run a command of the product in a project, and return its output."""
        done = subprocess.run(
            [sys.executable, "-m", "runner", *arguments],
            cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    @contextlib.contextmanager
    def product(
        self, vhost: Vhost, folder: Path, *arguments: str, wait: bool = True, timeout: float = 60.0
    ) -> Iterator[Product]:
        """Run ``python -m runner`` in a project's folder, and stop it afterwards.

        If ``wait`` is true, all services are running when the block starts.
        """
        config = yaml.safe_load((folder / "config.yaml").read_text())
        runner = Runner([sys.executable, "-m", "runner", *arguments], folder)
        product = Product(runner, folder, vhost)
        try:
            if wait:
                product.wait(config, timeout)
            yield product
            if runner.process.poll() is None:
                product.stop()
        finally:
            if runner.process.poll() is None:
                runner.process.kill()
                runner.process.wait(10)
            shutil.rmtree(folder, ignore_errors=True)

    def peer(self, module: str, *arguments: object, timeout: float = 120.0) -> float:
        """Run a module of ``bench.peers`` to its end, and return the last number that it printed."""
        done = subprocess.run(
            [sys.executable, "-m", f"bench.peers.{module}", *map(str, arguments)],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{module} exited with {done.returncode}:\n{done.stderr[-3000:]}")
        return float(done.stdout.split()[-1])

    @contextlib.contextmanager
    def worker(self, module: str, *arguments: object) -> Iterator[tuple[int, Callable[[], None]]]:
        """Run a module of ``bench.peers`` until the end of the block.

        Yields its pid, and a function that raises RuntimeError with the module's output if the module has exited.
        """
        log = self.folder / "worker.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", f"bench.peers.{module}", *map(str, arguments)],
                cwd=ROOT, stdout=file, stderr=file,
            )  # fmt: skip

        def works() -> None:
            if process.poll() is not None:
                raise RuntimeError(f"{module} exited with {process.returncode}:\n{log.read_text()[-3000:]}")

        try:
            yield process.pid, works
            works()
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
