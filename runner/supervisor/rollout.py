"""A pure function that determines the steps for replacing a service's outdated processes.

A new process is started alongside each outdated process. The old process stops only after the new process is ready. The
next slot is handled only after the old process has exited.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from runner.supervisor.slot_lifecycle import SlotState


class Move(StrEnum):
    """The kinds of steps for a slot."""

    #: Add a slot, and start its process.
    ADD = "add"
    #: Stop the process, and remove the slot.
    REMOVE = "remove"
    #: Start a new process alongside the old process.
    START_BESIDE = "start beside"
    #: Assign the slot to the new process, which has become ready, and stop the old process.
    PROMOTE = "promote"
    #: Stop the new process, which has failed or is no longer wanted, and keep the old process.
    ABANDON = "abandon"
    #: Stop a process before its replacement starts, because the process is not ready or must not run twice at the same
    #: time.
    RESTART = "restart"


@dataclass(frozen=True)
class Seat:
    """The properties of a slot that determine the slot's next step."""

    number: int
    state: SlotState
    #: True if the slot's process runs, or would run, the wanted program.
    is_right: bool
    wanted: bool = True


@dataclass(frozen=True)
class Step:
    """A move, and the number of its slot."""

    move: Move
    number: int


def next_step(
    instances: int,
    seats: Sequence[Seat],
    incoming: Seat | None = None,
    leaving: Collection[int] = (),
    *,
    beside: bool = True,
) -> Step | None:
    """Return the next step, or None if no step is possible now.

    ``incoming`` is the new process, and ``leaving`` are the slot numbers of old processes that are still stopping.
    ``beside`` is True if two processes of one slot may run at the same time.
    """
    by_number = {seat.number: seat for seat in seats}
    for number in sorted(by_number, reverse=True):
        if number > instances:
            return Step(Move.REMOVE, number)
    if incoming is not None and (step := _of_incoming(incoming, by_number)) is not None:
        return step
    for number in range(1, instances + 1):
        if number not in by_number and number not in leaving:
            return Step(Move.ADD, number)
    for seat in sorted(seats, key=lambda one: one.number):
        if seat.is_right or (incoming is not None and incoming.number == seat.number):
            continue
        if seat.state is not SlotState.RUNNING or not beside:
            return Step(Move.RESTART, seat.number)
        if incoming is None and not leaving:
            return Step(Move.START_BESIDE, seat.number)
    return None


def _of_incoming(incoming: Seat, by_number: dict[int, Seat]) -> Step | None:
    seat = by_number.get(incoming.number)
    has_failed = incoming.state in (SlotState.BACKOFF, SlotState.FATAL, SlotState.EXITED, SlotState.STOPPED)
    if seat is None or not seat.wanted or not incoming.is_right or has_failed:
        return Step(Move.ABANDON, incoming.number)
    return Step(Move.PROMOTE, incoming.number) if incoming.state is SlotState.RUNNING else None
