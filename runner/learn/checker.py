"""The check of an exercise: first the configuration, then the wiring, then the counts, and finally the times."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runner.broker.port import free_port
from runner.errors import ConfigError, RunnerError
from runner.history.entries import HistoryEntry
from runner.history.order_history import build_history
from runner.learn.classroom_broker import ClassroomBroker
from runner.learn.evaluation import Seen, compare
from runner.learn.exercise import Exercise, Sentence, Task
from runner.learn.expectation import Expectation
from runner.learn.files_seen import FilesSeen
from runner.learn.learner_files import LearnerFiles
from runner.learn.observation import ACCEPTED, Observation
from runner.learn.performer import Performer
from runner.learn.trial import SystemFailed, Trial
from runner.learn.trial_files import TrialFiles
from runner.learn.verdict import ExerciseResult, TaskResult, Verdict

#: Seconds without any change after which a quiet system is assumed not to change any more.
QUIET_TIME = 1.0
#: The same for a task that kills the broker. It is longer, because the processes reconnect after up to 5 seconds.
RECONNECT_TIME = 7.0
#: Seconds between two observations of the system.
PAUSE = 0.1
#: The maximum number of entries of an order's history to show.
MOST_ENTRIES = 8
#: The number of tasks that are checked at the same time.
PARALLEL = max(1, min(3, os.cpu_count() or 1))


def check_exercise(exercise: Exercise, folder: Path, broker: ClassroomBroker, prediction: str = "") -> ExerciseResult:
    """Check the files in ``folder`` and return the result. Only expected errors become results."""
    files = LearnerFiles(exercise, folder, prediction)
    tasks = exercise.file.tasks
    refusal = files.refusal()
    if refusal is not None:
        first, *rest = tasks
        results = [_refused(first, refusal, files), *(_not_checked(one) for one in rest)]
        return ExerciseResult(exercise.name, exercise.file.title, results)
    broker.revive()
    trials: list[Trial] = []
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        try:
            results = list(pool.map(lambda task: _check_safely(task, exercise, files, broker, trials), tasks))
        except KeyboardInterrupt:
            # The pool waits for its threads, which end when their systems have stopped.
            for trial in trials:
                trial.stop()
            raise
    return ExerciseResult(exercise.name, exercise.file.title, results)


def _result(task: Task, verdict: Verdict, seconds: float = 0.0) -> TaskResult:
    points = task.points if verdict is Verdict.PASS else 0
    return TaskResult(task.id, task.title, verdict, points, task.points, seconds=seconds)


def _refused(task: Task, lines: Sequence[str], files: LearnerFiles) -> TaskResult:
    """Return the result of files that cannot run."""
    # The system has not run, so facts about it, such as a count of 0, would be met by accident.
    sentences = [one for other in files.exercise.file.tasks for one in other.when_wrong if one.is_about_errors]
    said = next(iter(_matching(sentences, Observation(), files)), None)
    look, _, _ = lines[0].partition(": ")
    return replace(
        _result(task, Verdict.FAIL),
        did="read your files", expected="files without errors", saw="\n".join(lines),
        say="" if said is None else said.say.replace("{saw}", lines[0]), look=look, line=files.line_at(look),
    )  # fmt: skip


def _not_checked(task: Task) -> TaskResult:
    return replace(_result(task, Verdict.FAIL), saw="not checked, because the files cannot run")


def _check_safely(
    task: Task, exercise: Exercise, files: LearnerFiles, broker: ClassroomBroker, trials: list[Trial]
) -> TaskResult:
    started = time.monotonic()
    try:
        found = _check_task(task, exercise, files, broker, trials)
    except ConfigError as error:
        # The error is in a plugin. Only the start of the system finds such errors.
        found = _refused(task, files.started_with(error.faults), files)
    except SystemFailed as error:
        found = replace(_result(task, Verdict.FAIL), did=_did(task), expected="a running system", saw=str(error))
    except (RunnerError, OSError, subprocess.SubprocessError, sqlite3.Error) as error:
        found = replace(_result(task, Verdict.ERROR), did=_did(task), saw=str(error))
    return replace(found, seconds=round(time.monotonic() - started, 3))


def _check_task(
    task: Task, exercise: Exercise, files: LearnerFiles, broker: ClassroomBroker, trials: list[Trial]
) -> TaskResult:
    if task.needs_no_system:
        return _judge(task, files, Outcome(Observation(), _first_unmet(task.expect, Observation(), files.seen)))
    port = free_port()
    records = any(one.event or one.rows for one in (*task.expect, *task.never))
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="fastcommerce-learn-", ignore_cleanup_errors=True))
        )
        url = stack.enter_context(broker.vhost())
        trial = Trial(folder, url, broker.address.management_url, port)
        trials.append(trial)
        trial_files = TrialFiles(folder, url, port, records_events=records, adds_audit=exercise.file.adds_audit)
        performer = Performer(trial, trial_files, files.folder, broker.restart)
        performer.begin(task.given, exercise.starter)
        stack.enter_context(trial.running())
        performer.perform(task.given)
        outcome = _watch(task, trial, files)
        performer.join()
        return _judge(task, files, outcome)


@dataclass(frozen=True)
class Outcome:
    """The state at the end of a task."""

    observed: Observation
    #: The first expectation that was not met, or None.
    unmet: Seen | None
    #: The expectation of ``never`` that became true, or None.
    happened: Seen | None = None


def _watch(task: Task, trial: Trial, files: LearnerFiles) -> Outcome:
    """Observe the system until all expectations are met and stay met, or can no longer be met."""
    keys = frozenset(one.queue for one in task.expect if one.keys is not None and one.queue)
    started = time.monotonic()
    deadline = started + task.within
    met_since: float | None = None
    fingerprint, changed_at = object(), started
    quiet_time = RECONNECT_TIME if task.kills_broker else QUIET_TIME
    while True:
        trial.check_exit()
        observed = trial.observe(keys)
        now = time.monotonic()
        happened = next((seen for seen in _all(task.never, observed, files.seen) if seen.is_met), None)
        unmet = _first_unmet(task.expect, observed, files.seen)
        if happened is not None:
            return Outcome(observed, unmet, happened)
        if unmet is None:
            met_since = now if met_since is None else met_since
            if now - met_since >= task.stays_for:
                return Outcome(observed, None)
        elif met_since is not None and task.stays_for:
            return Outcome(observed, unmet)
        current = observed.fingerprint()
        if current != fingerprint or not observed.is_quiet:
            fingerprint, changed_at = current, now
        is_decided = unmet is not None and unmet.is_decided and now - started >= QUIET_TIME
        is_final = is_decided or now >= deadline or now - changed_at >= quiet_time
        if is_final and unmet is not None:
            # Without a broker, no system meets an expectation.
            trial.check_broker()
            return Outcome(observed, unmet)
        time.sleep(PAUSE)


def _all(expectations: Iterable[Expectation], observed: Observation, files: FilesSeen) -> Iterable[Seen]:
    return (compare(one, observed, files) for one in expectations)


def _first_unmet(expectations: Iterable[Expectation], observed: Observation, files: FilesSeen) -> Seen | None:
    return next((seen for seen in _all(expectations, observed, files) if not seen.is_met), None)


def _judge(task: Task, files: LearnerFiles, outcome: Outcome) -> TaskResult:
    problem = outcome.happened or outcome.unmet
    sentences = task.when_right if problem is None else task.when_wrong
    said = next(iter(_matching(sentences, outcome.observed, files)), None)
    say = ""
    if said is not None:
        say = said.say.replace("{saw}", compare(said.saw[0], outcome.observed, files.seen).value)
    if problem is None:
        return replace(_result(task, Verdict.PASS), say=say)
    look = files.place((said.look if said is not None else ()) or task.look)
    expected = f"never {problem.expected}" if outcome.happened is not None else problem.expected
    return replace(
        _result(task, Verdict.FAIL), did=_did(task), expected=expected, saw=problem.saw, say=say, look=look,
        line=files.line_at(look), history=_history(outcome.observed, files),
        findings=files.finding_lines(),
    )  # fmt: skip


def _matching(sentences: Iterable[Sentence], observed: Observation, files: LearnerFiles) -> Iterable[Sentence]:
    """Return the sentences whose facts were seen."""
    for one in sentences:
        if all(compare(saw, observed, files.seen).is_met for saw in one.saw):
            yield one


def _did(task: Task) -> str:
    return "; ".join(step.words() for step in task.given) or "read your files"


def _history(observed: Observation, files: LearnerFiles) -> list[str]:
    """Return the history of the first order without an outcome, or of the slowest order."""
    statuses = observed.statuses()
    order = next((one for one, status in statuses.items() if status == ACCEPTED), None) or observed.slowest_order()
    if order is None:
        return []
    events = [one for one in observed.events if one.order_id == order]
    attempts = [one for one in observed.attempts if one.order_id == order]
    entries: Sequence[HistoryEntry] = build_history(order, events, attempts, {}).entries
    start = min((one.at for one in entries), default=0)
    lines = [f"{(one.at - start) / 1000:7.3f} s  {one.what}" for one in entries[:MOST_ENTRIES]]
    more = [f"          and {len(entries) - MOST_ENTRIES} more"] if len(entries) > MOST_ENTRIES else []
    return [f"order {order[:8]}: {statuses[order].replace('_', '-')}", *lines, *more]
