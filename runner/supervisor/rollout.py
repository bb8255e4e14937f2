"""How a service gets from what runs to what is wanted, one step at a time, as a pure function.

A process that is no longer the right one is replaced by a fresh one beside it, which must be ready before the old one
drains; the next is replaced only when the old one is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from runner.supervisor.slot_lifecycle import SlotState


class Move(StrEnum):
    """What is to be done next with one number."""

    #: Make a slot, and fill it.
    ADD = "add"
    #: Empty the slot, and forget it.
    REMOVE = "remove"
    #: Start a fresh process beside the one that is there.
    BRING = "bring"
    #: The fresh one is ready: it takes the slot, and the old one drains.
    PROMOTE = "promote"
    #: The fresh one failed, is wanted no more, or is not what is wanted any more: the old one stays.
    ABANDON = "abandon"
    #: What does no work, or cannot run twice, ends, and the right program begins in its place.
    RESTART = "restart"


@dataclass(frozen=True)
class Seat:
    """One slot of a service, as far as this is about it."""

    number: int
    state: SlotState
    #: Whether it runs, or would run, what is wanted.
    is_right: bool
    wanted: bool = True


@dataclass(frozen=True)
class Step:
    """One move and its number."""

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
    """What to do next, or None while nothing is to be done or something must happen first.

    ``incoming`` is the fresh process, ``leaving`` are the numbers whose old processes still drain. ``beside`` is
    whether two processes of one slot may run at once.
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
            return Step(Move.BRING, seat.number)
    return None


def _of_incoming(incoming: Seat, by_number: dict[int, Seat]) -> Step | None:
    seat = by_number.get(incoming.number)
    has_failed = incoming.state in (SlotState.BACKOFF, SlotState.FATAL, SlotState.EXITED, SlotState.STOPPED)
    if seat is None or not seat.wanted or not incoming.is_right or has_failed:
        return Step(Move.ABANDON, incoming.number)
    return Step(Move.PROMOTE, incoming.number) if incoming.state is SlotState.RUNNING else None
