"""Take over what both files and the plugins say now, while everything else runs on."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence
from enum import Enum

from runner.errors import BrokerError, RunnerError
from runner.preparation.remote import Preparation
from runner.supervisor.output.journal import Journal
from runner.supervisor.program import Program


class Outcome(Enum):
    """How it went."""

    DONE = "done"
    #: All but what would have to be replaced on the broker.
    LEFT = "left"
    REFUSED = "refused"
    BROKER_AWAY = "broker away"


class Reload:
    """Checks everything first; whatever is wrong, all runs on as it was. From any thread, one at a time."""

    def __init__(self, preparation: Preparation, update: Callable[[Sequence[Program]], None], journal: Journal) -> None:
        self._preparation, self._update, self._journal = preparation, update, journal
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Declare the topology, and run what nothing holds back any longer. Raises what ``Preparation.prepare`` raises.

        Not while the files are taken over: the programs of the older project would be the last to be passed on.
        """
        with self._lock:
            taken = self._preparation.prepare()
            if taken is not None:
                self._update(taken.programs)

    def take(self) -> Outcome:
        """Do it; what happens is said in the journal."""
        with self._lock:
            try:
                taken = self._preparation.take_over()
            except BrokerError as error:
                self._journal.say(f"not taken over, the broker is away: {error}", "warning")
                return Outcome.BROKER_AWAY
            except RunnerError as error:
                for line in str(error).splitlines():
                    self._journal.say(line, "error")
                self._journal.say("not taken over: everything runs on as it was", "warning")
                return Outcome.REFUSED
            except Exception as error:  # noqa: BLE001 - a bug of ours, which must not end the watching of the files
                for line in "".join(traceback.format_exception(error)).splitlines():
                    self._journal.say(line, "error")
                return Outcome.REFUSED
            for line in taken.left:
                self._journal.say(line, "error")
            self._update(taken.programs)
            rest = ", but for what would have to be replaced" if taken.left else ""
            self._journal.say(f"files taken over{rest}")
            return Outcome.LEFT if taken.left else Outcome.DONE
