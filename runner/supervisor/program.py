"""What to run in a slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runner.supervisor.state import Policy


@dataclass(frozen=True)
class Program:
    """A command that speaks sd_notify's words on its lifeline, and stops on SIGTERM."""

    #: The slot it fills: ``payment.1``.
    slot: str
    command: tuple[str, ...]
    #: Written to its standard input.
    stdin: bytes = b""
    #: Added to the supervisor's own environment.
    environment: Mapping[str, str] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    #: What else its process depends on; another one is another program.
    revision: str = ""
    #: Whether it waits until the supervisor's ``prepare`` has succeeded; what ``prepare`` itself needs does not.
    after_prepare: bool = True

    @property
    def service(self) -> str:
        """The slot's name without its number."""
        return self.slot.partition(".")[0]
