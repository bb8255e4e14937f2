"""Which message is to blame for a worker's death: whatever its handlers were at."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from runner.record import InHand
from runner.suspects import MOST, Suspect, SuspectsFile

#: A reason may hold the words of a process, and is kept short.
LONGEST_REASON = 300


@dataclass(frozen=True)
class Accusation:
    """What is known of a service's messages; a pure value."""

    suspects: tuple[Suspect, ...] = ()
    #: Whether each of the messages of the last death had been there at an earlier one.
    is_known: bool = field(default=False)

    def after(self, messages: Sequence[InHand], code: int, reason: str, *, is_outside: bool = False) -> Accusation:
        """The same after one more death with these in hand: ``code`` as of ``subprocess``, ``reason`` in words.

        ``is_outside`` is for a worker that somebody killed.
        """
        known = {InHand(one.queue, one.id): one for one in self.suspects}
        is_known = bool(messages) and all(message in known for message in messages)
        for message in messages:
            before = known.pop(message, Suspect(message.queue, message.id, 0, 0, ""))
            # Put last: the one that was not heard of for longest is the first to be forgotten.
            crashes, kills = (0, 1) if is_outside else (1, 0)
            known[message] = replace(
                before,
                crashes=before.crashes + crashes,
                kills=before.kills + kills,
                reason=reason[:LONGEST_REASON],
                signal=_signal_name(code),
            )
        return Accusation(tuple(known.values())[-MOST:], is_known)

    def find(self, message: InHand) -> Suspect | None:
        """What is known against this message."""
        return next((one for one in self.suspects if InHand(one.queue, one.id) == message), None)


class Dock:
    """What is held against the messages of one service, in memory that its workers read."""

    def __init__(self, service: str) -> None:
        self.file = SuspectsFile(service)
        self.accusation = Accusation()

    def accuse(self, messages: Sequence[InHand], code: int, reason: str, *, is_outside: bool = False) -> None:
        """A worker died with these in hand."""
        self.accusation = self.accusation.after(messages, code, reason, is_outside=is_outside)
        self.file.write(self.accusation.suspects)


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else ""
    except ValueError:
        return str(-code)
