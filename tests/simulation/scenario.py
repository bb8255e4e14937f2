"""The scenario of a seed: the settings of the service, the messages, and the planned faults."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from random import Random

#: Virtual seconds in which messages are published and faults are injected.
FAULTS_END = 20.0
#: Seconds after which a run must be over. Messages may pass through all retry delays more than once.
QUIET_BY = FAULTS_END + 600.0
#: The ways in which a message can end its worker; see ``tests.simulation.supervisor.ENDS``.
ENDS = ("segfault", "exit 0", "exit 1", "hang", "out of memory", "over memory_max", "killed from outside")
#: The frequency of each kind of message, in percent.
KINDS = {
    "good": 52, "flaky": 13, "failing": 6, "rejected": 5, "astray": 5, "refused": 4, "poison": 7, "weak poison": 5,
    "unfit": 1, "unwritable": 2,
}  # fmt: skip
#: Faults that are injected from outside.
FAULTS = (
    "lose consumer", "lose consumer", "lose publisher", "lose publisher", "kill", "kill", "crash", "stop",
    "restart broker", "block publishers", "full queues", "unbind", "database unreachable", "slow confirms",
    "silent confirms", "delete a retry queue", "delete the dead-letter queue",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """One message, and the behaviour of its handler."""

    name: str
    kind: str
    #: The times of its publishes. More than one means that the client publishes it again.
    times: tuple[float, ...]
    has_id: bool
    events: int
    has_effect: bool
    #: Seconds that the handler takes.
    duration: float
    #: For a flaky message, the number of attempts that fail; for a weak poison message, of workers that die.
    failures: int
    #: For a poison message, the way in which its workers die.
    end: str

    @property
    def decides(self) -> bool:
        """True for about a third of the names: the events are decided in the transaction."""
        return zlib.crc32(self.name.encode()) % 3 == 0


@dataclass(frozen=True)
class Scenario:
    """The settings, messages and faults of one run."""

    workers: int
    concurrency: int
    prefetch: int
    inbox: bool
    #: True if attempts are recorded; and if the queue for these records exists.
    trace: bool
    has_notes: bool
    steps: tuple[float, ...]
    max_crashes: int
    window: int
    #: Seconds.
    confirm_timeout: float
    messages: tuple[Plan, ...]
    #: Pairs of time and fault.
    faults: tuple[tuple[float, str], ...]
    #: The probability of a fault at each step of a message, and the maximum number of such faults.
    sabotage: float
    most_sabotages: int


def draw(random: Random) -> Scenario:
    """Draw a scenario."""
    is_calm = random.random() < 0.1
    steps = random.choice([(), (1.0,), (1.0, 5.0), (1.0, 5.0), (0.5, 2.0, 30.0), (2.0, 1.0, 1.0)])
    max_crashes = random.choice([1, 2, 3, 3])
    count = random.choice([1, 2, 3, 4, 5, 6, 8, 12])
    faults = 0 if is_calm else random.choice([0, 1, 1, 2, 3, 4, 6])
    return Scenario(
        workers=random.choice([1, 1, 2]),
        concurrency=random.choice([1, 1, 2, 3]),
        prefetch=random.choice([1, 2, 4, 10, 50]),
        inbox=random.random() < 0.6,
        trace=random.random() < 0.25,
        has_notes=random.random() < 0.8,
        steps=steps,
        max_crashes=max_crashes,
        window=random.choice([1000, 1000, 1, 2, 3]),
        confirm_timeout=random.choice([60.0, 60.0, 5.0, 1.0]),
        messages=tuple(_plan(random, f"m{number}", len(steps), max_crashes) for number in range(count)),
        faults=tuple(sorted((random.uniform(0.0, FAULTS_END - 5), random.choice(FAULTS)) for _ in range(faults))),
        sabotage=0.0 if is_calm else random.choice([0.0, 0.02, 0.05, 0.15]),
        most_sabotages=random.choice([1, 2, 4, 8]),
    )


def _plan(random: Random, name: str, steps: int, max_crashes: int) -> Plan:
    kind = random.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "weak poison" and max_crashes == 1:
        kind = "good"
    first = random.uniform(0.0, 8.0) if random.random() < 0.5 else 0.1
    times: tuple[float, ...] = (first,)
    if random.random() < 0.15:
        times += (first + random.choice([0.0, 0.01, 0.1, 3.0]),)
    events = random.choice([0, 1, 1, 2, 3])
    return Plan(
        name=name,
        kind=kind,
        times=times,
        has_id=kind == "unfit" or random.random() > 0.06,
        events=max(1, events) if kind in ("astray", "unwritable") else events,
        has_effect=kind == "refused" or random.random() < 0.75,
        duration=random.choice([0.0, 0.0, 0.01, 0.05, 0.5, 3.0]),
        failures=random.randint(1, max_crashes - 1) if kind == "weak poison" else random.randint(1, steps + 1),
        end=random.choice(ENDS if kind == "poison" else ENDS[:-1]),
    )
