"""The search for crashing messages among the messages that a worker was handling when the worker died."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from runner.ipc.crashing_messages import MOST, CrashingMessage, CrashingMessagesFile
from runner.ipc.shared_memory import CurrentMessage
from runner.supervisor.slot_lifecycle import OUTSIDE, Slot, SlotState, describe_exit

#: The maximum length of a reason in characters. A reason can contain text from the process.
LONGEST_REASON = 300


@dataclass(frozen=True)
class CrashBlame:
    """An immutable record of the crashing messages of a service."""

    messages: tuple[CrashingMessage, ...] = ()
    #: True if every message of the last death had already been blamed for an earlier death.
    is_known: bool = field(default=False)

    def after(
        self, messages: Sequence[CurrentMessage], code: int, reason: str, *, is_outside: bool = False
    ) -> CrashBlame:
        """Return a new record that includes one more death. The worker was handling the given messages when it died.

        ``code`` is the worker's exit code as in ``subprocess``, and ``reason`` describes the exit. ``is_outside`` is
        True if another process killed the worker.
        """
        known = {one.message: one for one in self.messages}
        is_known = bool(messages) and all(message in known for message in messages)
        is_shared = len(set(messages)) > 1
        for message in dict.fromkeys(messages):
            before = known.pop(
                message, CrashingMessage(message.queue, message.id, 0, 0, 0, "", replays=message.replays)
            )
            # The newest message is added at the end, because messages are dropped from the beginning.
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
        """Return the entry of a message, or None if the message has not crashed a worker."""
        return next((one for one in self.messages if one.message == message), None)


@dataclass(frozen=True)
class Death:
    """The death of a process, with the state of its slot and its exit code as in ``subprocess``."""

    slot: Slot
    code: int
    #: True if the supervisor killed the process for using too much memory.
    is_over_memory: bool
    #: True if the kernel's OOM killer has killed any process on this machine since this process started.
    is_oom: bool
    #: True if the process was exiting voluntarily, for example because the broker was unreachable.
    is_leaving: bool = False

    @property
    def is_asked(self) -> bool:
        """True if no message is to blame, because the process was asked to stop or was exiting voluntarily."""
        is_hung = bool(self.slot.why) and self.slot.state is not SlotState.STOPPING
        is_stopping = self.slot.state is SlotState.STOPPING or (self.is_leaving and not is_hung)
        return is_stopping and not self.is_over_memory

    @property
    def is_outside(self) -> bool:
        """True if another process killed this process. A kill by another process is weak evidence against a message.

        A kill by the supervisor itself or by the OOM killer does not count as a kill from outside.
        """
        return self.code in OUTSIDE and not self.slot.why and not self.is_oom

    @property
    def reason(self) -> str:
        """A description of the death, with the reason if the supervisor killed the process."""
        return describe_exit(self.code) + (f", {self.slot.why}" if self.slot.why else "")


class CrashTracker:
    """The crashing messages of one service, in shared memory that the service's workers read."""

    def __init__(self, service: str, say: Callable[[str, str], None]) -> None:
        self._say = say
        self.file = CrashingMessagesFile(service)
        self._blame = CrashBlame()

    def blame(self, death: Death, messages: Sequence[CurrentMessage]) -> bool:
        """Blame the given messages for a death, unless the process was asked to stop or was exiting voluntarily.

        Returns True if all of the messages had been blamed before.
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
