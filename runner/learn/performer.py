"""The execution of the steps of a task."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from runner.config.value import format_duration
from runner.errors import RunnerError
from runner.learn.customer import CUSTOMER
from runner.learn.evaluation import compare
from runner.learn.files_seen import FilesSeen
from runner.learn.given_step import Fault, GivenStep, Publication
from runner.learn.trial import Trial
from runner.learn.trial_files import TrialFiles

#: Seconds within which the moment of a kill must come, and a killed process must be replaced.
MOMENT_TIMEOUT = 10.0
PAUSE = 0.02


class Performer:
    """The steps of one task on its trial."""

    def __init__(self, trial: Trial, files: TrialFiles, learner: Path, restart_broker: Callable[[float], None]) -> None:
        """``learner`` is the folder with the learner's files. ``restart_broker`` kills and starts the broker."""
        self._trial, self._files, self._learner, self._restart_broker = trial, files, learner, restart_broker
        self._threads: list[threading.Thread] = []
        self._problems: list[Exception] = []
        self._source = learner
        self._group = 0
        self._has_killed_broker = False

    def begin(self, steps: tuple[GivenStep, ...], starter: Path) -> None:
        """Write the files for the start. If the first step changes the gateway, no reload is needed for this change."""
        self._source = starter if any(one.save for one in steps) else self._learner
        for step in steps:
            if step.gateway is None:
                break
            self._set_gateway(step)
        self._files.write(self._source)

    def perform(self, steps: tuple[GivenStep, ...]) -> None:
        """Perform the steps. Raises RunnerError if the system refuses a step."""
        is_first = True
        for step in steps:
            is_first = is_first and step.gateway is not None
            if not is_first:
                self._perform(step)

    def join(self) -> None:
        """Wait for the steps in the background. Raises the first of their errors."""
        for thread in self._threads:
            thread.join()
        if self._problems:
            raise self._problems[0]

    def _perform(self, step: GivenStep) -> None:
        action: Callable[[GivenStep], None] = getattr(self, f"_{step.subject}")
        is_duplication = step.fault is not None and step.fault.duplicate is not None
        if not step.background and not is_duplication:
            action(step)
            return
        before = self._duplications()
        self._trial.background += 1

        def work() -> None:
            try:
                action(step)
            except Exception as error:  # noqa: BLE001 - join() raises it on the thread of the check
                # A duplication ends with the broker that the task kills.
                if not (is_duplication and self._has_killed_broker):
                    self._problems.append(error)
            finally:
                self._trial.background -= 1

        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()
        # The command duplicates messages that come later, so the following steps must run at the same time.
        while is_duplication and thread.is_alive() and self._duplications() <= before:
            time.sleep(PAUSE)

    def _duplications(self) -> set[str]:
        """Return the names of the active duplications."""
        return {one.name for one in (self._trial.folder / "var" / "faults").glob("duplicate.*")}

    def _orders(self, step: GivenStep) -> None:
        self._group += 1
        self._trial.customer.post(step, self._group, lambda order: self._publish_about(order, step.followed_by))

    def _set_gateway(self, step: GivenStep) -> None:
        assert step.gateway is not None  # noqa: S101 - for the type checker
        self._files.gateway |= step.gateway.options

    def _gateway(self, step: GivenStep) -> None:
        self._set_gateway(step)
        self._reload()

    def _save(self, _: GivenStep) -> None:
        self._source = self._learner
        self._reload()

    def _reload(self) -> None:
        self._files.write(self._source)
        self._trial.control("reload")
        self._trial.read_files()

    def _publish(self, step: GivenStep) -> None:
        self._publish_about(None, step.publish)

    def _publish_about(self, order: str | None, publication: Publication | None) -> None:
        """Publish messages about an order. By default, each message is about a different order."""
        for key in () if publication is None else publication.keys:
            one = order or str(uuid.uuid4())
            body = {"order_id": one, "customer_email": CUSTOMER, "amount": "149.99", "currency": "USD", "region": None}
            self._trial.publish(publication.exchange, key, json.dumps(body), one)  # type: ignore[union-attr]

    def _kill(self, step: GivenStep) -> None:
        if step.when is not None and step.when.confirmed:
            self._kill_confirmed(str(step.kill))
            return
        deadline = time.monotonic() + MOMENT_TIMEOUT
        while time.monotonic() < deadline:
            for slot in self._trial.slots():
                is_named = step.kill in (slot["slot"], slot["service"])
                unacked = None if step.when is None else step.when.unacked
                is_due = unacked is None or unacked.matches(slot["in_hand"] or 0)
                if is_named and is_due and slot["state"] == "RUNNING" and slot["pid"]:
                    _kill_process(slot["pid"])
                    return
            time.sleep(PAUSE)
        # The expectations show the consequence. A process that never works has no such moment.

    def _kill_confirmed(self, service: str) -> None:
        """Kill a service when its events are confirmed, and remove their marks from the outbox.

        The time between the confirm of an event and its mark is too short for an exact kill. Removing the marks after
        the kill leaves the same state.
        """
        marks, deadline = self._trial.outbox, time.monotonic() + MOMENT_TIMEOUT
        while marks.waiting() and time.monotonic() < deadline:
            time.sleep(PAUSE)
        pids = [slot["pid"] for slot in self._trial.slots() if slot["service"] == service and slot["pid"]]
        for pid in pids:
            _kill_process(pid)
        marks.remove(service)

    def _stop(self, step: GivenStep) -> None:
        self._control("stop", step.stop)

    def _start(self, step: GivenStep) -> None:
        self._control("start", step.start)

    def _control(self, command: str, target: str | None) -> None:
        # A service that the learner has not added yet cannot be controlled, which the expectations show.
        if any(target in (slot["slot"], slot["service"]) for slot in self._trial.slots()):
            self._trial.control(command, target=target)

    def _scale(self, step: GivenStep) -> None:
        for service, instances in (step.scale or {}).items():
            self._trial.control("scale", target=service, instances=instances)

    def _replay(self, step: GivenStep) -> None:
        selection = ["--all"] if step.replay == "all" else ["--queue", str(step.replay)]
        try:
            self._trial.run_command("dlq", "replay", *selection)
        except RunnerError as error:
            # Without dead letters there is nothing to replay, which the expectations show.
            if "no dead letter" not in str(error):
                raise

    def _wait(self, step: GivenStep) -> None:
        deadline = time.monotonic() + step.within
        while time.monotonic() < deadline:
            observed = self._trial.observe()
            if all(compare(one, observed, FilesSeen()).is_met for one in step.wait or ()):
                return
            time.sleep(PAUSE)

    def _fault(self, step: GivenStep) -> None:
        fault = step.fault
        assert fault is not None  # noqa: S101 - for the type checker
        if fault.broker_restart is not None:
            self._has_killed_broker = True
            self._restart_broker(fault.broker_restart)
        else:
            self._trial.run_command("fault", *_fault_arguments(fault))


def _kill_process(pid: int) -> None:
    # The process may have exited by itself meanwhile.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _fault_arguments(fault: Fault) -> list[str]:
    if fault.poison is not None:
        return ["poison", fault.poison, "--count", str(fault.count), *(["--kill"] if fault.kill else [])]
    if fault.duplicate is not None:
        return ["duplicate", fault.duplicate, "--count", str(fault.count)]
    assert fault.disconnect is not None  # noqa: S101 - for the type checker
    return ["disconnect", format_duration(fault.disconnect), *([fault.service] if fault.service else [])]
