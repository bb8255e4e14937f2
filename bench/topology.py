"""The time to declare 2,000 queues with 4,000 bindings, by ``apply``, by single declarations and by an import.

usage: python -m bench.topology [--queues N] [--runs N] [--type classic|quorum]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pika
import yaml

from tests.rabbit import Rabbit, Vhost

#: The most seconds that each command may take.
GOALS = {"apply": 20.0, "plan": 5.0}


def topology(queues: int, kind: str) -> dict[str, Any]:
    """Return a topology with two bindings for each queue."""
    return {
        "defaults": {"queue_type": kind},
        "exchanges": {"orders": {"type": "topic"}},
        "queues": {
            f"queue.{number}": {"bind": {"orders": [f"order.{number}.#", f"*.{number}"]}} for number in range(queues)
        },
    }


class Project:
    """A project's folder for one vhost."""

    def __init__(self, folder: Path, vhost: Vhost, content: dict[str, Any]) -> None:
        self._folder = folder
        folder.mkdir()
        broker = {"url": vhost.url, "autostart": False, "management": vhost.rabbit.management}
        (folder / "config.yaml").write_text(yaml.safe_dump({"broker": broker}))
        (folder / "topology.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def run(self, *command: str) -> str:
        """Run a command as a user does, and return its output."""
        done = subprocess.run(
            [sys.executable, "-m", "runner", "--project", str(self._folder), *command],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode not in (0, 2):
            raise SystemExit(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout


def took(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


def sequentially(vhost: Vhost, content: dict[str, Any], kind: str) -> None:
    """Declare one object after another and wait for each answer, as most programs do."""
    connection = pika.BlockingConnection(pika.URLParameters(vhost.url))
    channel = connection.channel()
    channel.exchange_declare("orders", "topic", durable=True)
    for name, queue in content["queues"].items():
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": kind})
        for key in queue["bind"]["orders"]:
            channel.queue_bind(name, "orders", key)
    connection.close()


def measure(rabbit: Rabbit, folder: Path, run: int, queues: int, kind: str) -> dict[str, float]:
    """Measure everything once, each command in an empty vhost."""
    content = topology(queues, kind)
    vhosts = [rabbit.make_vhost(f"{kind}-{name}-{run}") for name in ("ours", "sequential", "import")]
    projects = [Project(folder / vhost.name, vhost, content) for vhost in vhosts]
    definitions = json.loads(projects[2].run("render", "--definitions"))
    result = {
        "apply": took(lambda: projects[0].run("apply")),
        "plan": took(lambda: projects[0].run("plan")),
        "sequential": took(lambda: sequentially(vhosts[1], content, kind)),
        "import": took(lambda: rabbit.api("POST", "/definitions", definitions, timeout=300)),
    }
    if not projects[0].run("plan").startswith("nothing to do"):
        raise SystemExit("plan still reports changes after apply")
    for vhost in vhosts:
        vhost.delete()
    return result


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queues", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--type", choices=["classic", "quorum"], default="classic")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rabbit = Rabbit(Path(name) / "broker")
        try:
            runs = []
            for number in range(options.runs):
                runs.append(measure(rabbit, Path(name), number, options.queues, options.type))
                sys.stderr.write(f"run {number + 1} of {options.runs} done\n")
        finally:
            rabbit.stop()
    medians = {key: median(one[key] for one in runs) for key in runs[0]}
    out = [f"{options.queues} {options.type} queues, {2 * options.queues} bindings, median of {options.runs} runs"]
    for key, words in (
        ("apply", "apply to an empty vhost"),
        ("plan", "plan with nothing to do"),
        ("sequential", "one declaration after another"),
        ("import", "import of definitions by HTTP"),
    ):
        goal = f"goal {GOALS[key]:g} s" if key in GOALS else f"{medians[key] / medians['apply']:.2f} x apply"
        out.append(f"{words:<32}{medians[key]:8.2f} s   {goal}")
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
