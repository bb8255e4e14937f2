"""A new exercise to start from, and the students' bundle."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from runner.errors import RunnerError
from runner.learn.exercise import FILE, README, SOLUTION, STARTER, WRONG, Exercise
from runner.learn.proof import SENTENCE

_EXERCISE = """\
title: {title}
level: completion
minutes: 8
predict:
  ask: payment consumes payment.order.created. What happens to three orders while no payment process runs?
  choices: [they are lost, they wait in the queue, the API refuses them]
  answer: they wait in the queue
edit: [config.yaml]
hints:
  - Which service handles the orders?
  - The number of its processes is in config.yaml.
  - "Under payment, write instances: ___."
tasks:
  - id: paid
    title: Start a payment process, so that each order is paid.
    points: 1
    given: [{{orders: 3}}]
    expect: [{{order: {{status: paid, count: 3}}}}]
    within: 5s
    look: [config.yaml, services, payment]
    when_wrong:
      - saw: {{queue: payment.order.created, ready: ">0"}}
        say: "{{saw}} orders wait in payment.order.created. No payment process reads the queue."
      - saw: {{config_error: instances}}
        say: The number of instances is a whole number, such as 1.
explain: |
  The queue has kept the orders until a process read them.
review:
  ask: Where are the orders of a service that is stopped?
  choices: [in its queue, in the exchange, nowhere]
  answer: in its queue
"""
_README = """\
# {number}. {title}

payment has no process, so the orders wait in the queue `payment.order.created`.

Change `config.yaml`, so that the orders are paid.
"""


def scaffold(folder: Path, name: str, starter: Path) -> Path:
    """Write a new exercise that passes its proof unchanged, and return its folder.

    ``starter`` is the folder with the original files. Raises RunnerError if the folder exists.
    """
    target = folder / name
    if target.exists():
        raise RunnerError(f"{target}: already exists; allowed: a new name")
    number, _, words = name.partition("-")
    title = words.replace("-", " ").capitalize()
    (target / WRONG).mkdir(parents=True)
    (target / FILE).write_text(_EXERCISE.format(title=title), "utf-8")
    (target / README).write_text(_README.format(number=int(number), title=title), "utf-8")
    config = (starter / "config.yaml").read_text("utf-8")
    line = "    consumes: [payment.order.created]\n"
    _project(target / STARTER, starter, config.replace(line, f"    instances: 0\n{line}"))
    _project(target / SOLUTION, starter, config.replace(line, f"    instances: 1\n{line}"))
    other = "    consumes: [notification.order.events, notification.payment.events]\n"
    waits = "3 orders are waiting in payment.order.created, because no payment process is reading the queue."
    mistakes = {
        "still-zero": (config.replace(line, f"    instances: 0\n{line}"), waits),
        "other-service": (
            config.replace(line, f"    instances: 0\n{line}").replace(other, f"    instances: 1\n{other}"), waits,
        ),
        "no-number": (
            config.replace(line, f"    instances: one\n{line}"),
            "The number of instances is a whole number, such as 1.",
        ),
    }  # fmt: skip
    for variant, (text, sentence) in mistakes.items():
        (target / WRONG / variant).mkdir()
        (target / WRONG / variant / "config.yaml").write_text(text, "utf-8")
        (target / WRONG / variant / SENTENCE).write_text(f"{sentence}\n", "utf-8")
    return target


def _project(folder: Path, starter: Path, config: str) -> None:
    folder.mkdir()
    (folder / "config.yaml").write_text(config, "utf-8")
    shutil.copy(starter / "topology.yaml", folder)


def export(exercises: Sequence[Exercise], target: Path, *, has_solutions: bool) -> None:
    """Copy exercises into a new folder. Without solutions, the wrong solutions are left out too.

    Raises RunnerError if the folder exists and is not empty.
    """
    if target.exists() and any(target.iterdir()):
        raise RunnerError(f"{target}: is not empty; allowed: a new folder")
    left_out = ["__pycache__"] if has_solutions else ["__pycache__", SOLUTION, WRONG]
    for one in exercises:
        shutil.copytree(one.folder, target / "exercises" / one.name, ignore=shutil.ignore_patterns(*left_out))
