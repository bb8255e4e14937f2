"""The handler, which follows each message's plan at each of its attempts."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from runner.messages import Event, Message, Reject, Retry, TransactionResult
from runner.worker.storage import DeliveryStore
from tests.simulation.database import effects
from tests.simulation.scenario import Plan
from tests.simulation.supervisor import ENDS

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.run import Simulation


class Plugin:
    """The plugin of all workers."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._runs: Counter[str] = Counter()
        self._kills: Counter[str] = Counter()

    def handle(self, process: Process, message: Message, store: DeliveryStore) -> list[Event] | TransactionResult:
        """Handle a message, as ``runner.hooks.handle`` does."""
        ledger = self._simulation.ledger
        plan = ledger.plans[message.json()["m"]]
        try:
            return self._handle(process, plan, message, store)
        finally:
            ledger.ended(process, plan)

    def _handle(
        self, process: Process, plan: Plan, message: Message, store: DeliveryStore
    ) -> list[Event] | TransactionResult:
        ledger, turns = self._simulation.ledger, self._simulation.turns
        self._runs[plan.name] += 1
        run = self._runs[plan.name]
        ledger.begun(process, plan, message, run)
        if plan.duration:
            turns.sleep(plan.duration / 2)
        if plan.kind == "poison" or (plan.kind == "weak poison" and self._kills[plan.name] < plan.failures):
            self._kills[plan.name] += 1
            self._simulation.clock.after(0.0, lambda: self._simulation.supervisor.kill(process, ENDS[plan.end]))
            turns.pause(None, [])
        self._fail(process, plan, message)
        writes = plan.has_effect or plan.kind == "refused"
        row = {"message": plan.name, "run": -1 if plan.kind == "refused" else run}

        def decide(connection: Connection) -> list[Event]:
            if writes:
                connection.execute(effects.insert(), row)
            return self._events(plan, run)

        decision = store.transact(decide) if plan.decides else None
        if writes and decision is None:
            store.execute(effects.insert(), row)
        if plan.duration:
            turns.sleep(plan.duration / 2)
        ledger.ran(process, plan, run)
        return decision or self._events(plan, run)

    def _events(self, plan: Plan, run: int) -> list[Event]:
        if plan.kind == "unwritable":
            return [Event("done", {"m": plan.name, "value": float("nan")})]
        return [
            Event(
                "astray" if plan.kind == "astray" and index == 0 else "done", {"m": plan.name, "i": index, "run": run}
            )
            for index in range(plan.events)
        ]

    def _fail(self, process: Process, plan: Plan, message: Message) -> None:
        self._simulation.ledger.failed(process, plan, message.attempt)
        text = f"{plan.kind} at attempt {message.attempt}"
        if plan.kind == "rejected":
            raise Reject(text)
        if plan.kind == "failing":
            raise ValueError(text)
        if plan.kind == "unfit" or (plan.kind == "flaky" and message.attempt <= plan.failures):
            raise Retry(text)
