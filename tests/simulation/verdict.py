"""What must be true once nothing more happens: every message has ended, and nothing is left behind."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

from tests.simulation.broker import Stored
from tests.simulation.held import attempt_of
from tests.simulation.process import NOTES, Process
from tests.simulation.scenario import Plan

if TYPE_CHECKING:
    from tests.simulation.run import Simulation


def judge(simulation: Simulation) -> None:
    """Raises Violation."""
    fail = simulation.history.fail
    for queue in simulation.broker.queues.values():
        is_end = queue.name in ("output", NOTES, simulation.ladder.dead_letter)
        if queue.unacked or (queue.ready and not is_end):
            fail("empty queues", f"{queue.name} holds {len(queue.ready)} ready, {queue.unacked} unacked")
    for process in simulation.supervisor.processes.values():
        _check_process(simulation, process)
    parked: defaultdict[str, list[Stored]] = defaultdict(list)
    for letter in simulation.broker.queues[simulation.ladder.dead_letter].ready:
        parked[json.loads(letter.body)["m"]].append(letter)
    output: defaultdict[str, set[str | None]] = defaultdict(set)
    for event in simulation.broker.queues["output"].ready:
        output[json.loads(event.body)["m"]].add(event.properties.message_id)
    for plan in simulation.scenario.messages:
        _check_message(simulation, plan, parked[plan.name], output[plan.name])


def _check_process(simulation: Simulation, process: Process) -> None:
    fail, window = simulation.history.fail, simulation.scenario.window
    publisher, pipeline = process.publisher, process.pipeline
    if not process.alive:
        fail("workers", f"{process.name} has ended and was not started again")
    room = len(publisher._room._free)
    if room != window or publisher._unconfirmed or publisher._waiting:
        fail("window places", f"{process.name}: {room} of {window} free")
    if pipeline._open or process.file.read().in_hand or process.file.messages() or process.deduplication._handling:
        fail("open messages", f"{process.name}: {pipeline._open} open, in hand {process.file.messages()}")


def _check_message(simulation: Simulation, plan: Plan, parked: list[Stored], events: set[str | None]) -> None:
    fail, ledger, history = simulation.history.fail, simulation.ledger, simulation.history
    is_done, effects = ledger.is_done(plan), simulation.database.effects_of(plan.name)
    is_guilty = ledger.blame.is_guilty(0, plan.name)
    reasons = [(letter.properties.headers or {}).get("x-last-error", "rejected") for letter in parked]
    if not is_done and not parked:
        fail("nothing is lost", f"{plan.name} ({plan.kind}) is neither done nor parked")
    by_chance = [reason for reason in reasons if "no queue is bound" in reason or (is_guilty and "died" in reason)]
    must_park = plan.kind in ("failing", "rejected", "astray", "refused", "poison", "unfit", "unwritable")
    must_park |= plan.kind == "flaky" and plan.failures > len(simulation.scenario.steps)
    if must_park and not parked:
        fail("parked", f"{plan.name} ({plan.kind}) is not parked")
    if must_park and is_done:
        fail("never both", f"{plan.name} ({plan.kind}) is parked and done")
    if not must_park and len(by_chance) < len(parked):
        fail("good messages", f"{plan.name} ({plan.kind}) is parked for {reasons}")
    if not must_park and is_done and parked and not ledger.is_repeated(plan.name):
        fail("never both", f"{plan.name} ({plan.kind}) is done, and parked for {reasons}")
    if plan.kind == "poison" and not all("its worker died of it" in reason for reason in reasons):
        fail("poison", f"{plan.name} is parked for {reasons}")
    if simulation.scenario.inbox and plan.has_id and len(effects) > 1:
        fail("inbox", f"{plan.name} has {len(effects)} effects, runs {effects}")
    if len(events) > plan.events:
        fail("event ids", f"{plan.name} made {len(events)} events, of {plan.events}")
    if len(effects) > 1:
        history.hit("without an inbox, an effect twice")
    if any(attempt_of(letter.properties) > len(simulation.scenario.steps) + 1 for letter in parked):
        fail("the ladder", f"{plan.name} is parked at an attempt that there is not")
