"""The search for crashing messages among the messages that a worker was handling when it died."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from runner.ipc.crashing_messages import MOST, CrashingMessage, CrashingMessagesFile
from runner.ipc.shared_memory import CurrentMessage
from runner.supervisor.slot_lifecycle import OUTSIDE, Slot, SlotState, describe_exit

#: The maximum number of characters in a reason, which may contain text from the process.
LONGEST_REASON = 300


@dataclass(frozen=True)
class CrashBlame:
    """The crashing messages of a service, as an immutable value."""

    messages: tuple[CrashingMessage, ...] = ()
    #: True if each message of the last death had already been blamed for an earlier death.
    is_known: bool = field(default=False)

    def after(
        self, messages: Sequence[CurrentMessage], code: int, reason: str, *, is_outside: bool = False
    ) -> CrashBlame:
        """Return a new value after a worker died while it handled these messages.

        ``code`` is the worker's exit code as in ``subprocess``, and ``reason`` describes the exit. ``is_outside`` is
        True if the worker was killed from outside.
        """
        known = {one.message: one for one in self.messages}
        is_known = bool(messages) and all(message in known for message in messages)
        is_shared = len(set(messages)) > 1
        for message in dict.fromkeys(messages):
            before = known.pop(
                message, CrashingMessage(message.queue, message.id, 0, 0, 0, "", replays=message.replays)
            )
            # The newest message comes last, because the first messages are forgotten if there are too many.
            crashes, kills, shared = (0, 1, 0) if is_outside else (0, 0, 1) if is_shared else (1, 0, 0)
            known[message] = replace(
                before,
                crashes=before.crashes + crashes,
                kills=before.kills + kills,
                shared=before.shared + shared,
                reason=reason[:LONGEST_REASON],
                signal=_signal_name(code),
            )
        return CrashBlame(tuple(known.values())[-MOST:], is_known)

    def find(self, message: CurrentMessage) -> CrashingMessage | None:
        """Return the crashes of a message, or None if it has none."""
        return next((one for one in self.messages if one.message == message), None)


@dataclass(frozen=True)
class Death:
    """The death of a process, with its slot at that time and its exit code as in ``subprocess``."""

    slot: Slot
    code: int
    #: True if the supervisor killed the process because it used too much memory.
    is_over_memory: bool
    #: True if the kernel's OOM killer has killed any process since this process started.
    is_oom: bool
    #: True if the process stopped by its own decision, for example because the broker is unreachable.
    is_leaving: bool = False

    @property
    def is_asked(self) -> bool:
        """True if no message is to blame, because the process was asked to stop or stopped by its own decision."""
        is_hung = bool(self.slot.why) and self.slot.state is not SlotState.STOPPING
        is_stopping = self.slot.state is SlotState.STOPPING or (self.is_leaving and not is_hung)
        return is_stopping and not self.is_over_memory

    @property
    def is_outside(self) -> bool:
        """True if the process was killed from outside, which proves little about a message.

        Kills by the supervisor itself and by the OOM killer are not from outside.
        """
        return self.code in OUTSIDE and not self.slot.why and not self.is_oom

    @property
    def reason(self) -> str:
        """A description of the death."""
        return describe_exit(self.code) + (f", {self.slot.why}" if self.slot.why else "")


class CrashTracker:
    """The crashing messages of one service, in memory that its workers read."""

    def __init__(self, service: str, say: Callable[[str, str], None]) -> None:
        self._say = say
        self.file = CrashingMessagesFile(service)
        self._blame = CrashBlame()

    def blame(self, death: Death, messages: Sequence[CurrentMessage]) -> bool:
        """Blame these messages for a death, unless the process was asked to stop.

        Returns True if all of these messages were blamed before.
        """
        if death.is_asked or not messages:
            return False
        self._blame = self._blame.after(messages, death.code, death.reason, is_outside=death.is_outside)
        self.file.write(self._blame.messages)
        for one in dict.fromkeys(messages):
            found = self._blame.find(one)
            if found is not None and (not death.is_outside or found.kills % 4 == 0):
                what = f"while handling message {one.id} of {one.queue}, {found.times} so far"
                self._say(f"{death.slot.name} {death.reason} {what}", "warning")
        return self._blame.is_known


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else ""
    except ValueError:
        return str(-code)
