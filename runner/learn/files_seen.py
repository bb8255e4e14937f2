"""The facts about a learner's files that an expectation can name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class FilesSeen:
    """The facts that can be read from the learner's files alone."""

    config_errors: Sequence[str] = ()
    #: The codes of lint findings.
    findings: Sequence[str] = ()
    #: The number of lines that differ from the starter.
    changed: int = 0
    #: The learner's prediction, or an empty text.
    prediction: str = ""
    #: Returns the queues that a message reaches, for an exchange and a routing key.
    route: Callable[[str, str], Sequence[str]] = field(default=lambda exchange, key: ())
