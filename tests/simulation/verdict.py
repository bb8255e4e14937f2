"""The final checks of a run: every message has an outcome, and no delivery or resource is left."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

from tests.simulation.broker import Stored
from tests.simulation.process import NOTES, Process
from tests.simulation.scenario import Plan
from tests.simulation.unacked_delivery import attempt_of

if TYPE_CHECKING:
    from tests.simulation.run import Simulation


def judge(simulation: Simulation) -> None:
    """Check queues, processes and messages. Raises Violation."""
    fail = simulation.history.fail
    for queue in simulation.broker.queues.values():
        is_end = queue.name in ("output", NOTES, simulation.retry_delays.dead_letter)
        if queue.unacked or (queue.ready and not is_end):
            fail("empty queues", f"{queue.name} has {len(queue.ready)} ready, {queue.unacked} unacked")
    for process in simulation.supervisor.processes.values():
        _check_process(simulation, process)
    dead_lettered: defaultdict[str, list[Stored]] = defaultdict(list)
    for message in simulation.broker.queues[simulation.retry_delays.dead_letter].ready:
        dead_lettered[json.loads(message.body)["m"]].append(message)
    output: defaultdict[str, set[str | None]] = defaultdict(set)
    for event in simulation.broker.queues["output"].ready:
        output[json.loads(event.body)["m"]].add(event.properties.message_id)
    for plan in simulation.scenario.messages:
        _check_message(simulation, plan, dead_lettered[plan.name], output[plan.name])


def _check_process(simulation: Simulation, process: Process) -> None:
    fail, window = simulation.history.fail, simulation.scenario.window
    publisher, pipeline = process.publisher, process.pipeline
    if not process.alive:
        fail("workers", f"{process.name} has exited and was not restarted")
    room = len(publisher._room._free)
    if room != window or publisher._window or publisher._waiting:
        fail("window places", f"{process.name}: {room} of {window} free")
    if pipeline._open or process.file.read().in_hand or process.file.messages() or process.deduplication._handling:
        fail("open messages", f"{process.name}: {pipeline._open} open, unacked {process.file.messages()}")


def _check_message(simulation: Simulation, plan: Plan, dead_lettered: list[Stored], events: set[str | None]) -> None:
    fail, ledger, history = simulation.history.fail, simulation.ledger, simulation.history
    is_done, effects = ledger.is_done(plan), simulation.database.effects_of(plan.name)
    is_guilty = ledger.blame.is_guilty(0, plan.name)
    reasons = [(message.properties.headers or {}).get("x-last-error", "rejected") for message in dead_lettered]
    if not is_done and not dead_lettered:
        fail("nothing is lost", f"{plan.name} ({plan.kind}) is neither done nor dead-lettered")
    by_chance = [
        reason for reason in reasons if "no binding matches" in reason or (is_guilty and "crashed its worker" in reason)
    ]
    must_dead_letter = plan.kind in ("failing", "rejected", "astray", "refused", "poison", "unfit", "unwritable")
    must_dead_letter |= plan.kind == "flaky" and plan.failures > len(simulation.scenario.steps)
    if must_dead_letter and not dead_lettered:
        fail("dead letters", f"{plan.name} ({plan.kind}) is not dead-lettered")
    if must_dead_letter and is_done:
        fail("never both", f"{plan.name} ({plan.kind}) is dead-lettered and done")
    if not must_dead_letter and len(by_chance) < len(dead_lettered):
        fail("good messages", f"{plan.name} ({plan.kind}) is dead-lettered for {reasons}")
    if not must_dead_letter and is_done and dead_lettered and not ledger.is_repeated(plan.name):
        fail("never both", f"{plan.name} ({plan.kind}) is done, and dead-lettered for {reasons}")
    if plan.kind == "poison" and not all("the message crashed its worker" in reason for reason in reasons):
        fail("poison", f"{plan.name} is dead-lettered for {reasons}")
    if simulation.scenario.inbox and plan.has_id and len(effects) > 1:
        fail("inbox", f"{plan.name} has {len(effects)} effects, runs {effects}")
    if len(events) > plan.events:
        fail("event ids", f"{plan.name} made {len(events)} events instead of {plan.events}")
    if len(effects) > 1:
        history.hit("an effect twice without an inbox")
    if any(attempt_of(message.properties) > len(simulation.scenario.steps) + 1 for message in dead_lettered):
        fail("retry delays", f"{plan.name} is dead-lettered at an attempt beyond the last")
