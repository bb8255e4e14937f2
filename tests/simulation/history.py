"""The history of one run, and the windows that it hit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

#: The number of history lines that a violation shows.
LAST = 40


class Violation(AssertionError):
    """A violated invariant. The text names the seed, the invariant and the last lines."""

    def __init__(self, seed: int, invariant: str, what: str, history: list[str]) -> None:
        last = "\n".join(history[-LAST:])
        super().__init__(f"seed {seed}: {invariant}: {what}\n{last}")
        self.seed, self.invariant, self.what, self.history = seed, invariant, what, history


class History:
    """The lines of one run. The same seed produces the same lines."""

    def __init__(self, seed: int, now: Callable[[], float]) -> None:
        self._seed, self._now = seed, now
        self._lines: list[tuple[float, str, str]] = []
        self.windows: Counter[str] = Counter()
        #: The violation is also stored, because the code under test catches all exceptions of a handler.
        self.violation: Violation | None = None

    def say(self, who: str, what: str) -> None:
        """Add a line."""
        self._lines.append((self._now(), who, what))

    def hit(self, window: str) -> None:
        """Count a window."""
        self.windows[window] += 1

    def fail(self, invariant: str, what: str) -> None:
        """Raise the violation of an invariant. Only the first violation counts."""
        if self.violation is None:
            self.say("VIOLATION", f"{invariant}: {what}")
            self.violation = Violation(self._seed, invariant, what, self.lines())
        raise self.violation

    def lines(self) -> list[str]:
        """Return all lines, with the virtual time in seconds."""
        return [f"{now:9.3f} {who:<12} {what}" for now, who, what in self._lines]
