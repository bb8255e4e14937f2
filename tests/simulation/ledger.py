"""The true state of each message, and the invariants that are checked at each step."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pika

from runner.messages import Message
from runner.topology.model import RetryDelays
from tests.simulation.blame import Blame
from tests.simulation.broker import Stored
from tests.simulation.clock import Clock
from tests.simulation.database import Database
from tests.simulation.history import History
from tests.simulation.scenario import Plan, Scenario
from tests.simulation.supervisor import End
from tests.simulation.unacked_delivery import STAGES, UnackedDelivery, attempt_of, content_of

if TYPE_CHECKING:
    from tests.simulation.process import Process


class Ledger:
    """The ledger of a run. Workers and the broker report every event to it."""

    def __init__(
        self, history: History, clock: Clock, scenario: Scenario, retry_delays: RetryDelays, database: Database
    ) -> None:
        self._history, self._clock, self._scenario = history, clock, scenario
        self._retry_delays, self._database = retry_delays, database
        self.plans = {plan.name: plan for plan in scenario.messages}
        self.blame = Blame(history, clock, scenario.max_crashes)
        #: The function that is called when a message reaches its next step.
        self.on_step: Callable[[Process], None] = lambda _: None
        self._held: defaultdict[Process, list[UnackedDelivery]] = defaultdict(list)
        self._answered: set[Stored] = set()
        self._ran: set[str] = set()
        #: Running handlers. The value is True if only the commit is still missing.
        self._at_work: dict[tuple[Process, str], bool] = {}
        #: The number of deliveries of each attempt, by worker.
        self._deliveries: defaultdict[tuple[str, int], Counter[Process]] = defaultdict(Counter)
        self._event_ids: dict[tuple[str, int], str] = {}
        self._outcomes: dict[str, int] = {}
        self._confirmed: set[tuple[str, int]] = set()
        #: Copies by name, attempt and queue: the time of the first publish, and the confirmed copies.
        self._sent: dict[tuple[str, int, str], float] = {}
        self._copied: set[tuple[str, int, str]] = set()
        #: By worker and event: True if the last publish was returned.
        self._strays: dict[tuple[Process, str, int], bool] = {}
        #: The number of publishes of each event, by process, message, run of the handler and index of the event.
        self._publishes: Counter[tuple[Process, str, int, int]] = Counter()
        #: Failures of handlers whose delivery could still be acknowledged.
        self._failures: Counter[tuple[Process, str, int]] = Counter()
        #: Checked copies. A copy that is published again is the same object.
        self._justified: dict[int, pika.BasicProperties] = {}
        self.retries = {name: number + 2 for number, (_, name) in enumerate(retry_delays.steps)}

    def _has_inbox(self, plan: Plan) -> bool:
        return self._scenario.inbox and plan.has_id

    def delivered(self, process: Process, channel: object, stored: Stored) -> None:
        """Record a delivery to a worker."""
        name = content_of(stored.body)["m"]
        for other, all_held in self._held.items():
            if any(one.name == name and one.stage in (1, 2) for one in all_held) and other.alive:
                where = "the same worker" if other is process else "another worker"
                self._history.hit(f"a second delivery while the first is handled in {where}")
        if stored in self._answered:
            self._history.hit("an ack is lost and the message is delivered again")
        held = UnackedDelivery(name, stored, channel)
        again = ", again" if stored.redelivered else ""
        self._history.say(process.name, f"gets {name}, attempt {held.attempt}{again}")
        self._deliveries[name, held.attempt][process] += 1
        self._held[process].append(held)

    def _move(self, process: Process, name: str, stage: int) -> None:
        for held in self._held[process]:
            if held.name == name and held.stage < stage:
                held.stage = stage
                break
        self.on_step(process)

    def begun(self, process: Process, plan: Plan, message: Message, run: int) -> None:
        """Record the start of a handler."""
        name, attempt = plan.name, message.attempt
        self._history.say(process.name, f"handles {name}, attempt {attempt}, run {run}")
        if not 1 <= attempt <= len(self._retry_delays.steps) + 1:
            self._history.fail("retry delays", f"{name} is at attempt {attempt}")
        if attempt > 1:
            delay, queue = self._retry_delays.steps[attempt - 2]
            sent = self._sent.get((name, attempt, queue))
            if sent is None:
                self._history.fail("retry delays", f"{name} is at attempt {attempt}, but no copy was sent to {queue}")
            elif self._clock.now < sent + delay:
                self._history.fail("delays", f"{name} at attempt {attempt} {sent + delay - self._clock.now} s early")
        if self._has_inbox(plan) and (process, name) in self._at_work:
            self._history.fail("inbox", f"{name} is handled twice at once in one worker")
        self._at_work[process, name] = False
        self.blame.begun(process, message)
        self._move(process, name, 1)

    def ended(self, process: Process, plan: Plan) -> None:
        """Record the end of a handler, with or without a failure."""
        if not self._at_work.get((process, plan.name)):
            self._at_work.pop((process, plan.name), None)

    def failed(self, process: Process, plan: Plan, attempt: int) -> None:
        """Record a failure. It causes a copy only if the delivery can still be acknowledged."""
        channel = process.consumer.channel
        if any((one.name, one.attempt, one.channel) == (plan.name, attempt, channel) for one in self._held[process]):
            self._failures[process, plan.name, attempt] += 1

    def ran(self, process: Process, plan: Plan, run: int) -> None:
        """Record a handler that has finished without a failure."""
        self._history.say(process.name, f"handled {plan.name}, run {run}")
        self._ran.add(plan.name)
        self._at_work[process, plan.name] = plan.kind not in ("refused", "unwritable")
        self._move(process, plan.name, 2)

    def committed(self, process: Process) -> None:
        """Record a commit that has not been reported to the worker yet."""
        for held in self._held[process]:
            if held.stage == 2:
                held.stage = 3
                self._at_work.pop((process, held.name), None)
        self._history.say(process.name, "commits")
        self.on_step(process)

    def published(self, process: Process, key: str, properties: pika.BasicProperties, body: bytes) -> None:
        """Record a publish that a worker has written to its connection."""
        if key == "notes":
            return
        content = content_of(body)
        name = content["m"]
        self._history.say(process.name, f"publishes to {key}: {name} {content.get('i', '')}")
        if key in ("done", "astray"):
            self._strays[process, name, content["i"]] = False
            self._publishes[process, name, content["run"], content["i"]] += 1
            self._check_event(self.plans[name], content, properties)
        elif id(properties) not in self._justified:
            self._justified[id(properties)] = properties
            self._check_copy(process, self.plans[name], key, properties)
        self._move(process, name, 4)

    def _check_event(self, plan: Plan, content: dict[str, Any], properties: pika.BasicProperties) -> None:
        index, run = content["i"], content["run"]
        if self._event_ids.setdefault((plan.name, index), properties.message_id) != properties.message_id:
            self._history.fail("event ids", f"event {index} of {plan.name} has another id than before")
        if plan.has_effect and run not in self._database.effects_of(plan.name):
            self._history.fail(
                "commit first", f"event {index} of {plan.name} is published before run {run} is committed"
            )
        if self._has_inbox(plan):
            if not self._database.is_in_inbox(plan.name):
                self._history.fail("commit first", f"event {index} of {plan.name} is published, but not in the inbox")
            if self._outcomes.setdefault(plan.name, run) != run:
                self._history.fail(
                    "one outcome",
                    f"{plan.name} has events of runs {self._outcomes[plan.name]} and {run}",
                )

    def _check_copy(self, process: Process, plan: Plan, key: str, properties: pika.BasicProperties) -> None:
        headers, attempt = properties.headers, attempt_of(properties)
        name, error, is_dead_lettered = plan.name, headers["x-last-error"], key == self._retry_delays.dead_letter
        failed = attempt if is_dead_lettered else attempt - 1
        is_last = failed > len(self._retry_delays.steps)
        if "the message crashed its worker" in error:
            self._history.hit("dead-lettered for crashing its workers")
            if not is_dead_lettered or not self.blame.is_guilty(headers["x-crashes"], name):
                self._history.fail("poison", f"{name} to {key} for {error}, deaths that count: {self.blame.of(name)}")
        elif is_dead_lettered != (is_last or error.startswith("rejected")) or (
            not is_dead_lettered and self.retries.get(key) != attempt
        ):
            self._history.fail("retry delays", f"{name} goes to {key} as attempt {attempt}, for {error}")
        elif not self._is_justified(process, plan, failed, error):
            self._history.fail("no failure without a cause", f"{name} goes to {key} as attempt {attempt}, for {error}")
        self._sent.setdefault((name, attempt, key), self._clock.now)

    def _is_justified(self, process: Process, plan: Plan, attempt: int, error: str) -> bool:
        if (plan.name, attempt) not in self._deliveries:
            return False
        if "no binding matches" in error:
            # If two handlers run on the same message, a returned event could be from either.
            held = sum(one.name == plan.name for one in self._held[process])
            return max(held, self._deliveries[plan.name, attempt][process]) > 1 or any(
                self._strays.get((process, plan.name, index), False) for index in range(plan.events)
            )
        if "IntegrityError" in error:
            return plan.kind == "refused"
        if plan.kind == "unwritable":
            return "not JSON compliant" in error
        self._failures[process, plan.name, attempt] -= 1
        return f"{plan.kind} at attempt {attempt}" in error and self._failures[process, plan.name, attempt] >= 0

    def returned(self, process: Process, properties: pika.BasicProperties, body: bytes) -> None:
        """Record a returned message."""
        if (properties.headers or {}).get("x-causation-id") is not None:
            content = content_of(body)
            self._history.say(process.name, f"gets back {content.get('m', 'a note')}")
            if "run" in content:
                self._strays[process, content["m"], content["i"]] = True

    def confirmed(self, process: Process, key: str, properties: pika.BasicProperties, body: bytes) -> None:
        """Record a confirm."""
        if key == "notes":
            return
        content = content_of(body)
        name = content["m"]
        if key in ("done", "astray"):
            self._confirmed.add((name, content["i"]))
        else:
            self._copied.add((name, attempt_of(properties), key))
        self._history.say(process.name, f"gets the confirm of {name} {content.get('i', '')} to {key}")
        self._move(process, name, 5)

    def is_repeated(self, name: str) -> bool:
        """Return True if several outcomes are possible.

        This happens if an attempt was delivered more than once, or if an event was published again for lack of a
        confirm. Then the first publish may be confirmed late, while the second publish finds no queue.
        """
        is_redelivered = any(came.total() > 1 for (one, _), came in self._deliveries.items() if one == name)
        return is_redelivered or any(count > 1 for (_, one, *_), count in self._publishes.items() if one == name)

    def is_done(self, plan: Plan) -> bool:
        """Return True if the effect is committed and all events are confirmed."""
        return (
            plan.name in self._ran
            and (not plan.has_effect or bool(self._database.effects_of(plan.name)))
            and all((plan.name, index) in self._confirmed for index in range(plan.events))
        )

    def acked(self, process: Process, stored: Stored) -> None:
        """Record an ack."""
        name, attempt = content_of(stored.body)["m"], attempt_of(stored.properties)
        self._history.say(process.name, f"acks {name}, attempt {attempt}")
        copies = {(name, attempt, self._retry_delays.dead_letter)}
        if attempt <= len(self._retry_delays.steps):
            copies.add((name, attempt + 1, self._retry_delays.steps[attempt - 1][1]))
        if not copies & self._copied and not self.is_done(self.plans[name]):
            self._history.fail("ack", f"{name}, attempt {attempt}, is not done, and no copy is confirmed")
        self._answered.add(stored)
        self._held[process] = [held for held in self._held[process] if held.stored is not stored]
        self.on_step(process)

    def rejected(self, process: Process, stored: Stored, *, requeue: bool) -> None:
        """Record a rejection, which makes the broker dead-letter the message."""
        name = content_of(stored.body)["m"]
        self._history.say(process.name, f"rejects {name}")
        if self.plans[name].kind != "unfit" or requeue:
            self._history.fail("reject", f"{name} is {self.plans[name].kind}")
        self._held[process] = [held for held in self._held[process] if held.stored is not stored]

    def lost(self, process: Process, what: str) -> None:
        """Record a lost connection."""
        for stage in {held.stage for held in self._held[process]}:
            self._history.hit(f"{what}: {STAGES[stage]}")

    def died(self, process: Process, end: End) -> None:
        """Record the death of a worker."""
        self.lost(process, "crash")
        self.blame.died(process, end)
