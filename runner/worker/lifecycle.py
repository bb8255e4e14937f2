"""The lifecycle of a worker: connecting its parts, running until a stop request, and stopping the parts in order."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.amqp.consumer import Consumer
from runner.amqp.io_thread import IoThread
from runner.amqp.publisher import Publisher
from runner.errors import EXIT_BROKER, EXIT_CONFIG, EXIT_FAILURE, EXIT_OK, StoreUnreachable
from runner.ipc.crashing_messages import CrashingMessages
from runner.ipc.lifeline import Lifeline
from runner.ipc.shared_memory import SharedMemory
from runner.messages import Message
from runner.plugins import Plugin, owned_tables
from runner.worker.context import WorkerContext
from runner.worker.crash_protection import CrashProtection
from runner.worker.deduplication import PRUNE_INTERVAL, Deduplication
from runner.worker.event_routing import EventRouter
from runner.worker.handler import DeliveryLog, Piece, PluginHandler, surrounded
from runner.worker.handler_timeout import HandlerTimes
from runner.worker.pipeline import Pipeline
from runner.worker.recorder import AttemptRecorder
from runner.worker.retry import Retries
from runner.worker.runtime import Runtime
from runner.worker.spec import WorkerSpec
from runner.worker.step_recorder import StepRecorder
from runner.worker.storage import DeliveryStore, Storage
from runner.worker.watchdog import Check, WatchdogPings

if TYPE_CHECKING:
    from runner.history.worker_history import WorkerHistory

#: The part of the stop timeout that is reserved for closing the connections, in seconds.
CLOSE_TIME = 0.5
#: The margin between a worker's own exit and the kill by the supervisor, in seconds.
MARGIN = 0.5
#: Seconds to wait for the confirm of a handler's event. The wait is long, because no client is waiting for a response.
#: If the broker is merely slow, publishing again would duplicate the event.
CONFIRM_PATIENCE = 60.0
#: The longest time that a stopping worker waits for the confirms of outbox events, in seconds.
OUTBOX_PATIENCE = 1.0
#: The time limit for reaching the broker at the start, in seconds. After this time, the worker exits, and the
#: supervisor restarts the worker when the broker answers.
CONNECT_TIMEOUT = 10.0
#: The time limit for writing the order statuses to the database, in seconds. After this time, the supervisor restarts
#: the worker.
STATUSES_PATIENCE = 5.0
#: Seconds to wait for the first connection to the broker before the ``start`` or ``run`` hook is called.
FIRST_CONNECTION = 2.0


class Worker:
    """One process of a service, with its plugin, connections and handler threads."""

    def __init__(
        self,
        spec: WorkerSpec,
        slot: str,
        plugin: Plugin,
        options: Any,
        lifeline: Lifeline,
        memory: SharedMemory,
        crashing_messages: CrashingMessages,
        log: logging.Logger,
        faults: Piece | None = None,
        history: WorkerHistory | None = None,
    ) -> None:
        """``faults`` is the wrapper that injects faults, or None if no faults are injected.

        ``history`` is None unless ``spec`` requires the event history.
        """
        self._spec, self._plugin, self._options = spec, plugin, options
        self._lifeline, self._memory, self._log = lifeline, memory, log
        # The worker must give up before the supervisor counts the start as failed.
        self._connect_time = min(CONNECT_TIMEOUT, 0.7 * spec.start_timeout)
        self._stop_time = max(MARGIN, spec.stop_timeout - MARGIN)
        self._stopping = threading.Event()
        self._exit_code = EXIT_OK
        self._resources: Any = None
        self._problems: dict[str, str | None] = {"publisher": "not connected yet", "store": None}
        self._was_ready = False
        self._has_run = "run" in plugin.implements
        self._run_status: str | None = None
        self._needs_broker = True
        self._connected = threading.Event()
        self.io = IoThread(on_crash=self._io_crashed)
        self._publisher = Publisher(
            self.io, spec.urls, f"{slot} publisher", lambda reason: self._state("publisher", reason), self._missing,
            on_refused=self._refused,
        )  # fmt: skip
        router = EventRouter(spec.service, spec.publishes)
        owned = owned_tables(plugin, options, inbox=spec.inbox is not None)
        self._storage = Storage(spec.store, Path(spec.folder), self._store_state, owned, spec.plugin)
        self._is_opened_first = spec.inbox is not None or owned is not None or spec.statuses is not None
        self._history = history
        recorded = self._storage
        if spec.history != spec.store:
            recorded = Storage(spec.history, Path(spec.folder), lambda _: None)
        self._storages = {self._storage, recorded}
        steps = StepRecorder(memory.steps, spec.quiet_queue)
        order_history = None
        if history is not None and spec.history:
            order_history = lambda order_id: history.order(recorded.get(), order_id)  # noqa: E731 - used once
        self._context = WorkerContext(
            spec.service, slot, log, self._publisher, router, self._run_ready, self._stopping,
            lifeline, memory, steps, spec.stop_timeout, self._storage, order_history,
        )  # fmt: skip
        self._deduplication = Deduplication(spec.service, self._storage, spec.inbox, router, spec.formerly)
        self._times = HandlerTimes(time.monotonic)
        recorder = AttemptRecorder(spec.service, slot, spec.trace, log) if spec.trace else None
        self._pipeline = Pipeline(
            surrounded(
                PluginHandler(spec.service, router, self._handle), self._deduplication, recorder,
                CrashProtection(memory, crashing_messages, spec.max_crashes, spec.concurrency), self._times,
                DeliveryLog(log, spec.quiet_queue), faults,
            ),
            partial(self._publisher.send, timeout=CONFIRM_PATIENCE), Retries(spec.service, spec.retry_delays), recorder,
            memory, steps, Runtime(self._call_later, lambda: self.stop(EXIT_FAILURE), log), self._missing, log,
        )  # fmt: skip
        self._consumer: Consumer | None = None
        if spec.consumes:
            self._problems["consumer"] = "not connected yet"
            self._consumer = Consumer(
                self.io, spec.urls, f"{slot} consumer", spec.consumes, spec.prefetch,
                self._pipeline.submit, lambda reason: self._state("consumer", reason), self._missing,
                at_first=spec.concurrency, on_refused=self._refused, on_timeout=self._timed_out,
            )  # fmt: skip
        self._watchdog = WatchdogPings(lifeline, self._call_later, self._checks(), spec.handler_timeout, log)

    def _checks(self) -> list[Check]:
        checks: list[Check] = []
        if self._spec.handler_timeout:
            checks.append(lambda now: self._times.overdue(now, self._spec.handler_timeout))
            checks.append(lambda now: self._storage.overdue(now, self._spec.handler_timeout))
        if self._lifeline.watchdog:
            checks.append(lambda now: self._context.overdue(now, self._lifeline.watchdog))
            checks.append(lambda now: None if self._consumer is None else self._consumer.lost(now))
        return checks

    def stop(self, exit_code: int = EXIT_OK) -> None:
        """Ask the worker to stop. Any thread may call this method."""
        self._exit_code = self._exit_code or exit_code
        self._memory.leaving()
        self._stopping.set()
        if exit_code:
            # The supervisor sets no deadline for a stop that it did not request, and the plugin's loop may ignore the
            # request.
            timer = threading.Timer(self._stop_time, os._exit, (exit_code,))
            timer.daemon = True
            timer.start()

    def run(self) -> int:
        """Run until ``stop`` is called and return the exit code."""
        self.io.start()
        self._watchdog.start()
        self._publisher.start()
        if self._is_opened_first:
            # Open the store before the first message, so that errors are reported immediately.
            store = self._storage.get()
            if self._history is not None and self._spec.statuses is not None:
                store.commit(self._history.store_statuses, STATUSES_PATIENCE).result()
        if self._spec.inbox is not None:
            threading.Thread(target=self._prune_inbox, name="inbox", daemon=True).start()
        if "start" in self._plugin.implements:
            # The hook may publish events, so wait for the broker. If no broker answers, the service starts anyway.
            self._connected.wait(FIRST_CONNECTION)
            self._resources = self._plugin.hook.start(options=self._options, context=self._context)
        if self._consumer is not None:
            self._pipeline.start(self._spec.concurrency)
            self._consumer.start()
            guard = threading.Timer(self._connect_time, self._give_up)
            guard.daemon = True
            guard.start()
        if self._has_run:
            hint = threading.Timer(0.5 * self._spec.start_timeout, self._warn_of_missing_ready)
            hint.daemon = True
            hint.start()
            # The first request may publish an event, so wait for the broker. If no broker answers, the service starts
            # anyway.
            self._connected.wait(FIRST_CONNECTION)
            with self._context.own_loop():
                self._plugin.hook.run(options=self._options, resources=self._resources, context=self._context)
            if not self._stopping.is_set():
                self._log.info("the plugin's run hook has returned; stopping")
                self.stop()
        self._stopping.wait()
        self._shut_down()
        return self._exit_code

    def _shut_down(self) -> None:
        self._deadline = time.monotonic() + self._stop_time
        self._lifeline.send("STATUS=finishing unacked messages")
        is_idle = True
        if self._consumer is not None:
            self._on_io(self._consumer.cancel, 2.0)
            is_idle = not self.io.is_stopped and self._pipeline.stop(
                self._deadline - time.monotonic() - CLOSE_TIME - MARGIN
            )
            if not is_idle:
                self._log.warning(
                    "stopped before all messages were handled; the broker will redeliver the unacked messages"
                )
            self._on_io(self._consumer.close, 2.0)
        self._context.close_outbox(min(OUTBOX_PATIENCE, max(0.0, self._deadline - time.monotonic())))
        self._on_io(self._publisher.close, 2.0)
        self.io.stop(2.0)
        for storage in self._storages:
            storage.close(max(0.0, self._deadline - time.monotonic()))
        # A handler that is still running may use the resources.
        if is_idle and "stop" in self._plugin.implements:
            self._plugin.hook.stop(options=self._options, resources=self._resources)

    def _io_crashed(self) -> None:
        self._publisher.abort("the AMQP thread has crashed")
        self.stop(EXIT_FAILURE)

    def _on_io(self, action: Callable[[Callable[[], None]], None], timeout: float) -> None:
        if not self.io.is_stopped:
            done = threading.Event()
            self.io.call(lambda: action(done.set))
            done.wait(min(timeout, max(0.0, self._deadline - time.monotonic())))

    def _call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self.io.call(lambda: self.io.loop.call_later(delay, callback))

    def _prune_inbox(self) -> None:
        while not self._stopping.wait(PRUNE_INTERVAL):
            try:
                while self._deduplication.forget():
                    pass
            except StoreUnreachable:
                continue  # the store reports the error
            except Exception:  # noqa: BLE001 - the error is logged, and the next attempt may succeed
                self._log.exception("inbox: cannot delete old rows; trying again later")

    def _handle(self, message: Message, store: DeliveryStore) -> Any:
        return self._plugin.hook.handle(message=message, options=self._options, resources=self._resources, store=store)

    def _run_ready(self, status: str, needs_broker: bool) -> None:
        self._run_status, self._needs_broker = status, needs_broker
        self._report_state()

    def _store_state(self, reason: str | None) -> None:
        self._problems["store"] = reason
        self._report_state()

    def _state(self, part: str, reason: str | None) -> None:
        before = self._problems[part]
        self._problems[part] = reason
        if part == "publisher" and reason is None:
            self._connected.set()
        if self._was_ready and before != reason and not self._stopping.is_set():
            if reason is not None:
                self._log.warning("%s: waiting for the broker, %s", part, reason)
            elif before is not None:
                self._log.info("%s: the broker is back", part)
        self._report_state()

    def _report_state(self) -> None:
        problems = [
            reason for part, reason in self._problems.items() if reason and (self._needs_broker or part != "publisher")
        ]
        problem = problems[0] if problems else None
        if self._has_run:
            # A service with its own loop also works without a broker, for example to report that no broker is
            # reachable.
            is_ready = self._run_status is not None and not self._problems.get("consumer")
        else:
            is_ready = problem is None
        if is_ready and not self._was_ready:
            self._was_ready = True
            self._lifeline.send("READY=1")
        if self._was_ready:
            doing = self._run_status or f"consuming {', '.join(self._spec.consumes)}"
            self._lifeline.send(f"STATUS={doing}", f"X_PROBLEM={problem or ''}")

    def _missing(self, reason: str) -> None:
        if not self._stopping.is_set():
            self._log.error("%s; declaring the topology again and restarting", reason)
            self.stop(EXIT_BROKER)

    def _refused(self, reason: str) -> None:
        if not self._stopping.is_set():
            self._log.error("%s", reason)
            self.stop(EXIT_CONFIG)

    def _timed_out(self, queue: str, timeout: float | None) -> None:
        # The broker redelivers the message, and this worker can no longer acknowledge the first delivery. Killing the
        # worker stops the handler before the next attempt. A message that always takes too long is eventually
        # dead-lettered.
        timeout = self._spec.consumer_timeouts.get(queue) if timeout is None else timeout
        if (problem := self._times.unacknowledged(queue, time.monotonic(), timeout)) is not None:
            self._watchdog.fail(problem)

    def _warn_of_missing_ready(self) -> None:
        if self._run_status is None and not self._stopping.is_set():
            self._log.warning(
                "the plugin's run hook has not called context.ready(); without this call, the start will fail"
            )

    def _give_up(self) -> None:
        consumer = self._consumer
        reason = (consumer.problem() if consumer is not None else None) or self._problems["publisher"]
        if not self._was_ready and reason is not None:
            self._log.error("no connection to the broker within %g s: %s", self._connect_time, reason)
            links = (consumer, self._publisher)
            is_refused = any(one is not None and one.problem() and one.close_reason.is_denial for one in links)
            self.stop(EXIT_CONFIG if is_refused else EXIT_BROKER)
