"""What is true of each message, seen from above; and the invariants, checked at each step."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pika

from runner.messages import Message
from runner.topology.model import Ladder
from tests.simulation.blame import Blame
from tests.simulation.broker import Stored
from tests.simulation.clock import Clock
from tests.simulation.database import Database
from tests.simulation.held import STAGES, Held, attempt_of, content_of
from tests.simulation.history import History
from tests.simulation.scenario import Plan, Scenario
from tests.simulation.supervisor import End

if TYPE_CHECKING:
    from tests.simulation.process import Process


class Ledger:
    """Told of everything, by both sides."""

    def __init__(self, history: History, clock: Clock, scenario: Scenario, ladder: Ladder, database: Database) -> None:
        self._history, self._clock, self._scenario = history, clock, scenario
        self._ladder, self._database = ladder, database
        self.plans = {plan.name: plan for plan in scenario.messages}
        self.blame = Blame(history, clock, scenario.max_crashes)
        #: Told when a message gets a step further.
        self.on_step: Callable[[Process], None] = lambda _: None
        self._held: defaultdict[Process, list[Held]] = defaultdict(list)
        self._answered: set[Stored] = set()
        self._ran: set[str] = set()
        #: Which handlers are at what, and whether they are through and only the commit is left.
        self._at_work: dict[tuple[Process, str], bool] = {}
        #: How often each attempt came, by worker.
        self._came: defaultdict[tuple[str, int], Counter[Process]] = defaultdict(Counter)
        self._event_ids: dict[tuple[str, int], str] = {}
        self._outcomes: dict[str, int] = {}
        self._confirmed: set[tuple[str, int]] = set()
        #: Copies by name, attempt and queue: when the first was sent, and those that are confirmed.
        self._sent: dict[tuple[str, int, str], float] = {}
        self._copied: set[tuple[str, int, str]] = set()
        #: By worker and event: whether its last publish was returned.
        self._strays: dict[tuple[Process, str, int], bool] = {}
        #: Failures of handlers whose delivery could still be answered.
        self._failures: Counter[tuple[Process, str, int]] = Counter()
        #: Those that were looked at: a copy that is sent again is the same object.
        self._justified: dict[int, pika.BasicProperties] = {}
        self.retries = {name: number + 2 for number, (_, name) in enumerate(ladder.steps)}

    def _has_inbox(self, plan: Plan) -> bool:
        return self._scenario.inbox and plan.has_id

    def delivered(self, process: Process, channel: object, stored: Stored) -> None:
        """A delivery has come to a worker."""
        name = content_of(stored.body)["m"]
        for other, all_held in self._held.items():
            if any(one.name == name and one.stage in (1, 2) for one in all_held) and other.alive:
                where = "the same worker" if other is process else "another worker"
                self._history.hit(f"a second delivery while the first is at work in {where}")
        if stored in self._answered:
            self._history.hit("an ack is lost and the message comes again")
        held = Held(name, stored, channel)
        again = ", again" if stored.redelivered else ""
        self._history.say(process.name, f"gets {name}, attempt {held.attempt}{again}")
        self._came[name, held.attempt][process] += 1
        self._held[process].append(held)

    def _move(self, process: Process, name: str, stage: int) -> None:
        for held in self._held[process]:
            if held.name == name and held.stage < stage:
                held.stage = stage
                break
        self.on_step(process)

    def begun(self, process: Process, plan: Plan, message: Message, run: int) -> None:
        """A handler begins."""
        name, attempt = plan.name, message.attempt
        self._history.say(process.name, f"handles {name}, attempt {attempt}, run {run}")
        if not 1 <= attempt <= len(self._ladder.steps) + 1:
            self._history.fail("the ladder", f"{name} is at attempt {attempt}")
        if attempt > 1:
            delay, queue = self._ladder.steps[attempt - 2]
            sent = self._sent.get((name, attempt, queue))
            if sent is None:
                self._history.fail("the ladder", f"{name} is at attempt {attempt}, and no copy was sent to {queue}")
            elif self._clock.now < sent + delay:
                self._history.fail("delays", f"{name} at attempt {attempt} {sent + delay - self._clock.now} s early")
        if self._has_inbox(plan) and (process, name) in self._at_work:
            self._history.fail("inbox", f"{name} is handled twice at once in one worker")
        self._at_work[process, name] = False
        self.blame.begun(process, message)
        self._move(process, name, 1)

    def ended(self, process: Process, plan: Plan) -> None:
        """A handler is through, in whatever way."""
        if not self._at_work.get((process, plan.name)):
            self._at_work.pop((process, plan.name), None)

    def failed(self, process: Process, plan: Plan, attempt: int) -> None:
        """A handler fails: that makes a copy where its delivery can still be answered, and else nothing."""
        channel = process.consumer.channel
        if any((one.name, one.attempt, one.channel) == (plan.name, attempt, channel) for one in self._held[process]):
            self._failures[process, plan.name, attempt] += 1

    def ran(self, process: Process, plan: Plan, run: int) -> None:
        """A handler is through without a failure."""
        self._history.say(process.name, f"handled {plan.name}, run {run}")
        self._ran.add(plan.name)
        self._at_work[process, plan.name] = plan.kind not in ("refused", "unwritable")
        self._move(process, plan.name, 2)

    def committed(self, process: Process) -> None:
        """A batch is committed, though nobody knows yet."""
        for held in self._held[process]:
            if held.stage == 2:
                held.stage = 3
                self._at_work.pop((process, held.name), None)
        self._history.say(process.name, "commits")
        self.on_step(process)

    def published(self, process: Process, key: str, properties: pika.BasicProperties, body: bytes) -> None:
        """A worker has written a publish to its connection."""
        if key == "notes":
            return
        content = content_of(body)
        name = content["m"]
        self._history.say(process.name, f"publishes to {key}: {name} {content.get('i', '')}")
        if key in ("done", "astray"):
            self._strays[process, name, content["i"]] = False
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
            self._history.fail("commit first", f"event {index} of {plan.name} is sent, run {run} is not committed")
        if self._has_inbox(plan):
            if not self._database.is_taken_in(plan.name):
                self._history.fail("commit first", f"event {index} of {plan.name} is sent, and not in the inbox")
            if self._outcomes.setdefault(plan.name, run) != run:
                self._history.fail(
                    "one outcome", f"{plan.name} is told with run {run} after {self._outcomes[plan.name]}"
                )

    def _check_copy(self, process: Process, plan: Plan, key: str, properties: pika.BasicProperties) -> None:
        headers, attempt = properties.headers, attempt_of(properties)
        name, error, is_parked = plan.name, headers["x-last-error"], key == self._ladder.dead_letter
        failed = attempt if is_parked else attempt - 1
        is_last = failed > len(self._ladder.steps)
        if "its worker died of it" in error:
            self._history.hit("parked for killing its workers")
            if not is_parked or not self.blame.is_guilty(headers["x-crashes"], name):
                self._history.fail("poison", f"{name} to {key} for {error}, held against it: {self.blame.of(name)}")
        elif is_parked != (is_last or error.startswith("rejected")) or (
            not is_parked and self.retries.get(key) != attempt
        ):
            self._history.fail("the ladder", f"{name} goes to {key} as attempt {attempt}, for {error}")
        elif not self._is_justified(process, plan, failed, error):
            self._history.fail("no failure without a cause", f"{name} goes to {key} as attempt {attempt}, for {error}")
        self._sent.setdefault((name, attempt, key), self._clock.now)

    def _is_justified(self, process: Process, plan: Plan, attempt: int, error: str) -> bool:
        if (plan.name, attempt) not in self._came:
            return False
        if "no queue is bound" in error:
            # Of two that are at the same message nobody can tell whose events came back.
            held = sum(one.name == plan.name for one in self._held[process])
            return max(held, self._came[plan.name, attempt][process]) > 1 or any(
                self._strays.get((process, plan.name, index), False) for index in range(plan.events)
            )
        if "IntegrityError" in error:
            return plan.kind == "refused"
        if plan.kind == "unwritable":
            return "not JSON compliant" in error
        self._failures[process, plan.name, attempt] -= 1
        return f"{plan.kind} at attempt {attempt}" in error and self._failures[process, plan.name, attempt] >= 0

    def returned(self, process: Process, properties: pika.BasicProperties, body: bytes) -> None:
        """A return has come."""
        if (properties.headers or {}).get("x-causation-id") is not None:
            content = content_of(body)
            self._history.say(process.name, f"gets back {content.get('m', 'a note')}")
            if "run" in content:
                self._strays[process, content["m"], content["i"]] = True

    def confirmed(self, process: Process, key: str, properties: pika.BasicProperties, body: bytes) -> None:
        """A confirm has come."""
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
        """Whether an attempt came more than once, so that the same message may have more than one end."""
        return any(came.total() > 1 for (one, _), came in self._came.items() if one == name)

    def is_done(self, plan: Plan) -> bool:
        """Whether its effect is committed and its events are with the broker."""
        return (
            plan.name in self._ran
            and (not plan.has_effect or bool(self._database.effects_of(plan.name)))
            and all((plan.name, index) in self._confirmed for index in range(plan.events))
        )

    def acked(self, process: Process, stored: Stored) -> None:
        """A worker acknowledges a delivery."""
        name, attempt = content_of(stored.body)["m"], attempt_of(stored.properties)
        self._history.say(process.name, f"acks {name}, attempt {attempt}")
        copies = {(name, attempt, self._ladder.dead_letter)}
        if attempt <= len(self._ladder.steps):
            copies.add((name, attempt + 1, self._ladder.steps[attempt - 1][1]))
        if not copies & self._copied and not self.is_done(self.plans[name]):
            self._history.fail("ack", f"{name}, attempt {attempt}, is neither done nor is its copy confirmed")
        self._answered.add(stored)
        self._held[process] = [held for held in self._held[process] if held.stored is not stored]
        self.on_step(process)

    def rejected(self, process: Process, stored: Stored, *, requeue: bool) -> None:
        """A worker has the broker park a delivery."""
        name = content_of(stored.body)["m"]
        self._history.say(process.name, f"rejects {name}")
        if self.plans[name].kind != "unfit" or requeue:
            self._history.fail("reject", f"{name} is {self.plans[name].kind}")
        self._held[process] = [held for held in self._held[process] if held.stored is not stored]

    def lost(self, process: Process, what: str) -> None:
        """A connection is lost."""
        for stage in {held.stage for held in self._held[process]}:
            self._history.hit(f"{what}: {STAGES[stage]}")

    def died(self, process: Process, end: End) -> None:
        """A worker has died."""
        self.lost(process, "crash")
        self.blame.died(process, end)
