"""The status of the supervisor and its slots as one JSON object."""

from __future__ import annotations

import os
import time
from typing import Any

from runner.invocation import invocation
from runner.supervisor.loop import Supervisor
from runner.supervisor.processes.usage import Sampler
from runner.supervisor.service import Service
from runner.supervisor.slot_keeper import Keeper
from runner.supervisor.slot_lifecycle import SlotState
from runner.supervisor.transition_report import Role

#: The number of log lines to show for a failed slot.
LAST_LINES = 5


def status_of(supervisor: Supervisor, sampler: Sampler) -> dict[str, Any]:
    """Return the status of the supervisor and its slots, with times in seconds and memory in bytes."""
    now = time.monotonic()
    slots = [
        _slot(supervisor, service, keeper, sampler, now)
        for service in supervisor.services.values()
        for keeper in service.all_keepers()
    ]
    return {
        "runner": {
            "pid": os.getpid(),
            "uptime": round(now - supervisor.started_at, 3),
            "stopping": supervisor.is_stopping,
        },
        "services": {name: one.instances for name, one in supervisor.services.items()},
        "slots": slots,
    }


def _slot(supervisor: Supervisor, service: Service, keeper: Keeper, sampler: Sampler, now: float) -> dict[str, Any]:
    slot, child = keeper.slot, keeper.child
    started_at = keeper.started_at or now
    usage = None if child is None else sampler.usage(child.pid, child.counts(), started_at, now)
    has_counts = usage is not None and keeper.program.after_prepare
    last = slot.last_exit
    has_failed = slot.state in (SlotState.BACKOFF, SlotState.FATAL) or (slot.state is SlotState.EXITED and last != 0)
    return {
        "slot": keeper.name,
        "service": service.name,
        "role": keeper.role.value,
        "state": str(slot.state),
        "why": _why(supervisor, service, keeper, now),
        "since": round(now - keeper.since, 3),
        "pid": slot.pid,
        "uptime": None if child is None else round(now - started_at, 3),
        "restarts": slot.restarts,
        "last_exit": None
        if last is None
        else {"code": last, "words": slot.last_reason, "ago": round(now - (slot.last_exit_at or now), 3)},
        "cpu_percent": None if usage is None else round(usage.cpu, 1),
        "memory": None if usage is None else usage.memory,
        "messages_per_second": round(usage.rate, 1) if usage is not None and has_counts else None,
        "problem": keeper.problem,
        "in_hand": usage.counts.in_hand if usage is not None and has_counts else None,
        "handled": usage.counts.handled if usage is not None and has_counts else None,
        "published": usage.counts.published if usage is not None and has_counts else None,
        "endpoint": None if keeper.program.endpoint is None else vars(keeper.program.endpoint),
        "lines": _last_lines(keeper, supervisor) if has_failed else [],
    }


def _why(supervisor: Supervisor, service: Service, keeper: Keeper, now: float) -> str:  # noqa: PLR0911 - one a state
    slot = keeper.slot
    match slot.state:
        case SlotState.RUNNING if keeper.problem and not slot.why:
            return f"cannot work at present, retrying: {keeper.problem}"
        case SlotState.RUNNING:
            old = "running an older version, because the new process did not become ready"
            return slot.why or (f"{keeper.status}; {old}" if service.problem else keeper.status)
        case SlotState.STOPPED if keeper.role is Role.HOLDER:
            return f"start it with: {invocation('start', keeper.name)}"
        case SlotState.STARTING:
            return (
                slot.why or f"not ready yet; will be killed after the start_timeout of {slot.policy.start_timeout:g} s"
            )
        case SlotState.WAITING:
            return f"waiting for {supervisor.waiting_for(service) or 'its turn'}"
        case SlotState.BACKOFF if slot.deadline is not None:
            limit = f", failure {len(slot.failures)} of {slot.policy.restart_limit.count}" if slot.failures else ""
            return f"{slot.why}; restarting in {max(0.0, slot.deadline - now):.1f} s{limit}"
        case SlotState.STOPPING:
            return slot.why or f"stopping; will be killed after the stop_timeout of {slot.policy.stop_timeout:g} s"
    return slot.why


def _last_lines(keeper: Keeper, supervisor: Supervisor) -> list[str]:
    return [line.shown for line in supervisor.journal.last(LAST_LINES, lambda line: line.slot == keeper.name)]
