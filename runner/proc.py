"""What Linux says of a process (proc(5)): /proc/PID/stat and /proc/PID/cmdline."""

from __future__ import annotations

from typing import NamedTuple


class ProcStat(NamedTuple):
    """What the kernel says of one process; times in clock ticks."""

    #: A letter, such as R for running, T for stopped, and Z or X for one that has ended.
    state: str
    parent: int
    #: User and system time of its own.
    cpu: int
    #: From the start of the machine to its own.
    start: int
    #: Resident memory.
    pages: int

    @property
    def has_ended(self) -> bool:
        """True if it only waits for its parent."""
        return self.state in ("Z", "X")


def read_stat(pid: int) -> ProcStat | None:
    """Return the state of a process, or None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # After the last parenthesis, because the name of a process may hold any character.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return ProcStat(
        fields[0].decode(), int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[19]), int(fields[21])
    )


def command_line(pid: int) -> list[bytes]:
    """Return the words of a process's command; none if there is no such process, or it has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []
