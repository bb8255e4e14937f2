"""Which message is to blame for a worker's death: whatever its handlers were at."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from runner.ipc.crashing_messages import MOST, CrashingMessage, CrashingMessagesFile
from runner.ipc.shared_memory import CurrentMessage
from runner.supervisor.slot_lifecycle import OUTSIDE, Slot, SlotState, describe_exit

#: A reason may hold the words of a process, and is kept short.
LONGEST_REASON = 300


@dataclass(frozen=True)
class Accusation:
    """What is known of a service's messages; a pure value."""

    suspects: tuple[CrashingMessage, ...] = ()
    #: Whether each of the messages of the last death had been there at an earlier one.
    is_known: bool = field(default=False)

    def after(
        self, messages: Sequence[CurrentMessage], code: int, reason: str, *, is_outside: bool = False
    ) -> Accusation:
        """The same after one more death with these in hand: ``code`` as of ``subprocess``, ``reason`` in words.

        ``is_outside`` is for a worker that somebody killed.
        """
        known = {one.message: one for one in self.suspects}
        is_known = bool(messages) and all(message in known for message in messages)
        is_shared = len(set(messages)) > 1
        for message in dict.fromkeys(messages):
            before = known.pop(
                message, CrashingMessage(message.queue, message.id, 0, 0, 0, "", replays=message.replays)
            )
            # Put last: the one that was not heard of for longest is the first to be forgotten.
            crashes, kills, shared = (0, 1, 0) if is_outside else (0, 0, 1) if is_shared else (1, 0, 0)
            known[message] = replace(
                before,
                crashes=before.crashes + crashes,
                kills=before.kills + kills,
                shared=before.shared + shared,
                reason=reason[:LONGEST_REASON],
                signal=_signal_name(code),
            )
        return Accusation(tuple(known.values())[-MOST:], is_known)

    def find(self, message: CurrentMessage) -> CrashingMessage | None:
        """What is known against this message."""
        return next((one for one in self.suspects if one.message == message), None)


@dataclass(frozen=True)
class Death:
    """How a process ended: what its slot was then, and its exit code as of ``subprocess``."""

    slot: Slot
    code: int
    #: Whether we killed it for the memory it took; and whether the kernel has killed any process for that meanwhile.
    is_condemned: bool
    is_oom: bool
    #: Whether it had decided itself to end, as without its broker.
    is_leaving: bool = False

    @property
    def is_asked(self) -> bool:
        """Whether it was told to end, or decided so itself, and nothing in hand has to do with it."""
        is_hung = bool(self.slot.why) and self.slot.state is not SlotState.STOPPING
        is_stopping = self.slot.state is SlotState.STOPPING or (self.is_leaving and not is_hung)
        return is_stopping and not self.is_condemned

    @property
    def is_outside(self) -> bool:
        """Whether somebody killed it, which says little of a message.

        Our own kill of what hangs says more, and so does the kernel's for want of memory.
        """
        return self.code in OUTSIDE and not self.slot.why and not self.is_oom

    @property
    def reason(self) -> str:
        """In words."""
        return describe_exit(self.code) + (f", {self.slot.why}" if self.slot.why else "")


class Accusations:
    """What is held against the messages of one service, in memory that its workers read."""

    def __init__(self, service: str, say: Callable[[str, str], None]) -> None:
        self._say = say
        self.file = CrashingMessagesFile(service)
        self._accusation = Accusation()

    def judge(self, death: Death, messages: Sequence[CurrentMessage]) -> bool:
        """Blame what was in hand for an end that nobody asked for; True where all of it was blamed before."""
        if death.is_asked or not messages:
            return False
        self._accusation = self._accusation.after(messages, death.code, death.reason, is_outside=death.is_outside)
        self.file.write(self._accusation.suspects)
        for one in dict.fromkeys(messages):
            suspect = self._accusation.find(one)
            if suspect is not None and (not death.is_outside or suspect.kills % 4 == 0):
                what = f"message {one.id} of {one.queue} was in hand, {suspect.times} by now"
                self._say(f"{death.slot.name} {death.reason}: {what}", "warning")
        return self._accusation.is_known


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else ""
    except ValueError:
        return str(-code)
