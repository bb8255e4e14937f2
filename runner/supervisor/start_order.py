"""Who waits for whom: services start after those they depend on are ready, and stop before those do."""

from __future__ import annotations

from collections.abc import Mapping

from runner.supervisor.service import Service
from runner.supervisor.slot_lifecycle import SlotState


def waits_for(service: Service, services: Mapping[str, Service]) -> str:
    """What a service still waits for, in words; empty when nothing. What does not run here is not waited for."""
    missing = [services[name] for name in service.program.depends_on if name in services]
    return ", ".join(f"{one.name}, which is {_state(one)}" for one in missing if not one.is_ready)


def may_stop(service: Service, services: Mapping[str, Service]) -> bool:
    """Whether nothing that runs depends on it any more."""
    dependents = [one for one in services.values() if service.name in one.program.depends_on]
    return not any(one.has_process for one in dependents)


def verdict(services: Mapping[str, Service], *, is_open: bool) -> tuple[str, bool] | None:
    """Why nothing will ever run again, and whether that is a failure; None while something may.

    ``is_open`` tells that a slot that waits only waits for another service.
    """
    slots = [keeper.slot for service in services.values() for keeper in service.everyone()]
    ended = [one for one in slots if one.state in (SlotState.EXITED, SlotState.FATAL)]
    rest = [one for one in slots if one not in ended]
    # One that follows its queues may have no instances for now.
    may_come = any(not service.instances and service.program.autoscale for service in services.values())
    if may_come or not ended or not all(one.state is SlotState.WAITING and is_open for one in rest):
        return None
    if any(one.state is SlotState.FATAL for one in ended):
        every = all(one.state is SlotState.FATAL for one in ended) and not rest
        return ("every service was given up" if every else "nothing is left that runs"), True
    return "every service has ended", bool(rest) or any(one.last_exit != 0 for one in ended)


def _state(service: Service) -> str:
    states = [keeper.slot.state for keeper in service.everyone()]
    return str(states[0]) if states else "not started"
