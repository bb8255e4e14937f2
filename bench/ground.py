"""What every measurement stands on: one private broker, and the product run on it as a person runs it."""

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
    """Tell of the progress, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def is_installed(*modules: str) -> bool:
    """Whether a peer's packages are there; says so where they are not."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        say(f"    not measured: {', '.join(missing)} not installed")
    return not missing


class Product:
    """A running ``python -m runner``, all its services up."""

    def __init__(self, runner: Runner, folder: Path, vhost: Vhost) -> None:
        self.runner, self.folder, self.vhost = runner, folder, vhost

    def wait(self, config: Mapping[str, Any], timeout: float = 60.0) -> None:
        """Wait until every instance of every service in ``config`` is up."""
        for service, one in config["services"].items():
            for number in range(1, one.get("instances", 1) + 1):
                self.runner.wait_for(rf"{re.escape(service)}\.{number} RUNNING, pid \d+", timeout)

    def pid(self, slot: str) -> int:
        """The process of a slot, such as ``payment.1``."""
        return self.runner.pid_of(slot)

    def printed(self, pattern: str, timeout: float = 60.0) -> re.Match[str]:
        """Wait until a line was printed that holds ``pattern``."""
        return self.runner.wait_for(pattern, timeout)

    def stop(self) -> None:
        """Stop it in good order; raises RuntimeError where it does not end well."""
        code = self.runner.stop(timeout=30)
        if code != 0:
            raise RuntimeError(f"python -m runner ended with {code}:\n{self.runner.output[-3000:]}")


class Ground:
    """A private broker, with an empty vhost and a fresh folder for each measurement."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # What this shell sets for Python or for the product, a person's does not.
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
        """The broker's version."""
        return str(self.rabbit.api("GET", "/overview")["rabbitmq_version"])

    @contextlib.contextmanager
    def vhost(self) -> Iterator[Vhost]:
        """An empty vhost, deleted afterwards with all in it."""
        vhost = self.rabbit.make_vhost(f"bench-{next(self._numbers)}")
        try:
            yield vhost
        finally:
            # A million messages take longer than the ten seconds that are allowed elsewhere.
            self.rabbit.api("DELETE", f"/vhosts/{vhost.name}", timeout=120)
            # The broker takes its messages away a little later, which the next measurement should not feel.
            time.sleep(0.3)

    def project(
        self, vhost: Vhost, config: Mapping[str, Any], topology: Mapping[str, Any], plugins: Mapping[str, str | Path]
    ) -> Path:
        """A project's folder on ``vhost``; a plugin is its source, or the file or folder to copy."""
        folder = Path(tempfile.mkdtemp(dir=self.folder, prefix="project-"))
        (folder / "plugins").mkdir()
        broker = {"url": vhost.url, "start": "never", "management": vhost.rabbit.management}
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
        """Run a command of the product in a project; returns what it printed."""
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
        """Run ``python -m runner`` in a project's folder, and with ``wait`` until all is up; stopped afterwards."""
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
        """Run a module of ``bench.peers`` to its end; returns the number that it printed last."""
        done = subprocess.run(
            [sys.executable, "-m", f"bench.peers.{module}", *map(str, arguments)],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{module} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return float(done.stdout.split()[-1])

    @contextlib.contextmanager
    def worker(self, module: str, *arguments: object) -> Iterator[tuple[int, Callable[[], None]]]:
        """Run a module of ``bench.peers`` that works until it is ended.

        Gives its pid, and what raises RuntimeError, with what the module wrote, once it has ended by itself.
        """
        log = self.folder / "worker.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", f"bench.peers.{module}", *map(str, arguments)],
                cwd=ROOT, stdout=file, stderr=file,
            )  # fmt: skip

        def works() -> None:
            if process.poll() is not None:
                raise RuntimeError(f"{module} ended with {process.returncode}:\n{log.read_text()[-3000:]}")

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
